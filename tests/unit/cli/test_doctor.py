"""The doctor asks local engines through the door of every call, and no cloud."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from handshake.bootstrap import init_workspace
from handshake.cli.doctor import Verdict, _clock, _provider, _sandbox
from handshake.kernel.ids import ProviderId
from handshake.kernel.settings import Dialect, ProviderSettings, Settings
from handshake.testing.replies import response
from handshake.testing.scripted_model import ScriptedModel
from handshake.testing.upstream import Upstream
from handshake.workspace import open_workspace

DESK = """
[providers.desk]
dialects = ["openai_chat"]
base_url = "http://127.0.0.1:9/v1"
"""


async def look_at(base_url: str, *, forwards_to_cloud: bool = False) -> tuple[Verdict, str]:
    """Return what the doctor finds of one provider."""
    entry = ProviderSettings(dialects=(Dialect.OPENAI_CHAT,), base_url=base_url, forwards_to_cloud=forwards_to_cloud)
    found = await _provider(Settings(providers={"x": entry}), "x", entry)
    assert found.subject == "provider x"
    assert found.next_step or found.verdict is Verdict.OK
    return found.verdict, found.detail


async def test_an_engine_that_answers_is_local_and_was_asked_nothing_but_its_models() -> None:
    async with Upstream() as upstream:
        verdict, detail = await look_at(upstream.base_url)
        asked = [(one.method, one.path) for one in upstream.received]
        assert upstream.origin in detail
    assert (verdict, asked) == (Verdict.OK, [("GET", "/api/tags")])


@pytest.mark.parametrize("base_url", ["https://1.1.1.1/v1", "https://[2606:4700:4700::1111]/v1"])
async def test_a_cloud_is_not_contacted(base_url: str) -> None:
    verdict, detail = await look_at(base_url)
    assert verdict is Verdict.WARN
    assert "not contacted" in detail


async def test_an_origin_that_forwards_to_a_cloud_is_one() -> None:
    async with Upstream() as upstream:
        verdict, _ = await look_at(upstream.base_url, forwards_to_cloud=True)
        assert upstream.received == []
    assert verdict is Verdict.WARN


@pytest.mark.parametrize(
    ("base_url", "code"),
    [
        ("http://127.0.0.1:9/v1", "HSK-502-PROVIDER"),
        ("http://169.254.169.254/v1", "HSK-403-SSRF-BLOCKED"),
        ("http://10.0.0.1/v1", "HSK-403-SSRF-BLOCKED"),
        ("http://user@127.0.0.1/v1", "HSK-400-INVALID-BASE-URL"),
    ],
)
async def test_what_is_wrong_is_named_by_its_code(base_url: str, code: str) -> None:
    verdict, detail = await look_at(base_url)
    assert verdict is Verdict.FAIL
    assert detail.startswith(code)


async def test_an_engine_that_fails_is_told() -> None:
    async with Upstream(listing=response(b"", status=500)) as upstream:
        verdict, detail = await look_at(upstream.base_url)
    assert (verdict, detail.split(":")[0]) == (Verdict.FAIL, "HSK-502-PROVIDER")


async def test_a_clock_that_stands_before_what_was_stored_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = init_workspace(tmp_path)
    assert _clock(place).verdict is Verdict.OK
    now_ns = time.time_ns()
    with monkeypatch.context() as ahead:
        ahead.setattr(time, "time_ns", lambda: now_ns + 3_600 * 10**9)
        place.config.write_text(DESK, encoding="utf-8")
        async with open_workspace(place.root, models={ProviderId("desk"): ScriptedModel()}, dispatch=False) as hs:
            await hs.sessions.create(role="coder", model="desk/tiny", memory_policy="EPHEMERAL")
    found = _clock(place)
    assert found.verdict is Verdict.WARN
    assert 3_500 < int(found.detail.split()[0]) <= 3_600
    assert found.next_step is not None


@pytest.mark.parametrize("against", [("tcp",), ("unshare_1",)])
async def test_without_a_sandbox_that_holds_it_warns(monkeypatch: pytest.MonkeyPatch, against: tuple[str, ...]) -> None:
    async def findings() -> dict[str, tuple[str, ...]]:
        return {"namespaces": against, "landlock": ("landlock_too_old_38",)}

    monkeypatch.setattr("handshake.bootstrap.sandbox_findings", findings)
    found = await _sandbox()
    assert (found.subject, found.verdict) == ("sandbox", Verdict.WARN)
    assert f"namespaces: {against[0]}" in found.detail
    assert found.next_step is not None
    assert "bubblewrap" in found.next_step


async def test_the_sandbox_of_this_machine_is_tried() -> None:
    found = await _sandbox()
    assert (found.subject, found.verdict) == ("sandbox", Verdict.OK)
