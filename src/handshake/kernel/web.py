"""Web: which URLs a tool may ask for, and which addresses they may have: the rules of providers, without exceptions.

Source:
    provider.ssrf.blocked (02 §5, 03 §7).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

import msgspec

from handshake.kernel.errors import EndpointBlocked, InvalidRequest
from handshake.kernel.job import Backend
from handshake.kernel.locality import (
    AddressKind,
    Declared,
    Endpoint,
    decide,
    is_localhost,
    kind_of,
    parse_endpoint,
)
from handshake.kernel.section import MAX_URL_CHARS
from handshake.kernel.settings import MAX_WEB_HEADER_CHARS, MAX_WEB_HEADERS

_QUERY = re.compile(r"(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})*")
_AUTHORITY = re.compile(r"[A-Za-z]+://[^/?#]*")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_HEADER_VALUE = re.compile(r"[!-~](?:[ -~]*[!-~])?")
_OWN_HEADERS = frozenset(
    "accept-encoding connection content-length expect host http2-settings keep-alive te trailer transfer-encoding "
    "upgrade via".split()
)
"""Headers by which a request could become two, or another one than was shown."""


class Target(msgspec.Struct, frozen=True, gc=False):
    """A checked URL: where it is, and what is asked for there."""

    endpoint: Endpoint
    """The origin; its path is not used."""
    rest: str
    """Path and query, as they are sent."""

    @property
    def is_here(self) -> bool:
        """Whether the URL itself names this machine."""
        host = self.endpoint.host
        return is_localhost(host) or (self.endpoint.is_address and kind_of(host) is AddressKind.LOOPBACK)

    @property
    def address(self) -> str:
        """The URL without its query, which may hold what is nobody's business."""
        return self.endpoint.origin + self.rest.partition("?")[0]


def parse_target(url: str) -> Target:
    """Return what a URL asks for.

    Raises:
        InvalidBaseUrl: as `parse_endpoint`; a fragment is refused as well.
        InvalidRequest: field `url`, reason `query` or `too_long`.
        EndpointBlocked: a host that hides what it is.
    """
    if len(url) > MAX_URL_CHARS:
        raise InvalidRequest(field="url", reason="too_long")
    before, mark, query = url.partition("?")
    endpoint = parse_endpoint(before)
    if not _QUERY.fullmatch(query):
        raise InvalidRequest(field="url", reason="query")
    authority = _AUTHORITY.match(before)
    path = before[authority.end() :] if authority is not None else ""
    return Target(endpoint, (path or "/") + mark + query)


def checked_headers(headers: Iterable[tuple[str, str]]) -> tuple[tuple[str, str], ...]:
    """Return headers that a request may have, in their order.

    Raises:
        InvalidRequest: field `headers`; reason `too_many`, `name`, `value`, `own` (of HTTP or a proxy) or `twice`.
    """
    found: dict[str, tuple[str, str]] = {}
    for name, value in headers:
        known = name.lower()
        if len(found) == MAX_WEB_HEADERS:
            raise InvalidRequest(field="headers", reason="too_many")
        if not _HEADER_NAME.fullmatch(name) or len(name) > MAX_WEB_HEADER_CHARS:
            raise InvalidRequest(field="headers", reason="name")
        if not _HEADER_VALUE.fullmatch(value) or len(value) > MAX_WEB_HEADER_CHARS:
            raise InvalidRequest(field="headers", reason="value")
        if known in _OWN_HEADERS or known.startswith(("proxy-", "sec-")):
            raise InvalidRequest(field="headers", reason="own")
        if known in found:
            raise InvalidRequest(field="headers", reason="twice")
        found[known] = (name, value)
    return tuple(found.values())


def require_foreign(target: Target, closed: Iterable[Endpoint]) -> None:
    """Refuse a URL that leads to a model provider or to the runtime itself: those have doors of their own.

    Raises:
        EndpointBlocked: reason `provider_origin`.
    """
    if any(_is_same(target, one) for one in closed):
        raise EndpointBlocked(reason="provider_origin", origin=target.endpoint.origin)


def admit(target: Target, addresses: Sequence[str]) -> None:
    """Return if a connection to every one of `addresses` may be opened for a URL.

    A URL of this machine leads to loopback and nowhere else. Every other leads to public addresses and nowhere else,
    with TLS: also a name that somebody lets point to loopback.

    Raises:
        EndpointBlocked: it may not; the reason names what the address is.
    """
    backend = decide(target.endpoint, addresses, Declared())
    if (backend is Backend.LOCAL) != target.is_here:
        reason = "not_loopback" if target.is_here else AddressKind.LOOPBACK.value
        raise EndpointBlocked(reason=reason, origin=target.endpoint.origin)


def _is_same(target: Target, closed: Endpoint) -> bool:
    """Return whether a URL may reach what is closed: the same host, or this machine at its port."""
    other = Target(closed, "/")
    if target.is_here and other.is_here:
        return target.endpoint.port == closed.port
    return target.endpoint.host == closed.host
