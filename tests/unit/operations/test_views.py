"""Tests of views: lists in pages, texts checked against their hashes, and why each run waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import pytest

from handshake.bootstrap import limits_of
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, NotFound
from handshake.kernel.ids import JobId, SessionId
from handshake.kernel.job import JobState
from handshake.kernel.lane import Lane
from handshake.kernel.session import SessionState
from handshake.kernel.settings import DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS, ModelSettings
from handshake.kernel.waiting import SENTENCES, WaitReason
from handshake.operations import views
from handshake.operations.views import QueueView
from handshake.ports.store import Reader
from tests.requirement import requirement
from tests.running import FINAL, MODEL, Stage, settings_of

T = TypeVar("T")
NOBODY = "018f0000-0000-7000-8000-000000000001"


def read(stage: Stage, query: Callable[[Reader], T]) -> T:
    return stage.store.read_now(query)


def queue_of(stage: Stage, **given: Any) -> QueueView:
    options: dict[str, Any] = {"dispatching": True, "now_us": stage.clock.now_us(), **given}
    return read(stage, lambda reader: views.queue(reader, limits_of(stage.settings), **options))


def reasons(stage: Stage, **given: Any) -> dict[str, WaitReason]:
    return {item.job_id: item.wait_reason for item in queue_of(stage, **given).items}


@requirement("scheduler.queue.shows_reason")
async def test_every_waiting_run_tells_why_it_waits() -> None:
    settings = settings_of(3, each=9, models={MODEL: ModelSettings(group="g"), "other": ModelSettings()}, g=1)
    stage = await Stage.open(settings)
    sessions = [await stage.create() for _ in range(3)]
    other = await stage.create(model_id="other")
    paused = await stage.create()
    await stage.batch(stage.pausing(paused))
    running = await stage.send(sessions[0])
    busy = await stage.send(sessions[0], "next")
    later = await stage.send(sessions[0], "last")
    grouped = await stage.send(sessions[1])
    held = await stage.send(paused)
    failing = await stage.send(other)
    await stage.batch(stage.failing(stage.ticket(failing)))
    found = reasons(stage)
    assert found == {
        busy: WaitReason.SESSION_BUSY,
        later: WaitReason.SESSION_BUSY,
        grouped: WaitReason.GROUP_LIMIT,
        held: WaitReason.SESSION_PAUSED,
        failing: WaitReason.BACKOFF,
    }
    view = queue_of(stage)
    assert (view.queued, view.running) == (5, 1)
    assert all(item.sentence == SENTENCES[item.wait_reason] for item in view.items)
    assert [item.enqueue_seq for item in view.items] == sorted(item.enqueue_seq for item in view.items)
    assert stage.running() == [running]


@requirement("scheduler.queue.shows_reason")
@pytest.mark.parametrize(
    ("settings", "lane", "expected"),
    [
        (settings_of(1), Lane.PRIMARY, WaitReason.GLOBAL_LIMIT),
        (settings_of(2), Lane.BACKGROUND, WaitReason.PRIMARY_RESERVE),
        (settings_of(9, each=1), Lane.PRIMARY, WaitReason.PROVIDER_LIMIT),
        (settings_of(9, each=9, models={MODEL: ModelSettings(max_concurrent=1)}), Lane.PRIMARY, WaitReason.MODEL_LIMIT),
    ],
)
async def test_a_shared_limit_is_named(settings: Any, lane: Lane, expected: WaitReason) -> None:
    stage = await Stage.open(settings)
    running = await stage.send(await stage.create(lane=lane))
    waiting = await stage.send(await stage.create(lane=lane))
    assert reasons(stage) == {waiting: expected}
    await stage.batch(stage.finishing(stage.ticket(running)))
    assert reasons(stage) == {}


@requirement("scheduler.queue.shows_reason")
async def test_a_run_that_waits_for_a_connection_to_close_says_so() -> None:
    stage = await Stage.open(settings_of(each=1))
    running = await stage.send(await stage.create())
    waiting = await stage.send(await stage.create())
    await stage.batch(stage.cancelling(running))
    assert reasons(stage) == {waiting: WaitReason.PROVIDER_LIMIT}
    assert queue_of(stage).running == 0


@requirement("scheduler.queue.shows_reason")
async def test_without_a_runtime_a_run_says_that_nothing_starts_it() -> None:
    stage = await Stage.open(dispatch=False)
    session_id = await stage.create()
    first, second = await stage.send(session_id), await stage.send(session_id)
    assert reasons(stage, dispatching=False) == {first: WaitReason.NO_RUNTIME, second: WaitReason.EARLIER_TURN}
    assert reasons(stage, dispatching=True)[first] is WaitReason.READY


async def test_a_queue_is_read_in_pages() -> None:
    stage = await Stage.open(settings_of(1), dispatch=False)
    jobs = [await stage.send(await stage.create()) for _ in range(5)]
    stage.clock.advance(1_000)
    first = queue_of(stage, limit=2)
    assert [item.job_id for item in first.items] == jobs[:2]
    assert (first.queued, first.items[0].waited_us) == (5, 1_000)
    rest = queue_of(stage, after=first.items[-1].enqueue_seq, limit=9)
    assert [item.job_id for item in rest.items] == jobs[2:]


@pytest.mark.parametrize("limit", [0, -1, MAX_PAGE_ITEMS + 1])
def test_a_page_has_a_limit(limit: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        views.page_limit(limit)
    assert refused.value.context["field"] == "limit"
    assert views.page_limit(None) == DEFAULT_PAGE_ITEMS
    assert views.page_limit(MAX_PAGE_ITEMS) == MAX_PAGE_ITEMS


async def test_sessions_are_listed_in_order_and_by_what_is_asked() -> None:
    stage = await Stage.open()
    ids = []
    for role, wp_id in (("coder", "A"), ("worker", "A"), ("coder", None)):
        stage.clock.advance(1_000)
        ids.append(await stage.create(role=role, wp_id=wp_id))
    await stage.batch(stage.completing(ids[1]))

    def listed(**given: Any) -> list[SessionId]:
        return [one.session_id for one in read(stage, lambda reader: views.sessions(reader, **given))]

    assert listed() == ids
    assert listed(after=ids[0], limit=1) == [ids[1]]
    assert listed(role="coder") == [ids[0], ids[2]]
    assert listed(wp_id="A", state=SessionState.CREATED) == [ids[0]]
    assert listed(state=SessionState.COMPLETED) == [ids[1]]
    assert listed(after="z") == []


@requirement("scheduler.jobs.history_visible")
async def test_ended_jobs_stay_listed_with_state_and_reason() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    done, failed, cancelled = [await stage.send(session_id, text) for text in "abc"]
    await stage.batch(stage.finishing(stage.ticket(done)))
    await stage.batch(stage.failing(stage.ticket(failed), FINAL, body="the provider's words"))
    await stage.batch(stage.cancelling(cancelled, reason="not_needed"))
    await stage.batch(stage.cancelling_session(session_id))
    await stage.begin()

    def listed(**given: Any) -> list[tuple[JobId, JobState, str | None]]:
        jobs = read(stage, lambda reader: views.jobs(reader, **given))
        return [(job.job_id, job.state, job.reason) for job in jobs]

    history = [
        (done, JobState.COMPLETED, None),
        (failed, JobState.FAILED, "status_400"),
        (cancelled, JobState.CANCELLED, "not_needed"),
    ]
    assert listed() == listed(session_id=session_id) == history
    assert listed(state=JobState.FAILED) == [history[1]]
    assert listed(after=1, limit=1) == [history[1]]
    assert listed(session_id=SessionId(NOBODY)) == []
    (kept,) = read(stage, lambda reader: views.job_artifacts(reader, failed))
    assert (kept.attempt, kept.kind) == (1, "provider_error")
    assert read(stage, lambda reader: views.text_of(reader, kept.artifact_id)) == "the provider's words"


async def test_a_thread_is_read_with_its_texts_in_pages() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    for text in ("Grüße", "zwei"):
        job_id = await stage.send(session_id, text)
        await stage.batch(stage.finishing(stage.ticket(job_id), f"re {text}"))
    whole = read(stage, lambda reader: views.messages(reader, session_id))
    assert [(one.message.seq, one.message.role, one.text) for one in whole] == [
        (1, "USER", "Grüße"),
        (2, "ASSISTANT", "re Grüße"),
        (3, "USER", "zwei"),
        (4, "ASSISTANT", "re zwei"),
    ]
    assert read(stage, lambda reader: views.messages(reader, session_id, after=1, limit=2)) == whole[1:3]


async def test_a_text_that_does_not_have_its_hash_is_not_shown() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    await stage.send(session_id, "true")
    stage.memory.opened.db.execute("UPDATE artifact SET data = ?", (b"fake",)).close()
    with pytest.raises(IntegrityBroken):
        read(stage, lambda reader: views.messages(reader, session_id))


@pytest.mark.parametrize("text", ["", "nobody", NOBODY])
async def test_what_is_not_there_is_not_found(text: str) -> None:
    stage = await Stage.open()
    with pytest.raises(NotFound):
        read(stage, lambda reader: views.messages(reader, SessionId(text)))
    with pytest.raises(NotFound):
        read(stage, lambda reader: views.job_artifacts(reader, JobId(text)))


async def test_a_workspace_is_shown_in_numbers() -> None:
    stage = await Stage.open(settings_of(1))
    first, second = await stage.create(), await stage.create()
    await stage.batch(stage.completing(await stage.create()))
    await stage.send(first)
    await stage.send(second)
    shown = read(stage, views.workspace)
    assert shown.workspace_id == stage.memory.workspace_id
    assert shown.runtime_epoch == 1
    assert shown.sessions == {"ACTIVE": 1, "COMPLETED": 1, "CREATED": 1}
    assert shown.jobs == {"queued": 1, "running": 1}
    assert shown.events == len(stage.check().events)
