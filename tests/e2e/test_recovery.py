"""Recovery at the command line: what a killed process left running comes before a person, who answers from a shell."""

from __future__ import annotations

import apsw

from handshake.testing.replies import chunked, event_stream
from handshake.testing.upstream import Upstream
from handshake.workspace import open_workspace
from tests.e2e.command_line import CommandLine, configure, first_line
from tests.e2e.test_cli_send import ANSWERS, holding, jobs_of
from tests.requirement import requirement

CAREFUL = '[recovery]\nlocal_runs = "desk"\n'


async def kill_while_it_answers(handshake: CommandLine, session: str) -> None:
    """Send a turn, and kill the process once the answer has begun."""
    async with handshake.started("session", "send", session, "now") as process:
        await first_line(process)
        process.kill()
        await process.wait()


@requirement("recovery.start.stalls_orphans", "recovery.actions.are_evented")
async def test_a_lost_run_waits_on_the_desk_until_a_person_answers(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, _ = holding()
    async with Upstream(reply, ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url, CAREFUL)
        session = await handshake.session()
        await kill_while_it_answers(handshake, session)
        assert (await handshake("queue", "run", "--json")).json["completed"] == 0
        shown = (await handshake("session", "show", session, "--json")).json
        assert (shown["state"], shown["last_checkpoint"]["state"]) == ("BLOCKED", "BLOCKED")
        assert (shown["last_checkpoint"]["trigger"], shown["last_checkpoint"]["message_seq"]) == ("block", 1)
        assert await jobs_of(handshake) == [("stalled", "crash_recovery", 1)]
        assert (await handshake("status", "--json")).json["desk"] == 1
        assert "1 before a person" in (await handshake("queue", "show")).out
        (item,) = (await handshake("desk", "list", "--json")).lines
        assert (await handshake("desk", "show", item["item_id"], "--json")).json == {**item, "arguments": None}
        assert item["sha256"] in (await handshake("desk", "show", item["item_id"])).out
        wrong = await handshake("desk", "approve", item["item_id"], "--shown", "0" * 64, "--json")
        assert (wrong.code, wrong.error["details"]["reason"]) == (5, "shown_differs")
        approved = await handshake("desk", "approve", item["item_id"], "--shown", item["sha256"], "--json")
        assert (approved.code, approved.json["state"], approved.json["decided_by"]) == (0, "approved", "operator")
        assert (await handshake("queue", "run", "--json")).json["completed"] == 1
        assert len(upstream.requests) == 2
    assert await jobs_of(handshake) == [("completed", None, 2)]
    assert (await handshake("desk", "list", "--json")).lines == []
    assert [one["state"] for one in (await handshake("desk", "list", "--state", "all", "--json")).lines] == ["approved"]
    assert (await handshake("audit", "verify", "--deep", "--json")).json["verified"] is True


async def test_a_lost_run_can_be_denied_or_cancelled_and_nothing_is_sent_again(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, _ = holding()
    async with Upstream(reply) as upstream:
        configure(handshake.folder, upstream.base_url, CAREFUL)
        sessions = [await handshake.session() for _ in range(2)]
        for session in sessions:
            await kill_while_it_answers(handshake, session)
        assert (await handshake("queue", "run", "--json")).json["left"] == 0
        first, second = (await handshake("desk", "list", "--json")).lines
        assert (await handshake("desk", "deny", first["item_id"])).out == f"{first['item_id']} denied\n"
        assert (await handshake("desk", "deny", first["item_id"])).code == 5
        assert (await handshake("job", "cancel", second["job_id"])).code == 0
        assert len(upstream.requests) == 2
    assert await jobs_of(handshake) == [("failed", "denied", 1), ("cancelled", "operator", 1)]
    states = [one["state"] for one in (await handshake("desk", "list", "--state", "all", "--json")).lines]
    assert states == ["denied", "withdrawn"]
    assert (await handshake("desk", "list", "--state", "nowhere")).code == 2


async def test_the_python_face_answers_what_waits(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, _ = holding()
    async with Upstream(reply, chunked(event_stream("Again."))) as upstream:
        configure(handshake.folder, upstream.base_url, CAREFUL)
        session = await handshake.session()
        await kill_while_it_answers(handshake, session)
        async with open_workspace(handshake.folder) as hs:
            (question,) = await hs.desk.waiting()
            feed = hs.runtime.feeds.listen(question.item.job_id)  # type: ignore[arg-type]
            await question.approve(shown=question.sha256)
            async for _ in feed:
                pass
            assert await hs.desk.waiting() == []
            messages = await hs.sessions.get(session).messages()
    assert [one.text for one in messages] == ["now", "Again."]


async def test_a_session_that_was_changed_by_hand_is_named_and_counted_anew(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        db = apsw.Connection(str(handshake.folder / ".handshake" / "state.db"))
        db.execute("UPDATE session SET running = 1, state = 'ACTIVE'").close()
        db.close()
        refused = await handshake("session", "send", session, "x", "--json")
        assert (refused.code, refused.error["details"]["session_id"]) == (6, session)
        ill = {one["subject"]: one for one in (await handshake("doctor", "--json")).json["findings"]}
        assert ill["sessions"]["verdict"] == "fail"
        assert session in ill["sessions"]["detail"]
        assert "--repair" in ill["sessions"]["next_step"]
        well = await handshake("doctor", "--repair", "--json")
        assert "1 sessions counted anew: " + session in well.out
        assert (await handshake("session", "send", session, "x")).out == "Hello there.\n"
    told = [one["payload"] for one in (await handshake("events", "list", "--json")).lines]
    assert "counted_anew" in [one.get("result") for one in told]
