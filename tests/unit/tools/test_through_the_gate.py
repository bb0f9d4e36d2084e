"""Tests of the shipped tools behind the real gate: what it decides on is what they touch, and nothing else."""

from __future__ import annotations

import base64
import hashlib
import os
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handshake.kernel.htc import CallError, ToolResponse
from handshake.kernel.ids import ArtifactId, SessionId
from handshake.kernel.locality import parse_endpoint
from handshake.kernel.settings import MAX_INLINE_PAYLOAD_BYTES
from handshake.kernel.tool_offer import offered
from handshake.kernel.tool_registry import RegisteredTool, ToolSource
from handshake.kernel.tools import artifacts, discovery, files, web
from handshake.kernel.tools.shipped import DEFINITIONS
from handshake.ports.tool import Tool
from handshake.providers.web_client import WebClient
from handshake.testing.replies import response
from handshake.testing.upstream import Upstream
from handshake.tools.artifacts import ArtifactTool
from handshake.tools.discovery import DiscoveryTool
from handshake.tools.web import WebTool
from handshake.tools.workspace_files import WorkspaceFiles
from tests.gating import LOCAL, Door
from tests.requirement import requirement
from tests.running import Stage

HIDDEN = "hidden-words"
KEY = "key-words"


class Workshop(Door):
    """A gate with the tools that ship, on a real folder."""

    def __init__(self, stage: Stage, root: Path, *, closed: tuple[str, ...] = ()) -> None:
        super().__init__(stage)
        self.root = root
        file_tools = WorkspaceFiles()
        adapters: dict[str, Tool] = {
            artifacts.GET: ArtifactTool(self._own),
            discovery.GET: DiscoveryTool(self._offer),
            discovery.SEARCH: DiscoveryTool(self._offer),
            web.REQUEST: WebTool(WebClient([parse_endpoint(one) for one in closed])),
        }
        for definition in DEFINITIONS:
            if definition.tool_id in adapters or definition in files.DEFINITIONS:
                self.registry.register(definition, ToolSource.RUNTIME)
                self.gate.attach(definition.tool_id, adapters.get(definition.tool_id, file_tools))

    async def room(self, session_id: str, writes: bool) -> str:
        return str(self.root)

    async def use(self, session: str, tool_id: str, /, **args: Any) -> ToolResponse:
        return await self.gate.call(self.envelope(session, args, tool_id=tool_id), LOCAL)

    async def _own(self, session_id: SessionId, artifact_id: ArtifactId) -> bytes | None:
        return await self.records.arguments(session_id, artifact_id)

    async def _offer(self, session_id: SessionId) -> tuple[RegisteredTool, ...]:
        return offered(self.registry.all(), self.store.read_now(lambda one: self.policy.authority(one, session_id)))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "workspace"
    for name in ("src", "secret", ".handshake", ".git/hooks"):
        (folder / name).mkdir(parents=True)
    (folder / "src" / "a.py").write_text("x = 1\n")
    (folder / "secret" / "key").write_text(KEY)
    for place in (folder / ".git" / "config", folder / ".handshake" / "state.db", tmp_path / "outside"):
        place.write_text(HIDDEN)
    (folder / "src" / "up").symlink_to("../..")
    (folder / "src" / "alias").symlink_to("../secret/key")
    os.link(folder / ".handshake" / "state.db", folder / "src" / "state")
    return folder


def result(answer: ToolResponse) -> Any:
    assert answer.ok, answer.error
    return answer.result


def fault(answer: ToolResponse) -> tuple[str, object]:
    assert isinstance(answer.error, CallError)
    return answer.error.code, answer.error.details.get("reason")


@requirement("gate.tools.single_door", "gate.event.on_every_path")
async def test_files_are_written_read_searched_and_patched_within_the_grants(root: Path) -> None:
    shop = Workshop(await Stage.open(dispatch=False), root)
    session = await shop.session("fs.read:src", "fs.write:src")
    made = result(await shop.use(session, files.WRITE, path="src/new/b.py", content="y = 2\n"))
    assert (root / "src" / "new" / "b.py").read_text() == "y = 2\n"
    patched = await shop.use(
        session,
        files.PATCH,
        changes=[
            {"path": "src/a.py", "replacements": [{"old": "1", "new": "11"}]},
            {"path": "src/new/b.py", "diff": "@@ -1 +1 @@\n-y = 2\n+y = 22\n", "expected_sha256": made["sha256"]},
        ],
    )
    assert [one["path"] for one in result(patched)["files"]] == ["src/a.py", "src/new/b.py"]
    assert result(await shop.use(session, files.READ, path="src/a.py"))["content"] == "x = 11\n"
    found = result(await shop.use(session, files.SEARCH, query="= ", glob="src/**"))
    assert [(one["path"], one["text"]) for one in found["lines"]] == [
        ("src/a.py", "x = 11"),
        ("src/new/b.py", "y = 22"),
    ]
    listed = result(await shop.use(session, files.LIST, glob="src/*"))
    assert [one["path"] for one in listed["entries"]] == ["src/a.py", "src/alias", "src/new", "src/state", "src/up"]
    told = shop.told("tool_call")
    assert [one["tool_id"].rpartition(".")[2] for one in told] == ["write", "patch", "read", "search", "list"]
    assert all(one["ok"] for one in told)


TRICKS = [
    "secret/key", "src/../secret/key", "src/alias", "src/up/outside", "src/up/workspace/secret/key", "/etc/hostname",
    ".handshake/state.db", ".HANDSHAKE/state.db", "src/state", ".git/config", "src/up/workspace/.git/config",
    "/proc/self/root/etc/hostname", "C:/x", "src\\..\\secret\\key", "src/\u2025/secret/key", "src/．．/secret/key",
    "%2e%2e/outside", "src/a.py\x00", "./.git/./config", "src//..//secret/key", "ſrc/a.py", "*", "**", "src/*", "",
]  # fmt: skip


@requirement("capability.path.no_escape", "capability.path.runtime_folder_closed")
@pytest.mark.parametrize("path", TRICKS)
@pytest.mark.parametrize("grants", [("fs.read:src", "fs.write:src"), ("fs.read", "fs.write")], ids=["src", "all"])
async def test_no_path_leads_beyond_the_grants(root: Path, path: str, grants: tuple[str, ...]) -> None:
    """With grants for all of the workspace, what is closed, and all outside, is still out of reach."""
    shop = Workshop(await Stage.open(dispatch=False), root)
    session = await shop.session(*grants)
    beyond = [root.parent / "outside", root / ".handshake" / "state.db", root / ".git" / "config"]
    if grants[0] == "fs.read:src":
        beyond.append(root / "secret" / "key")
    before = [place.read_text() for place in beyond]
    answers = [
        await shop.use(session, files.READ, path=path),
        await shop.use(session, files.LIST, glob=path),
        await shop.use(session, files.SEARCH, query="-words", glob=path),
        await shop.use(session, files.PATCH, changes=[{"path": path, "replacements": [{"old": "words", "new": "x"}]}]),
        await shop.use(session, files.WRITE, path=path, content="mine", overwrite=True),
    ]
    assert not [text for text in before for answer in answers if text in str(answer.result)]
    assert [place.read_text() for place in beyond] == before
    assert sorted(os.listdir(root.parent)) == ["outside", "workspace"]
    assert len(shop.told("tool_call")) == len(answers)


@requirement("capability.artifact.by_reference_only", "gate.payload.limit")
async def test_a_session_reads_its_own_large_results_by_reference_and_nobody_elses(root: Path) -> None:
    body = os.urandom(100_000)
    shop = Workshop(await Stage.open(dispatch=False), root)
    mine = await shop.session("net.http", "artifact.read")
    theirs = await shop.session("artifact.read")
    async with Upstream(listing=response(body)) as upstream:
        answer = await shop.use(mine, web.REQUEST, url=f"{upstream.origin}/")
    assert answer.result is msgspec.UNSET
    reference = str(answer.result_ref)
    got, offset = b"", 0
    for _ in range(20):
        part = await shop.use(mine, artifacts.GET, artifact_id=reference, offset_bytes=offset)
        assert len(msgspec.json.encode(result(part))) <= MAX_INLINE_PAYLOAD_BYTES
        got += result(part)["content"].encode()
        if "next_offset_bytes" not in result(part):
            break
        offset = result(part)["next_offset_bytes"]
    assert hashlib.sha256(got).hexdigest() == reference
    assert base64.b64decode(msgspec.json.decode(got)["content"]) == body
    assert fault(await shop.use(theirs, artifacts.GET, artifact_id=reference))[0] == "HSK-404-NOT-FOUND"
    ungranted = await shop.session()
    assert fault(await shop.use(ungranted, artifacts.GET, artifact_id=reference))[0] == "HSK-403-CAPABILITY"


async def test_a_request_that_leaves_the_machine_asks_unless_the_grant_fixes_where(root: Path) -> None:
    shop = Workshop(await Stage.open(dispatch=False), root)
    session = await shop.session("net.http:GET *.example.org")
    asked = await shop.use(session, web.REQUEST, url="https://api.example.org/items?q=1")
    assert fault(asked)[1] == "leaves_machine"
    denied = await shop.use(session, web.REQUEST, url="https://api.example.com/")
    assert fault(denied) == ("HSK-403-CAPABILITY", "not_granted")
    assert (
        fault(await shop.use(session, web.REQUEST, url="https://api.example.org/", method="POST"))[1] == "not_granted"
    )
    async with Upstream(listing=response(b"here")) as upstream:
        local = await shop.session(f"net.http:GET 127.0.0.1:{upstream.port}")
        assert result(await shop.use(local, web.REQUEST, url=f"{upstream.origin}/a"))["content"] == "here"


@requirement("provider.ssrf.blocked")
async def test_no_grant_opens_a_provider_or_a_private_network_to_requests(root: Path) -> None:
    async with Upstream(listing=response(b"models")) as upstream:
        shop = Workshop(await Stage.open(dispatch=False), root, closed=(upstream.base_url,))
        session = await shop.session(
            "net.http:GET localhost:*", "net.http:GET 127.0.0.1:*", "net.http:GET http://10.0.0.1/"
        )
        for url in (f"{upstream.origin}/api/tags", f"http://localhost:{upstream.port}/", "http://10.0.0.1/"):
            assert fault(await shop.use(session, web.REQUEST, url=url))[0] == "HSK-403-SSRF-BLOCKED"
        assert upstream.accepted == 0


async def test_tools_are_found_by_whoever_could_use_them(root: Path) -> None:
    shop = Workshop(await Stage.open(dispatch=False), root)
    session = await shop.session("fs.read:src")
    found = result(await shop.use(session, discovery.SEARCH, query="file"))
    assert {one["tool_id"] for one in found["tools"]} >= {files.READ, files.LIST}
    assert files.WRITE not in {one["tool_id"] for one in found["tools"]}
    assert fault(await shop.use(session, discovery.GET, tool_id=files.WRITE))[0] == "HSK-404-NOT-FOUND"
    assert result(await shop.use(session, discovery.GET, tool_id=files.READ))["side_effect"] == "READ"
