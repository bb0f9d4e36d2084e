from __future__ import annotations

from pathlib import Path

import pytest

from handshake.kernel import settings
from handshake.kernel.capability import SHIPPED
from handshake.tools.sandbox.policy import NotConfined
from handshake.tools.sandbox.write_places import hidden_places, write_places
from tests.requirement import requirement


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for one in ("src/deep", "docs", ".handshake/keys", ".git/hooks"):
        (tmp_path / one).mkdir(parents=True)
    for one in ("src/a.py", "src/deep/b.py", "docs/x.md", "docs/y.txt", ".handshake/config.toml", ".git/config"):
        (tmp_path / one).write_text("")
    (tmp_path / "out").symlink_to("/etc")
    (tmp_path / "src/out").symlink_to("/etc/passwd")
    return tmp_path


def found(root: Path, *scopes: str) -> list[str]:
    return [one[len(str(root)) :].lstrip("/") for one in write_places(str(root), scopes)]


@requirement("gate.sandbox.confines")
@pytest.mark.parametrize(
    ("scopes", "places"),
    [
        ((), []),
        (("**",), [""]),
        (("src/**",), ["src"]),
        (("src/**", "src/deep/**", "src/a.py"), ["src"]),
        (("src/a.py",), ["src/a.py"]),
        (("src/missing.py",), []),
        (("docs/*.md",), ["docs/x.md"]),
        (("docs/*",), ["docs/x.md", "docs/y.txt"]),
        (("docs",), []),
        (("**/*.py",), ["src/a.py", "src/deep/b.py"]),
        (("*/**",), ["docs", "src"]),
        (("src/out",), []),
        (("out/**",), []),
        (("out/passwd",), []),
        (("../x/**",), []),
        (("/etc/**",), []),
        (("a\\b",), []),
    ],
)
def test_scopes_become_the_places_that_give_no_more_than_they_say(
    root: Path, scopes: tuple[str, ...], places: list[str]
) -> None:
    assert found(root, *scopes) == places


@requirement("capability.path.runtime_folder_closed")
@pytest.mark.parametrize(
    "scope",
    [".handshake/**", ".handshake/config.toml", ".HANDSHAKE/**", ".git/config", ".git/hooks/**", ".git/**", ".*/**"],
)
def test_no_scope_gives_what_is_closed_to_everybody(root: Path, scope: str) -> None:
    assert found(root, scope) == []
    assert not (root / ".HANDSHAKE").exists()


@pytest.mark.parametrize("capability", ["fs.write:docs/x.md", "fs.write:docs/new.md", "fs.write:src", "fs.write"])
def test_scopes_as_grants_write_them(root: Path, capability: str) -> None:
    scope = SHIPPED.parse_rule(capability).scope or "**"
    places = {
        "fs.write:docs/x.md": ["docs/x.md"],
        "fs.write:docs/new.md": [],
        "fs.write:src": ["src"],
        "fs.write": [""],
    }
    assert found(root, scope) == places[capability]
    assert not (root / "docs/new.md").exists()


def test_what_is_denied_is_found_whole(root: Path) -> None:
    assert [Path(one).name for one in hidden_places(str(root), ("src/deep", "**/*.md"))] == ["x.md", "deep"]


def test_looking_has_an_end(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("handshake.tools.sandbox.write_places.MAX_COMMAND_PLACES", 1)
    with pytest.raises(NotConfined):
        found(root, "docs/*")
    monkeypatch.setattr("handshake.tools.sandbox.write_places.MAX_COMMAND_LOOKED_AT", 2)
    with pytest.raises(NotConfined):
        found(root, "**/*.py")
    assert settings.MAX_COMMAND_LOOKED_AT > settings.MAX_COMMAND_PLACES
