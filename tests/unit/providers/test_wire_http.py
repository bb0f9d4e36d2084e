"""HTTP form: heads of requests, and what a response's head means."""

from __future__ import annotations

import pytest

from handshake.kernel.settings import MAX_CALL_MS
from handshake.kernel.units import Microseconds
from handshake.providers.wire_http import (
    ALLOWED_HEADERS,
    is_encoded,
    media_type,
    request_headers,
    retry_after_ms,
)
from tests.requirement import requirement
from tests.unit.providers.one_call import NOW_US


def test_only_allowed_headers_are_made() -> None:
    assert set(request_headers("sk-123", accept="*/*")) == ALLOWED_HEADERS
    assert request_headers("sk-123", accept="*/*")["authorization"] == "Bearer sk-123"
    assert "authorization" not in request_headers(None, accept="*/*")


@requirement("provider.secret.never_leaks")
@pytest.mark.parametrize("credential", ["sk-12\r\nx: y", "sk-1 2", "sk-é", "", "sk-\x00"])
def test_a_credential_that_is_no_header_value_is_refused_unnamed(credential: str) -> None:
    with pytest.raises(ValueError) as refused:
        request_headers(credential, accept="*/*")
    assert str(refused.value) == "a credential is visible ASCII"


@pytest.mark.parametrize(
    ("value", "wait_ms"),
    [
        ("0", 0),
        ("7", 7_000),
        (" 7 ", 7_000),
        ("9999999999", MAX_CALL_MS),
        ("Sun, 06 Nov 1994 08:49:38 GMT", 1_000),
        ("Sun, 06 Nov 1994 08:49:37 GMT", 0),
        ("Sun, 06 Nov 1994 08:00:00 GMT", 0),
        ("Fri, 06 Nov 9999 08:00:00 GMT", MAX_CALL_MS),
        ("Sun, 31 Feb 1994 08:49:38 GMT", None),
        ("Sun, 06 Foo 1994 08:49:38 GMT", None),
        ("Sun, 06 Nov 1994 25:49:38 GMT", None),
        ("Sun, 06 Nov 1994 08:49:38 +0200", None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("99999999999", None),
        ("soon", None),
        ("", None),
        (None, None),
    ],
)
def test_retry_after_is_read(value: str | None, wait_ms: int | None) -> None:
    assert retry_after_ms(value, now_us=NOW_US) == wait_ms


def test_a_part_of_a_millisecond_is_waited_for() -> None:
    assert retry_after_ms("Sun, 06 Nov 1994 08:49:38 GMT", now_us=Microseconds(NOW_US + 1)) == 1_000


def test_media_types_and_codings() -> None:
    assert media_type("Text/Event-Stream; charset=utf-8") == "text/event-stream"
    assert media_type(None) == ""
    assert not is_encoded(None)
    assert not is_encoded(" Identity ")
    assert is_encoded("gzip")
    assert is_encoded("identity, br")
