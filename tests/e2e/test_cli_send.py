"""`session send` and `queue run` as processes: streaming, interruption, one holder, restart, and others beside them."""

from __future__ import annotations

import asyncio
import json
import os
import signal

import pytest

from handshake.testing.replies import Hold, Reply, chunked, event_stream
from handshake.testing.upstream import Upstream
from tests.e2e.command_line import (
    NEW_SESSION,
    PROGRAM,
    CommandLine,
    configure,
    first_line,
    heard,
    interrupt,
    on_terminal,
)
from tests.requirement import requirement

ANSWERS = chunked(event_stream("Hello", " there."))


def holding() -> tuple[Reply, Hold]:
    """Return an answer that stops after its first line, and what stops it."""
    hold = Hold()
    begun = event_stream("First line.\n", finish_reason=None, usage=None, done=False)
    return chunked(begun, hold, event_stream("Second line.")), hold


async def jobs_of(handshake: CommandLine) -> list[tuple[str, str | None, int]]:
    """Return state, reason and attempts of every job, as another process sees them."""
    return [(one["state"], one["reason"], one["attempt"]) for one in (await handshake("job", "list", "--json")).lines]


async def test_a_real_engine_answers_in_plain_text_and_in_json(handshake: CommandLine, engine: str) -> None:
    assert handshake.folder is not None
    configure(handshake.folder, engine)
    session = await handshake.session()
    plain = await handshake("session", "send", session, "Tell me about the lamp.", "--max-tokens", "12")
    assert plain.code == 0
    assert plain.err == ""
    assert plain.out.endswith("\n")
    told = (
        await handshake(
            "session", "send", session, "-", "--max-tokens", "5", "--json", stdin=b"And the \xc3\xbcbung?\n"
        )
    ).json
    assert (told["state"], told["usage"]["completion_tokens"]) == ("completed", 5)
    thread = (await handshake("session", "messages", session, "--json")).lines
    assert [one["text"] for one in thread] == [
        "Tell me about the lamp.",
        plain.out.removesuffix("\n"),
        "And the übung?\n",
        told["text"],
    ]


async def test_the_same_key_sends_once_and_answers_again(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        key = ("--idempotency-key", "k-1")
        first = await handshake("session", "send", session, "one", *key)
        again = await handshake("session", "send", session, "one", *key)
        other = await handshake("session", "send", session, "two", *key, "--json")
        assert len(upstream.requests) == 1
    assert (first.out, first.code) == (again.out, again.code) == ("Hello there.\n", 0)
    assert (other.code, other.error["details"]["reason"]) == (5, "idempotency_key_reused")


@requirement("recovery.second_instance.is_refused", "recorder.read.while_writing")
async def test_a_second_process_is_refused_with_the_holder_named_and_readers_are_not(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, hold = holding()
    async with Upstream(reply) as upstream:
        configure(handshake.folder, upstream.base_url)
        session, paused = await handshake.session(), await handshake.session()
        waiting = (await handshake("session", "send", paused, "later", "--no-wait")).out.strip()
        assert (await handshake("session", "pause", paused)).code == 0
        async with handshake.started("session", "send", session, "now") as process:
            assert await first_line(process) == "First line.\n"
            for command in (
                ("session", "create", *NEW_SESSION),
                ("session", "pause", session),
                ("job", "cancel", waiting),
                ("session", "send", session, "x"),
                ("audit", "checkpoint"),
            ):
                refused = await handshake(*command, "--json")
                assert (refused.code, refused.error["code"]) == (5, "HSK-409-CONFLICT")
                assert refused.error["details"]["holder_pid"] == process.pid
                assert refused.error["details"]["holder_program"] == "handshake"
            queue = (await handshake("queue", "show", "--json")).json
            assert (queue["running"], queue["queued"]) == (1, 1)
            assert queue["items"][0]["wait_reason"] == "session_paused"
            status = (await handshake("status", "--json")).json
            assert status["held_by"]["pid"] == process.pid
            assert (await handshake("audit", "verify", "--json")).json["verified"] is True
            hold.release()
            out, err = await process.communicate()
        assert (process.returncode, out, err) == (0, b"Second line.\n", b"")
    assert (await handshake("session", "pause", session)).code == 0


@requirement("scheduler.cancel.is_prompt")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGHUP])
async def test_a_signal_cancels_the_run_for_good(handshake: CommandLine, number: signal.Signals) -> None:
    assert handshake.folder is not None
    reply, _ = holding()
    async with Upstream(reply) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        async with handshake.started("session", "send", session, "now", "--json") as process:
            request = await upstream.request()
            ended = await interrupt(process, number)
            await request.closed.wait()
    assert (ended.code, ended.out) == (130, "")
    assert ended.error["code"] == "HSK-499-CLIENT-GONE"
    assert await jobs_of(handshake) == [("cancelled", "interrupted", 1)]
    assert (await handshake("job", "list", "--json")).json["job_id"] == ended.error["details"]["job_id"]
    assert (await handshake("session", "show", session, "--json")).json["state"] == "IDLE"


async def test_a_reader_of_the_answer_that_leaves_cancels_the_run(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    hold, never = Hold(), Hold()
    pieces = [event_stream(text, finish_reason=None, usage=None, done=False) for text in ("First.", "Second.")]
    async with Upstream(chunked(pieces[0], hold, pieces[1], never)) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        reading, writing = os.pipe()
        process = await asyncio.create_subprocess_exec(
            *(str(PROGRAM), "session", "send", session, "now"), stdout=writing, env=handshake.environment()
        )
        os.close(writing)
        await hold.reached.wait()
        os.close(reading)
        hold.release()
        assert await process.wait() == 1
    assert await jobs_of(handshake) == [("cancelled", "interrupted", 1)]


async def test_a_cloud_is_refused_with_the_code_for_denied(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url, "forwards_to_cloud = true\n")
        session = await handshake.session()
        unpriced = await handshake("session", "send", session, "one", "--json")
        price = "[providers.tiny.models.tiny-words]\ninput_usd_per_million = 0.5\noutput_usd_per_million = 1.5\n"
        configure(handshake.folder, upstream.base_url, f"forwards_to_cloud = true\n{price}")
        refused = await handshake("session", "send", session, "one", "--json")
        assert upstream.received == []
    assert (unpriced.code, unpriced.error["code"]) == (3, "HSK-402-BUDGET-EXCEEDED")
    assert (refused.code, refused.error["code"]) == (3, "HSK-403-CLOUD-CONSENT-REQUIRED")
    assert await jobs_of(handshake) == []


@requirement("recovery.start.dispatches_queue")
async def test_queued_turns_of_a_killed_process_are_carried_out_by_the_next(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, _ = holding()
    async with Upstream(reply, ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        first, second = await handshake.session(), await handshake.session()
        assert (await handshake("session", "send", second, "second", "--no-wait")).code == 0
        assert (await handshake("session", "pause", second)).code == 0
        async with handshake.started("session", "send", first, "first") as process:
            await first_line(process)
            process.kill()
            await process.wait()
        assert [state for state, _, _ in await jobs_of(handshake)] == ["queued", "running"]
        assert (await handshake("session", "resume", second)).code == 0
        ran = await handshake("queue", "run", "--json")
    assert (ran.code, ran.json["completed"], ran.json["left"]) == (0, 2, 0)
    assert await jobs_of(handshake) == [("completed", None, 1), ("completed", None, 2)]
    kinds = {one["type"] for one in (await handshake("events", "list", "--json")).lines}
    assert "workflow_recovery" in kinds


@requirement("scheduler.queue.shows_reason")
async def test_every_waiting_run_shows_why_it_waits(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, hold = holding()
    async with Upstream(reply) as upstream:
        configure(handshake.folder, upstream.base_url, "[scheduler.max_concurrent_per_model]\nlocal = 1\n")
        first, second = await handshake.session(), await handshake.session()
        for session in (first, first, second):
            assert (await handshake("session", "send", session, "x", "--no-wait")).code == 0
        idle = (await handshake("queue", "show", "--json")).json["items"]
        async with handshake.started("queue", "run", "--json") as process:
            await upstream.request()
            busy = (await handshake("queue", "show", "--json")).json["items"]
            hold.release()
            out, _ = await process.communicate()
    assert [one["wait_reason"] for one in idle] == ["no_runtime", "earlier_turn", "no_runtime"]
    assert [(one["session_id"], one["wait_reason"]) for one in busy] == [
        (first, "session_busy"),
        (second, "model_limit"),
    ]
    assert json.loads(out)["completed"] == 3


async def test_interrupting_queue_run_hands_its_runs_back(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, _ = holding()
    async with Upstream(reply, ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        assert (await handshake("session", "send", session, "one", "--no-wait")).code == 0
        async with handshake.started("queue", "run") as process:
            await upstream.request()
            ended = await interrupt(process)
        assert ended.code == 130
        assert [state for state, _, _ in await jobs_of(handshake)] == ["queued"]
        assert (await handshake("queue", "run", "--json")).json["completed"] == 1


async def test_queue_run_tells_of_failed_work(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(chunked(b"no event", content_type="text/plain")) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        assert (await handshake("session", "send", session, "one", "--no-wait")).code == 0
        ran = await handshake("queue", "run")
    assert (ran.code, ran.out) == (1, "0 completed, 0 completed_with_issues, 1 failed, 0 cancelled, 0 left\n")


@requirement("recorder.read.while_writing")
async def test_a_tail_sees_events_of_another_process_as_they_come(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        async with handshake.started("events", "tail", "--session", session, "--json") as process:
            seen = [json.loads(await first_line(process))]
            assert seen[0]["type"] == "session.created"
            sent = await handshake("session", "send", session, "one")
            assert sent.code == 0
            while seen[-1]["type"] != "llm_inference":
                seen.append(json.loads(await first_line(process)))
            ended = await interrupt(process)
    assert ended.code == 130
    listed = (await handshake("events", "list", "--session", session, "--json")).lines
    assert seen == listed[: len(seen)]


async def test_a_terminal_gets_no_control_characters_and_a_summary(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(chunked(event_stream("\x1b[31mred\x07", "\nnext"))) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        process, terminal = await on_terminal(handshake, "session", "send", session, "now")
        shown = await heard(terminal, ", job ")
        assert await process.wait() == 0
    os.close(terminal)
    assert "?[31mred?\r\nnext\r\n" in shown
    assert "completed, 5 tokens, 1 attempt, job " in shown
    raw = await handshake("session", "messages", session)
    assert "\x1b[31mred\x07\nnext" in raw.out


async def test_a_terminal_shows_why_a_run_waits(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, hold = holding()
    async with Upstream(reply) as upstream:
        configure(handshake.folder, upstream.base_url, "[scheduler.max_concurrent_per_model]\nlocal = 1\n")
        first, second = await handshake.session(), await handshake.session()
        assert (await handshake("session", "send", first, "x", "--no-wait")).code == 0
        process, terminal = await on_terminal(handshake, "session", "send", second, "now")
        await heard(terminal, "queued: the model's slots are taken (1 running, 1 waiting)")
        hold.release()
        assert "First line.\r\nSecond line.\r\n" in await heard(terminal, "completed, ")
        assert await process.wait() == 0
    os.close(terminal)
    assert [state for state, _, _ in await jobs_of(handshake)] == ["completed", "completed"]
