from __future__ import annotations

import pytest

from handshake.kernel.errors import EndpointBlocked, HandshakeError, InvalidRequest
from handshake.kernel.locality import parse_endpoint
from handshake.kernel.settings import MAX_WEB_HEADERS
from handshake.kernel.web import admit, checked_headers, parse_target, require_foreign
from tests.requirement import requirement

PUBLIC = "93.184.215.14"
CLOSED = [parse_endpoint(url) for url in ("https://api.provider.example/v1", "http://127.0.0.1:11434/v1")]


@pytest.mark.parametrize(
    ("url", "origin", "rest"),
    [
        ("https://example.org", "https://example.org", "/"),
        ("https://Example.org/", "https://example.org", "/"),
        ("https://example.org/a/b/?q=a/b?c&d=%20", "https://example.org", "/a/b/?q=a/b?c&d=%20"),
        ("https://example.org?q", "https://example.org", "/?q"),
        ("http://localhost:8080/x//y", "http://localhost:8080", "/x//y"),
        ("http://[::1]:80/", "http://[::1]", "/"),
    ],
)
def test_a_url_is_taken_apart_and_sent_as_it_was(url: str, origin: str, rest: str) -> None:
    target = parse_target(url)
    assert (target.endpoint.origin, target.rest) == (origin, rest)


def test_an_address_shows_no_query() -> None:
    assert parse_target("https://example.org/a?token=secret").address == "https://example.org/a"


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "https:///path",
        "https://user:word@example.org/",
        "https://user@127.0.0.1/",
        "https://example.org/#fragment",
        "https://example.org/?q#f",
        "https://example.org/a/../b",
        "https://example.org/%2e%2e/b",
        "https://example.org/a b",
        "https://example.org/?a b",
        "https://example.org/?a\r\nHost: x",
        "https://example.org/?%zz",
        "https://example.org\\@127.0.0.1/",
        "https://exämple.org/",
        "https://2130706433/",
        "https://0x7f.1/",
        "https://0177.0.0.1/",
        "https://127.1/",
        "https://localhost./",
        "https://[fe80::1%25eth0]/",
        "https://example.org:0/",
        "https://example.org:99999/",
        "https://" + "a" * 3_000,
    ],
)
def test_a_url_that_hides_something_is_refused(url: str) -> None:
    with pytest.raises(HandshakeError):
        parse_target(url)


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize(
    ("url", "addresses", "reason"),
    [
        ("https://example.org/", ["10.0.0.1"], "private"),
        ("https://example.org/", [PUBLIC, "192.168.1.1"], "private"),
        ("https://example.org/", ["169.254.169.254"], "link_local"),
        ("https://example.org/", ["127.0.0.1"], "loopback"),
        ("https://example.org/", ["::1"], "loopback"),
        ("https://example.org/", ["::ffff:127.0.0.1"], "mapped"),
        ("https://example.org/", ["64:ff9b::7f00:1"], "nat64"),
        ("https://example.org/", ["0.0.0.0"], "unspecified"),
        ("https://example.org/", ["100.64.0.1"], "cgnat"),
        ("https://example.org/", ["fd00::1"], "private"),
        ("https://example.org/", [], "no_address"),
        ("https://10.0.0.1/", ["10.0.0.1"], "private"),
        ("http://example.org/", [PUBLIC], "https_required"),
        ("https://localhost/", [PUBLIC], "localhost"),
        ("http://foo.localhost/", ["10.0.0.1"], "private"),
        ("http://127.0.0.1/", [PUBLIC], "https_required"),
        ("https://127.0.0.1/", [PUBLIC], "not_loopback"),
    ],
)
def test_an_address_that_a_url_may_not_have_is_blocked(url: str, addresses: list[str], reason: str) -> None:
    with pytest.raises(EndpointBlocked) as blocked:
        admit(parse_target(url), addresses)
    assert blocked.value.context["reason"] == reason


def test_public_addresses_with_tls_and_this_machine_are_admitted() -> None:
    admitted = {
        "https://example.org/": [PUBLIC, "2606:2800:220:1:248:1893:25c8:1946"],
        "http://localhost:1/": ["127.0.0.1", "::1"],
        "http://127.0.0.5:1/": ["127.0.0.5"],
        "http://[::1]:1/": ["::1"],
    }
    for url, addresses in admitted.items():
        target = parse_target(url)
        admit(target, addresses)
        assert target.is_here == url.startswith("http:")


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize(
    "url",
    [
        "https://api.provider.example/v1/chat/completions",
        "https://API.provider.example:8443/",
        "http://127.0.0.1:11434/api/pull",
        "http://localhost:11434/",
        "http://[::1]:11434/",
        "https://127.9.9.9:11434/",
        "http://x.localhost:11434/",
    ],
)
def test_providers_have_a_door_of_their_own(url: str) -> None:
    with pytest.raises(EndpointBlocked) as blocked:
        require_foreign(parse_target(url), CLOSED)
    assert blocked.value.context["reason"] == "provider_origin"


def test_what_is_no_provider_is_foreign() -> None:
    for url in ("https://provider.example/", "http://127.0.0.1:11435/", "https://x.api.provider.example/"):
        require_foreign(parse_target(url), CLOSED)
        assert parse_target(url).is_here == url.startswith("http:")


def test_headers_keep_their_order_and_spelling() -> None:
    assert checked_headers([("X-B", "1 2"), ("accept", "*/*")]) == (("X-B", "1 2"), ("accept", "*/*"))


@pytest.mark.parametrize(
    ("headers", "reason"),
    [
        ([("Host", "x")], "own"),
        ([("content-LENGTH", "1")], "own"),
        ([("Transfer-Encoding", "chunked")], "own"),
        ([("Proxy-Authorization", "x")], "own"),
        ([("Connection", "close")], "own"),
        ([("a b", "x")], "name"),
        ([("", "x")], "name"),
        ([("a:", "x")], "name"),
        ([("a", "x\r\nHost: y")], "value"),
        ([("a", "x\ny")], "value"),
        ([("a", "ä")], "value"),
        ([("a", "")], "value"),
        ([("a", "x" * 1_001)], "value"),
        ([("a", "1"), ("A", "2")], "twice"),
        ([(f"x{number}", "1") for number in range(MAX_WEB_HEADERS + 1)], "too_many"),
    ],
)
def test_headers_that_could_make_another_request_are_refused(headers: list[tuple[str, str]], reason: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        checked_headers(headers)
    assert refused.value.context == {"field": "headers", "reason": reason}
