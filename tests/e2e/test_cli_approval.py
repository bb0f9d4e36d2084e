"""Calls that wait for a person, as processes: a model asks for tools, and a person answers, here or elsewhere."""

from __future__ import annotations

import json
import os

from handshake.kernel.tool_message import CalledTool
from handshake.kernel.tool_name import wire_name
from handshake.testing.replies import Reply, chunked, event_stream
from handshake.testing.upstream import Upstream
from tests.e2e.command_line import CommandLine, configure, heard, on_terminal
from tests.requirement import requirement

DONE = chunked(event_stream("All is done."))
WRITE = {"path": "src/a.txt", "content": "two  spaces \u202e\x9b\n"}


def asking(*calls: tuple[str, dict[str, str]], text: str = "I try.") -> Reply:
    """Return an answer of a model that asks for tools."""
    called = [
        CalledTool(f"call_{number}", wire_name(tool), json.dumps(args)) for number, (tool, args) in enumerate(calls)
    ]
    return chunked(event_stream(text, calls=called, finish_reason="tool_calls"))


async def writer(handshake: CommandLine, upstream: Upstream) -> str:
    """Make a session that may read all, and asks before it writes in a folder; return its id."""
    assert handshake.folder is not None
    configure(handshake.folder, upstream.base_url)
    return await handshake.session("--grant", "fs.read", "--grant", "ask:fs.write:src")


async def shown(handshake: CommandLine) -> tuple[str, str, str]:
    """Return id and hash of the one call that waits, and what `approval show` prints of it."""
    (item,) = (await handshake("approval", "list", "--json")).lines
    told = await handshake("approval", "show", item["item_id"])
    assert told.out.endswith((await handshake("desk", "show", item["item_id"])).out.partition("arguments:")[2])
    return item["item_id"], item["call_sha256"], told.out


@requirement("gate.approval.bound_to_call")
async def test_a_call_waits_is_shown_whole_and_is_made_once_it_was_approved(handshake: CommandLine) -> None:
    async with Upstream(asking(("workspace.file.write", WRITE)), DONE) as upstream:
        session = await writer(handshake, upstream)
        sent = await handshake("session", "send", session, "write it")
        assert (sent.code, sent.out) == (3, "I try.\n")
        assert sent.err == (
            "a call waits for a person: handshake approval list; once it is answered, go on with: handshake queue run\n"
        )
        item, call, told = await shown(handshake)
        assert told.endswith('arguments:\n{"content":"two  spaces \\u202e\\u009b\\n","path":"src/a.txt"}\n')
        wrong = await handshake("approval", "approve", item, "--call-sha256", "0" * 64, "--json")
        assert (wrong.code, wrong.error["details"]["reason"]) == (5, "shown_differs")
        approved = await handshake("approval", "approve", item, "--call-sha256", call)
        assert (approved.code, approved.out) == (0, f"{item} approved\n")
        assert approved.err == "its run goes on with: handshake queue run\n"
        ran = await handshake("queue", "run", "--json")
    assert (ran.code, ran.json["completed"], ran.json["left"]) == (0, 2, 0)
    assert handshake.folder is not None
    assert (handshake.folder / "src" / "a.txt").read_text(encoding="utf-8") == WRITE["content"]
    assert (await texts(handshake, session))[-1] == "All is done."


async def texts(handshake: CommandLine, session: str) -> list[str]:
    """Return the texts of a session's thread."""
    return [one["text"] for one in (await handshake("session", "messages", session, "--json")).lines]


async def test_a_denied_call_is_told_to_the_model_and_touches_nothing(handshake: CommandLine) -> None:
    async with Upstream(asking(("workspace.file.write", WRITE)), DONE) as upstream:
        session = await writer(handshake, upstream)
        sent = await handshake("session", "send", session, "write it", "--json")
        assert (sent.code, sent.json["state"], sent.json["reason"]) == (3, "awaiting_user", "tool_approval")
        item, _, _ = await shown(handshake)
        assert (await handshake("approval", "deny", item, "--json")).json["state"] == "denied"
        assert (await handshake("queue", "run")).code == 0
        again = await handshake("approval", "deny", item, "--json")
    assert (again.code, again.error["code"]) == (5, "HSK-409-INVALID-TRANSITION")
    told = json.loads(json.loads((await texts(handshake, session))[-2])["content"])
    assert (told["code"], told["kind"]) == ("denied_by_person", "policy")
    assert handshake.folder is not None
    assert not (handshake.folder / "src").exists()


async def test_a_session_in_which_a_call_waits_takes_turns_only_for_later(handshake: CommandLine) -> None:
    async with Upstream(asking(("workspace.file.write", WRITE)), DONE, DONE) as upstream:
        session = await writer(handshake, upstream)
        assert (await handshake("session", "send", session, "write it")).code == 3
        refused = await handshake("session", "send", session, "and now?", "--json")
        assert (refused.code, refused.error["details"]["reason"]) == (5, "session_blocked")
        assert "handshake desk list" in refused.error["hint"]
        assert (await handshake("session", "send", session, "and now?", "--no-wait")).code == 0
        item, _, _ = await shown(handshake)
        assert (await handshake("approval", "deny", item)).code == 0
        assert (await handshake("queue", "run", "--json")).json["left"] == 0
    assert (await texts(handshake, session))[-1] == "All is done."


@requirement("gate.workspace.no_overlap")
async def test_nobody_waits_for_what_only_another_command_can_let_go(handshake: CommandLine) -> None:
    write = asking(("workspace.file.write", WRITE))
    async with Upstream(write, DONE, write, DONE) as upstream:
        assert handshake.folder is not None
        configure(handshake.folder, upstream.base_url)
        holder, second = [await handshake.session("--grant", "fs.write:src") for _ in range(2)]
        assert (await handshake("session", "send", holder, "write it")).out == "I try.\nAll is done.\n"
        held = await handshake("session", "send", second, "write it", "--json")
        assert (held.code, held.error["code"]) == (5, "CX-MM-002")
        assert held.error["details"]["holder_session_id"] == holder
        refused = await handshake("session", "send", second, "now?", "--json")
        assert (refused.code, refused.error["details"]["reason"]) == (5, "session_blocked")
        assert f"handshake session show {second}" in refused.error["hint"]
        assert (await handshake("session", "complete", holder)).code == 0
        assert (await handshake("queue", "run", "--json")).json["left"] == 0
    assert (await texts(handshake, second))[-1] == "All is done."


async def test_whoever_sits_at_the_terminal_sees_all_of_a_call_and_answers_it(handshake: CommandLine) -> None:
    other = {**WRITE, "path": "src/b.txt"}
    async with Upstream(asking(("workspace.file.write", WRITE), ("workspace.file.write", other)), DONE) as upstream:
        session = await writer(handshake, upstream)
        process, terminal = await on_terminal(handshake, "session", "send", session, "write them")
        first = await heard(terminal, "once? [y/N]: ")
        assert "I try.\r\nworkspace.file.write waits for a person" in first
        assert '{"content":"two  spaces \\u202e\\u009b\\n","path":"src/a.txt"}' in first
        os.write(terminal, b"y\n")
        await heard(terminal, "once? [y/N]: ")
        os.write(terminal, b"n\n")
        assert "All is done.\r\n" in await heard(terminal, "completed, ")
        assert await process.wait() == 0
    os.close(terminal)
    assert handshake.folder is not None
    assert [one.name for one in (handshake.folder / "src").iterdir()] == ["a.txt"]
