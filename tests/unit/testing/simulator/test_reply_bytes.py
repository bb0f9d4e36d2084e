from __future__ import annotations

from itertools import islice
from random import Random

import pytest

from handshake.providers.wire_openai import StreamedAnswer, WholeAnswer
from handshake.testing.simulator.reply_bytes import RESET, Step, around, calls_of, reply, text_of
from handshake.testing.simulator.scenario import AnswerPlan, CallPlan, Form, Framing


def steps(plan: AnswerPlan, seed: int = 1, most: int = 500) -> list[Step]:
    return list(islice(reply(plan, Random(seed), 3), most))


def bytes_of(plan: AnswerPlan, seed: int = 1) -> bytes:
    return b"".join(data for _, data in steps(plan, seed) if data is not RESET)


def test_the_same_chance_gives_the_same_bytes_and_waits() -> None:
    plan = AnswerPlan(words=30, chunk_bytes=50)
    assert steps(plan) == steps(plan)
    assert steps(plan) != steps(plan, seed=2)
    assert all(len(data or b"") <= 50 for _, data in steps(plan))


def test_lengths_vary_by_half_around_what_is_said() -> None:
    chance = Random(7)
    drawn = [around(chance, 100) for _ in range(500)]
    assert (min(drawn) >= 50, max(drawn) <= 150, len(set(drawn)) > 60) == (True, True, True)
    assert around(chance, 0) == 0
    assert text_of(chance, 0)


def test_a_reset_comes_at_any_byte() -> None:
    plan = AnswerPlan(cut_percent=100, chunk_bytes=1, words=2)
    whole = len(bytes_of(AnswerPlan(words=2)))
    cuts = {len(bytes_of(plan, seed)) for seed in range(300)}
    assert len(cuts) > whole // 4
    assert all(steps(plan, seed, most=5_000)[-1] == (0, RESET) for seed in range(20))


def test_each_form_is_what_it_says() -> None:
    assert steps(AnswerPlan(form=Form.HANG)) == []
    assert steps(AnswerPlan(form=Form.REFUSE)) == [(0, RESET)]
    assert len(steps(AnswerPlan(form=Form.ENDLESS))) == 500
    assert not bytes_of(AnswerPlan(form=Form.GARBAGE)).startswith(b"HTTP")
    busy = bytes_of(AnswerPlan(form=Form.STATUS, status=429, retry_after_s=7))
    assert busy.startswith(b"HTTP/1.1 429 ")
    assert b"retry-after: 7\r\n" in busy
    assert b"usage" not in bytes_of(AnswerPlan(usage=False))


def test_lengths_are_told_rightly_or_wrongly() -> None:
    for framing, off_by in ((Framing.RIGHT, 0), (Framing.TOO_SHORT, -17), (Framing.TOO_LONG, 17)):
        head, _, body = bytes_of(AnswerPlan(form=Form.WHOLE, framing=framing)).partition(b"\r\n\r\n")
        assert int(head.rpartition(b" ")[2]) - len(body) == off_by


CALLS = {
    "read": CallPlan(tool="workspace.file.read", arguments='{"path": "a.txt"}'),
    "wild": CallPlan(tool="no.such.tool", arguments="{oops"),
}


def test_an_answer_asks_for_tools_as_it_is_planned() -> None:
    plan = AnswerPlan(calls={"read": 3, "wild": 1}, calls_percent=50, calls_at_once=4)
    drawn = [calls_of(plan, CALLS, Random(seed)) for seed in range(200)]
    assert drawn == [calls_of(plan, CALLS, Random(seed)) for seed in range(200)]
    assert 60 < sum(not calls for calls in drawn) < 140
    assert {len(calls) for calls in drawn} == {0, 2, 3, 4, 5, 6}
    names = [call.name for calls in drawn for call in calls]
    assert names.count("workspace__file__read") > 2 * names.count("no__such__tool") > 0
    for calls in drawn:
        assert len({call.call_id for call in calls}) == len(calls)


def test_a_plan_without_calls_draws_nothing() -> None:
    for plan in (AnswerPlan(), AnswerPlan(calls={"read": 0})):
        chance = Random(7)
        assert calls_of(plan, CALLS, chance) == ()
        assert chance.random() == Random(7).random()


@pytest.mark.parametrize("form", [Form.STREAM, Form.WHOLE])
def test_calls_are_read_as_they_were_planned(form: Form) -> None:
    plan = AnswerPlan(form=form, calls={"read": 1, "wild": 1}, calls_at_once=3, framing=Framing.UNTIL_CLOSE)
    calls = calls_of(plan, CALLS, Random(3))
    data = b"".join(data or b"" for _, data in reply(plan, Random(3), 3, calls))
    reader = StreamedAnswer() if form is Form.STREAM else WholeAnswer(100_000)
    body = data.partition(b"\r\n\r\n")[2]
    assert [*reader.feed(body), *reader.feed(b"")]
    finished = reader.finish()
    assert (finished.finish_reason, finished.tool_calls) == ("tool_calls", calls)
