"""Trusted configurations: which workspaces this user's `init` made and which configurations they accepted.

The records lie in the user's state folder, where no repository can write. A workspace is found by a mark of 256 random
bits in it; a folder that came with a repository has none that this user's records know. A mark that was
copied or published says nothing: the record also names the folder, by its path or by its inode.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from handshake.kernel.config_trust import (
    Standing,
    Statement,
    TrustRecord,
    standing,
    statements,
    statements_sha256,
)
from handshake.kernel.errors import StateConflict, StoreFailed
from handshake.kernel.layer import Layer, LayerName
from handshake.kernel.settings import MAX_TRUST_RECORD_BYTES
from handshake.kernel.units import Bytes
from handshake.ports.chance import Chance
from handshake.storage.config_file import read_layer
from handshake.storage.files import OsFiles
from handshake.storage.git_index import is_tracked
from handshake.storage.workspace_folder import WorkspaceFolder

MARK_BITS = 256
_MARK_CHARS = MARK_BITS // 4


def state_folders(variables: Mapping[str, str], *homes: Path) -> tuple[Path, ...]:
    """Return where the user's records are: where the environment says, and in the account's own home.

    A command may run with another `HOME`, as under `sudo` or in a test; it is the same person's.

    Args:
        variables: the environment.
        homes: the home that the environment names, and the account's.

    Source:
        XDG Base Directory Specification 0.8: a relative `XDG_STATE_HOME` is ignored.
    """
    given = Path(variables.get("XDG_STATE_HOME", ""))
    states = [*([given] if given.is_absolute() else []), *(home / ".local" / "state" for home in homes)]
    return tuple(dict.fromkeys(state / "handshake" / "trust" for state in states))


def state_folder(variables: Mapping[str, str], home: Path) -> Path:
    """Return the first of `state_folders`: where new records and worktrees go."""
    return state_folders(variables, home)[0]


class ConfigTrust(msgspec.Struct, frozen=True):
    """How a workspace's configuration stands with this user, and what it says."""

    standing: Standing
    said: tuple[Statement, ...]
    sha256: str
    """The hash of `said`; accepting names it."""
    layer: Layer
    """The workspace layer, marked as trusted or not."""

    @property
    def waits(self) -> bool:
        """Whether it says something that does not count until it is accepted."""
        return bool(self.said) and not self.standing.is_trusted


class TrustedConfigs:
    """The records of one user.

    Args:
        folders: where they lie, as `state_folders` gives them; they need not exist. New ones go into the first.
        chance: where new marks come from.
    """

    def __init__(self, folders: Sequence[Path], chance: Chance) -> None:
        self._folder = folders[0]
        self._folders = folders
        self._chance = chance

    def look(self, place: WorkspaceFolder) -> ConfigTrust:
        """Return how the configuration of a workspace stands.

        Raises:
            InvalidConfig: the file is wrong.
        """
        layer = read_layer(place.config, LayerName.WORKSPACE)
        said = statements(layer)
        sha256 = statements_sha256(said)
        found = Standing.OWN
        if said:
            tracked = is_tracked(place.root.resolve(), f"{place.folder.name}/{place.config.name}")
            found = standing(self._record(place), sha256, is_tracked=tracked)
        return ConfigTrust(found, said, sha256, msgspec.structs.replace(layer, is_trusted=found.is_trusted))

    def remember_own(self, draft: WorkspaceFolder, place: WorkspaceFolder) -> bool:
        """Note that this user's `init` makes the workspace `place`, which still lies in `draft`.

        Returns:
            False: the user's state folder cannot be written; the configuration will have to be accepted.
        """
        try:
            self._note(draft.folder, place.folder, is_own=True, accepted_sha256=None)
        except OSError:
            return False
        return True

    def accept(self, place: WorkspaceFolder, *, shown: str) -> ConfigTrust:
        """Accept what the configuration says, which is what was shown under the hash `shown`.

        Raises:
            StateConflict: it says something else.
            InvalidConfig: the file is wrong.
            StoreFailed: the user's state folder cannot be written.
        """
        found = self.look(place)
        if found.sha256 != shown:
            raise StateConflict(reason="configuration_changed", sha256=found.sha256, hint="look at it again")
        if found.waits:
            record = self._record(place)
            try:
                is_own = record is not None and record.is_own
                self._note(place.folder, place.folder, is_own=is_own, accepted_sha256=found.sha256)
            except OSError as failure:
                raise StoreFailed(
                    reason="cannot_record_trust",
                    errno=failure.errno,
                    hint="let XDG_STATE_HOME name a folder that you can write to",
                ) from failure
        return self.look(place)

    def _record(self, place: WorkspaceFolder) -> TrustRecord | None:
        try:
            mark = OsFiles().read(place.mark, max_bytes=Bytes(_MARK_CHARS))
            status = place.folder.stat()
        except OSError:
            return None
        for folder in self._folders:
            try:
                data = OsFiles().read(folder / _name_of(mark), max_bytes=Bytes(MAX_TRUST_RECORD_BYTES))
                record = msgspec.json.decode(data, type=TrustRecord)
            except (OSError, ValueError, msgspec.MsgspecError):
                continue
            is_there = record.folder == str(place.folder.resolve())
            if is_there or (record.device, record.inode) == (status.st_dev, status.st_ino):
                return record
        return None

    def _note(self, lies_in: Path, folder: Path, *, is_own: bool, accepted_sha256: str | None) -> None:
        """Write a new mark and its record; the record first, so that a mark that is there is known."""
        files = OsFiles()
        mark = f"{self._chance.bits(MARK_BITS):0{_MARK_CHARS}x}".encode()
        status = lies_in.stat()
        record = TrustRecord(str(folder.resolve()), status.st_dev, status.st_ino, is_own, accepted_sha256)
        files.make_folder(self._folder)
        files.write_new(self._folder / _name_of(mark), msgspec.json.encode(record))
        files.sync_folder(self._folder)
        spot = WorkspaceFolder(lies_in.parent, lies_in.name).mark
        new = spot.with_name(f"{spot.name}.{hashlib.sha256(mark).hexdigest()[:16]}.new")
        files.write_new(new, mark)
        files.rename(new, spot)
        files.sync_folder(lies_in)


def _name_of(mark: bytes) -> str:
    """Return what the record of a mark is called; from the name nobody gets the mark."""
    return f"{hashlib.sha256(mark).hexdigest()}.json"
