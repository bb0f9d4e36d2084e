"""Transports: what an adapter makes of the same bytes is the same over a socket and in the simulator's memory."""

from __future__ import annotations

import asyncio
from random import Random

import msgspec
import pytest

from handshake.gate.egress import Finished, ModelFault
from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.retry import Fault, FaultKind
from handshake.providers.http_model import HttpModel
from handshake.providers.locality import Boundary
from handshake.testing.replies import CLOSE, RESET, Action, head
from handshake.testing.simulator.memory_transport import MemoryTransport, Wire
from handshake.testing.simulator.reply_bytes import reply
from handshake.testing.simulator.scenario import AnswerPlan, Form, Framing
from handshake.testing.upstream import Upstream
from tests.unit.providers.one_call import LIMITS, PROVIDER, FixedClock, answered, model_at, no_secret, opened

URL = "http://127.0.0.1:9/v1"
PLANS = {
    "stream": AnswerPlan(),
    "whole": AnswerPlan(form=Form.WHOLE, framing=Framing.RIGHT),
    "whole_in_chunks": AnswerPlan(form=Form.WHOLE),
    "too_short": AnswerPlan(framing=Framing.TOO_SHORT),
    "too_long": AnswerPlan(framing=Framing.TOO_LONG),
    "until_close": AnswerPlan(framing=Framing.UNTIL_CLOSE, usage=False),
    "whole_until_close": AnswerPlan(form=Form.WHOLE, framing=Framing.UNTIL_CLOSE),
    "whole_too_short": AnswerPlan(form=Form.WHOLE, framing=Framing.TOO_SHORT),
    "whole_too_long": AnswerPlan(form=Form.WHOLE, framing=Framing.TOO_LONG),
    "busy": AnswerPlan(form=Form.STATUS, status=429, retry_after_s=7),
    "down": AnswerPlan(form=Form.STATUS, status=503),
    "moved": AnswerPlan(form=Form.STATUS, status=302),
    "filtered": AnswerPlan(finish="content_filter"),
    "garbage": AnswerPlan(form=Form.GARBAGE),
}
ODD = {
    "nothing": b"",
    "no_colon": b"HTTP/1.1 200 OK\r\nnonsense\r\n\r\n",
    "no_http": b"SSH-2.0-OpenSSH_9\r\n",
    "no_status": b"HTTP/1.1 hello\r\n\r\n",
    "no_type": b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}",
    "no_json": head(200, content_type="application/json", headers=[("content-length", "2")]) + b"<>",
    "no_chunk": head(200, content_type="text/event-stream", headers=[("transfer-encoding", "chunked")]) + b"zz\r\n",
    "no_chunk_end": head(200, content_type="text/event-stream", headers=[("transfer-encoding", "chunked")])
    + b"2\r\n: xx\r\n",
    "packed": head(200, content_type="text/event-stream", headers=[("content-encoding", "gzip")]) + b"\x1f\x8b",
}
Told = tuple[str, Finished | Fault]


class OneReply:
    """A peer in memory that sends the same bytes to everyone."""

    def __init__(self, data: bytes, *, reset: bool) -> None:
        self._data = data
        self._reset = reset

    def connect(self) -> bool:
        return True

    def request(self, wire: Wire, method: str, path: str, body: bytes | None) -> object:
        if method == "GET":
            wire.feed(head(404, headers=[("content-length", "0")]))
            wire.end(reset=False)
        else:
            wire.feed(self._data)
            wire.end(reset=self._reset)
        return self

    def hang_up(self, call: object) -> None:
        assert call is self


def data_of(plan: AnswerPlan) -> bytes:
    return b"".join(data for _, data in reply(plan, Random(1), 3) if data is not None)


async def told_by(model: HttpModel) -> Told:
    said: list[str] = []
    try:
        async for piece in opened(model):
            if isinstance(piece, Finished):
                return "".join(said), piece
            said.append(piece.text)
    except ModelFault as fault:
        return "".join(said), fault.fault
    finally:
        await model.close()
    raise AssertionError("an answer ends")


def in_memory(data: bytes, *, reset: bool = False) -> HttpModel:
    def transport(boundary: Boundary) -> MemoryTransport:
        return MemoryTransport(boundary, OneReply(data, reset=reset))

    endpoint = parse_endpoint(URL)
    return HttpModel(PROVIDER, endpoint, Declared(), clock=FixedClock(), secret=no_secret, transport=transport)


async def over_a_socket(data: bytes, last: Action) -> Told:
    async with Upstream([data, last]) as upstream:
        return await told_by(model_at(upstream.base_url))


@pytest.mark.parametrize("name", [*PLANS, *ODD])
async def test_the_same_bytes_mean_the_same(name: str) -> None:
    data = ODD[name] if name in ODD else data_of(PLANS[name])
    assert await told_by(in_memory(data)) == await over_a_socket(data, CLOSE)


@pytest.mark.parametrize("name", ["stream", "whole"])
async def test_an_answer_that_ends_at_any_byte_means_the_same(name: str) -> None:
    data = data_of(msgspec.structs.replace(PLANS[name], words=1))
    for cut in range(0, len(data), 3):
        assert await told_by(in_memory(data[:cut])) == await over_a_socket(data[:cut], CLOSE), cut


async def test_a_reset_is_a_fault_that_passes() -> None:
    """What a socket had not handed on is lost with a reset, so only the fault is the same."""
    data = data_of(PLANS["stream"])
    for cut in (0, 20, 200, 300):
        _, there = await over_a_socket(data[:cut], RESET)
        _, here = await told_by(in_memory(data[:cut], reset=True))
        assert isinstance(here, Fault)
        assert isinstance(there, Fault)
        assert {here.kind, there.kind} <= {FaultKind.RESET, FaultKind.INCOMPLETE}


async def test_a_slow_reader_is_not_overrun() -> None:
    """A provider waits while what it sent is not read."""
    wire = Wire()
    wire.feed(b"x" * 200_000)
    drained = asyncio.Event()
    wire.drained = drained.set
    assert wire.is_full
    wire.take()
    assert not drained.is_set()
    del wire.data[:100_000]
    wire.take()
    assert drained.is_set()


async def test_limits_hold_in_memory_too() -> None:
    plan = AnswerPlan(words=2_000)
    pieces = await answered(in_memory(data_of(plan)))
    assert isinstance(pieces[-1], Finished)
    small = msgspec.structs.replace(LIMITS, max_response_bytes=1_024)
    with pytest.raises(ModelFault) as large:
        await answered(in_memory(data_of(plan)), limits=small)
    assert large.value.fault.kind is FaultKind.TOO_LARGE
