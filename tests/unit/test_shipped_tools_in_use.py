"""Tests of the tools that ship in an open workspace: a model asks for them, and what it may it gets."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest

from handshake.bootstrap import init_workspace
from handshake.kernel.ids import ProviderId
from handshake.kernel.message import MessageRole
from handshake.kernel.tool_message import CalledTool
from handshake.kernel.tool_name import wire_name
from handshake.kernel.tools import artifacts, discovery, files, web
from handshake.testing.scripted_model import ScriptedModel, Step
from handshake.workspace import open_workspace
from tests.requirement import requirement
from tests.unit.test_workspace import CONFIG, DESK, PLAIN


class Asking:
    """A model that asks for the tools that a test names, all at once, and then says that it is done."""

    def __init__(self, *calls: tuple[str, dict[str, Any]]) -> None:
        self._calls = calls

    def __call__(self, text: str) -> Sequence[Step]:
        if text != "Go on":
            return ("done",)
        return [
            CalledTool(call_id=f"c{number}", name=wire_name(tool_id), arguments=msgspec.json.encode(args).decode())
            for number, (tool_id, args) in enumerate(self._calls)
        ]


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = tmp_path / "work"
    init_workspace(place)
    (place / ".handshake" / "config.toml").write_text(CONFIG)
    (place / "src").mkdir()
    (place / "src" / "a.py").write_text("x = 1\n")
    (place / "secret").write_text("hidden")
    return place


async def results(folder: Path, grants: Sequence[str], *calls: tuple[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return what the model was told of its calls, in their order."""
    models = {ProviderId(DESK): ScriptedModel(Asking(*calls))}
    async with open_workspace(folder, models=models, drain_s=0) as workspace:
        session = await workspace.sessions.create(**PLAIN, grants=list(grants))
        assert (await (await session.send("Go on")).result()).text == "done"
        told = [one for one in await session.messages() if one.message.role is MessageRole.TOOL_RESULT]
        return [msgspec.json.decode(one.text) for one in told]


@requirement("gate.tools.single_door", "capability.path.no_escape")
async def test_a_model_works_on_files_within_its_grants(folder: Path) -> None:
    told = await results(
        folder,
        ["fs.read:src", "fs.write:src"],
        (files.WRITE, {"path": "src/b.py", "content": "y = 2\n"}),
        (files.READ, {"path": "src/a.py"}),
        (files.READ, {"path": "secret"}),
        (files.READ, {"path": ".handshake/config.toml"}),
        (files.READ, {"path": "../state"}),
        (discovery.SEARCH, {"query": "patch"}),
    )
    assert [one["is_error"] for one in told] == [False, False, True, True, True, False]
    assert (folder / "src" / "b.py").read_text() == "y = 2\n"
    assert "x = 1" in told[1]["content"]
    assert "hidden" not in str(told)
    assert files.PATCH in told[5]["content"]


@requirement("capability.default.denies")
async def test_a_model_without_grants_gets_nothing(folder: Path) -> None:
    told = await results(
        folder,
        [],
        (files.READ, {"path": "src/a.py"}),
        (files.LIST, {"glob": "*"}),
        (web.REQUEST, {"url": "http://127.0.0.1:9/"}),
        (artifacts.GET, {"artifact_id": "0" * 64}),
    )
    assert [one["is_error"] for one in told] == [True] * 4
    assert "x = 1" not in str(told)


@requirement("provider.ssrf.blocked")
@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1/models", "http://localhost:8484/api/desk"])
async def test_no_grant_opens_providers_or_the_runtimes_own_service(folder: Path, url: str) -> None:
    grants = ["net.http:GET 127.0.0.1:*", "net.http:GET localhost:*"]
    (told,) = await results(folder, grants, (web.REQUEST, {"url": url}))
    assert told["is_error"]
    assert "HSK-403-SSRF-BLOCKED" in told["content"]
