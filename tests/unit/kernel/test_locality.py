"""Locality: base URLs, kinds of addresses, and what makes an endpoint or a model local."""

from __future__ import annotations

import json
from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.errors import EndpointBlocked, InvalidBaseUrl
from handshake.kernel.job import Backend
from handshake.kernel.locality import (
    MAX_ADDRESSES,
    AddressKind,
    Declared,
    Listing,
    decide,
    has_cloud_tag,
    is_localhost,
    kind_of,
    parse_endpoint,
    read_listing,
)
from tests.requirement import requirement

OWN = Declared(run_by_operator="the box under my desk")
FORWARDS = Declared(forwards_to_cloud=True)
NOTHING = Declared()

SPECIAL = {
    "0.0.0.0": AddressKind.UNSPECIFIED,
    "0.1.2.3": AddressKind.UNSPECIFIED,
    "10.0.0.1": AddressKind.PRIVATE,
    "172.16.0.1": AddressKind.PRIVATE,
    "172.31.255.255": AddressKind.PRIVATE,
    "192.168.1.1": AddressKind.PRIVATE,
    "100.64.0.1": AddressKind.CGNAT,
    "100.127.255.255": AddressKind.CGNAT,
    "127.0.0.1": AddressKind.LOOPBACK,
    "127.255.255.254": AddressKind.LOOPBACK,
    "169.254.169.254": AddressKind.LINK_LOCAL,
    "192.0.0.170": AddressKind.RESERVED,
    "192.0.2.1": AddressKind.RESERVED,
    "198.51.100.1": AddressKind.RESERVED,
    "203.0.113.1": AddressKind.RESERVED,
    "192.88.99.1": AddressKind.SIX_TO_FOUR,
    "198.18.0.1": AddressKind.BENCHMARK,
    "198.19.255.255": AddressKind.BENCHMARK,
    "224.0.0.1": AddressKind.MULTICAST,
    "240.0.0.1": AddressKind.RESERVED,
    "255.255.255.255": AddressKind.RESERVED,
    "::": AddressKind.UNSPECIFIED,
    "::1": AddressKind.LOOPBACK,
    "::2": AddressKind.MAPPED,
    "::127.0.0.1": AddressKind.MAPPED,
    "::ffff:127.0.0.1": AddressKind.MAPPED,
    "::ffff:8.8.8.8": AddressKind.MAPPED,
    "::ffff:0:127.0.0.1": AddressKind.MAPPED,
    "64:ff9b::7f00:1": AddressKind.NAT64,
    "64:ff9b:1::7f00:1": AddressKind.NAT64,
    "100::1": AddressKind.RESERVED,
    "2001::1": AddressKind.TEREDO,
    "2001:2::1": AddressKind.BENCHMARK,
    "2001:10::1": AddressKind.RESERVED,
    "2001:db8::1": AddressKind.RESERVED,
    "2002:7f00:1::1": AddressKind.SIX_TO_FOUR,
    "3fff::1": AddressKind.RESERVED,
    "5f00::1": AddressKind.RESERVED,
    "fc00::1": AddressKind.PRIVATE,
    "fd12:3456::1": AddressKind.PRIVATE,
    "fe80::1": AddressKind.LINK_LOCAL,
    "fec0::1": AddressKind.RESERVED,
    "ff02::1": AddressKind.MULTICAST,
    "fe80::1%eth0": AddressKind.MALFORMED,
    "2606:4700::1%eth0": AddressKind.MALFORMED,
    "localhost": AddressKind.MALFORMED,
    "127.1": AddressKind.MALFORMED,
    "": AddressKind.MALFORMED,
}
PUBLIC = ("1.1.1.1", "8.8.8.8", "100.128.0.1", "172.32.0.1", "198.20.0.1", "223.255.255.255", "2606:4700:4700::1111")

addresses = st.one_of(
    st.sampled_from([*SPECIAL, *PUBLIC]), st.ip_addresses(v=4).map(str), st.ip_addresses(v=6).map(str)
)
declarations = st.builds(
    Declared,
    run_by_operator=st.one_of(st.none(), st.sampled_from(["", " ", "mine"])),
    forwards_to_cloud=st.booleans(),
)


@pytest.mark.parametrize(("address", "kind"), SPECIAL.items())
def test_special_addresses_are_known(address: str, kind: AddressKind) -> None:
    assert kind_of(address) is kind


@pytest.mark.parametrize("address", PUBLIC)
def test_other_addresses_are_public(address: str) -> None:
    assert kind_of(address) is AddressKind.PUBLIC


@given(st.ip_addresses().map(str))
def test_what_is_called_public_is_global_by_the_registries_too(address: str) -> None:
    if kind_of(address) is AddressKind.PUBLIC:
        known = ip_address(address)
        assert known.is_global
        assert not known.is_multicast


@pytest.mark.parametrize(
    ("text", "origin", "path"),
    [
        ("http://127.0.0.1:11434/v1", "http://127.0.0.1:11434", "/v1"),
        ("HTTP://LocalHost:8080/", "http://localhost:8080", ""),
        ("https://api.example.com/v1/", "https://api.example.com", "/v1"),
        ("https://api.example.com:443", "https://api.example.com", ""),
        ("http://[::1]:8080/v1", "http://[::1]:8080", "/v1"),
        ("http://[0:0:0:0:0:0:0:1]", "http://[::1]", ""),
        ("http://my_engine:80/a%20b/v1", "http://my_engine", "/a%20b/v1"),
    ],
)
def test_a_base_url_is_taken_apart(text: str, origin: str, path: str) -> None:
    endpoint = parse_endpoint(text)
    assert (endpoint.origin, endpoint.path) == (origin, path)
    assert str(endpoint) == origin + path
    assert parse_endpoint(str(endpoint)) == endpoint


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "character"),
        ("127.0.0.1:8080", "scheme"),
        ("//127.0.0.1", "scheme"),
        ("ftp://127.0.0.1", "scheme"),
        ("file:///etc/passwd", "scheme"),
        ("http+unix://%2Fsocket", "scheme"),
        ("http:///v1", "host"),
        ("http://", "host"),
        ("http://user@127.0.0.1", "userinfo"),
        ("http://user:word@127.0.0.1", "userinfo"),
        ("http://@127.0.0.1", "userinfo"),
        ("http://127.0.0.1/#", "fragment"),
        ("http://127.0.0.1/?", "query"),
        ("http://127.0.0.1/?a=b", "query"),
        ("http://127.0.0.1:", "port"),
        ("http://127.0.0.1:0", "port"),
        ("http://127.0.0.1:65536", "port"),
        ("http://127.0.0.1:+80", "port"),
        ("http://127.0.0.1:8_0", "port"),
        ("http://a:b:80", "host"),
        ("http://[::1", "host"),
        ("http://[::1]x", "host"),
        ("http://[fe80::1%25eth0]", "host"),
        ("http://[127.0.0.1]", "host"),
        ("http://::1", "host"),
        ("http://a..b", "host"),
        ("http://-a.b", "host"),
        ("http://a%2eb", "host"),
        ("http://a\\b", "character"),
        ("http://a b", "character"),
        ("http://127.0.0.1\t.evil", "character"),
        ("http://127.0.0.1\n", "character"),
        ("http://bücher.example", "character"),
        ("http://127.0.0.①", "character"),
        ("http://a/../b", "path"),
        ("http://a/%2e%2E/b", "path"),
        ("http://a/./b", "path"),
        ("http://a/%zz", "path"),
        ("http://" + "a." * 130 + "b", "host"),
        ("http://a/" + "b" * 2_000, "too_long"),
    ],
)
def test_a_malformed_base_url_is_refused(text: str, reason: str) -> None:
    with pytest.raises(InvalidBaseUrl) as refused:
        parse_endpoint(text)
    assert refused.value.context == {"reason": reason}


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize(
    "host",
    ["2130706433", "0x7f000001", "0x7f.0.0.1", "0177.0.0.1", "127.1", "127.0.1", "1.2.3.4.5", "256.1.1.1", "a.0x1"],
)
def test_hosts_in_other_forms_of_an_address_are_blocked(host: str) -> None:
    with pytest.raises(EndpointBlocked) as blocked:
        parse_endpoint(f"https://{host}/v1")
    assert blocked.value.context == {"reason": "host_form"}


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize("host", ["localhost.", "127.0.0.1.", "api.example.com.", "api.example.com.."])
def test_a_trailing_dot_is_blocked(host: str) -> None:
    with pytest.raises(EndpointBlocked) as blocked:
        parse_endpoint(f"https://{host}/v1")
    assert blocked.value.context == {"reason": "trailing_dot"}


@requirement("provider.local.is_decided")
@pytest.mark.parametrize(
    ("found", "declared", "backend"),
    [
        (["127.0.0.1"], NOTHING, Backend.LOCAL),
        (["::1", "127.0.0.1"], NOTHING, Backend.LOCAL),
        (["127.0.0.1"], OWN, Backend.LOCAL),
        (["127.0.0.1"], FORWARDS, Backend.CLOUD),
        (["127.0.0.1"], Declared("mine", forwards_to_cloud=True), Backend.CLOUD),
        (["192.168.1.9"], OWN, Backend.LOCAL),
        (["fd00::9", "127.0.0.1"], OWN, Backend.LOCAL),
        (["8.8.8.8"], NOTHING, Backend.CLOUD),
        (["8.8.8.8", "2606:4700::1111"], OWN, Backend.CLOUD),
    ],
)
def test_locality_follows_from_all_addresses(found: list[str], declared: Declared, backend: Backend) -> None:
    assert decide(parse_endpoint("https://engine.example/v1"), found, declared) is backend


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize("address", SPECIAL)
def test_a_cloud_has_no_special_address(address: str) -> None:
    endpoint = parse_endpoint("https://api.example.com/v1")
    with pytest.raises(EndpointBlocked) as blocked:
        decide(endpoint, ["8.8.8.8", address], OWN)
    assert blocked.value.context == {"reason": SPECIAL[address].value, "origin": "https://api.example.com"}


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize(
    ("text", "found", "declared", "reason"),
    [
        ("http://api.example.com/v1", ["8.8.8.8"], NOTHING, "https_required"),
        ("https://localhost/v1", ["8.8.8.8"], NOTHING, "localhost"),
        ("https://api.localhost/v1", ["8.8.8.8"], NOTHING, "localhost"),
        ("https://engine.lan/v1", ["192.168.1.9"], NOTHING, "private"),
        ("https://engine.lan/v1", ["192.168.1.9"], Declared("  "), "private"),
        ("https://engine.lan/v1", ["192.168.1.9"], Declared("mine", forwards_to_cloud=True), "private"),
        ("https://engine.lan/v1", ["192.168.1.9", "127.0.0.1"], NOTHING, "loopback"),
        ("https://engine.lan/v1", ["100.64.0.1"], OWN, "cgnat"),
        ("http://api.example.com/v1", [], NOTHING, "no_address"),
        ("http://api.example.com/v1", ["127.0.0.1"] * (MAX_ADDRESSES + 1), NOTHING, "too_many_addresses"),
    ],
)
def test_what_is_neither_local_nor_a_cloud_is_blocked(
    text: str, found: list[str], declared: Declared, reason: str
) -> None:
    with pytest.raises(EndpointBlocked) as blocked:
        decide(parse_endpoint(text), found, declared)
    assert blocked.value.context["reason"] == reason


@requirement("provider.local.never_public")
@given(st.lists(addresses, min_size=1, max_size=4), declarations, st.sampled_from(["http", "https"]))
def test_no_declaration_makes_another_address_local(found: list[str], declared: Declared, scheme: str) -> None:
    try:
        backend = decide(parse_endpoint(f"{scheme}://engine.example"), found, declared)
    except EndpointBlocked:
        return
    kinds = {kind_of(address) for address in found}
    if backend is Backend.LOCAL:
        assert kinds <= {AddressKind.LOOPBACK, AddressKind.PRIVATE}
        assert kinds == {AddressKind.LOOPBACK} or (declared.run_by_operator or "").strip()
        assert not declared.forwards_to_cloud
    else:
        assert kinds == {AddressKind.PUBLIC} or (kinds == {AddressKind.LOOPBACK} and declared.forwards_to_cloud)


def test_spellings_of_localhost() -> None:
    for host in ("localhost", "a.localhost", "localhost.localdomain", "ip6-loopback"):
        assert is_localhost(host)
    for host in ("localhost.example.com", "mylocalhost", "127.0.0.1"):
        assert not is_localhost(host)


@requirement("provider.local.never_public")
@pytest.mark.parametrize("model", ["x:cloud", "gpt-oss:120b-cloud", "q:480B-Cloud", "hub/x:cloud "])
def test_a_cloud_tag_names_a_cloud_model(model: str) -> None:
    assert has_cloud_tag(model)


@pytest.mark.parametrize("model", ["cloud", "my-cloud", "x:latest", "x:cloudy", "x:mycloud", "x:cloud/y:7b", ":", ""])
def test_other_names_do_not(model: str) -> None:
    assert not has_cloud_tag(model)


def listed(**entry: object) -> bytes:
    return json.dumps({"models": [{"name": "other:7b", "size": 5}, entry]}).encode()


@requirement("provider.local.never_public")
@pytest.mark.parametrize(
    "body",
    [
        listed(name="x:latest", size=384, remote_host="https://ollama.com:443"),
        listed(name="x:latest", size=384, remote_model="x"),
        listed(name="x:latest", size=0),
        listed(name="x:latest", size=0.0),
        listed(model="X:Latest", size=0),
        listed(name="registry.ollama.ai/library/x:latest", size=0),
        json.dumps({"models": [{"name": "x", "size": 5}, {"name": "x", "size": 0}]}).encode(),
    ],
)
def test_a_listing_tells_of_a_remote_model(body: bytes) -> None:
    assert read_listing(body, "x") is Listing.REMOTE


@pytest.mark.parametrize(
    ("body", "listing"),
    [
        (listed(name="x:latest", size=5), Listing.HERE),
        (listed(name="x:latest", size=""), Listing.HERE),
        (listed(name="x:latest"), Listing.HERE),
        (listed(name="x:latest", size=5, remote_host=""), Listing.HERE),
        (listed(name="x:7b", size=0), Listing.REMOTE),
        (b'{"models": []}', Listing.ABSENT),
        (b'{"models": [1, "x", {"name": 3}]}', Listing.ABSENT),
        (b'{"models": {"x": 0}}', Listing.NOT_OLLAMA),
        (b'{"data": []}', Listing.NOT_OLLAMA),
        (b"[]", Listing.NOT_OLLAMA),
        (b"null", Listing.NOT_OLLAMA),
        (b"<html>no such page</html>", Listing.NOT_OLLAMA),
        (b"", Listing.UNREADABLE),
        (b'{"models": [{"name": "x", "si', Listing.UNREADABLE),
        (b"[" * 100_000, Listing.UNREADABLE),
        (b'{"models": []} {}', Listing.UNREADABLE),
    ],
)
def test_a_listing_is_read(body: bytes, listing: Listing) -> None:
    assert read_listing(body, "x") is listing


def test_a_name_in_a_namespace_keeps_it() -> None:
    body = listed(name="me/x:latest", size=0)
    assert read_listing(body, "me/x") is Listing.REMOTE
    body = listed(name="me/x:latest", size=5)
    assert read_listing(body, "me/x") is Listing.HERE
    assert read_listing(body, "x") is Listing.ABSENT


def test_an_unlisted_name_is_not_believed_where_the_engine_forwards_any_model() -> None:
    assert read_listing(listed(name="other:latest", remote_host="https://somewhere"), "x") is Listing.REMOTE
