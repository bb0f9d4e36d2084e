"""Locality: look-ups that are never remembered, engines that are asked once, and answers that count as no."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from handshake.kernel.errors import ConsentRequired, EndpointBlocked
from handshake.kernel.ids import ModelId
from handshake.kernel.job import Backend
from handshake.kernel.locality import Declared, parse_endpoint
from handshake.kernel.retry import FaultKind
from handshake.ports.model import ModelFault
from handshake.providers.locality import Asked, Boundary, system_lookup
from tests.requirement import requirement
from tests.unit.providers.one_call import MODEL, PROVIDER

REMOTE = Asked(200, b'{"models": [{"name": "tiny:latest", "size": 384, "remote_host": "https://far"}]}')
HERE = Asked(200, b'{"models": [{"name": "tiny:latest", "size": 384}]}')
ABSENT = Asked(200, b'{"models": []}')
NO_PAGE = Asked(404, b"404 page not found")


class Names:
    """A resolver that gives its answers one after the other."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, int]] = []

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        found = self.answers.pop(0)
        if not found:
            raise OSError("no such name")
        return found


class Engine:
    """An engine that gives its answers one after the other, the last one again and again."""

    def __init__(self, *answers: Asked) -> None:
        self.answers = list(answers)
        self.asked: list[str] = []

    async def __call__(self, path: str) -> Asked:
        self.asked.append(path)
        await asyncio.sleep(0)  # whoever else wants to ask does so now
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def boundary(
    text: str = "http://127.0.0.1:11434/v1", declared: Declared | None = None, *names: Sequence[str]
) -> Boundary:
    return Boundary(PROVIDER, parse_endpoint(text), declared or Declared(), Names(*names))


@requirement("provider.local.is_decided")
async def test_a_name_is_resolved_anew_for_every_decision() -> None:
    names = Names(["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["8.8.8.8"])
    engine = Boundary(PROVIDER, parse_endpoint("https://engine.lan:99/v1"), Declared(), names)
    assert await engine.place() is Backend.LOCAL
    with pytest.raises(EndpointBlocked):
        await engine.place()
    assert await engine.place() is Backend.CLOUD
    assert names.asked == [("engine.lan", 99)] * 3


async def test_an_address_and_localhost_are_not_looked_up() -> None:
    assert await boundary("http://10.0.0.9").addresses() == ("10.0.0.9",)
    assert await boundary("http://localhost:1").addresses() == ("127.0.0.1", "::1")
    assert await boundary("http://localhost:1").place() is Backend.LOCAL


async def test_a_name_without_an_address_is_a_fault() -> None:
    with pytest.raises(ModelFault) as raised:
        await boundary("http://engine.lan", None, []).place()
    assert raised.value.fault.kind is FaultKind.CONNECT


@requirement("provider.local.is_decided")
async def test_the_operators_word_makes_a_private_address_local() -> None:
    own = Declared(run_by_operator="the box under my desk")
    assert await boundary("http://192.168.1.9/v1", own).place() is Backend.LOCAL
    with pytest.raises(EndpointBlocked):
        await boundary("http://192.168.1.9/v1").place()


@requirement("provider.local.never_public")
async def test_only_local_addresses_are_admitted() -> None:
    here = boundary()
    here.admit(["127.0.0.1"])
    with pytest.raises(EndpointBlocked):
        here.admit(["8.8.8.8"])
    with pytest.raises(EndpointBlocked):
        here.admit(["127.0.0.1", "192.168.1.9"])
    with pytest.raises(ConsentRequired):
        boundary("https://api.example.com").admit(["8.8.8.8"])
    with pytest.raises(ConsentRequired) as refused:
        boundary("http://127.0.0.1:8080", Declared(forwards_to_cloud=True)).admit(["127.0.0.1"])
    assert refused.value.context == {"provider_id": "desk", "model_id": None, "origin": "http://127.0.0.1:8080"}


@requirement("provider.local.never_public")
async def test_a_remote_model_of_a_local_engine_is_a_cloud_model() -> None:
    engine = Engine(REMOTE)
    here = boundary()
    assert await here.model(MODEL, engine) is Backend.CLOUD
    assert await here.model(MODEL, engine) is Backend.CLOUD
    assert engine.asked == ["/api/tags"]


@requirement("provider.local.never_public")
async def test_a_cloud_tag_needs_no_question() -> None:
    engine = Engine(HERE)
    assert await boundary().model(ModelId("tiny:120b-cloud"), engine) is Backend.CLOUD
    assert engine.asked == []


@pytest.mark.parametrize("answer", [HERE, NO_PAGE, Asked(302, b""), Asked(501, b""), Asked(200, b"ok")])
async def test_an_engine_is_asked_once_for_a_model(answer: Asked) -> None:
    engine = Engine(answer)
    here = boundary()
    assert await asyncio.gather(*(here.model(MODEL, engine) for _ in range(5))) == [Backend.LOCAL] * 5
    assert engine.asked == ["/api/tags"]
    assert await here.model(ModelId("other"), engine) is Backend.LOCAL
    assert len(engine.asked) == 2


async def test_an_engine_without_the_model_is_asked_again() -> None:
    engine = Engine(ABSENT, REMOTE)
    here = boundary()
    assert await here.model(MODEL, engine) is Backend.LOCAL
    assert await here.model(MODEL, engine) is Backend.CLOUD


@requirement("provider.local.is_decided")
@pytest.mark.parametrize("answer", [Asked(500, b""), Asked(503, b""), Asked(200, b""), Asked(200, HERE.body[:-9])])
async def test_no_answer_means_no_and_is_not_remembered(answer: Asked) -> None:
    engine = Engine(answer, HERE)
    here = boundary()
    with pytest.raises(ModelFault):
        await here.model(MODEL, engine)
    assert await here.model(MODEL, engine) is Backend.LOCAL


async def test_the_listing_is_beside_the_path_of_the_chat_form() -> None:
    engine = Engine(NO_PAGE)
    for text in ("http://127.0.0.1/v1", "http://127.0.0.1", "http://127.0.0.1/ollama/v1"):
        await boundary(text).model(MODEL, engine)
    assert engine.asked == ["/api/tags", "/api/tags", "/ollama/api/tags"]


async def test_the_machines_resolver_gives_every_address_once() -> None:
    found = await system_lookup("127.0.0.1", 80)
    assert list(found) == ["127.0.0.1"]


async def test_a_name_that_nobody_can_spell_has_no_address() -> None:
    with pytest.raises(OSError, match="no address"):
        await system_lookup("a" * 64 + ".\udcff", 80)
