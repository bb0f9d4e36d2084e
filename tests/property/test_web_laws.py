"""Laws of URLs: what the gate judged is where the request goes, whatever the URL tries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel import http_scope
from handshake.kernel.errors import HandshakeError
from handshake.kernel.locality import AddressKind, is_localhost, kind_of
from handshake.kernel.web import Target, parse_target
from tests.requirement import requirement

parts = st.sampled_from(
    "https:// http:// // / : @ ? # [ ] :: . .. %2e %2f %00 ; \\ * example.org evil.example 127.0.0.1 [::1] localhost "
    "127.1 0x7f.1 :80 :443 :8080 :0 user user:word@ a b A %41 ä xn--e1a".split(" ")
)
urls = st.lists(parts, max_size=7).map("".join)
with_a_scheme = st.builds("{}{}{}".format, st.sampled_from(["https://", "http://"]), parts, urls)


def taken(url: str) -> tuple[Target, http_scope.HttpScope] | None:
    """Return how the adapter and the gate read a URL, or None if one of them refuses it."""
    try:
        return parse_target(url), http_scope.parse(f"GET {url}")
    except HandshakeError:
        return None


@requirement("provider.ssrf.blocked")
@given(urls | with_a_scheme)
def test_gate_and_adapter_read_a_url_alike(url: str) -> None:
    both = taken(url)
    if both is None:
        return
    target, scope = both
    if scope.host == "*" or scope.host.startswith("*."):
        raise AssertionError("a request goes to one host")
    assert (target.endpoint.host, str(target.endpoint.port)) == (scope.host, scope.port)
    assert target.is_here == (is_localhost(scope.host) or kind_of(scope.host) is AddressKind.LOOPBACK)
    assert scope.path is not None
    assert target.rest.startswith("/")
    assert not {".", ".."}.intersection(target.rest.partition("?")[0].lower().replace("%2e", ".").split("/"))


def test_the_urls_of_the_law_are_not_all_refused() -> None:
    for url in ("https://example.org/a;b?c", "http://localhost:8080/%41", "https://[::1]/", "http://127.0.0.1"):
        assert taken(url) is not None
