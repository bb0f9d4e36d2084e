"""Server-sent events: bytes in any split to the data of whole events, with bounded memory.

Source:
    WHATWG HTML §9.2.6 (event stream interpretation); provider.stream.any_split.
"""

from __future__ import annotations

from collections.abc import Iterator

from handshake.kernel.retry import FaultKind

MAX_LINE_BYTES = 1024 * 1024
"""One line of a stream: a whole answer in one event fits, an endless line does not."""
MAX_EVENT_BYTES = 1024 * 1024
"""All data lines of one event."""

_BYTE_ORDER_MARK = b"\xef\xbb\xbf"


class WireFault(Exception):
    """The provider broke its protocol or said that it failed; what was sent and consumed the transport knows.

    Args:
        kind: what went wrong.
        status: the number that an error in the answer gives, if it is one of HTTP's for errors.
        body: the error's bytes, for an artifact.
    """

    def __init__(self, kind: FaultKind, *, status: int | None = None, body: bytes = b"") -> None:
        super().__init__(kind.value)
        self.kind = kind
        self.status = status
        self.body = body


class EventStream:
    """Reads one event stream; fields other than `data` and comments are dropped.

    A fault is raised after all that stands before it was yielded, so that no split of the bytes changes what a
    reader sees. What is left of an event at the end of the bytes is dropped, as the standard says.
    """

    def __init__(self, *, max_line_bytes: int = MAX_LINE_BYTES, max_event_bytes: int = MAX_EVENT_BYTES) -> None:
        self._max_line_bytes = max_line_bytes
        self._max_event_bytes = max_event_bytes
        self._rest = bytearray()
        self._data: list[bytes] = []
        self._data_bytes = 0
        self._after_return = False
        self._at_start = True

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """Yield the data of every event that `chunk` completes.

        Raises:
            WireFault: TOO_LARGE, a line or an event is over its bound.
        """
        chunk = self._with_line_feeds(chunk)
        if b"\n" in chunk:
            lines = (bytes(self._rest) + chunk).split(b"\n")
            self._rest = bytearray(lines.pop())
            for line in lines:
                data = self._take(line)
                if data:
                    yield data
        else:
            self._rest += chunk
        if len(self._rest) > self._max_line_bytes:
            raise WireFault(FaultKind.TOO_LARGE)

    @property
    def left_over(self) -> bytes:
        """The data of an event that lacks its blank line: what a provider may have meant as its last word."""
        return b"\n".join(self._data + ([_data_of(bytes(self._rest))] if self._rest.startswith(b"data") else []))

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """Return `chunk` with every line end as one line feed; a pair may be split between two chunks."""
        if self._after_return and chunk:
            self._after_return = False
            if chunk.startswith(b"\n"):
                chunk = chunk[1:]
        if b"\r" not in chunk:
            return chunk
        self._after_return = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take(self, line: bytes) -> bytes:
        """Take one line, and return the data of the event that it ends, if it ends one with data."""
        if len(line) > self._max_line_bytes:
            raise WireFault(FaultKind.TOO_LARGE)
        if self._at_start:
            self._at_start = False
            line = line.removeprefix(_BYTE_ORDER_MARK)
        if not line:
            data, self._data, self._data_bytes = b"\n".join(self._data), [], 0
            return data
        if line.startswith(b"data:") or line == b"data":
            data = _data_of(line)
            self._data_bytes += len(data) + 1
            if self._data_bytes > self._max_event_bytes:
                raise WireFault(FaultKind.TOO_LARGE)
            self._data.append(data)
        return b""


def _data_of(line: bytes) -> bytes:
    value = line[5:]
    return value[1:] if value.startswith(b" ") else value
