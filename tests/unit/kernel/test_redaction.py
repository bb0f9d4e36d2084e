"""Known values are found in every form in which they could turn up in a record."""

from __future__ import annotations

import base64
import json
from urllib.parse import quote

import pytest

from handshake.kernel.redaction import MAX_KNOWN_VALUES, PLACEHOLDER, KnownValues

SECRET = 'sk-live-"quoted"/+ä-0123456789'


@pytest.mark.parametrize(
    "form",
    [
        SECRET.encode(),
        json.dumps(SECRET)[1:-1].encode(),
        json.dumps(SECRET, ensure_ascii=False)[1:-1].encode(),
        quote(SECRET, safe="").encode(),
        SECRET.encode().hex().encode(),
        SECRET.encode().hex().upper().encode(),
        base64.b64encode(SECRET.encode()),
        base64.urlsafe_b64encode(SECRET.encode()),
    ],
)
def test_every_form_of_a_value_is_replaced(form: bytes) -> None:
    cleaned = KnownValues([SECRET]).clean(b"before " + form + b" after")
    assert form.rstrip(b"=") not in cleaned
    assert PLACEHOLDER in cleaned
    assert cleaned.startswith(b"before ")
    assert cleaned.endswith(b" after")


def test_data_without_a_value_is_the_same_object() -> None:
    data = b"nothing to hide"
    assert KnownValues([SECRET]).clean(data) is data


def test_a_value_that_contains_another_is_replaced_whole() -> None:
    known = KnownValues(["secret-secret", "secret-secret-longer"])
    assert known.clean(b"x secret-secret-longer y") == b"x " + PLACEHOLDER + b" y"


def test_short_values_are_not_looked_for() -> None:
    assert KnownValues(["hello"]).clean(b"hello world") == b"hello world"


def test_the_number_of_values_is_bounded() -> None:
    known = KnownValues(f"value-number-{number:06d}" for number in range(MAX_KNOWN_VALUES + 1))
    beyond = f"value-number-{MAX_KNOWN_VALUES:06d}".encode()
    assert known.clean(beyond) == beyond
    assert known.clean(b"value-number-000000") == PLACEHOLDER
