"""Wire body: heads and bodies of HTTP/1.1 responses out of bytes that arrive, as `aiohttp` reads them on a socket."""

from __future__ import annotations

import re
from typing import NamedTuple, Protocol

from handshake.kernel.retry import FaultKind
from handshake.providers.wire_sse import WireFault

_STATUS_LINE = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})( [^\r\n]*)?")
_CHUNK_SIZE = re.compile(rb"[0-9a-fA-F]{1,8}")
_MAX_SIZE_LINE = 64


class Broken(Exception):
    """The bytes are not HTTP."""


class Head(NamedTuple):
    """Status and headers of a response; names in lower case, of a repeated one the first."""

    status: int
    headers: dict[str, str]


class Arriving(Protocol):
    """The bytes of one connection."""

    data: bytearray
    ended: bool
    reset: bool

    def require(self) -> None:
        """Raise what the reading was failed with."""
        ...

    def take(self) -> None:
        """Note that bytes were taken."""
        ...

    async def changed(self) -> None:
        """Wait until something arrives, ends or fails."""
        ...

    def fail(self, failure: BaseException) -> None:
        """Make every reader raise."""
        ...


def read_head(data: bytearray, *, max_bytes: int) -> Head | None:
    """Take a head from the front of `data`, or return None while it is not whole.

    Raises:
        Broken: it is none of HTTP, or longer than `max_bytes`.
    """
    end = data.find(b"\r\n\r\n")
    first = bytes(data[: end if end >= 0 else max(data.find(b"\r\n"), 0)]).split(b"\r\n")[0]
    if (first and not _STATUS_LINE.fullmatch(first)) or not b"HTTP/1".startswith(bytes(data[:6])):
        raise Broken
    if end < 0:
        if len(data) > max_bytes:
            raise Broken
        return None
    lines = bytes(data[:end]).decode("latin-1").split("\r\n")
    del data[: end + 4]
    headers: dict[str, str] = {}
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon or not name.strip():
            raise Broken
        headers.setdefault(name.strip().lower(), value.strip())
    return Head(int(first.split(b" ")[1]), headers)


class _Seen:
    """A copy of what has arrived."""

    def __init__(self, data: bytearray) -> None:
        self.data = bytearray(data)
        self.ended = self.reset = False

    def require(self) -> None:
        """It does not fail."""

    def take(self) -> None:
        """Nobody waits for room."""

    async def changed(self) -> None:
        """Nothing arrives."""

    def fail(self, failure: BaseException) -> None:
        """It does not fail."""


class Body:
    """The body after a head, as `http_body.Source`: with a length, in chunks, or until the connection closes."""

    def __init__(self, wire: Arriving, head: Head) -> None:
        self._wire = wire
        self._head = head
        self._chunked = head.headers.get("transfer-encoding", "").lower() == "chunked"
        length = head.headers.get("content-length")
        self._left = int(length) if length is not None and length.isdecimal() and not self._chunked else None
        self._in_chunk = 0
        self._trailer = False
        self._done = self._left == 0

    def require_sound(self) -> None:
        """Judge what arrived together with the head, as `aiohttp` does before it hands the head on.

        Raises:
            WireFault: GARBAGE, it is no body as the head describes it, or more than that.
        """
        seen = Body(_Seen(self._wire.data), self._head)
        try:
            seen.read_nowait()
        except WireFault:
            raise WireFault(FaultKind.GARBAGE) from None
        if seen.at_eof() and seen._wire.data:
            raise WireFault(FaultKind.GARBAGE)

    def read_nowait(self, n: int = -1) -> bytes:
        """Return what has arrived, perhaps nothing."""
        self._wire.require()
        out = b""
        if not self._done:
            out = self._chunks() if self._chunked else self._plain()
            self._wire.take()
        return out

    async def readany(self) -> bytes:
        """Wait until something has arrived, and return it; nothing at the end."""
        while True:
            data = self.read_nowait()
            if data or self._done:
                return data
            if self._wire.ended:
                self._at_close()
                return b""
            await self._wire.changed()

    def at_eof(self) -> bool:
        """Whether the body ended and was read."""
        return self._done

    def set_exception(self, exc: BaseException) -> None:
        """Make whoever waits, and every later reader, raise `exc`."""
        self._wire.fail(exc)

    def _at_close(self) -> None:
        """Judge a connection that was closed after everything was read."""
        if self._wire.reset:
            raise WireFault(FaultKind.RESET)
        if self._chunked or self._left:
            raise WireFault(FaultKind.INCOMPLETE)
        self._done = True

    def _plain(self) -> bytes:
        data = self._wire.data
        out = bytes(data if self._left is None else data[: self._left])
        del data[: len(out)]
        if self._left is not None:
            self._left -= len(out)
            self._done = self._left == 0
        return out

    def _chunks(self) -> bytes:
        out = bytearray()
        data = self._wire.data
        while data and not self._done:
            if self._in_chunk > 2:
                piece = data[: self._in_chunk - 2]
                out += piece
                del data[: len(piece)]
                self._in_chunk -= len(piece)
            elif self._in_chunk:
                if not b"\r\n".endswith(bytes(data[: self._in_chunk])) and bytes(data[: self._in_chunk]) != b"\r":
                    raise WireFault(FaultKind.INCOMPLETE)
                took = min(len(data), self._in_chunk)
                del data[:took]
                self._in_chunk -= took
            elif not self._size_line():
                break
        return bytes(out)

    def _size_line(self) -> bool:
        """Take the line that says how long the next chunk is; return False while it is not whole."""
        data = self._wire.data
        end = data.find(b"\r\n")
        if end < 0:
            if len(data) > _MAX_SIZE_LINE:
                raise WireFault(FaultKind.INCOMPLETE)
            return False
        line = bytes(data[:end])
        del data[: end + 2]
        if self._trailer:
            self._done = not line
            return True
        if not _CHUNK_SIZE.fullmatch(line.partition(b";")[0].strip()):
            raise WireFault(FaultKind.INCOMPLETE)
        size = int(line.partition(b";")[0], 16)
        self._in_chunk = size + 2 if size else 0
        self._trailer = size == 0
        return True
