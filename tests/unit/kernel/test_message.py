"""Tests of messages: which texts are taken, byte for byte, and the hash that a sender claims."""

from __future__ import annotations

import hashlib

import pytest

from handshake.kernel.errors import InvalidRequest, TooLarge
from handshake.kernel.message import encode_text, require_hash
from handshake.kernel.settings import MAX_MESSAGE_BYTES
from tests.requirement import requirement

HASH = hashlib.sha256(b"Hello").hexdigest()


@pytest.mark.parametrize(
    "text", ["a", " ", "\n", "\x00", "\x1b[31m", "e\u0301", "é", "\ufeff", "你好", "🙂", "\u202e", "a" * 100_000]
)
def test_text_is_kept_as_it_is(text: str) -> None:
    assert encode_text(text).decode() == text


def test_no_text_is_refused() -> None:
    with pytest.raises(InvalidRequest) as refused:
        encode_text("")
    assert refused.value.context == {"field": "text", "reason": "empty"}


@pytest.mark.parametrize(("text", "position"), [("\ud800", 0), ("ab\udfff", 2), ("🙂\ud83d", 1)])
def test_half_a_character_is_refused_with_its_place(text: str, position: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        encode_text(text)
    assert refused.value.context == {"field": "text", "reason": "lone_surrogate", "position": position}


@pytest.mark.parametrize("letter", ["a", "é", "🙂"])
def test_the_limit_counts_bytes(letter: str) -> None:
    size = len(letter.encode())
    fitting = letter * (MAX_MESSAGE_BYTES // size)
    assert len(encode_text(fitting)) == MAX_MESSAGE_BYTES
    with pytest.raises(TooLarge) as refused:
        encode_text(fitting + letter)
    assert refused.value.context["limit_bytes"] == MAX_MESSAGE_BYTES


@requirement("message.content.hash_is_verified")
def test_a_true_hash_or_none_is_taken() -> None:
    require_hash(None, HASH)
    require_hash(HASH, HASH)
    with pytest.raises(InvalidRequest):
        require_hash("0" * 64, HASH)


@requirement("message.content.hash_is_verified")
@pytest.mark.parametrize(
    ("claimed", "why"),
    [
        (hashlib.sha256(b"hello").hexdigest(), "of_other_content"),
        ("0" * 64, "of_other_content"),
        (HASH.upper(), "not_a_sha256"),
        (HASH[:-1], "not_a_sha256"),
        (HASH + "\n", "not_a_sha256"),
        ("sha256:" + HASH, "not_a_sha256"),
        ("", "not_a_sha256"),
    ],
)
def test_any_other_hash_is_refused(claimed: str, why: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        require_hash(claimed, HASH)
    assert refused.value.context == {"field": "content_hash", "reason": why, "content_hash": HASH}
