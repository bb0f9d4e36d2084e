"""Workspace folder: the layout of `.handshake/`, and making it (07 §1)."""

from __future__ import annotations

import errno
import shutil
import stat
from collections.abc import Callable
from pathlib import Path

from handshake.kernel.errors import (
    IntegrityBroken,
    InvalidConfig,
    InvalidRequest,
    NotFound,
    StateConflict,
    StoreFailed,
)
from handshake.kernel.settings import MAX_CONFIG_BYTES
from handshake.kernel.units import Bytes
from handshake.storage.files import OsFiles
from handshake.storage.instance_lock import refuse_network_file_system

FOLDER = ".handshake"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH
_PARTS = ("artifacts", "recorder", "keys", "run")
_MAY_BE_BROUGHT = frozenset({"config.toml", ".gitignore"})
"""What a repository may bring of a workspace, for `init` to complete it."""
_TAKEN = frozenset({errno.EEXIST, errno.ENOTEMPTY})
_CONFIG = """\
# Configuration of this workspace; everything works without it. Reference: docs/reference/settings.md
#
# A provider is three lines. Any OpenAI-compatible server on this machine will do:
#
# [providers.ollama]
# dialects = ["openai_chat"]
# base_url = "http://127.0.0.1:11434/v1"
"""


class WorkspaceFolder:
    """Where the parts of one workspace lie."""

    def __init__(self, root: Path, name: str = FOLDER) -> None:
        self.root = root
        self.folder = root / name

    @property
    def config(self) -> Path:
        """The workspace's configuration file."""
        return self.folder / "config.toml"

    @property
    def database(self) -> Path:
        """The state store."""
        return self.folder / "state.db"

    @property
    def artifacts(self) -> Path:
        """Large artifacts, by hash."""
        return self.folder / "artifacts"

    @property
    def keys(self) -> Path:
        """Signing keys."""
        return self.folder / "keys"

    @property
    def mark(self) -> Path:
        """What tells the user's own records which workspace this is (`storage.trusted_configs`)."""
        return self.folder / "owner.mark"

    @property
    def ballast(self) -> Path:
        """The file that is given up when the disk is full."""
        return self.folder / "run" / "ballast"

    @property
    def lock(self) -> Path:
        """The instance lock."""
        return self.folder / "run" / "lock"


def init(root: Path, build: Callable[[WorkspaceFolder], None], draft_name: str) -> WorkspaceFolder:
    """Make a workspace in an existing or new folder: whole, or not at all; it survives a power loss when this returns.

    A `.handshake/` that holds a configuration and nothing else, as repositories bring it, is completed; the file stays
    as it is.

    Args:
        root: the folder that becomes the workspace.
        build: makes key and database in the draft that it is given.
        draft_name: a name that nothing has; the draft lies beside its final place until it is renamed.

    Raises:
        StateConflict: there is one already; it is left as it is.
        InvalidRequest: the folder's name is not UTF-8.
        StoreFailed: the folder cannot be made, or is on a network file system.
    """
    root = _spelled_out(root)
    place = WorkspaceFolder(root)
    draft = WorkspaceFolder(root, f"{FOLDER}.{draft_name}.new")
    former = root / f"{FOLDER}.{draft_name}.former"
    try:
        brought = _brought(place)
        made = [folder for folder in (root, *root.parents) if not folder.exists()]
        root.mkdir(parents=True, exist_ok=True)
        refuse_network_file_system(root)
        draft.folder.mkdir(mode=0o700)
        try:
            _fill(draft, build, brought)
            if brought:
                place.folder.rename(former)
            _publish(draft, place)
        except BaseException:
            shutil.rmtree(draft.folder, ignore_errors=True)
            if former.exists() and not place.folder.exists():
                former.rename(place.folder)
            raise
        shutil.rmtree(former, ignore_errors=True)
        for folder in (root, *(one.parent for one in made)):
            OsFiles().sync_folder(folder)
    except OSError as failure:
        raise StoreFailed(reason="cannot_make_workspace", errno=failure.errno) from failure
    return place


def _spelled_out(root: Path) -> Path:
    """Return the path from the root on; refuse one that SQLite cannot be told, before anything is made."""
    try:
        root = root.absolute()
        str(root).encode()
        return root
    except UnicodeEncodeError:
        raise InvalidRequest(field="dir", reason="not_utf8") from None
    except OSError as failure:  # the current folder is gone
        raise StoreFailed(reason="cannot_make_workspace", errno=failure.errno) from failure


def _brought(place: WorkspaceFolder) -> dict[str, bytes]:
    """Return what a repository brought of a workspace that is not one yet, by name; empty if there is no folder."""
    if not place.folder.exists():
        return {}
    names = {path.name for path in place.folder.iterdir()}
    if place.config.name not in names or place.folder.is_symlink() or names - _MAY_BE_BROUGHT:
        raise _exists()
    return {name: OsFiles().read(place.folder / name, max_bytes=Bytes(MAX_CONFIG_BYTES)) for name in sorted(names)}


def _fill(draft: WorkspaceFolder, build: Callable[[WorkspaceFolder], None], brought: dict[str, bytes]) -> None:
    for part in _PARTS:
        (draft.folder / part).mkdir(mode=0o700)
    for name, data in {draft.config.name: _CONFIG.encode(), **brought}.items():
        OsFiles().write_new(draft.folder / name, data)
    build(draft)
    OsFiles().sync_folder(draft.folder)


def _publish(draft: WorkspaceFolder, place: WorkspaceFolder) -> None:
    try:
        draft.folder.rename(place.folder)
    except OSError as failure:
        if failure.errno in _TAKEN:  # another program made one meanwhile
            raise _exists() from failure
        raise


def _exists() -> StateConflict:
    return StateConflict(reason="workspace_exists", hint="use it as it is, or choose another folder")


def require_private(place: WorkspaceFolder) -> None:
    """Refuse to work in a workspace that others may change: its log and its state would prove nothing.

    Raises:
        IntegrityBroken: others may write to the folder or to its database.
    """
    for path in (place.folder, place.database):
        try:
            mode = path.stat().st_mode
        except FileNotFoundError:
            continue
        if mode & _WRITABLE_BY_OTHERS:
            raise IntegrityBroken(
                subject="workspace",
                reason="permissions",
                name=path.name,
                hint="find out who could have written there; then: chmod -R go-w .handshake",
            )


def find(start: Path) -> WorkspaceFolder:
    """Return the workspace of `start` or the nearest folder above it.

    Raises:
        NotFound: there is none, or no such folder.
        InvalidConfig: `start` is not a folder.
    """
    try:
        start = start.resolve()
        is_folder = start.is_dir()
    except OSError as failure:  # the current folder is gone, or a name is too long
        raise NotFound(kind="folder", errno=failure.errno, hint="go to a folder that exists") from failure
    if not is_folder:
        raise InvalidConfig(key="HANDSHAKE_HOME", reason="not_a_folder")
    for folder in (start, *start.parents):
        if (folder / FOLDER).is_dir():
            place = WorkspaceFolder(folder)
            refuse_network_file_system(place.folder)
            return place
    raise NotFound(kind="workspace", hint="make one with: handshake init")
