"""Cassette: what was answered once is answered again, and a changed file is noticed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from handshake.gate.egress import Finished, TextPiece
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, TooLarge
from handshake.kernel.job import Backend
from handshake.kernel.retry import Fault, FaultKind, is_transient
from handshake.kernel.usage import TokenUsage
from handshake.providers import cassette as cassettes
from handshake.providers.cassette import Cassette, CassetteModel, Recorded, RecordingModel, load_cassette, read_cassette
from handshake.testing.replies import CLOSE, chunked, event_stream
from handshake.testing.upstream import Upstream
from tests.requirement import requirement
from tests.unit.providers.one_call import MODEL, PROVIDER, Piece, answered, failed, model_at

SECRET = "sk-live-0123456789abcdef"
BODIES = [b'{"model":"tiny","n":%d}' % number for number in range(3)]
HEAD = b'{"schema":"hsk.cassette@1"}\n'


def recorded(number: int, *pieces: str) -> Recorded:
    return Recorded("stop", list(pieces), hashlib.sha256(BODIES[number]).hexdigest(), None)


def written(*exchanges: Recorded) -> bytes:
    cassette = Cassette()
    return HEAD + b"".join(cassette.add(one) for one in exchanges)


async def recording(path: Path, *, texts: tuple[str, ...] = ("Grü", "ße")) -> list[list[Piece]]:
    """Return the pieces of the three bodies, recorded from an engine that wants a key."""
    async with Upstream(chunked(event_stream(*texts))) as upstream:
        inner = model_at(upstream.base_url, secret=lambda _: SECRET, credential_ref="env:KEY")
        return [await answered(RecordingModel(inner, path), body=body) for body in BODIES]


async def test_a_recorded_answer_is_replayed_piece_by_piece(tmp_path: Path) -> None:
    path = tmp_path / "cassette.jsonl"
    first = await recording(path)
    assert first[0] == [TextPiece("Grü"), TextPiece("ße"), Finished("stop", TokenUsage(3, 2, 5))]
    model = CassetteModel(PROVIDER, load_cassette(path).exchanges)
    for _ in range(2):
        assert [await answered(model, body=body) for body in BODIES] == first
    assert await model.backend(MODEL) is Backend.LOCAL


async def test_texts_are_replayed_as_they_were_not_normalised(tmp_path: Path) -> None:
    path = tmp_path / "cassette.jsonl"
    strange = ("e\u0301", "\u2028\r\n", "\x00", "😀")
    first = await recording(path, texts=strange)
    replayed = await answered(CassetteModel(PROVIDER, load_cassette(path).exchanges), body=BODIES[0])
    assert replayed == first[0]
    assert [piece.text for piece in replayed[:-1] if isinstance(piece, TextPiece)] == list(strange)


async def test_a_request_is_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "cassette.jsonl"
    await recording(path)
    before = path.read_bytes()
    await recording(path, texts=("another answer",))
    assert path.read_bytes() == before
    assert path.stat().st_mode & 0o777 == 0o600


@requirement("provider.secret.never_leaks")
async def test_a_cassette_holds_no_credential_and_nothing_that_was_sent(tmp_path: Path) -> None:
    path = tmp_path / "cassette.jsonl"
    await recording(path)
    data = path.read_bytes()
    assert SECRET.encode() not in data
    assert b"authorization" not in data.lower()
    assert b'"model"' not in data


async def test_an_answer_that_broke_off_is_not_recorded(tmp_path: Path) -> None:
    path = tmp_path / "cassette.jsonl"
    half = event_stream("Hi", finish_reason=None, done=False)
    async with Upstream([*chunked(half)[:-1], CLOSE]) as upstream:
        await failed(RecordingModel(model_at(upstream.base_url), path), body=BODIES[0])
    assert path.read_bytes() == HEAD


async def test_a_request_that_was_not_recorded_is_a_fault_for_good() -> None:
    _, fault = await failed(CassetteModel(PROVIDER, {}), body=BODIES[0])
    assert fault.fault == Fault(FaultKind.STATUS, status=404)
    assert not is_transient(fault.fault)


def test_what_is_written_is_read() -> None:
    data = written(recorded(0, "a"), recorded(1), recorded(2, "b", "c"))
    cassette = read_cassette(data)
    assert list(cassette.exchanges.values()) == [recorded(0, "a"), recorded(1), recorded(2, "b", "c")]
    assert data.count(b"\n") == 4


def test_a_changed_byte_anywhere_is_noticed() -> None:
    data = written(recorded(0, "a"), recorded(1, "b"))
    for at in range(len(data)):
        changed = data[:at] + bytes([data[at] ^ 1]) + data[at + 1 :]
        with pytest.raises(IntegrityBroken):
            read_cassette(changed)


def test_lines_cannot_be_moved_left_out_or_repeated() -> None:
    head, *lines = written(recorded(0, "a"), recorded(1, "b"), recorded(2, "c")).splitlines(keepends=True)
    for wrong in (
        [lines[1], lines[0], lines[2]],
        [lines[0], lines[2]],
        [lines[1]],
        [lines[0], lines[0]],
        [lines[0], b"\n", lines[1]],
        [lines[0], lines[1][:-1]],
    ):
        with pytest.raises(IntegrityBroken):
            read_cassette(head + b"".join(wrong))
    assert len(read_cassette(head + lines[0]).exchanges) == 1


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\n",
        HEAD[:-1],
        b'{"schema":"hsk.cassette@2"}\n',
        HEAD + b"{}\n",
        HEAD + b'{"chain":"x","exchange":{}}\n',
        HEAD + b"[" * 100_000 + b"\n",
        HEAD + b"\xff\n",
    ],
)
def test_what_is_no_cassette_is_refused(data: bytes) -> None:
    with pytest.raises(IntegrityBroken) as broken:
        read_cassette(data)
    assert set(broken.value.context) == {"subject", "line", "reason"}


def test_the_same_record_in_another_spelling_is_refused() -> None:
    data = written(recorded(0, "a"))
    assert data.count(b'"a"') == 1
    with pytest.raises(IntegrityBroken) as broken:
        read_cassette(data.replace(b'"a"', b'"\\u0061"'))
    assert broken.value.context == {"subject": "cassette", "line": 2, "reason": "hash"}


def test_a_broken_file_is_not_recorded_into(tmp_path: Path) -> None:
    path = tmp_path / "cassette.jsonl"
    path.write_bytes(written(recorded(0, "a"))[:-5])
    with pytest.raises(IntegrityBroken):
        RecordingModel(CassetteModel(PROVIDER, {}), path)


def test_a_cassette_has_an_end(monkeypatch: pytest.MonkeyPatch) -> None:
    cassette = Cassette()
    cassette.add(recorded(0, "a"))
    with pytest.raises(InvalidRequest):
        cassette.add(recorded(0, "b"))
    monkeypatch.setattr(cassettes, "MAX_EXCHANGES", 1)
    with pytest.raises(TooLarge):
        cassette.add(recorded(1, "b"))
    monkeypatch.undo()
    monkeypatch.setattr(cassettes, "MAX_CASSETTE_BYTES", 400)
    with pytest.raises(TooLarge):
        cassette.add(recorded(1, "b" * 400))
    monkeypatch.undo()
    assert read_cassette(written(recorded(0, "a")) + cassette.add(recorded(1, "b"))).exchanges == cassette.exchanges
