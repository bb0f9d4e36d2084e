"""Reply bytes: from a plan and chance to what a provider sends, byte for byte, and when."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from random import Random

from handshake.kernel.tool_message import CalledTool
from handshake.kernel.tool_name import wire_name
from handshake.kernel.units import US_PER_MS
from handshake.testing.replies import event_stream, head, whole_answer
from handshake.testing.simulator.scenario import AnswerPlan, CallPlan, Form, Framing

RESET = None
"""Stands among the bytes where the connection breaks."""
Step = tuple[int, bytes | None]
"""Microseconds to wait, and then the bytes to send, or RESET."""
WORDS = "amber basket copper dune ember fjord garden harbour island juniper kettle lantern meadow north olive".split()
_FLOOD = b'data: {"choices":[{"index":0,"delta":{"content":"again "}}]}\n\n' * 64
_NOISE = 600
_WRONG_LENGTH = 17


def around(chance: Random, mean: int) -> int:
    """Return a number between half of `mean` and one and a half of it."""
    return mean // 2 + int(chance.random() * (mean + 1)) if mean else 0


def text_of(chance: Random, words: int) -> str:
    """Return a text of about so many words."""
    return " ".join(WORDS[int(chance.random() * len(WORDS))] for _ in range(max(1, around(chance, words))))


def drawn(weights: Mapping[str, int], chance: Random) -> str:
    """Return one of the names, by their weights; at least one is above 0."""
    point = chance.random() * sum(weights.values())
    name = ""
    for one, weight in weights.items():
        if weight:
            name = one
        point -= weight
        if point < 0:
            break
    return name


def calls_of(plan: AnswerPlan, known: Mapping[str, CallPlan], chance: Random) -> tuple[CalledTool, ...]:
    """Return the calls that an answer asks for; a plan without calls draws nothing from `chance`."""
    if not any(plan.calls.values()) or chance.random() * 100 >= plan.calls_percent:
        return ()
    chosen = [known[drawn(plan.calls, chance)] for _ in range(max(1, around(chance, plan.calls_at_once)))]
    return tuple(
        CalledTool(f"call-{chance.getrandbits(32):08x}-{place}", wire_name(one.tool), one.arguments)
        for place, one in enumerate(chosen)
    )


def reply(plan: AnswerPlan, chance: Random, prompt_tokens: int, calls: Sequence[CalledTool] = ()) -> Iterator[Step]:
    """Yield the steps of one answer; after the last the connection is closed in order, unless it hangs.

    Args:
        plan: what kind of answer.
        chance: draws lengths, waits, and where it breaks.
        prompt_tokens: what usage says of the request.
        calls: the tools that it asks for.
    """
    first_us = around(chance, plan.first_byte_ms) * US_PER_MS
    if plan.form is Form.REFUSE:
        yield (0, RESET)
        return
    if plan.form is Form.HANG:
        return
    if plan.form is Form.ENDLESS:
        yield (first_us, head(200, content_type="text/event-stream"))
        while True:
            yield (around(chance, plan.gap_ms) * US_PER_MS, _FLOOD)
    data = _whole(plan, chance, prompt_tokens, calls)
    cut = int(chance.random() * len(data)) if chance.random() * 100 < plan.cut_percent else None
    wait_us = first_us
    for start in range(0, len(data), plan.chunk_bytes):
        if cut is not None and start + plan.chunk_bytes > cut:
            yield (wait_us, data[start:cut])
            yield (0, RESET)
            return
        yield (wait_us, data[start : start + plan.chunk_bytes])
        wait_us = around(chance, plan.gap_ms) * US_PER_MS


def _whole(plan: AnswerPlan, chance: Random, prompt_tokens: int, calls: Sequence[CalledTool]) -> bytes:
    if plan.form is Form.GARBAGE:
        return chance.randbytes(_NOISE)
    if plan.form is Form.STATUS:
        headers = [] if plan.retry_after_s is None else [("retry-after", str(plan.retry_after_s))]
        body = b'{"error": {"message": "not now"}}'
        return head(plan.status, content_type="application/json", headers=[*headers, _length(len(body))]) + body
    text = text_of(chance, plan.words)
    usage = (prompt_tokens, 1 + text.count(" ") + len(calls)) if plan.usage else None
    finish = "tool_calls" if calls and plan.finish == "stop" else plan.finish
    if plan.form is Form.WHOLE:
        whole = whole_answer(text, calls=calls, finish_reason=finish, usage=usage)
        return _framed(whole, "application/json", plan.framing)
    body = event_stream(*(f"{word} " for word in text.split()), calls=calls, finish_reason=finish, usage=usage)
    return _framed(body, "text/event-stream", plan.framing)


def _framed(body: bytes, content_type: str, framing: Framing) -> bytes:
    if framing is Framing.CHUNKED:
        coding = ("transfer-encoding", "chunked")
        return head(200, content_type=content_type, headers=[coding]) + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    if framing is Framing.UNTIL_CLOSE:
        return head(200, content_type=content_type) + body
    said = len(body) + {Framing.TOO_SHORT: -_WRONG_LENGTH, Framing.TOO_LONG: _WRONG_LENGTH}.get(framing, 0)
    return head(200, content_type=content_type, headers=[_length(said)]) + body


def _length(size: int) -> tuple[str, str]:
    return ("content-length", str(size))
