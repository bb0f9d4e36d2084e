"""MCP pipe: lines are cut within bounds, and what is said unasked is counted by the second."""

from __future__ import annotations

import asyncio
import json

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mcp.shared.message import SessionMessage
from mcp_types import JSONRPCRequest

from handshake.kernel.mcp_settings import MAX_MCP_MESSAGE_BYTES
from handshake.kernel.units import Microseconds
from handshake.tools.mcp_pipe import Lines, PipeEnd, Unasked, client_pipe, server_pipe


class Peer:
    """A peer whose words are given, and that keeps what it is told."""

    def __init__(self, *said: bytes) -> None:
        self._said = list(said)
        self.told: list[bytes] = []
        self.is_closed = False
        self.is_deaf = False

    async def start(self) -> Peer:
        return self

    async def read(self, most_bytes: int) -> bytes:
        return self._said.pop(0) if self._said else b""

    async def write(self, data: bytes) -> None:
        if self.is_deaf:
            raise BrokenPipeError
        self.told.append(data)

    async def close(self) -> None:
        self.is_closed = True


def line(**message: object) -> bytes:
    return json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n"


def still() -> Microseconds:
    return Microseconds(0)


@pytest.fixture
def ends() -> list[PipeEnd]:
    return []


@given(st.lists(st.binary(max_size=20)), st.integers(min_value=1, max_value=7))
def test_lines_come_out_as_they_were_however_they_arrive(given_lines: list[bytes], step: int) -> None:
    wanted = [one.replace(b"\n", b"") for one in given_lines]
    stream = b"".join(one + b"\n" for one in wanted)
    lines = Lines(100)
    found: list[bytes] = []
    for start in range(0, len(stream), step):
        found += lines.feed(stream[start : start + step]) or []
    assert found == wanted


@pytest.mark.parametrize(
    "pieces", [[b"x" * 11], [b"x" * 11 + b"\n"], [b"x" * 6, b"x" * 5], [b"a\n" + b"x" * 6, b"x" * 5]]
)
def test_a_line_that_is_too_long_is_not_held(pieces: list[bytes]) -> None:
    lines = Lines(10)
    *before, last = pieces
    assert all(lines.feed(piece) is not None for piece in before)
    assert lines.feed(last) is None


def test_what_is_unasked_is_admitted_anew_every_second() -> None:
    now_us = 0
    unasked = Unasked(lambda: Microseconds(now_us), most_per_s=2)
    assert [unasked.admits() for _ in range(3)] == [True, True, False]
    now_us = 1_000_000
    assert unasked.admits()


async def test_only_answers_requests_and_a_changed_listing_reach_a_client(ends: list[PipeEnd]) -> None:
    peer = Peer(
        line(method="notifications/progress", params={"progressToken": 1, "progress": 1}),
        line(id=1, result={}) + line(method="notifications/tools/list_changed"),
        b"no message\n" + line(id="a", method="roots/list"),
    )
    heard = []
    async with server_pipe(peer.start, still, ends.append) as (read, _):
        async for one in read:
            assert isinstance(one, SessionMessage)
            heard.append(one.message.model_dump(exclude_unset=True))
    assert [one.get("method", one.get("id")) for one in heard] == [1, "notifications/tools/list_changed", "roots/list"]
    assert ends == [PipeEnd.CLOSED]
    assert peer.is_closed


async def test_every_message_of_a_client_reaches_a_server(ends: list[PipeEnd]) -> None:
    peer = Peer(line(method="notifications/initialized"))
    async with client_pipe(peer.start, still, ends.append) as (read, _):
        assert [one async for one in read]


@pytest.mark.parametrize("params", ['{"x":1,"x":2}', '{"x":NaN}', '{"x":1e999}', '{"x":99999999999999999999}'])
async def test_a_request_that_could_be_read_in_two_ways_is_answered_with_an_error(
    params: str, ends: list[PipeEnd]
) -> None:
    peer = Peer(f'{{"jsonrpc":"2.0","id":7,"method":"tools/call","params":{params}}}\n'.encode())
    async with client_pipe(peer.start, still, ends.append) as (read, _):
        assert [one async for one in read] == []
    (told,) = map(json.loads, peer.told)
    assert (told["id"], told["error"]["code"]) == (7, -32602)


@pytest.mark.parametrize(
    ("said", "end"),
    [
        (b"x" * (MAX_MCP_MESSAGE_BYTES + 1), PipeEnd.TOO_LARGE),
        (line(method="notifications/message", params={}) * 1_001, PipeEnd.FLOOD),
        (b"\n" * 1_001, PipeEnd.FLOOD),
    ],
)
async def test_a_peer_out_of_bounds_is_cut_off(said: bytes, end: PipeEnd, ends: list[PipeEnd]) -> None:
    peer = Peer(said)
    async with server_pipe(peer.start, still, ends.append) as (read, _):
        assert [one async for one in read] == []
    assert ends == [end]
    assert peer.is_closed


async def test_a_peer_that_reads_no_more_is_cut_off(ends: list[PipeEnd]) -> None:
    peer = Peer(line(id=1, method="ping"))
    peer.is_deaf = True
    async with server_pipe(peer.start, still, ends.append) as (read, write):
        await read.receive()
        await write.send(SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=1, method="ping")))
        await asyncio.sleep(0)
        with pytest.raises(anyio.BrokenResourceError):
            await write.send(SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=2, method="ping")))
    assert PipeEnd.NOT_READING in ends


async def test_messages_are_told_one_to_a_line(ends: list[PipeEnd]) -> None:
    peer = Peer(line(id=1, method="ping"))
    async with server_pipe(peer.start, still, ends.append) as (_, write):
        await write.send(SessionMessage(JSONRPCRequest(jsonrpc="2.0", id=1, method="ping", params={"x": "a\nb"})))
        await asyncio.sleep(0)
    assert [json.loads(one) for one in peer.told] == [
        {"jsonrpc": "2.0", "id": 1, "method": "ping", "params": {"x": "a\nb"}}
    ]
    assert peer.told[0].endswith(b"\n")
