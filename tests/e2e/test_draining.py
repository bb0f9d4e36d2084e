"""Draining: on SIGTERM a process takes nothing new, lets what runs end or hands it back, and a second signal cuts."""

from __future__ import annotations

import asyncio
import json
import signal
import sys
from pathlib import Path

import pytest

from handshake.testing.replies import Hold, chunked, event_stream
from handshake.testing.upstream import Upstream
from tests.e2e.command_line import CommandLine, configure, first_line
from tests.e2e.test_cli_send import ANSWERS, holding, jobs_of
from tests.requirement import requirement

PROGRAM = Path(__file__).with_name("draining_program.py")
ONE_AT_A_TIME = "[scheduler.max_concurrent_per_model]\nlocal = 1\n"


@requirement("scheduler.draining.finishes")
async def test_a_sent_turn_ends_with_its_whole_answer(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, hold = holding()
    async with Upstream(reply) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        async with handshake.started("session", "send", session, "now") as process:
            assert await first_line(process) == "First line.\n"
            process.send_signal(signal.SIGTERM)
            hold.release()
            out, err = await process.communicate()
        assert (process.returncode, out, err) == (0, b"Second line.\n", b"")
    assert await jobs_of(handshake) == [("completed", None, 1)]


@requirement("scheduler.draining.finishes")
async def test_queue_run_ends_what_runs_and_leaves_what_waits(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, hold = holding()
    async with Upstream(reply, ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url, ONE_AT_A_TIME)
        for _ in range(3):
            assert (await handshake("session", "send", await handshake.session(), "x", "--no-wait")).code == 0
        async with handshake.started("queue", "run", "--json") as process:
            await upstream.request()
            process.send_signal(signal.SIGTERM)
            hold.release()
            out, _ = await process.communicate()
        assert process.returncode == 0
        assert (json.loads(out)["completed"], json.loads(out)["left"]) == (1, 2)
        assert len(upstream.requests) == 1
        assert (await handshake("queue", "run", "--json")).json["completed"] == 2
    assert await jobs_of(handshake) == [("completed", None, 1)] * 3


@requirement("scheduler.draining.finishes")
async def test_what_does_not_end_in_time_is_handed_back_and_ends_later(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    reply, _ = holding()
    async with Upstream(reply, ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        async with handshake.started("session", "send", session, "now", "--json") as process:
            request = await upstream.request()
            process.send_signal(signal.SIGTERM)
            out, err = await process.communicate()
            await request.closed.wait()
        told = json.loads(err)["error"]
        assert (process.returncode, out, told["code"]) == (1, b"", "HSK-503-DRAINING")
        assert await jobs_of(handshake) == [("queued", None, 1)]
        assert (await handshake("queue", "run", "--json")).json["completed"] == 1
    assert await jobs_of(handshake) == [("completed", None, 2)]
    assert (await handshake("audit", "verify", "--deep", "--json")).json["verified"] is True


@requirement("scheduler.draining.finishes")
async def test_a_second_signal_cuts_and_the_next_start_finds_the_run(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    hold = Hold()
    begun = event_stream("First.\n", finish_reason=None, usage=None, done=False)
    async with Upstream(chunked(begun, hold), ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
        async with handshake.started("session", "send", session, "now") as process:
            await first_line(process)
            process.send_signal(signal.SIGTERM)
            process.send_signal(signal.SIGINT)
            assert await process.wait() == 130
        assert await jobs_of(handshake) == [("running", None, 1)]
        assert (await handshake("queue", "run", "--json")).json["completed"] == 1


@requirement("scheduler.draining.finishes")
@pytest.mark.parametrize("patience", ["patient", "impatient"])
async def test_a_program_of_ones_own_drains(handshake: CommandLine, patience: str) -> None:
    """It sends a turn, takes SIGTERM as the order to drain, and is refused another turn; nothing of it is lost."""
    assert handshake.folder is not None
    reply, hold = holding()
    async with Upstream(reply, ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, str(PROGRAM), str(handshake.folder), "0" if patience == "impatient" else "60"),
            stdout=asyncio.subprocess.PIPE,
            env=handshake.environment(),
        )
        await upstream.request()
        process.send_signal(signal.SIGTERM)
        assert process.stdout is not None
        assert (await process.stdout.readline()).decode() == "refused HSK-503-DRAINING\n"
        if patience == "patient":
            hold.release()
        out, _ = await process.communicate()
        assert process.returncode == 0
        if patience == "patient":
            assert out.decode() == "ended completed\n"
            assert await jobs_of(handshake) == [("completed", None, 1)]
        else:
            assert out.decode() == "ended HSK-503-DRAINING\n"
            assert await jobs_of(handshake) == [("queued", None, 1)]
            assert (await handshake("queue", "run", "--json")).json["completed"] == 1
    assert (await handshake("audit", "verify", "--deep", "--json")).json["verified"] is True
