from __future__ import annotations

from itertools import islice
from random import Random

from handshake.testing.simulator.reply_bytes import RESET, Step, around, reply, text_of
from handshake.testing.simulator.scenario import AnswerPlan, Form, Framing


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
