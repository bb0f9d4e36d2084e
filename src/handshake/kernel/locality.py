"""Locality: what a base URL and its addresses may be, and whether a model behind them is local or cloud.

Decided from resolved addresses, never declared: a declaration can make a private address local and a loopback
address cloud, and nothing makes a public address local.

Source:
    provider.local.is_decided, provider.local.never_public, provider.ssrf.blocked (03 §7, RT-SSRF-001, TRUST-004).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from enum import StrEnum
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import urlsplit

import msgspec

from handshake.kernel.errors import EndpointBlocked, InvalidBaseUrl
from handshake.kernel.job import Backend
from handshake.kernel.section import MAX_URL_CHARS

MAX_ADDRESSES = 64
"""Addresses of one name; a name with more is not a provider."""
MAX_HOST_CHARS = 253
"""RFC 1035 §2.3.4, as text."""

_DEFAULT_PORT = {"http": 80, "https": 443}
_URL_CHARS = re.compile(r"[!-~]+")
_FORBIDDEN_IN_URL = frozenset('\\"<>^`{}|')
_PATH = re.compile(r"(?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@-]|%[0-9A-Fa-f]{2})*)*")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[0-9]{1,5}")
_DOTS = re.compile(r"(?:\.|%2e){1,2}", re.IGNORECASE)
_LOCALHOST = frozenset({"localhost", "localhost4", "localhost6", "ip6-localhost", "ip6-loopback"})


class Endpoint(msgspec.Struct, frozen=True, gc=False):
    """A checked base URL: where a provider is, without the path of an operation; `str()` spells it."""

    scheme: str
    """`http` or `https`."""
    host: str
    """Lower-case name, or an address without brackets."""
    port: int
    path: str
    """Empty, or begins with a slash and does not end with one."""
    is_address: bool
    """Whether `host` is an address, which needs no look-up."""

    @property
    def origin(self) -> str:
        """Scheme, host and port as browsers write them: the default port is left out."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}" + ("" if self.port == _DEFAULT_PORT[self.scheme] else f":{self.port}")

    def __str__(self) -> str:
        """Return the URL."""
        return self.origin + self.path


class Declared(msgspec.Struct, frozen=True, gc=False):
    """What a config file states about a provider's endpoint."""

    run_by_operator: str | None = None
    """Why a private address is the operator's own; shown and evented."""
    forwards_to_cloud: bool = False
    """A loopback origin that sends on to a cloud."""


class AddressKind(StrEnum):
    """What an address is for; only the first three can be a provider's."""

    PUBLIC = "public"
    LOOPBACK = "loopback"
    PRIVATE = "private"
    LINK_LOCAL = "link_local"
    CGNAT = "cgnat"
    BENCHMARK = "benchmark"
    MULTICAST = "multicast"
    UNSPECIFIED = "unspecified"
    MAPPED = "mapped"
    NAT64 = "nat64"
    SIX_TO_FOUR = "6to4"
    TEREDO = "teredo"
    RESERVED = "reserved"
    MALFORMED = "malformed"


# The IANA special-purpose address registries (RFC 6890 and its updates); within a kind, and among nested
# networks, the narrower one stands first.
_NETWORKS = tuple(
    (ip_network(network), kind)
    for network, kind in (
        ("0.0.0.0/8", AddressKind.UNSPECIFIED),
        ("10.0.0.0/8", AddressKind.PRIVATE),
        ("100.64.0.0/10", AddressKind.CGNAT),
        ("127.0.0.0/8", AddressKind.LOOPBACK),
        ("169.254.0.0/16", AddressKind.LINK_LOCAL),
        ("172.16.0.0/12", AddressKind.PRIVATE),
        ("192.0.0.0/24", AddressKind.RESERVED),
        ("192.0.2.0/24", AddressKind.RESERVED),
        ("192.88.99.0/24", AddressKind.SIX_TO_FOUR),
        ("192.168.0.0/16", AddressKind.PRIVATE),
        ("198.18.0.0/15", AddressKind.BENCHMARK),
        ("198.51.100.0/24", AddressKind.RESERVED),
        ("203.0.113.0/24", AddressKind.RESERVED),
        ("224.0.0.0/4", AddressKind.MULTICAST),
        ("240.0.0.0/4", AddressKind.RESERVED),
        ("::/128", AddressKind.UNSPECIFIED),
        ("::1/128", AddressKind.LOOPBACK),
        ("::/96", AddressKind.MAPPED),
        ("::ffff:0:0/96", AddressKind.MAPPED),
        ("::ffff:0:0:0/96", AddressKind.MAPPED),
        ("64:ff9b::/96", AddressKind.NAT64),
        ("64:ff9b:1::/48", AddressKind.NAT64),
        ("2001::/32", AddressKind.TEREDO),
        ("2001:2::/48", AddressKind.BENCHMARK),
        ("2001::/23", AddressKind.RESERVED),
        ("2001:db8::/32", AddressKind.RESERVED),
        ("2002::/16", AddressKind.SIX_TO_FOUR),
        ("3fff::/20", AddressKind.RESERVED),
        ("fc00::/7", AddressKind.PRIVATE),
        ("fe80::/10", AddressKind.LINK_LOCAL),
        ("ff00::/8", AddressKind.MULTICAST),
    )
)
_GLOBAL_V6 = IPv6Network("2000::/3")


def parse_endpoint(text: str) -> Endpoint:
    """Return the endpoint that a base URL spells.

    Raises:
        InvalidBaseUrl: not http or https; user, query or fragment; no host, a malformed one, or a malformed port;
            dot segments or characters that a path may not have; longer than `MAX_URL_CHARS`.
        EndpointBlocked: a host that hides what it is: trailing dot, integer, octal or hexadecimal form.
    """
    if len(text) > MAX_URL_CHARS:
        raise InvalidBaseUrl(reason="too_long")
    if not _URL_CHARS.fullmatch(text) or not _FORBIDDEN_IN_URL.isdisjoint(text):
        raise InvalidBaseUrl(reason="character")
    if "?" in text or "#" in text:
        raise InvalidBaseUrl(reason="query" if "?" in text else "fragment")
    try:
        parts = urlsplit(text)
    except ValueError:
        raise InvalidBaseUrl(reason="host") from None
    if parts.scheme not in _DEFAULT_PORT:
        raise InvalidBaseUrl(reason="scheme")
    if "@" in parts.netloc:
        raise InvalidBaseUrl(reason="userinfo")
    host, port = _split_port(parts.netloc.lower(), parts.scheme)
    path = parts.path.rstrip("/")
    if not _PATH.fullmatch(path) or any(_DOTS.fullmatch(step) for step in path.split("/")):
        raise InvalidBaseUrl(reason="path")
    name, is_address = _checked_host(host)
    return Endpoint(parts.scheme, name, port, path, is_address)


@lru_cache(maxsize=1_024)
def kind_of(address: str) -> AddressKind:
    """Return what `address` is for; scoped and malformed ones are MALFORMED."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return AddressKind.MALFORMED
    if isinstance(parsed, IPv6Address) and parsed.scope_id is not None:
        return AddressKind.MALFORMED
    for network, kind in _NETWORKS:
        if parsed in network:
            return kind
    if isinstance(parsed, IPv4Address) or parsed in _GLOBAL_V6:
        return AddressKind.PUBLIC
    return AddressKind.RESERVED


def decide(endpoint: Endpoint, addresses: Sequence[str], declared: Declared) -> Backend:
    """Return whether the endpoint is local or cloud.

    Local is: every address loopback, and not declared to forward; or every address private or loopback, and
    declared to be the operator's own. All else is cloud and must look like it.

    Args:
        endpoint: where the provider is.
        addresses: all addresses of its host, as resolved for this decision.
        declared: the config file's word.

    Raises:
        EndpointBlocked: a cloud endpoint with an address, scheme or name that a cloud may not have; no address.
    """
    if not addresses or len(addresses) > MAX_ADDRESSES:
        raise EndpointBlocked(reason="too_many_addresses" if addresses else "no_address", origin=endpoint.origin)
    kinds = {kind_of(address) for address in addresses}
    if kinds == {AddressKind.LOOPBACK}:
        return Backend.CLOUD if declared.forwards_to_cloud else Backend.LOCAL
    own = (declared.run_by_operator or "").strip() != "" and not declared.forwards_to_cloud
    if own and kinds <= {AddressKind.LOOPBACK, AddressKind.PRIVATE}:
        return Backend.LOCAL
    for kind in sorted(kinds):
        if kind is not AddressKind.PUBLIC:
            raise EndpointBlocked(reason=kind.value, origin=endpoint.origin)
    if is_localhost(endpoint.host):
        raise EndpointBlocked(reason="localhost", origin=endpoint.origin)
    if endpoint.scheme != "https":
        raise EndpointBlocked(reason="https_required", origin=endpoint.origin)
    return Backend.CLOUD


def is_localhost(host: str) -> bool:
    """Return whether `host` is a spelling of localhost (RFC 6761 §6.3, and what hosts files add)."""
    last = host.rpartition(".")[2]
    return host in _LOCALHOST or last in {"localhost", "localdomain"}


def has_cloud_tag(model: str) -> bool:
    """Return whether an Ollama model name says that it runs in Ollama's cloud: `name:cloud`, `name:120b-cloud`."""
    _, colon, tag = model.rpartition(":")
    return bool(colon) and re.search(r"(?:^|-)cloud$", tag.strip().casefold()) is not None


class Listing(StrEnum):
    """What an engine's model listing says about one model."""

    HERE = "here"
    REMOTE = "remote"
    ABSENT = "absent"
    """The engine lists its models, and this is none of them."""
    NOT_OLLAMA = "not_ollama"
    """The answer is not such a listing."""
    UNREADABLE = "unreadable"
    """The answer breaks off, or is no JSON although it begins like it."""


def read_listing(body: bytes, model: str) -> Listing:
    """Return what the answer of `GET /api/tags` says about `model`; other engines' answers are no listing.

    A model with `remote_host`, `remote_model` or size 0 runs elsewhere. So does, for all that anyone can know, a
    name that is not listed where the engine forwards any model at all: it may be another name of that one.
    """
    try:
        answer = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeError, RecursionError):
        start = body.lstrip()[:1]
        return Listing.UNREADABLE if start in (b"", b"{", b"[") else Listing.NOT_OLLAMA
    models = answer.get("models") if isinstance(answer, dict) else None
    if not isinstance(models, list):
        return Listing.NOT_OLLAMA
    wanted = _full_name(model)
    listed = [entry for entry in models if isinstance(entry, dict)]
    entries = [entry for entry in listed if wanted in _names_of(entry)]
    if any(_is_remote(entry) for entry in entries or listed):
        return Listing.REMOTE
    return Listing.HERE if entries else Listing.ABSENT


def _split_port(netloc: str, scheme: str) -> tuple[str, int]:
    bracket = netloc.rfind("]")
    host, colon, digits = netloc, "", ""
    if ":" in netloc[bracket + 1 :]:
        host, colon, digits = netloc.rpartition(":")
    if not colon:
        return host, _DEFAULT_PORT[scheme]
    if not _PORT.fullmatch(digits) or not 1 <= int(digits) <= 65_535:
        raise InvalidBaseUrl(reason="port")
    return host, int(digits)


def _checked_host(host: str) -> tuple[str, bool]:
    if host.startswith("[") and host.endswith("]"):
        try:
            address = IPv6Address(host[1:-1])
        except ValueError:
            raise InvalidBaseUrl(reason="host") from None
        if address.scope_id is not None:
            raise InvalidBaseUrl(reason="host")
        return address.compressed, True
    if host.endswith(".") and len(host) > 1:
        raise EndpointBlocked(reason="trailing_dot")
    labels = host.split(".")
    if len(host) > MAX_HOST_CHARS or not all(_LABEL.fullmatch(label) for label in labels):
        raise InvalidBaseUrl(reason="host")
    if _NUMBER.fullmatch(labels[-1]):
        try:
            return IPv4Address(host).compressed, True
        except ValueError:
            raise EndpointBlocked(reason="host_form") from None
    return host, False


def _full_name(model: str) -> str:
    """Return an Ollama name as its listing spells it: with a tag, without scheme, default registry and namespace."""
    before, scheme, after = model.strip().casefold().partition("://")
    name = (after if scheme else before).removeprefix("registry.ollama.ai/").removeprefix("library/")
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


def _names_of(entry: dict[str, object]) -> set[str]:
    return {_full_name(value) for value in (entry.get("name"), entry.get("model")) if isinstance(value, str)}


def _is_remote(entry: dict[str, object]) -> bool:
    size = entry.get("size")
    no_weights = isinstance(size, (int, float)) and not isinstance(size, bool) and size <= 0
    return no_weights or bool(entry.get("remote_host")) or bool(entry.get("remote_model"))
