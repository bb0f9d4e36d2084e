"""Tiny model: a GGUF file of little more than a megabyte, made from a seed, for real engines in tests and demos.

The weights are random where they choose a word and set by hand where they keep to grammar, so that the model writes
word salad in whole English sentences ("The quiet baker never keeps its compass."). What a caller can rely on:

* the same seed gives the same bytes on every machine; nothing is downloaded;
* any UTF-8 text is accepted: what is not a known word or pair of letters is read byte by byte;
* the text is made of words of the vocabulary only, so it is printable ASCII;
* the model never ends its answer by itself (finish reason `length`), unless the text before the answer holds one of
  `BRIEF_WORDS`: then it ends after its first sentence (finish reason `stop`);
* it does not know tools; an engine can still hold it to a grammar (JSON schema), then it writes single bytes too;
* it is deep and narrow: a token costs an engine more time than so small a file suggests, so one can watch it write.

Residual stream, from the first dimension on: one dimension per `_Role` (what the last word was), one that is always on,
one that marks `BRIEF_WORDS`, one that says whether such a word was read, then the free dimensions, where the layers mix
the words read so far and the output matrix chooses among the words that the grammar allows.

Source:
    GGUF specification, version 3; llama.cpp tokenizer `rwkv` (greedy longest match over bytes).
"""

from __future__ import annotations

import struct
import sys
from array import array
from collections.abc import Sequence
from enum import IntEnum
from hashlib import shake_256
from pathlib import Path
from typing import NamedTuple

from handshake.kernel.errors import InvalidRequest

MODEL_NAME = "tiny-words"
"""Name of the model, in the file and as the server's model id."""
CONTEXT_TOKENS = 8192
"""Longest context that the file states."""
BRIEF_WORDS = ("briefly", "Briefly", " briefly")
"""Tokens that make the model end its answer after one sentence."""
LAYERS = 48
"""Layers unless told: some 1.4 MB; one plain core writes 2 000 tokens a second at first, 500 after 2 000 tokens."""
MAX_LAYERS = 64
"""Most layers: keeps the file below 2 MB."""

_EMBEDDING = 32
_HEADS = 2
_KEY_HEADS = 1
_HEAD = _EMBEDDING // _HEADS
_KEY_WIDTH = _KEY_HEADS * _HEAD
_FORWARD = 32


class _Role(IntEnum):
    """What the last token was; the value is its dimension."""

    START = 0
    OPENING = 1
    DOER_QUALITY = 2
    DOER = 3
    MANNER = 4
    ACTION = 5
    POINTER = 6
    THING_QUALITY = 7
    THING = 8
    LINK = 9
    FULL_STOP = 10


_ALWAYS = len(_Role)
_BRIEF_WORD = _ALWAYS + 1
_BRIEF_READ = _ALWAYS + 2
_FREE = _ALWAYS + 3


class _Words(NamedTuple):
    """Words of one kind: the role that they leave, the roles that they may follow, how much they are liked."""

    role: _Role
    after: tuple[_Role, ...]
    words: str
    spaced: bool = True
    liking: float = 0.0


_DOERS = """
    reader writer planner builder gardener engineer operator captain teacher student painter baker sailor pilot farmer
    doctor clerk judge player singer poet tailor miner robot scheduler server worker runner keeper watcher helper
    owner guest author editor guide maker"""
_THINGS = """
    plan answer letter page garden bridge window table engine signal number question story lesson map lamp harbour
    river forest road village market machine pattern record message ticket bottle basket ladder mirror hammer blanket
    kettle compass notebook workshop library station orchard archive ledger budget queue token session receipt"""
_DOER_QUALITIES = """
    careful patient quiet clever curious honest gentle brave calm busy cheerful steady modest eager tired wise polite
    lively sober friendly"""
_THING_QUALITIES = """
    small large open broken simple green silver wooden ancient modern narrow heavy bright empty hidden distant useful
    strange golden plain round shared folded painted forgotten"""
_ACTIONS = """
    checks reads writes carries opens closes repairs measures paints follows finds keeps draws sends counts moves
    studies builds cleans signs compares explains describes protects remembers prepares collects admires borrows
    returns sorts lifts"""
_LETTERS = """
    th he in er an re on at en nd ti es or te of ed is it al ar st to nt ng se ha as ou io le ve co me de hi ri ro ic
    ne ea ra ce li ch ll be ma si om ur"""
"""Pairs of letters that are read as one token, for shorter prompts; the model does not write them."""

_GRAMMAR = (
    _Words(_Role.OPENING, (_Role.START,), "The Every This That Each One Our Some", spaced=False),
    _Words(_Role.OPENING, (_Role.FULL_STOP,), "The Every This That Each One Our Some"),
    _Words(_Role.OPENING, (_Role.LINK,), "this that every each one our"),
    _Words(_Role.DOER_QUALITY, (_Role.OPENING,), _DOER_QUALITIES),
    _Words(_Role.DOER, (_Role.OPENING, _Role.DOER_QUALITY), _DOERS),
    _Words(_Role.MANNER, (_Role.DOER,), "slowly quickly often never always gladly quietly sometimes still again"),
    _Words(_Role.ACTION, (_Role.DOER, _Role.MANNER), _ACTIONS),
    _Words(_Role.POINTER, (_Role.ACTION,), "the its another some"),
    _Words(_Role.THING_QUALITY, (_Role.POINTER,), _THING_QUALITIES),
    _Words(_Role.THING, (_Role.POINTER, _Role.THING_QUALITY), _THINGS),
    _Words(_Role.ACTION, (_Role.THING,), "near with behind under beside without", liking=-0.8),
    _Words(_Role.LINK, (_Role.THING,), "while because before after until and so but", liking=-0.3),
    _Words(_Role.FULL_STOP, (_Role.THING,), ".", spaced=False, liking=2.0),
    _Words(_Role.START, (), _LETTERS, spaced=False),
)

_END = "<|end|>"
_CONTROL = (_END, "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>")
_CHAT_TEMPLATE = (
    "{%- for message in messages -%}"
    "{{ '<|' + message['role'] + '|>' }}{{ message['content'] or '' }}{{ '<|end|>' }}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{ '<|assistant|>' }}{%- endif -%}"
)


def encode_tiny_model(seed: int, *, layers: int = LAYERS) -> bytes:
    """Return the GGUF file of `seed`: the same bytes on every machine.

    Args:
        seed: any integer.
        layers: depth, from 1 to `MAX_LAYERS`; fewer make the model faster, and its text another one.

    Raises:
        InvalidRequest: `layers` is out of range.
    """
    if not 1 <= layers <= MAX_LAYERS:
        raise InvalidRequest(field="layers", reason="out_of_range", maximum=MAX_LAYERS)
    vocabulary = _vocabulary()
    tensors = [
        _Tensor("token_embd.weight", _EMBEDDING, _embedding_rows(seed, vocabulary)),
        _Tensor("output_norm.weight", _EMBEDDING, _ones(_EMBEDDING)),
        _Tensor("output.weight", _EMBEDDING, _output_rows(seed, vocabulary)),
    ]
    for layer in range(layers):
        tensors += _layer(seed, layer)
    return _encode(_metadata(vocabulary, layers), tensors)


def write_tiny_model(path: Path, *, seed: int, layers: int = LAYERS) -> None:
    """Write what `encode_tiny_model` returns to `path`, replacing what is there."""
    path.write_bytes(encode_tiny_model(seed, layers=layers))


# ── Vocabulary ─────────────────────────────────────────────────────────────────────────────────────────────


class _Token(NamedTuple):
    """One entry of the vocabulary; `after` is empty for what the model reads but does not write."""

    text: str
    control: bool = False
    role: _Role = _Role.START
    after: tuple[_Role, ...] = ()
    liking: float = 0.0


def _vocabulary() -> list[_Token]:
    """Return control tokens, then one token per byte (escaped as the tokenizer reads it), then words."""
    tokens = [_Token(text, control=True) for text in _CONTROL]
    tokens += [_Token(f"\\x{byte:02x}") for byte in range(256)]
    tokens += [_Token(text) for text in BRIEF_WORDS]
    for kind in _GRAMMAR:
        space = " " if kind.spaced else ""
        tokens += [_Token(space + word, False, kind.role, kind.after, kind.liking) for word in kind.words.split()]
    return tokens


def _metadata(vocabulary: Sequence[_Token], layers: int) -> dict[str, _Value]:
    normal, control = 1, 3  # token types of the format
    return {
        "general.architecture": "llama",
        "general.name": MODEL_NAME,
        "general.file_type": 0,
        "llama.block_count": layers,
        "llama.context_length": CONTEXT_TOKENS,
        "llama.embedding_length": _EMBEDDING,
        "llama.feed_forward_length": _FORWARD,
        "llama.attention.head_count": _HEADS,
        "llama.attention.head_count_kv": _KEY_HEADS,
        "llama.attention.layer_norm_rms_epsilon": 1e-5,
        "llama.rope.dimension_count": _HEAD,
        # So high that the last pair of dimensions hardly turns: a key there reads the same at any distance.
        "llama.rope.freq_base": 1e6,
        "llama.vocab_size": len(vocabulary),
        "tokenizer.ggml.model": "rwkv",
        "tokenizer.ggml.tokens": [token.text for token in vocabulary],
        "tokenizer.ggml.token_type": [control if token.control else normal for token in vocabulary],
        "tokenizer.ggml.eos_token_id": _CONTROL.index(_END),
        "tokenizer.chat_template": _CHAT_TEMPLATE,
    }


# ── Weights ────────────────────────────────────────────────────────────────────────────────────────────────

_ON = 4.0
_ALWAYS_ON = 2.0
_GRAMMAR_PULL = 4.0
"""For a role that a word may follow, against one that it may not: a gap of some 20 in the logits."""
_CHOICE_SPREAD = 0.3
"""Spread of the weights that choose among allowed words: some 1.3 in the logits."""
_END_HOLD = 20.0
_END_PULL = 12.0
_ATTENTION_SPREAD = 1.2
_MIX_SPREAD = 0.25
_EVEN = _EMBEDDING**-0.5
_HALF_WIDTH = 1.7320508
"""Half the width of a uniform distribution whose standard deviation is 1."""


class _Tensor(NamedTuple):
    """One matrix, row by row; a vector is one row."""

    name: str
    columns: int
    values: array[float]


def _noise(seed: int, name: str, count: int, spread: float) -> array[float]:
    """Return `count` numbers of standard deviation `spread`, the same on every machine."""
    chance = array("h")
    chance.frombytes(shake_256(f"{seed}/{name}".encode()).digest(2 * count))
    if sys.byteorder == "big":
        chance.byteswap()
    scale = spread * _HALF_WIDTH / 2**15
    return array("f", [number * scale for number in chance])


def _ones(count: int) -> array[float]:
    return array("f", [1.0]) * count


def _zeros(count: int) -> array[float]:
    return array("f", [0.0]) * count


def _embedding_rows(seed: int, vocabulary: Sequence[_Token]) -> array[float]:
    values = _noise(seed, "embedding", len(vocabulary) * _EMBEDDING, 1.0)
    for index, token in enumerate(vocabulary):
        row = index * _EMBEDDING
        values[row : row + _FREE] = _zeros(_FREE)
        values[row + token.role] = _ON
        values[row + _ALWAYS] = _ALWAYS_ON
        if token.text in BRIEF_WORDS:
            values[row + _BRIEF_WORD] = _ON
    return values


def _output_rows(seed: int, vocabulary: Sequence[_Token]) -> array[float]:
    values = _noise(seed, "output", len(vocabulary) * _EMBEDDING, _CHOICE_SPREAD)
    for index, token in enumerate(vocabulary):
        row = index * _EMBEDDING
        values[row : row + _FREE] = _zeros(_FREE)
        for role in _Role:
            values[row + role] = _GRAMMAR_PULL if role in token.after else -_GRAMMAR_PULL
        values[row + _ALWAYS] = token.liking
        if token.role == _Role.FULL_STOP:
            values[row + _FREE : row + _EMBEDDING] = _zeros(_EMBEDDING - _FREE)
            values[row + _BRIEF_READ] = 1.0
        if token.text == _END:
            # Held back everywhere; a brief word outweighs that after a full stop only.
            values[row : row + _FREE] = array("f", [-_END_HOLD]) * _FREE
            values[row + _Role.FULL_STOP] = _GRAMMAR_PULL
            values[row + _BRIEF_READ] = _END_PULL
    return values


def _layer(seed: int, layer: int) -> list[_Tensor]:
    """Return the matrices of one layer: the first one looks for `BRIEF_WORDS`, all mix what was read."""
    name = f"blk.{layer}"

    def mix(part: str, columns: int, rows: int, spread: float) -> _Tensor:
        return _Tensor(f"{name}.{part}.weight", columns, _noise(seed, f"{name}.{part}", columns * rows, spread))

    query = mix("attn_q", _EMBEDDING, _EMBEDDING, _ATTENTION_SPREAD * _EVEN)
    key = mix("attn_k", _EMBEDDING, _KEY_WIDTH, _ATTENTION_SPREAD * _EVEN)
    value = mix("attn_v", _EMBEDDING, _KEY_WIDTH, _EVEN)
    joined = mix("attn_output", _EMBEDDING, _EMBEDDING, _MIX_SPREAD * _EVEN)
    gate = mix("ffn_gate", _EMBEDDING, _FORWARD, _EVEN)
    up = mix("ffn_up", _EMBEDDING, _FORWARD, _EVEN)
    down = mix("ffn_down", _FORWARD, _EMBEDDING, _MIX_SPREAD * _EVEN)
    for read in (value, gate, up):
        for row in range(0, len(read.values), _EMBEDDING):
            read.values[row : row + _FREE] = _zeros(_FREE)
    for written in (joined, down):
        written.values[: _FREE * written.columns] = _zeros(_FREE * written.columns)
    if layer == 0:
        _look_for_brief_words(query.values, key.values, value.values, joined.values)
    attention = [_Tensor(f"{name}.attn_norm.weight", _EMBEDDING, _ones(_EMBEDDING)), query, key, value, joined]
    return [*attention, _Tensor(f"{name}.ffn_norm.weight", _EMBEDDING, _ones(_EMBEDDING)), gate, up, down]


def _look_for_brief_words(query: array[float], key: array[float], value: array[float], joined: array[float]) -> None:
    """Turn an attention layer into one that sets `_BRIEF_READ` if a brief word was read, however long ago."""
    for matrix in (query, key, value, joined):
        matrix[:] = _zeros(len(matrix))
    slow = _HEAD - 2
    query[slow * _EMBEDDING + _ALWAYS] = 5.0
    key[slow * _EMBEDDING + _BRIEF_WORD] = 5.0
    value[_BRIEF_WORD] = 0.33
    joined[_BRIEF_READ * _EMBEDDING] = 6.0


# ── File ───────────────────────────────────────────────────────────────────────────────────────────────────

_Value = str | int | float | list[str] | list[int]

_VERSION = 3
_ALIGNMENT_BYTES = 32
_UINT32, _INT32, _FLOAT32, _STRING, _ARRAY = 4, 5, 6, 8, 9
_TENSOR_FLOAT32 = 0


def _encode(metadata: dict[str, _Value], tensors: Sequence[_Tensor]) -> bytes:
    head = bytearray(b"GGUF" + struct.pack("<IQQ", _VERSION, len(tensors), len(metadata)))
    for key, value in metadata.items():
        head += _string(key) + _typed(value)
    offset = 0
    for tensor in tensors:
        rows = len(tensor.values) // tensor.columns
        shape = (tensor.columns,) if rows == 1 else (tensor.columns, rows)
        head += _string(tensor.name) + struct.pack(f"<I{len(shape)}Q", len(shape), *shape)
        head += struct.pack("<IQ", _TENSOR_FLOAT32, offset)
        offset += _padded(4 * len(tensor.values))
    parts = [bytes(head), *(_little_endian(tensor.values) for tensor in tensors)]
    return b"".join(part.ljust(_padded(len(part)), b"\0") for part in parts)


def _padded(size_bytes: int) -> int:
    return -(-size_bytes // _ALIGNMENT_BYTES) * _ALIGNMENT_BYTES


def _little_endian(values: array[float]) -> bytes:
    if sys.byteorder == "big":
        values = values[:]
        values.byteswap()
    return values.tobytes()


def _string(text: str) -> bytes:
    encoded = text.encode()
    return struct.pack("<Q", len(encoded)) + encoded


def _typed(value: _Value) -> bytes:
    if isinstance(value, str):
        return struct.pack("<I", _STRING) + _string(value)
    if isinstance(value, float):
        return struct.pack("<If", _FLOAT32, value)
    if isinstance(value, int):
        return struct.pack("<II", _UINT32, value)
    kind = _STRING if isinstance(value[0], str) else _INT32
    items = b"".join(_string(item) if isinstance(item, str) else struct.pack("<i", item) for item in value)
    return struct.pack("<IIQ", _ARRAY, kind, len(value)) + items
