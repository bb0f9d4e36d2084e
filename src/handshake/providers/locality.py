"""Locality: resolves an endpoint, asks a local engine whether its model runs elsewhere, and admits addresses.

What cannot be asked or does not answer counts as no: the fault is raised, and nothing is remembered.

Source:
    provider.local.is_decided, provider.local.never_public, provider.ssrf.blocked (03 §7).
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

import msgspec

from handshake.kernel.errors import ConsentRequired
from handshake.kernel.ids import ModelId, ProviderId
from handshake.kernel.job import Backend
from handshake.kernel.locality import Declared, Endpoint, Listing, decide, has_cloud_tag, read_listing
from handshake.kernel.retry import Fault, FaultKind
from handshake.kernel.settings import MAX_MODELS_PER_PROVIDER
from handshake.ports.model import ModelFault

RESOLVE_LIMIT_MS = 5_000
"""One look-up; a resolver that needs longer does not answer."""
PROBE_LIMIT_MS = 2_000
"""The question to an engine which models it has, with connecting."""
MAX_LISTING_BYTES = 4 * 1024 * 1024
"""Its answer: thousands of models."""

_TCP = 6
LOCALHOST_ADDRESSES = ("127.0.0.1", "::1")
"""What `localhost` is, whatever a hosts file says (RFC 6761 §6.3)."""


_NO_ANSWER = frozenset({401, 403, 407, 408, 425, 429})
"""Statuses by which an engine says neither what it lists nor that it has no such route."""


class Asked(msgspec.Struct, frozen=True, gc=False):
    """An engine's answer to a question: its status, and its body up to a bound."""

    status: int
    body: bytes


Lookup = Callable[[str, int], Awaitable[Sequence[str]]]
"""Resolves a host and port to all its addresses; raises `OSError` if there is none."""
Ask = Callable[[str], Awaitable[Asked]]
"""Sends one GET for a path below the origin, through admitted addresses; raises `ModelFault` without an answer."""


async def system_lookup(host: str, port: int) -> Sequence[str]:
    """Return the addresses that the machine's resolver gives, anew for every call."""
    try:
        async with asyncio.timeout(RESOLVE_LIMIT_MS / 1_000):
            found = await asyncio.get_running_loop().getaddrinfo(host, port, proto=_TCP)
    except (TimeoutError, UnicodeError) as failed:
        raise OSError("no address") from failed
    return list(dict.fromkeys(str(sockaddr[0]) for _, _, _, _, sockaddr in found))


class Boundary:
    """Where one provider's endpoint ends: which addresses it may have, and which of its models are local.

    Args:
        provider_id: named in refusals.
        endpoint: the checked base URL.
        declared: what the config file states.
        lookup: how names become addresses.
    """

    def __init__(
        self, provider_id: ProviderId, endpoint: Endpoint, declared: Declared, lookup: Lookup = system_lookup
    ) -> None:
        self.provider_id = provider_id
        self.endpoint = endpoint
        self._declared = declared
        self._lookup = lookup
        self._known: dict[ModelId, Backend] = {}
        self._asking = asyncio.Lock()

    async def addresses(self) -> Sequence[str]:
        """Return all addresses of the host, none of them remembered from an earlier call.

        `localhost` is not looked up: RFC 6761 §6.3 says what it is, whatever a hosts file says.

        Raises:
            OSError: there is none.
        """
        host = self.endpoint.host
        if self.endpoint.is_address:
            return (host,)
        return LOCALHOST_ADDRESSES if host == "localhost" else await self._lookup(host, self.endpoint.port)

    async def place(self) -> Backend:
        """Return whether the endpoint is local or cloud, from its addresses now.

        Raises:
            EndpointBlocked: it is neither.
            ModelFault: it has no address.
        """
        try:
            addresses = await self.addresses()
        except OSError:
            raise ModelFault(Fault(FaultKind.CONNECT)) from None
        return decide(self.endpoint, addresses, self._declared)

    def admit(self, addresses: Sequence[str]) -> None:
        """Return if a connection to every one of `addresses` may be opened: they make the endpoint local.

        Raises:
            EndpointBlocked, ConsentRequired: they do not.
        """
        if decide(self.endpoint, addresses, self._declared) is not Backend.LOCAL:
            raise self.refusal(None)

    async def model(self, model_id: ModelId, ask: Ask) -> Backend:
        """Return whether a model of this local endpoint runs there; the engine is asked once per model and process.

        An engine that does not list its models like Ollama has nothing to say. One that does, but not this model,
        is asked again the next time.

        Raises:
            ModelFault: the engine did not answer, or answered that it failed.
        """
        if has_cloud_tag(model_id):
            return Backend.CLOUD
        known = self._known.get(model_id)
        if known is not None:
            return known
        async with self._asking:
            known = self._known.get(model_id)
            if known is not None:
                return known
            listing = _read(await ask(self._listing_path()), model_id)
            backend = Backend.CLOUD if listing is Listing.REMOTE else Backend.LOCAL
            if listing is not Listing.ABSENT and len(self._known) < MAX_MODELS_PER_PROVIDER:
                self._known[model_id] = backend
            return backend

    def refusal(self, model_id: ModelId | None) -> ConsentRequired:
        """Return the error of a call that would reach a cloud."""
        return ConsentRequired(provider_id=self.provider_id, model_id=model_id, origin=self.endpoint.origin)

    def _listing_path(self) -> str:
        """Return where Ollama lists its models: beside the `/v1` of its OpenAI form."""
        return self.endpoint.path.removesuffix("/v1") + "/api/tags"


def _read(asked: Asked, model_id: ModelId) -> Listing:
    if asked.status == 200:
        listing = read_listing(asked.body, model_id)
        if listing is Listing.UNREADABLE:
            raise ModelFault(Fault(FaultKind.GARBAGE))
        return listing
    if asked.status in _NO_ANSWER or (asked.status >= 500 and asked.status != 501):
        raise ModelFault(Fault(FaultKind.STATUS, status=asked.status))
    return Listing.NOT_OLLAMA
