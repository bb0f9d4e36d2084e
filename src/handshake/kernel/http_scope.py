"""HTTP scope: `METHOD host[:port][/path]`, the host compared by label, the path by segment.

Without a port it is that of https. Without a path it is every path; `/*` at the end is any rest. A whole URL is read
into the same form, its query and fragment left out. What could be read in two ways is refused.

Source:
    capability.axis.contains_scopes (02 §1).
"""

from __future__ import annotations

import re
from ipaddress import IPv4Address, IPv6Address
from urllib.parse import quote

import msgspec

from handshake.kernel import path_glob
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant_settings import MAX_SCOPE_SEGMENTS
from handshake.kernel.locality import MAX_HOST_CHARS

ANY = "*"
_HTTPS_PORT = "443"
_PORTS = {"http": "80", "https": _HTTPS_PORT}
_METHOD = re.compile(r"[A-Z]{1,20}|\*")
_LABEL = re.compile(r"[a-z0-9_](?:[a-z0-9_-]{0,61}[a-z0-9_])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_PORT = re.compile(r"[1-9][0-9]{0,4}")
_MAX_PORT = 65_535
_ESCAPE = re.compile(r"%(.{0,2})", re.DOTALL)
_HEX = re.compile(r"[0-9A-Fa-f]{2}")
_UNRESERVED = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~")
_SEPARATORS = frozenset("\0/\\%")
"""What an escape may not stand for: somebody behind may take it apart once more."""
_FORBIDDEN = frozenset('\\"<>^`{}| ')


class HttpScope(msgspec.Struct, frozen=True, gc=False):
    """Requests by method, host, port and path."""

    method: str
    host: str
    """Lower case; `*` is any, `*.` at the start any name below the rest."""
    port: str
    """Digits, or `*`."""
    path: tuple[str, ...] | None
    """None is every path."""

    @property
    def is_literal(self) -> bool:
        """Whether host, port and path are fixed; the query never is."""
        fixed = ANY not in self.host and self.port != ANY
        return fixed and self.path is not None and path_glob.is_literal(self.path)


def parse(text: str) -> HttpScope:
    """Return the requests that a scope, or a method and a whole URL, name.

    Raises:
        UnknownCapability: `reason` says what is malformed or could be read in two ways.
    """
    method, space, rest = text.partition(" ")
    if not space or not method.isascii() or not _METHOD.fullmatch(method.upper()):
        raise _refused("method")
    if not rest.isprintable() or not _FORBIDDEN.isdisjoint(rest):
        raise _refused("character")
    scheme, is_url, after = rest.partition("://")
    if is_url:
        if scheme.lower() not in _PORTS:
            raise _refused("scheme")
        rest = re.split(r"[?#]", after, maxsplit=1)[0]
    elif "?" in rest or "#" in rest:
        raise _refused("query")
    authority, slash, path = rest.partition("/")
    if not authority.isascii():  # before case is folded, which makes ASCII of some that is none
        raise _refused("host")
    host, port = _split_port(authority.lower(), _PORTS[scheme.lower()] if is_url else _HTTPS_PORT)
    segments = _path(path) if slash or is_url else None
    return HttpScope(method.upper(), _host(host), port, segments)


def spell(scope: HttpScope) -> str:
    """Return the one spelling of a scope."""
    host = f"[{scope.host}]" if ":" in scope.host else scope.host
    port = "" if scope.port == _HTTPS_PORT else f":{scope.port}"
    if scope.path is None:
        return f"{scope.method} {host}{port}"
    segments = (*scope.path[:-1], ANY) if scope.path[-1] == path_glob.ANY_DEPTH else scope.path
    return f"{scope.method} {host}{port}/{'/'.join(segments)}"


def contains(held: HttpScope, wanted: HttpScope) -> bool:
    """Return whether every request of `wanted` is one of `held`."""
    if held.method not in (wanted.method, ANY) or held.port not in (wanted.port, ANY):
        return False
    if not _host_contains(held.host, wanted.host):
        return False
    return held.path is None or (wanted.path is not None and path_glob.contains(held.path, wanted.path))


def overlaps(one: HttpScope, other: HttpScope) -> bool:
    """Return whether some request may be one of both."""
    if ANY not in (one.method, other.method) and one.method != other.method:
        return False
    if ANY not in (one.port, other.port) and one.port != other.port:
        return False
    if not (_host_contains(one.host, other.host) or _host_contains(other.host, one.host)):
        return False
    return one.path is None or other.path is None or path_glob.overlaps(one.path, other.path)


def home(scope: HttpScope) -> str:
    """Return under which host a scope is looked up."""
    return scope.host.removeprefix("*.")


def homes(scope: HttpScope) -> tuple[str, ...]:
    """Return under which hosts everything is looked up that may contain the scope."""
    host = home(scope)
    names = [ANY, host]
    while ":" not in host and "." in host:
        host = host.partition(".")[2]
        names.append(host)
    return tuple(names)


def _host_contains(held: str, wanted: str) -> bool:
    if held in (ANY, wanted):
        return True
    return held.startswith("*.") and wanted.endswith(held[1:])


def _split_port(authority: str, default: str) -> tuple[str, str]:
    if "@" in authority:
        raise _refused("userinfo")
    bracket = authority.rfind("]")
    if ":" not in authority[bracket + 1 :]:
        return authority, default
    host, _, port = authority.rpartition(":")
    if port != ANY and not (_PORT.fullmatch(port) and int(port) <= _MAX_PORT):
        raise _refused("port")
    return host, port


def _host(host: str) -> str:
    """Return the one spelling of a host; names are ASCII, so that none looks like another."""
    if host == ANY:
        return host
    if host.startswith("["):
        return _address_v6(host)
    name = host.removeprefix("*.")
    labels = name.split(".")
    if len(name) > MAX_HOST_CHARS or not all(_LABEL.fullmatch(one) for one in labels):
        raise _refused("host")
    if _NUMBER.fullmatch(labels[-1]):
        return _address_v4(host)
    return host


def _address_v4(host: str) -> str:
    """Return an address in its one spelling; integer, octal, hexadecimal and short forms have none."""
    try:
        return str(IPv4Address(host))
    except ValueError:
        raise _refused("host") from None


def _address_v6(host: str) -> str:
    try:
        address = IPv6Address(host[1:-1])
    except ValueError:
        raise _refused("host") from None
    if not host.endswith("]") or address.scope_id is not None:
        raise _refused("host")
    return str(address)


def _path(path: str) -> tuple[str, ...]:
    segments = [_segment(one) for one in path.split("/")]
    if len(segments) > MAX_SCOPE_SEGMENTS:
        raise _refused("too_deep")
    if any(one == path_glob.ANY_DEPTH for one in segments[:-1]):
        raise _refused("path")
    if segments[-1] in (ANY, path_glob.ANY_DEPTH):
        segments[-1] = path_glob.ANY_DEPTH
    return tuple(segments)


def _segment(segment: str) -> str:
    """Return the one spelling of a segment: no escape where none is needed, and none that hides a separator."""
    found = _ESCAPE.sub(_unescaped, quote(segment, safe="%!$&'()*+,;=:@-._~"))
    if found.partition(";")[0] in (".", ".."):
        raise _refused("upwards")
    return found


def _unescaped(match: re.Match[str]) -> str:
    if not _HEX.fullmatch(match[1]):
        raise _refused("escape")
    character = chr(int(match[1], 16))
    if character in _SEPARATORS or (character.isascii() and not character.isprintable()):
        raise _refused("escape")
    return character if character in _UNRESERVED else f"%{match[1].upper()}"


def _refused(reason: str) -> UnknownCapability:
    return UnknownCapability(axis="net.http", reason=reason)
