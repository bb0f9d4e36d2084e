"""A repository can neither bring a trusted configuration nor make its user's own one say something else."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from handshake.bootstrap import configure, init_workspace, trusted_configs
from handshake.kernel.config_trust import Standing
from handshake.kernel.errors import InvalidRequest, StateConflict, StoreFailed
from handshake.storage.trusted_configs import TrustedConfigs, state_folder, state_folders
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.seeded_chance import SeededChance
from handshake.workspace import open_workspace
from tests.requirement import requirement
from tests.unit.storage.test_git_index import git

DESK = '[providers.desk]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:9/v1"\ncredential = "env:SOME_KEY"\n'


def standing_of(place: WorkspaceFolder) -> Standing:
    return trusted_configs().look(place).standing


def brought(root: Path, text: str = DESK) -> WorkspaceFolder:
    """Return a folder as a clone leaves it: a configuration and no workspace."""
    (root / ".handshake").mkdir(parents=True)
    (root / ".handshake" / "config.toml").write_text(text)
    return WorkspaceFolder(root)


@requirement("trust.config.foreign_is_untrusted")
async def test_a_cloned_configuration_is_completed_by_init_and_counts_once_it_is_accepted(tmp_path: Path) -> None:
    place = brought(tmp_path)
    init_workspace(tmp_path)
    assert place.config.read_text() == DESK
    assert standing_of(place) is Standing.FOREIGN
    assert configure(tmp_path).settings.providers == {}
    async with open_workspace(tmp_path) as hs:
        with pytest.raises(InvalidRequest) as refused:
            await hs.sessions.create(role="coder", model="desk/m", memory_policy="EPHEMERAL")
        assert "handshake policy trust" in refused.value.hint
    found = trusted_configs().accept(place, shown=trusted_configs().look(place).sha256)
    assert (found.standing, found.waits) == (Standing.ACCEPTED, False)
    assert list(configure(tmp_path).settings.providers) == ["desk"]


def test_one_edits_what_ones_own_init_made_without_being_asked(tmp_path: Path) -> None:
    place = init_workspace(tmp_path)
    place.config.write_text(DESK)
    assert standing_of(place) is Standing.OWN
    assert configure(tmp_path).left_out == ()


@requirement("trust.config.foreign_is_untrusted")
def test_a_pull_cannot_speak_for_the_user(tmp_path: Path) -> None:
    """`git pull` writes over files that were there, ignored ones without a word."""
    place = init_workspace(tmp_path)
    git(tmp_path, "init", "-q")
    place.config.write_text(DESK.replace("SOME_KEY", "AWS_SECRET_ACCESS_KEY"))
    git(tmp_path, "add", "-f", ".handshake/config.toml")
    assert standing_of(place) is Standing.CHANGED
    assert configure(tmp_path).settings.providers == {}
    trusted_configs().accept(place, shown=trusted_configs().look(place).sha256)
    assert standing_of(place) is Standing.ACCEPTED
    place.config.write_text(place.config.read_text() + "[calls]\nidle_ms = 5\n")
    assert standing_of(place) is Standing.ACCEPTED
    place.config.write_text(DESK.replace("SOME_KEY", "OPENAI_API_KEY"))
    assert standing_of(place) is Standing.CHANGED


@requirement("trust.config.foreign_is_untrusted")
def test_a_whole_workspace_of_somebody_else_is_foreign(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A repository ships all of `.handshake/`, mark included, which its maker's own records know."""
    theirs = init_workspace(tmp_path / "theirs")
    theirs.config.write_text(DESK)
    shutil.copytree(theirs.folder, tmp_path / "mine" / ".handshake")
    mine = WorkspaceFolder(tmp_path / "mine")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    assert standing_of(mine) is Standing.FOREIGN
    assert configure(mine.root).settings.providers == {}


def test_a_mark_that_got_out_opens_no_other_folder(tmp_path: Path) -> None:
    own = init_workspace(tmp_path / "own")
    other = brought(tmp_path / "other")
    shutil.copy(own.mark, other.mark)
    assert standing_of(other) is Standing.FOREIGN


def test_a_workspace_that_was_moved_stays_ones_own(tmp_path: Path) -> None:
    place = init_workspace(tmp_path / "before")
    place.config.write_text(DESK)
    place.root.rename(tmp_path / "after")
    assert standing_of(WorkspaceFolder(tmp_path / "after")) is Standing.OWN


def test_a_workspace_that_was_put_back_from_a_copy_stays_ones_own(tmp_path: Path) -> None:
    place = init_workspace(tmp_path / "work")
    place.config.write_text(DESK)
    shutil.copytree(place.root, tmp_path / "copy")
    shutil.rmtree(place.root)
    shutil.copytree(tmp_path / "copy", place.root)
    assert standing_of(place) is Standing.OWN


def test_only_what_was_shown_is_accepted(tmp_path: Path) -> None:
    place = brought(tmp_path)
    shown = trusted_configs().look(place).sha256
    place.config.write_text(DESK + "[aliases]\na = 'desk/b'\n")
    with pytest.raises(StateConflict) as refused:
        trusted_configs().accept(place, shown=shown)
    assert refused.value.context["reason"] == "configuration_changed"
    assert standing_of(place) is Standing.FOREIGN


def test_a_configuration_that_only_tightens_waits_for_nobody(tmp_path: Path) -> None:
    place = brought(tmp_path, "[calls]\nidle_ms = 5\n")
    assert not trusted_configs().look(place).waits
    assert configure(tmp_path).settings.calls.idle_ms == 5


def test_records_that_cannot_be_read_know_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    place = init_workspace(tmp_path / "work")
    place.config.write_text(DESK)
    (record,) = state_folders(os.environ, tmp_path)[0].iterdir()
    for broken in (b"", b"{}", b'{"folder": 1}', b"x" * 100_000):
        record.write_bytes(broken)
        assert standing_of(place) is Standing.FOREIGN
    place.mark.unlink()
    assert standing_of(place) is Standing.FOREIGN


def test_a_state_folder_that_cannot_be_written_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", os.devnull + "/nowhere")
    place = init_workspace(tmp_path)
    place.config.write_text(DESK)
    assert standing_of(place) is Standing.FOREIGN
    with pytest.raises(StoreFailed) as refused:
        trusted_configs().accept(place, shown=trusted_configs().look(place).sha256)
    assert refused.value.context["reason"] == "cannot_record_trust"


def test_state_of_a_user_is_where_xdg_says_and_in_the_accounts_home(tmp_path: Path) -> None:
    own = tmp_path / ".local" / "state" / "handshake" / "trust"
    assert state_folders({}, tmp_path) == state_folders({"XDG_STATE_HOME": "relative"}, tmp_path, tmp_path) == (own,)
    assert state_folders({"XDG_STATE_HOME": "/s"}, tmp_path) == (Path("/s/handshake/trust"), own)
    assert state_folder({"XDG_STATE_HOME": "/s"}, tmp_path) == Path("/s/handshake/trust")


def test_records_are_found_under_another_home(tmp_path: Path) -> None:
    chance = SeededChance(1)
    place = brought(tmp_path / "work")
    first = TrustedConfigs((tmp_path / "account",), chance)
    first.accept(place, shown=first.look(place).sha256)
    elsewhere = TrustedConfigs((tmp_path / "other", tmp_path / "account"), chance)
    assert elsewhere.look(place).standing is Standing.ACCEPTED
    assert TrustedConfigs((tmp_path / "other",), chance).look(place).standing is Standing.FOREIGN


@pytest.mark.parametrize("more", ["keys", "state.db", "run"])
def test_init_completes_a_configuration_and_nothing_else(tmp_path: Path, more: str) -> None:
    place = brought(tmp_path)
    (place.folder / more).mkdir()
    with pytest.raises(StateConflict):
        init_workspace(tmp_path)
    assert sorted(path.name for path in place.folder.iterdir()) == sorted(["config.toml", more])
