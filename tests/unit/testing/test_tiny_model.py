"""Tests of the tiny model's file: its bytes, its layout, its vocabulary."""

from __future__ import annotations

import struct
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import pytest

from handshake.kernel.errors import InvalidRequest
from handshake.testing.tiny_model import (
    BRIEF_WORDS,
    CONTEXT_TOKENS,
    LAYERS,
    MAX_LAYERS,
    MODEL_NAME,
    encode_tiny_model,
    write_tiny_model,
)

MAX_FILE_BYTES = 2_000_000
SHA256_OF_SEED_1 = "f8feff02a7d99dd048ee9facefebe4c579ba5337d00b169deedd705bd85f306a"


class _Reader:
    """Just enough of a GGUF reader, written from the specification and not from the writer."""

    def __init__(self, content: bytes) -> None:
        self.content = content
        self.place = 0

    def number(self, form: str) -> int:
        (value,) = struct.unpack_from("<" + form, self.content, self.place)
        self.place += struct.calcsize("<" + form)
        return int(value)

    def text(self) -> str:
        size = self.number("Q")
        self.place += size
        return self.content[self.place - size : self.place].decode()

    def value(self, kind: int) -> object:
        match kind:
            case 4:
                return self.number("I")
            case 5:
                return self.number("i")
            case 6:
                self.place += 4
                return struct.unpack_from("<f", self.content, self.place - 4)[0]
            case 8:
                return self.text()
            case 9:
                item = self.number("I")
                return [self.value(item) for _ in range(self.number("Q"))]
        raise AssertionError(kind)


class _Model(NamedTuple):
    metadata: dict[str, object]
    tensors: dict[str, tuple[tuple[int, ...], int]]
    data_bytes: int


def _read(content: bytes) -> _Model:
    reader = _Reader(content)
    assert content[:4] == b"GGUF"
    reader.place = 4
    assert reader.number("I") == 3
    tensor_count, metadata_count = reader.number("Q"), reader.number("Q")
    metadata = {}
    for _ in range(metadata_count):
        key = reader.text()
        metadata[key] = reader.value(reader.number("I"))
    tensors = {}
    for _ in range(tensor_count):
        name = reader.text()
        shape = tuple(reader.number("Q") for _ in range(reader.number("I")))
        assert reader.number("I") == 0, "32-bit floats"
        tensors[name] = (shape, reader.number("Q"))
    return _Model(metadata, tensors, len(content) - (reader.place + 31) // 32 * 32)


@pytest.fixture(scope="module")
def content() -> bytes:
    return encode_tiny_model(1)


def _vocabulary(content: bytes) -> list[str]:
    tokens = _read(content).metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, list)
    return tokens


def test_the_same_seed_gives_the_same_bytes_on_every_machine(content: bytes) -> None:
    assert sha256(content).hexdigest() == SHA256_OF_SEED_1
    assert encode_tiny_model(1) == content


def test_another_seed_gives_another_model_of_the_same_size(content: bytes) -> None:
    other = encode_tiny_model(2)

    assert other != content
    assert len(other) == len(content)


def test_two_writes_give_the_same_file_and_replace_what_was_there(tmp_path: Path, content: bytes) -> None:
    first, second = tmp_path / "first.gguf", tmp_path / "second.gguf"
    second.write_bytes(b"something longer" * 200_000)

    write_tiny_model(first, seed=1)
    write_tiny_model(second, seed=1)

    assert first.read_bytes() == second.read_bytes() == content


def test_the_file_stays_small_at_any_depth() -> None:
    assert len(encode_tiny_model(1, layers=MAX_LAYERS)) < MAX_FILE_BYTES


@pytest.mark.parametrize("layers", [0, -1, MAX_LAYERS + 1])
def test_a_depth_out_of_range_is_refused(layers: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        encode_tiny_model(1, layers=layers)

    assert refused.value.context == {"field": "layers", "reason": "out_of_range", "maximum": MAX_LAYERS}


def test_the_metadata_says_what_the_module_says(content: bytes) -> None:
    metadata = _read(content).metadata

    assert metadata["general.architecture"] == "llama"
    assert metadata["general.name"] == MODEL_NAME
    assert metadata["llama.block_count"] == LAYERS
    assert metadata["llama.context_length"] == CONTEXT_TOKENS


@pytest.mark.parametrize("layers", [1, 3])
def test_tensors_lie_aligned_one_after_the_other_and_fill_the_file(layers: int) -> None:
    model = _read(encode_tiny_model(1, layers=layers))

    expected = 0
    for shape, offset in model.tensors.values():
        assert offset == expected
        elements = shape[0] * (shape[1] if len(shape) > 1 else 1)
        expected += (4 * elements + 31) // 32 * 32
    assert expected == model.data_bytes
    assert len(model.tensors) == 3 + 9 * layers


def test_every_byte_is_a_token_so_that_any_text_can_be_read(content: bytes) -> None:
    assert {f"\\x{byte:02x}" for byte in range(256)} <= set(_vocabulary(content))


def test_no_token_stands_twice(content: bytes) -> None:
    vocabulary = _vocabulary(content)

    assert len(set(vocabulary)) == len(vocabulary)


def test_brief_words_and_the_marks_of_the_chat_template_are_tokens(content: bytes) -> None:
    model = _read(content)
    vocabulary = _vocabulary(content)
    kinds = model.metadata["tokenizer.ggml.token_type"]
    assert isinstance(kinds, list)

    control = [token for token, kind in zip(vocabulary, kinds, strict=True) if kind == 3]
    template = str(model.metadata["tokenizer.chat_template"])

    assert set(BRIEF_WORDS) <= set(vocabulary)
    assert control == ["<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"]
    assert model.metadata["tokenizer.ggml.eos_token_id"] == vocabulary.index("<|end|>")
    assert "<|end|>" in template
    assert "<|assistant|>" in template
