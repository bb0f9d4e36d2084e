"""Tests of ids: UUIDv7 by RFC 9562, and what counts as an id at all."""

from __future__ import annotations

import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.ids import CHANCE_BITS, is_sha256, is_uuid, uuid7
from handshake.kernel.units import Microseconds

MOMENTS = st.integers(min_value=0, max_value=2**57)
CHANCES = st.integers(min_value=0, max_value=2**CHANCE_BITS - 1)


def test_the_example_of_the_rfc() -> None:
    """RFC 9562, appendix A.6."""
    chance = 0xCC3 << 62 | 0x18C4DC0C0C07398F & (1 << 62) - 1
    assert uuid7(Microseconds(0x017F22E279B0 * 1000), chance) == "017f22e2-79b0-7cc3-98c4-dc0c0c07398f"


@given(MOMENTS, CHANCES)
def test_every_id_is_a_uuid_of_version_7(now_us: int, chance: int) -> None:
    made = uuid7(Microseconds(now_us), chance)
    parsed = uuid.UUID(made)
    assert str(parsed) == made
    assert is_uuid(made)
    assert (parsed.version, parsed.variant) == (7, uuid.RFC_4122)
    assert parsed.int >> 80 == now_us // 1000


@given(MOMENTS, CHANCES, CHANCES)
def test_ids_of_later_milliseconds_sort_later(now_us: int, one: int, other: int) -> None:
    assert uuid7(Microseconds(now_us), one) < uuid7(Microseconds(now_us + 1000), other)


@given(CHANCES, CHANCES)
def test_no_bit_of_chance_is_lost(one: int, other: int) -> None:
    ids = {uuid7(Microseconds(0), chance) for chance in (one, other)}
    assert len(ids) == len({one, other})


@given(CHANCES, st.integers(min_value=1))
def test_more_bits_of_chance_than_fit_are_ignored(chance: int, more: int) -> None:
    assert uuid7(Microseconds(0), chance + (more << CHANCE_BITS)) == uuid7(Microseconds(0), chance)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "017F22E2-79B0-7CC3-98C4-DC0C0C07398F",
        "017f22e279b07cc398c4dc0c0c07398f",
        "{017f22e2-79b0-7cc3-98c4-dc0c0c07398f}",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398f\n",
        "017f22e2-79b0-7cc3-98c4-dc0c0c07398g",
        " 017f22e2-79b0-7cc3-98c4-dc0c0c07398f",
        "0" * 100_000,
    ],
)
def test_anything_else_is_no_uuid(text: str) -> None:
    assert not is_uuid(text)


@pytest.mark.parametrize(
    ("text", "is_one"),
    [
        ("a" * 64, True),
        ("A" * 64, False),
        ("a" * 63, False),
        ("a" * 65, False),
        ("g" * 64, False),
        ("a" * 64 + "\n", False),
    ],
)
def test_a_sha256_is_64_lower_case_hex_digits(text: str, is_one: bool) -> None:
    assert is_sha256(text) is is_one
