from __future__ import annotations

import asyncio
import base64
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handshake.kernel.locality import parse_endpoint
from handshake.kernel.tools.web import DEFINITIONS
from handshake.ports.tool import Reach, ToolFailed, ToolResult
from handshake.providers.locality import Lookup, system_lookup
from handshake.providers.web_client import WebClient
from handshake.testing.replies import CLOSE, RESET, Endless, Hold, Reply, head, response
from handshake.testing.upstream import Upstream
from handshake.tools.web import WebTool
from tests.requirement import requirement
from tests.unit.tools.one_call import called, context

(DEFINITION,) = DEFINITIONS


async def request(
    args: Mapping[str, Any], *, lookup: Lookup = system_lookup, closed: Sequence[str] = (), **limits: int
) -> ToolResult:
    tool = WebTool(WebClient([parse_endpoint(one) for one in closed], lookup))
    try:
        return await called(tool, DEFINITION, args, context("/", Reach(), **limits))
    finally:
        await tool.close()


async def refused(args: Mapping[str, Any], **options: Any) -> ToolFailed:
    with pytest.raises(ToolFailed) as failure:
        await request(args, **options)
    return failure.value


def names(*answers: Sequence[str]) -> Lookup:
    left = list(answers)

    async def lookup(_host: str, _port: int) -> Sequence[str]:
        return left.pop(0) if len(left) > 1 else left[0]

    return lookup


async def test_a_request_is_sent_as_it_was_asked_for_and_answered() -> None:
    async with Upstream(
        response(b'{"a":1}', status=201, headers=[("X-Own", "yes"), ("Set-Cookie", "s=1")])
    ) as upstream:
        result = await request(
            {
                "url": f"{upstream.origin}/items/?token=t",
                "method": "POST",
                "headers": {"Content-Type": "application/json", "X-B": "2"},
                "body": '{"b":"ä"}',
            }
        )
        (received,) = upstream.requests
        assert result.touched.urls == (f"{upstream.origin}/items/",)
    assert received.head.startswith(b"POST /items/?token=t HTTP/1.1\r\n")
    assert received.body == '{"b":"ä"}'.encode()
    assert set(received.headers) == {"host", "content-type", "x-b", "content-length", "connection"}
    assert result.value == {
        "status": 201,
        "headers": {"content-type": "application/json", "x-own": "yes", "content-length": "7"},
        "content": '{"a":1}',
        "encoding": "utf-8",
        "size_bytes": 7,
        "is_cut": False,
    }
    assert not result.is_trusted


async def test_get_is_what_is_meant_and_bytes_come_as_base64() -> None:
    data = bytes(range(256))
    async with Upstream(listing=response(data, content_type="application/octet-stream")) as upstream:
        result = await request({"url": f"{upstream.origin}/"})
        assert [one.method for one in upstream.received] == ["GET"]
    assert base64.b64decode(result.value["content"]) == data
    assert result.value["encoding"] == "base64"


async def test_bytes_are_sent_as_base64() -> None:
    async with Upstream(response(b"")) as upstream:
        await request({"url": f"{upstream.origin}/", "method": "PUT", "body": "/wA=", "body_encoding": "base64"})
        assert upstream.requests[0].body == b"\xff\x00"
        bad = {"url": f"{upstream.origin}/", "method": "PUT", "body": "no base64", "body_encoding": "base64"}
        assert (await refused(bad)).code == "HSK-400-INVALID-REQUEST"
        assert len(upstream.requests) == 1


@requirement("provider.ssrf.blocked")
async def test_redirects_are_told_and_not_followed() -> None:
    async with Upstream(listing=response(b"secret")) as other:
        there = [("Location", f"{other.origin}/inside")]
        async with Upstream(listing=response(b"", status=302, headers=there)) as upstream:
            result = await request({"url": f"{upstream.origin}/"})
        assert (result.value["status"], result.value["headers"]["location"]) == (302, f"{other.origin}/inside")
        assert other.received == []


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize(
    "addresses",
    [["127.0.0.1"], ["10.0.0.1"], ["169.254.169.254"], ["::1"], ["::ffff:127.0.0.1"], ["93.184.215.14", "127.0.0.1"]],
)
async def test_a_name_that_leads_inside_is_blocked(addresses: list[str]) -> None:
    async with Upstream(listing=response(b"secret")) as upstream:
        for scheme in ("http", "https"):
            url = f"{scheme}://inside.example:{upstream.port}/"
            assert (await refused({"url": url}, lookup=names(addresses))).code == "HSK-403-SSRF-BLOCKED"
        assert upstream.accepted == 0


@requirement("provider.ssrf.blocked")
async def test_a_name_is_judged_by_the_address_that_is_connected_to() -> None:
    """Whatever an earlier look-up said: each request looks up anew, and what it finds is what it connects to."""
    async with Upstream(listing=response(b"secret")) as upstream:
        rebinding = names(["10.0.0.1"], ["127.0.0.1"])
        for _ in range(2):
            failure = await refused({"url": f"https://rebinding.example:{upstream.port}/"}, lookup=rebinding)
            assert failure.code == "HSK-403-SSRF-BLOCKED"
        assert upstream.accepted == 0


@requirement("provider.ssrf.blocked")
async def test_provider_origins_are_refused_in_every_spelling() -> None:
    async with Upstream(listing=response(b"models")) as upstream:
        for host in ("127.0.0.1", "localhost", "127.0.0.2", "[::1]"):
            failure = await refused({"url": f"http://{host}:{upstream.port}/api/tags"}, closed=[upstream.base_url])
            assert failure.code == "HSK-403-SSRF-BLOCKED"
        assert upstream.accepted == 0


@requirement("provider.environment.is_ignored")
async def test_proxies_of_the_environment_are_ignored(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("default login me password word\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    async with Upstream(response(b"trap")) as trap, Upstream(listing=response(b"here")) as upstream:
        for variable in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(variable, trap.origin)
        result = await request({"url": f"{upstream.origin}/"})
        assert result.value["content"] == "here"
        assert trap.accepted == 0
        assert "authorization" not in upstream.received[0].headers


@requirement("provider.limits.bound_memory")
async def test_an_endless_answer_is_cut() -> None:
    endless: Reply = [head(200), Endless(b"x" * 65_536)]
    async with Upstream(listing=endless) as upstream:
        result = await request({"url": f"{upstream.origin}/"}, max_result_bytes=100_000)
        await asyncio.wait_for(upstream.received[0].closed.wait(), 20)
        assert upstream.received[0].sent_bytes < 64 * 1024 * 1024
    assert result.value["is_cut"]
    assert len(msgspec.json.encode(result.value)) <= 100_000


async def test_an_answer_fits_however_it_is_written_as_json() -> None:
    for body in (b"\x01" * 60_000, os.urandom(60_000), "ä".encode() * 40_000):
        async with Upstream(listing=response(body, headers=[(f"x-{n}", "y" * 900) for n in range(20)])) as upstream:
            result = await request({"url": f"{upstream.origin}/"}, max_result_bytes=30_000)
        assert len(msgspec.json.encode(result.value)) <= 30_000
        assert result.value["is_cut"]


@pytest.mark.parametrize(
    ("reply", "code"),
    [
        ([RESET], "http_reset"),
        ([CLOSE], "http_reset"),
        ([b"nonsense\r\n\r\n"], "http_garbage"),
        ([head(200, headers=[("content-length", "100")]) + b"half", CLOSE], "http_incomplete"),
    ],
)
async def test_what_is_no_answer_is_told(reply: Reply, code: str) -> None:
    async with Upstream(reply, listing=reply) as upstream:
        failure = await refused({"url": f"{upstream.origin}/"})
        assert (failure.code, failure.retryable) == (code, True)
        assert failure.touched.urls == (f"{upstream.origin}/",)
        assert not (await refused({"url": f"{upstream.origin}/", "method": "POST"})).retryable


async def test_no_connection_is_told() -> None:
    async with Upstream(listing=response(b"")) as upstream:
        origin = upstream.origin
    assert (await refused({"url": f"{origin}/"})).code == "http_connect"


async def test_a_slow_answer_is_given_up() -> None:
    hold = Hold()
    async with Upstream(listing=[hold]) as upstream:
        failure = await refused({"url": f"{upstream.origin}/"}, timeout_ms=60)
        assert failure.is_timeout
        await asyncio.wait_for(upstream.received[0].closed.wait(), 20)
        hold.release()


async def test_a_cancelled_request_closes_its_connection() -> None:
    hold = Hold()
    async with Upstream(listing=[hold]) as upstream, asyncio.TaskGroup() as group:
        task = group.create_task(request({"url": f"{upstream.origin}/"}))
        await asyncio.wait_for(hold.reached.wait(), 20)
        task.cancel()
        await asyncio.wait_for(upstream.received[0].closed.wait(), 20)
        hold.release()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize(
    "args",
    [
        {"url": "file:///etc/passwd"},
        {"url": "http://127.0.0.1:1/../x"},
        {"url": "http://127.0.0.1:1/", "headers": {"Host": "other"}},
        {"url": "http://127.0.0.1:1/", "headers": {"A": "x\r\nB: y"}},
        {"url": "http://me:word@127.0.0.1:1/"},
    ],
)
async def test_a_request_that_could_become_another_is_refused(args: Mapping[str, Any]) -> None:
    assert (await refused(args)).code in ("HSK-400-INVALID-BASE-URL", "HSK-400-INVALID-REQUEST")
