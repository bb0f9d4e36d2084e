"""Authority as it is lived: a model calls real tools on real files, as far as people let its session."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from handshake.bootstrap import init_workspace
from handshake.kernel.ids import ProviderId
from handshake.kernel.message import MessageRole
from handshake.kernel.tool_message import CalledTool
from handshake.operations import audit
from handshake.operations.grant_requests import GrantRequest
from handshake.testing.scripted_model import ScriptedModel
from handshake.workspace import SessionHandle, Workspace, open_workspace
from tests.e2e.command_line import configure
from tests.requirement import requirement

ENGINE = "http://127.0.0.1:1/v1"


class Caller:
    """A session whose model makes one call a turn, of a file tool, as the test says."""

    def __init__(self, workspace: Workspace, session: SessionHandle, asked: list[CalledTool]) -> None:
        self.workspace = workspace
        self.session = session
        self._asked = asked
        self._count = 0

    async def reads(self, path: str) -> dict[str, Any]:
        """Return what the model is told when it reads a file."""
        self._count += 1
        name, args = "workspace__file__read", json.dumps({"path": path})
        self._asked.append(CalledTool(f"call-{self._count}", name, args))
        await (await self.session.send(f"Turn {self._count}")).result()
        *_, last = [
            one for one in await self.session.messages(limit=1_000) if one.message.role is MessageRole.TOOL_RESULT
        ]
        told: dict[str, Any] = json.loads(json.loads(last.text)["content"])
        return told

    async def decisions(self) -> list[tuple[str, str]]:
        """Return outcome and reason of every decision that the log tells of the session."""
        found = await self.workspace.runtime.store.read(
            lambda reader: audit.events(reader, type="capability.decision", limit=1_000)
        )
        told = [one.event["payload"] for one in found]
        return [(one["decision_outcome"], one["reason"]) for one in told]


@asynccontextmanager
async def caller(root: Path, **given: Any) -> AsyncIterator[Caller]:
    """Open a workspace with a file in each of two folders, and make a session in it."""
    init_workspace(root)
    configure(root, ENGINE)
    for folder in ("src", "docs"):
        (root / folder).mkdir()
        (root / folder / "a.txt").write_text(f"of {folder}")
    asked: list[CalledTool] = []

    def script(_last: str) -> list[str | CalledTool]:
        return [asked.pop() if asked else "Done."]

    async with open_workspace(root, models={ProviderId("tiny"): ScriptedModel(script)}) as workspace:
        session = await workspace.sessions.create(
            role="coder", model="tiny/tiny-words", memory_policy="EPHEMERAL", **given
        )
        yield Caller(workspace, session, asked)


@requirement("capability.default.denies", "capability.deny.is_explicit")
async def test_a_session_without_grants_reads_nothing_and_is_told_why(tmp_path: Path) -> None:
    async with caller(tmp_path) as one:
        told = await one.reads("src/a.txt")
        assert told["code"] == "HSK-403-CAPABILITY"
        assert told["details"] == {"held": [], "missing": ["fs.read:src/a.txt"], "reason": "not_granted"}
        assert await one.decisions() == [("deny", "not_granted")]


@requirement("capability.session.intersection", "capability.args.are_checked", "capability.path.runtime_folder_closed")
async def test_a_session_reads_what_it_is_granted_and_not_its_neighbour(tmp_path: Path) -> None:
    async with caller(tmp_path, grants=["fs.read:src"]) as one:
        assert (await one.reads("src/a.txt"))["content"] == "of src"
        assert (await one.reads("./src//a.txt"))["content"] == "of src"
        told = await one.reads("docs/a.txt")
        assert told["details"] == {
            "held": ["fs.read:src/**"],
            "missing": ["fs.read:docs/a.txt"],
            "reason": "not_granted",
        }
    async with caller(tmp_path / "other", grants=["fs.read"]) as one:
        assert (await one.reads("docs/a.txt"))["content"] == "of docs"
        told = await one.reads(".handshake/config.toml")
        assert told["details"]["reason"] == "runtime_folder"


@requirement("capability.revoke.acts_at_once", "capability.lifetime.ends", "capability.sinks.are_constrained")
async def test_what_people_give_and_take_acts_at_the_next_call(tmp_path: Path) -> None:
    async with caller(tmp_path) as one:
        grants, session_id = one.workspace.grants, one.session.session_id
        (src,) = await grants.give(session_id, "fs.read:src", lasts="session")
        assert (await one.reads("src/a.txt"))["content"] == "of src"
        await grants.revoke(src)
        assert (await one.reads("src/a.txt"))["details"]["reason"] == "not_granted"
        await grants.give(session_id, GrantRequest(capability="fs.read:docs", max_uses=1))
        assert (await one.reads("docs/a.txt"))["content"] == "of docs"
        assert (await one.reads("docs/a.txt"))["details"]["reason"] == "uses_spent"
        await grants.give(session_id, "fs.read:src", lasts="once")
        assert (await one.reads("src/a.txt"))["content"] == "of src"
        assert (await one.reads("src/a.txt"))["details"]["reason"] == "uses_spent"
        allowed = [outcome for outcome, _ in await one.decisions()]
        assert allowed == ["allow", "deny", "allow", "deny", "allow", "deny"]
