"""Cassette: recorded exchanges that answer in a provider's place, keyed by the hash of the request's body.

The file has a line of canonical JSON per exchange, after a line that names the format. Every line carries a hash
over all lines before it and itself. It holds what models answered, never what was sent and never a credential.

Source:
    03 §7 (cassette provider).
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import AsyncGenerator, Mapping, Sequence
from pathlib import Path
from typing import Annotated

import msgspec

from handshake.kernel.canonical import canonical_body
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, TooLarge
from handshake.kernel.fields import Count, Sha256
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.tool_message import CalledTool
from handshake.kernel.usage import TokenUsage
from handshake.ports.model import (
    EgressPass,
    Finished,
    Model,
    ModelCall,
    ModelFault,
    TextPiece,
    ThreadMessage,
    ToolSchema,
)
from handshake.providers.wire_openai import chat_request

MAX_CASSETTE_BYTES = 64 * 1024 * 1024
"""One file: it is read whole."""
MAX_EXCHANGES = 10_000
"""Its lines."""
_HEAD = canonical_body({"schema": "hsk.cassette@1"})
_NOT_RECORDED = 404


class _Usage(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    completion_tokens: Count | None
    prompt_tokens: Count | None
    total_tokens: Count | None


class Recorded(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One exchange: the hash of what was asked, and all that was answered."""

    finish_reason: Annotated[str, msgspec.Meta(max_length=64)] | None
    pieces: list[str]
    request_sha256: Sha256
    usage: _Usage | None
    tool_calls: tuple[CalledTool, ...] = ()


class _Line(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    chain: Sha256
    exchange: Recorded


class Cassette:
    """The exchanges of one file, in order, and the hash over all of them."""

    def __init__(self) -> None:
        self.exchanges: dict[str, Recorded] = {}
        self._chain = hashlib.sha256(_HEAD).hexdigest()
        self._size_bytes = len(_HEAD) + 1

    def add(self, exchange: Recorded) -> bytes:
        """Add an exchange, and return its line.

        Raises:
            InvalidRequest: its request is there already.
            TooLarge: the cassette is full.
        """
        if exchange.request_sha256 in self.exchanges:
            raise InvalidRequest(field="request_sha256", reason="recorded_already")
        plain = msgspec.to_builtins(exchange)
        chain = hashlib.sha256(self._chain.encode() + canonical_body(plain)).hexdigest()
        line = canonical_body({"chain": chain, "exchange": plain}) + b"\n"
        if len(self.exchanges) >= MAX_EXCHANGES or self._size_bytes + len(line) > MAX_CASSETTE_BYTES:
            raise TooLarge(subject="cassette", max_bytes=MAX_CASSETTE_BYTES, max_exchanges=MAX_EXCHANGES)
        self._chain, self._size_bytes = chain, self._size_bytes + len(line)
        self.exchanges[exchange.request_sha256] = exchange
        return line


def read_cassette(data: bytes) -> Cassette:
    """Return the cassette that a file's bytes are.

    Raises:
        IntegrityBroken: they are not exactly what was written: the context names the line.
    """
    lines = data.split(b"\n")
    if len(data) > MAX_CASSETTE_BYTES or lines[0] != _HEAD or lines.pop() != b"":
        raise IntegrityBroken(subject="cassette", line=1, reason="format")
    cassette = Cassette()
    for number, line in enumerate(lines[1:], 2):
        try:
            written = cassette.add(msgspec.json.decode(line, type=_Line).exchange)
        except (msgspec.MsgspecError, UnicodeError, RecursionError, InvalidRequest, TooLarge):
            raise IntegrityBroken(subject="cassette", line=number, reason="format") from None
        if written != line + b"\n":
            raise IntegrityBroken(subject="cassette", line=number, reason="hash")
    return cassette


def load_cassette(path: Path) -> Cassette:
    """Return the cassette in a file.

    Raises:
        IntegrityBroken: it is not what was written.
        OSError: it cannot be read.
    """
    with path.open("rb") as file:
        return read_cassette(file.read(MAX_CASSETTE_BYTES + 1))


class CassetteModel:
    """Answers from a cassette; a request that is not in it is a fault that no retry heals.

    Args:
        provider_id: whose passes it takes.
        exchanges: by hash of the request's body.
    """

    def __init__(self, provider_id: ProviderId, exchanges: Mapping[str, Recorded]) -> None:
        self._provider_id = provider_id
        self._exchanges = exchanges

    async def backend(self, model_id: ModelId) -> Backend:
        """Local: nothing is sent anywhere."""
        return Backend.LOCAL

    def render(
        self,
        model_id: ModelId,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        """Return the body that the recorded provider would be sent."""
        return chat_request(model_id, thread, max_output_tokens=max_output_tokens, tools=tools)

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        """Yield the recorded pieces of `call.body`."""
        if type(egress_pass) is not EgressPass:
            raise TypeError("a model is opened by an EgressPass")
        egress_pass.spend()
        if egress_pass.provider_id != self._provider_id:
            raise InvalidRequest(field="provider", reason="not_of_this_pass")
        recorded = self._exchanges.get(hashlib.sha256(call.body).hexdigest())
        if recorded is None:
            raise ModelFault(Fault(FaultKind.STATUS, status=_NOT_RECORDED))
        for text in recorded.pieces:
            yield TextPiece(text)
        usage = recorded.usage
        yield Finished(
            recorded.finish_reason,
            None if usage is None else TokenUsage(usage.prompt_tokens, usage.completion_tokens, usage.total_tokens),
            recorded.tool_calls,
        )

    async def close(self) -> None:
        """Nothing is open."""


class RecordingModel:
    """Passes calls on to a model, and adds every whole answer to a cassette file; a request is recorded once.

    Args:
        model: answers; it uses the pass.
        path: the file, which is made if it is missing, readable by its owner only.

    Raises:
        IntegrityBroken: the file is not a cassette, or not what was written.
    """

    def __init__(self, model: Model, path: Path) -> None:
        self._model = model
        self._path = path
        if not path.exists():
            _append(path, _HEAD + b"\n")
        self._cassette = load_cassette(path)

    async def backend(self, model_id: ModelId) -> Backend:
        """Decide as the recorded model does."""
        return await self._model.backend(model_id)

    def render(
        self,
        model_id: ModelId,
        thread: Sequence[ThreadMessage],
        *,
        max_output_tokens: int | None,
        tools: Sequence[ToolSchema] = (),
    ) -> bytes:
        """Return the recorded model's body."""
        return self._model.render(model_id, thread, max_output_tokens=max_output_tokens, tools=tools)

    async def answer(self, egress_pass: EgressPass, call: ModelCall) -> AsyncGenerator[TextPiece | Finished, None]:
        """Yield the model's pieces; the exchange is in the file before the last one is handed on.

        Raises:
            TooLarge: the cassette is full, so that the answer cannot be recorded.
        """
        texts: list[str] = []
        pieces = self._model.answer(egress_pass, call)
        try:
            async for piece in pieces:
                if isinstance(piece, TextPiece):
                    texts.append(piece.text)
                else:
                    self._record(call.body, texts, piece)
                yield piece
        finally:
            await pieces.aclose()

    async def close(self) -> None:
        """Close the recorded model."""
        await self._model.close()

    def _record(self, body: bytes, texts: list[str], finished: Finished) -> None:
        request_sha256 = hashlib.sha256(body).hexdigest()
        if request_sha256 in self._cassette.exchanges:
            return
        usage = finished.usage
        counts = None if usage is None else _Usage(usage.completion_tokens, usage.prompt_tokens, usage.total_tokens)
        recorded = Recorded(finished.finish_reason, texts, request_sha256, counts, finished.tool_calls)
        _append(self._path, self._cassette.add(recorded))


def _append(path: Path, data: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "ab") as file:
        file.write(data)
