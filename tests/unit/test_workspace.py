"""Tests of the Python face: what its callers get, see and are told, on a workspace that lies on the disk."""

from __future__ import annotations

import asyncio
import hashlib
import subprocess
import sys
from collections.abc import AsyncIterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handshake.bootstrap import find_workspace, init_workspace, verifier_key
from handshake.kernel.errors import (
    ConsentRequired,
    Draining,
    HandshakeError,
    InvalidRequest,
    InvalidTransition,
    NotFound,
    ProviderFailed,
    StateConflict,
    StoreFailed,
    TooLarge,
)
from handshake.kernel.ids import ProviderId
from handshake.kernel.job import JobState
from handshake.kernel.lane import Lane
from handshake.kernel.session import ExecutionMode, MemoryPolicy, Session, SessionState
from handshake.kernel.settings import MAX_MESSAGE_BYTES, MAX_PAGE_ITEMS
from handshake.kernel.waiting import WaitReason
from handshake.operations import audit
from handshake.operations.feed import Over, Started, Text
from handshake.testing.invariants import check_workspace
from handshake.testing.scripted_model import ScriptedModel, Step
from handshake.workspace import SessionHandle, Workspace, open_workspace
from tests.requirement import requirement

DESK = ProviderId("desk")
CONFIG = """
[providers.desk]
dialects = ["openai_chat"]
base_url = "http://127.0.0.1:9/v1"
max_concurrent = 8
models.tiny.max_concurrent = 8
[providers.forwarder]
dialects = ["openai_chat"]
base_url = "http://127.0.0.1:9/v1"
forwards_to_cloud = true
models.large = { input_usd_per_million = 0.5, output_usd_per_million = 1.5 }
[aliases]
"gpt-*" = "desk/tiny"
"""
PLAIN: dict[str, Any] = {"role": "coder", "model": "desk/tiny", "memory_policy": "EPHEMERAL"}
NOBODY = "018f0000-0000-7000-8000-000000000001"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    init_workspace(tmp_path)
    (tmp_path / ".handshake" / "config.toml").write_text(CONFIG)
    return tmp_path


class Script:
    """What the model does: it waits where it is told to, and else answers `re: TEXT`."""

    def __init__(self) -> None:
        self.hold = asyncio.Event()
        self.model = ScriptedModel(self.steps)

    def steps(self, text: str) -> Sequence[Step]:
        return ("so far", self.hold, ", so good") if text.startswith("wait") else ("re: ", text)

    def open(self, folder: Path, **given: Any) -> Any:
        return open_workspace(folder, models={DESK: self.model}, **given)


@pytest.fixture
def script() -> Script:
    return Script()


@pytest.fixture
async def workspace(folder: Path, script: Script) -> AsyncIterator[Workspace]:
    async with script.open(folder, drain_s=0) as opened:
        yield opened
        key = verifier_key(find_workspace(folder))
        await opened.runtime.store.read(lambda reader: check_workspace(reader, key))


@pytest.fixture
async def session(workspace: Workspace) -> SessionHandle:
    return await workspace.sessions.create(**PLAIN)


_READER = """
import sys
from pathlib import Path
import msgspec
from handshake.bootstrap import find_workspace, read_only
from handshake.operations import records
store = read_only(find_workspace(Path(sys.argv[1])))
print(msgspec.json.encode(store.read_now(lambda reader: records.session(reader, sys.argv[2]))).decode())
"""


def read_elsewhere(folder: Path, session_id: str) -> Session:
    """Return a session as another process reads it."""
    command = [sys.executable, "-c", _READER, str(folder), session_id]
    printed = subprocess.run(command, capture_output=True, check=True).stdout
    return msgspec.json.decode(printed, type=Session)


# -- sessions ---------------------------------------------------------------------------------------------------


@requirement("session.create.persists_and_reloads")
async def test_a_session_is_read_back_whole_after_reopening(folder: Path, script: Script) -> None:
    async with script.open(folder) as first:
        created = await first.sessions.create(
            role="rolepack:law/clerk", model="gpt-4o", memory_policy="workspace_scoped", lane="validation", wp="WP-1",
            mt="MT-2", execution_mode="single_model_multi_role", title="A clerk", session_id=NOBODY,
        )  # fmt: skip
        await (await created.send("Hello")).result()
        shown, said = await created.show(), await created.messages()
    assert read_elsewhere(folder, NOBODY) == shown
    async with script.open(folder) as second:
        again = second.sessions.get(NOBODY)
        assert await again.show() == shown
        assert await again.messages() == said
        assert await second.sessions.list() == [shown]
        result = await (await again.send("Go on")).result()
    assert result.text == "re: Go on"
    assert (shown.session_id, shown.model_id, shown.title) == (NOBODY, "tiny", "A clerk")
    assert (shown.memory_policy, shown.lane) == (MemoryPolicy.WORKSPACE_SCOPED, Lane.VALIDATION)
    assert (shown.wp_id, shown.mt_id, shown.execution_mode) == ("WP-1", "MT-2", ExecutionMode.SINGLE_MODEL_MULTI_ROLE)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("role", "wizard"),
        ("model", "tiny"),
        ("model", "cellar/tiny"),
        ("memory_policy", "some"),
        ("memory_policy", ""),
        ("lane", "FAST"),
        ("execution_mode", "ALONE"),
        ("wp", ""),
        ("mt", "two\nlines"),
        ("title", "x" * 201),
        ("session_id", ""),
        ("session_id", "mine"),
        ("session_id", NOBODY.upper()),
    ],
)
async def test_what_cannot_be_a_session_is_refused(workspace: Workspace, field: str, value: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await workspace.sessions.create(**{**PLAIN, field: value})
    assert refused.value.context["field"] == field
    assert await workspace.sessions.list() == []


@requirement("session.create.existing_id_is_refused")
async def test_a_known_id_is_refused(workspace: Workspace, session: SessionHandle) -> None:
    before = await session.show()
    with pytest.raises(StateConflict):
        await workspace.sessions.create(**{**PLAIN, "role": "operator"}, session_id=session.session_id)
    assert await session.show() == before


@requirement("session.memory_policy.is_fixed")
async def test_a_memory_policy_must_be_chosen(workspace: Workspace) -> None:
    with pytest.raises(TypeError):
        await workspace.sessions.create(role="coder", model="desk/tiny")  # type: ignore[call-arg]
    assert await workspace.sessions.list() == []


async def test_a_provider_that_is_not_there_is_a_coded_error(folder: Path) -> None:
    async with open_workspace(folder) as workspace:
        with pytest.raises(ProviderFailed) as failed:
            await workspace.sessions.create(**PLAIN)
        assert failed.value.context["provider_id"] == "desk"


async def test_a_cloud_session_may_exist_and_nothing_is_sent_for_it(folder: Path) -> None:
    async with open_workspace(folder) as workspace:
        session = await workspace.sessions.create(**{**PLAIN, "model": "forwarder/large"})
        with pytest.raises(ConsentRequired):
            await session.send("Hello")
        assert await session.messages() == []


async def test_a_session_that_is_not_there_is_not_found(workspace: Workspace) -> None:
    for text in (NOBODY, "", "nobody"):
        handle = workspace.sessions.get(text)
        for act in (handle.show, handle.messages, handle.pause, handle.resume, handle.complete, handle.cancel):
            with pytest.raises(NotFound):
                await act()
        with pytest.raises(NotFound):
            await handle.send("Hello")


# -- sending ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ({"text": ""}, "text"),
        ({"text": "\ud800"}, "text"),
        ({"lane": "FAST"}, "lane"),
        ({"priority": -1}, "priority"),
        ({"priority": 101}, "priority"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"timeout_ms": 0}, "timeout_ms"),
        ({"timeout_ms": 10**12}, "timeout_ms"),
        ({"idempotency_key": ""}, "idempotency_key"),
        ({"idempotency_key": "x" * 256}, "idempotency_key"),
        ({"idempotency_key": "a\nb"}, "idempotency_key"),
        ({"content_hash": "0" * 64}, "content_hash"),
        ({"content_hash": "nonsense"}, "content_hash"),
    ],
)
async def test_what_cannot_be_sent_is_refused_and_not_stored(
    session: SessionHandle, given: dict[str, Any], field: str
) -> None:
    with pytest.raises(InvalidRequest) as refused:
        await session.send(**{"text": "Hello", **given})
    assert refused.value.context["field"] == field
    assert await session.messages() == []


async def test_a_text_that_is_too_large_is_refused_and_the_largest_is_not(session: SessionHandle) -> None:
    with pytest.raises(TooLarge):
        await session.send("x" * (MAX_MESSAGE_BYTES + 1))
    result = await (await session.send("x" * MAX_MESSAGE_BYTES)).result()
    assert result.state is JobState.COMPLETED


@requirement("message.content.hash_is_verified")
async def test_a_hash_that_is_true_is_taken(session: SessionHandle) -> None:
    turn = await session.send("Grüße", content_hash=hashlib.sha256("Grüße".encode()).hexdigest())
    assert (await turn.result()).text == "re: Grüße"


async def test_options_of_a_turn_stand_in_its_job(workspace: Workspace, session: SessionHandle) -> None:
    turn = await session.send(
        "Hello", lane="background", priority=3, max_output_tokens=7, timeout_ms=9_000, idempotency_key="k"
    )
    job = await workspace.job(turn.job_id)
    assert (job.lane, job.priority, job.max_output_tokens) == (Lane.BACKGROUND, 3, 7)
    assert (job.timeout_ms, job.idempotency_key, job.max_retries) == (9_000, "k", 3)
    await turn.result()


@requirement("scheduler.idempotency.same_key_same_job")
async def test_a_repeated_key_gives_the_same_turn_before_and_after_its_end(
    session: SessionHandle, script: Script
) -> None:
    first, second = await asyncio.gather(*(session.send("wait", idempotency_key="k") for _ in range(2)))
    assert (first.job_id, first.turn_id) == (second.job_id, second.turn_id)
    assert [first.repeated, second.repeated] == [False, True]
    both = asyncio.gather(first.result(), second.result())
    script.hold.set()
    assert [result.text for result in await both] == ["so far, so good"] * 2
    third = await session.send("wait", idempotency_key="k")
    assert (third.repeated, (await third.result()).text) == (True, "so far, so good")
    with pytest.raises(StateConflict):
        await session.send("something else", idempotency_key="k")
    with pytest.raises(StateConflict):
        await session.send("wait", idempotency_key="k", priority=1)
    assert len(await session.messages()) == 2


@requirement("scheduler.session.head_only", "session.state.active_iff_one_running")
async def test_many_at_once_to_one_session_are_answered_in_order(session: SessionHandle, script: Script) -> None:
    turns = await asyncio.gather(*(session.send(f"number {number}", priority=number) for number in range(64)))
    results = await asyncio.gather(*(turn.result() for turn in turns))
    assert [result.text for result in results] == [f"re: number {number}" for number in range(64)]
    said = [one.text for one in await session.messages(limit=200) if one.message.role == "USER"]
    assert said == [f"number {number}" for number in range(64)]
    assert len(script.model.bodies) == 64


# -- listening --------------------------------------------------------------------------------------------------


async def test_who_stops_listening_still_gets_the_result(session: SessionHandle, script: Script) -> None:
    turn = await session.send("wait")
    async for piece in turn:
        if isinstance(piece, Text):
            break
    script.hold.set()
    assert (await turn.result()).text == "so far, so good"
    assert (await turn.result()).text == "so far, so good"
    assert [piece async for piece in turn] == [Over(JobState.COMPLETED)]


async def test_two_who_listen_both_see_the_end(session: SessionHandle, script: Script) -> None:
    turn = await session.send("wait")

    async def listen() -> list[object]:
        return [piece async for piece in turn]

    listening = [asyncio.ensure_future(listen()) for _ in range(3)]
    await asyncio.sleep(0)
    script.hold.set()
    heard = await asyncio.gather(*listening)
    assert heard[0][0] == Started(1)
    assert [pieces[-1] for pieces in heard] == [Over(JobState.COMPLETED)] * 3


async def test_turns_that_nobody_listens_to_are_not_remembered(workspace: Workspace, session: SessionHandle) -> None:
    for number in range(20):
        await session.send(f"{number}")
    await (await session.send("last")).result()
    assert not workspace.runtime.feeds._by_job


# -- control ----------------------------------------------------------------------------------------------------


@requirement("scheduler.cancel.is_prompt")
async def test_a_cancel_ends_what_runs_and_what_waits(
    workspace: Workspace, session: SessionHandle, script: Script
) -> None:
    running, waiting = await session.send("wait"), await session.send("wait too")
    async for piece in running:
        if isinstance(piece, Text):
            break
    assert (await workspace.cancel_job(waiting.job_id, reason="not_needed")).may_have_left is False
    assert (await running.cancel()).may_have_left is True
    for turn, reason in ((running, "operator"), (waiting, "not_needed")):
        result = await turn.result()
        assert (result.state, result.reason, result.text) == (JobState.CANCELLED, reason, None)
    assert (await session.show()).state is SessionState.IDLE
    for bad in ("", "not needed", "x" * 65):
        with pytest.raises(InvalidRequest):
            await running.cancel(reason=bad)
    with pytest.raises(NotFound):
        await workspace.cancel_job(NOBODY)


async def test_cancelling_a_session_ends_every_turn_of_it(session: SessionHandle) -> None:
    turns = [await session.send("wait") for _ in range(3)]
    ended = await session.cancel(reason="enough")
    assert ended.session.state is SessionState.CANCELLED
    assert [(await turn.result()).reason for turn in turns] == ["enough"] * 3
    with pytest.raises(InvalidTransition):
        await session.send("more")


@requirement("session.pause.keeps_queue", "scheduler.queue.shows_reason")
async def test_a_paused_session_waits_and_says_so(workspace: Workspace, session: SessionHandle) -> None:
    assert (await session.pause()).state is SessionState.PAUSED
    turns = [await session.send(text) for text in "abc"]
    view = await workspace.queue()
    assert [(item.job_id, item.wait_reason) for item in view.items] == [
        (turn.job_id, WaitReason.SESSION_PAUSED) for turn in turns
    ]
    assert [item.job_id for item in (await workspace.queue(after=view.items[0].enqueue_seq, limit=1)).items] == [
        turns[1].job_id
    ]
    await session.resume()
    assert [(await turn.result()).text for turn in turns] == ["re: a", "re: b", "re: c"]
    await session.pause()
    await session.send("open")
    with pytest.raises(StateConflict):
        await session.complete()


async def test_a_workspace_counts_what_is_in_it(workspace: Workspace, session: SessionHandle) -> None:
    await (await session.send("a")).result()
    await session.complete()
    status = await workspace.status()
    assert (status.sessions, status.jobs, status.runtime_epoch) == ({"COMPLETED": 1}, {"completed": 1}, 1)


# -- opening and closing ----------------------------------------------------------------------------------------


@requirement("scheduler.queue.shows_reason", "recovery.start.dispatches_queue")
async def test_without_dispatching_turns_wait_for_a_runtime(folder: Path, script: Script) -> None:
    async with script.open(folder, dispatch=False) as closed:
        turn = await (await closed.sessions.create(**PLAIN)).send("Hello")
        (item,) = (await closed.queue()).items
        assert item.wait_reason is WaitReason.NO_RUNTIME
        waiting = asyncio.ensure_future(turn.result())
        await asyncio.sleep(0)
    with pytest.raises(Draining):
        await waiting
    async with script.open(folder) as opened:
        listening = opened.runtime.feeds.listen(turn.job_id)
        if (await opened.job(turn.job_id)).state is not JobState.COMPLETED:
            assert [piece async for piece in listening][-1] == Over(JobState.COMPLETED)
        assert (await opened.job(turn.job_id)).attempt == 1


@requirement("recovery.start.dispatches_queue", "scheduler.queue.never_drops")
async def test_a_run_that_was_cut_by_closing_goes_on_when_it_is_open_again(folder: Path, script: Script) -> None:
    async with script.open(folder, drain_s=0) as first:
        session = await first.sessions.create(**PLAIN)
        turn, queued = await session.send("wait"), await session.send("after it")
        async for piece in turn:
            if isinstance(piece, Text):
                break
        waiting = asyncio.ensure_future(queued.result())
        await asyncio.sleep(0)
    assert script.model.open_calls == 0
    with pytest.raises(Draining):
        await waiting
    script.hold.set()
    async with script.open(folder) as second:
        again = await second.sessions.get(session.session_id).send("and more")
        assert (await again.result()).text == "re: and more"
        jobs = [await second.job(one) for one in (turn.job_id, queued.job_id)]
        assert [(job.state, job.attempt) for job in jobs] == [(JobState.COMPLETED, 2), (JobState.COMPLETED, 1)]
        said = await second.sessions.get(session.session_id).messages()
    answers = [one.text for one in said if one.message.role == "ASSISTANT"]
    assert answers == ["so far, so good", "re: after it", "re: and more"]


async def test_closing_lets_a_run_finish_that_can(folder: Path, script: Script) -> None:
    async with script.open(folder, drain_s=3_600) as first:
        turn = await (await first.sessions.create(**PLAIN)).send("wait")
        async for piece in turn:
            if isinstance(piece, Text):
                break
        asyncio.get_running_loop().call_soon(script.hold.set)
    async with script.open(folder) as second:
        job = await second.job(turn.job_id)
    assert (job.state, job.attempt) == (JobState.COMPLETED, 1)


async def test_a_closed_workspace_answers_with_one_error(folder: Path, script: Script) -> None:
    async with script.open(folder) as workspace:
        session = await workspace.sessions.create(**PLAIN)
        turn = await session.send("Hello")
        await turn.result()
    for act in (session.show, session.pause, workspace.status, workspace.queue, turn.result, turn.cancel):
        with pytest.raises(StoreFailed) as closed:
            await act()
        assert closed.value.context == {"reason": "closed"}
    with pytest.raises(HandshakeError):
        await session.send("more")


async def test_an_error_inside_closes_the_workspace_too(folder: Path, script: Script) -> None:
    async def fail() -> None:
        async with script.open(folder, drain_s=0) as workspace:
            await (await workspace.sessions.create(**PLAIN)).send("wait")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    async with script.open(folder, drain_s=0) as again:
        assert (await again.status()).runtime_epoch == 2


async def test_a_workspace_is_found_from_below_and_missed_elsewhere(folder: Path, script: Script) -> None:
    below = folder / "src" / "deep"
    below.mkdir(parents=True)
    async with script.open(below) as workspace:
        assert (await workspace.status()).runtime_epoch == 1
    with pytest.raises(NotFound):
        async with script.open(folder.parent):
            raise AssertionError("opened")


async def test_the_events_of_a_session_are_its_own_and_those_of_its_runs(folder: Path) -> None:
    """They are found in the order of the log, from both ends and after any of them."""
    async with Script().open(folder) as hs:
        both = [await hs.sessions.create(**PLAIN) for _ in range(2)]
        for text in ("one", "two", "three"):
            for turn in [await session.send(text) for session in both]:
                await turn.result()
            await both[0].pause()
            await both[0].resume()
        store = hs.runtime.store
        whole = store.read_now(lambda reader: audit.events(reader, limit=MAX_PAGE_ITEMS))
        for session in both:
            asked = partial(audit.events, session_id=session.session_id)
            own = [one.seq for one in whole if one.session_id == session.session_id]
            assert len(own) > 15
            assert [one.seq for one in store.read_now(asked)] == own
            assert [one.seq for one in store.read_now(partial(asked, newest_first=True))] == own[::-1]
            for at in range(len(own)):
                assert [one.seq for one in store.read_now(partial(asked, after=own[at], limit=3))] == own[
                    at + 1 : at + 4
                ]
                older = store.read_now(partial(asked, after=own[at], limit=3, newest_first=True))
                assert [one.seq for one in older] == own[max(0, at - 3) : at][::-1]
            messages = store.read_now(partial(asked, type="session.message"))
            assert [one.event["payload"]["role"] for one in messages] == ["USER", "ASSISTANT"] * 3
