"""The doctor asks local engines through the door of every call, and no cloud."""

from __future__ import annotations

import pytest

from handshake.cli.doctor import Verdict, _provider
from handshake.kernel.settings import Dialect, ProviderSettings, Settings
from handshake.testing.replies import response
from handshake.testing.upstream import Upstream


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
