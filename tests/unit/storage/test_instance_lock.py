"""Instance lock: one holder, named to whoever comes second, and gone with its process."""

from __future__ import annotations

import fcntl
import os
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from handshake.kernel.errors import StateConflict, StoreFailed
from handshake.storage.instance_lock import (
    MAX_HOLDER_BYTES,
    Holder,
    InstanceLock,
    is_held,
    read_holder,
    refuse_network_file_system,
)
from tests.requirement import requirement

FIRST = Holder(4711, "2026-01-01T00:00:00.000000Z", "handshake")
SECOND = Holder(4712, "2026-01-01T00:00:01.000000Z", "handshake")


@requirement("recovery.second_instance.is_refused")
def test_second_is_refused_and_told_who_is_first(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = InstanceLock(path, FIRST)
    with pytest.raises(StateConflict) as refused:
        InstanceLock(path, SECOND)
    assert refused.value.context == {
        "reason": "workspace_in_use",
        "holder_pid": 4711,
        "holder_started_at": "2026-01-01T00:00:00.000000Z",
        "holder_program": "handshake",
    }
    assert read_holder(path) == FIRST
    first.release()


def test_released_lock_can_be_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = InstanceLock(path, FIRST)
    first.release()
    first.release()
    assert read_holder(path) is None
    second = InstanceLock(path, SECOND)
    assert read_holder(path) == SECOND
    second.release()


def test_lock_of_a_dead_holder_can_be_taken(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    first = InstanceLock(path, FIRST)
    os.close(first._fd)  # what the kernel does with a process that is killed: nothing is tidied up
    assert read_holder(path) == FIRST
    assert not is_held(path)
    second = InstanceLock(path, SECOND)
    assert read_holder(path) == SECOND
    second.release()


def test_longer_name_before_leaves_nothing_behind(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"x" * 2_000)
    lock = InstanceLock(path, FIRST)
    assert read_holder(path) == FIRST
    lock.release()


def test_lock_file_is_for_the_owner_only(tmp_path: Path) -> None:
    lock = InstanceLock(tmp_path / "lock", FIRST)
    assert stat.S_IMODE((tmp_path / "lock").stat().st_mode) == 0o600
    lock.release()


def test_looking_tells_and_does_not_disturb(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    assert not is_held(path)
    lock = InstanceLock(path, FIRST)
    assert is_held(path)
    assert is_held(path)
    lock.release()
    assert not is_held(path)


def test_one_who_only_looks_is_not_taken_for_a_holder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "lock"
    path.touch()
    looking = os.open(path, os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_SH)
    tries = []
    flock = fcntl.flock

    def watched(fd: int, operation: int) -> None:
        tries.append(operation)
        if len(tries) == 4:
            flock(looking, fcntl.LOCK_UN)  # the one who looks is done
        flock(fd, operation)

    monkeypatch.setattr(fcntl, "flock", watched)
    InstanceLock(path, FIRST).release()
    assert len(tries) > 4
    os.close(looking)


def test_one_who_never_stops_looking_is_named_as_nobody(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.touch()
    looking = os.open(path, os.O_RDWR)
    fcntl.flock(looking, fcntl.LOCK_SH)
    with pytest.raises(StateConflict) as refused:
        InstanceLock(path, FIRST)
    assert refused.value.context["holder_pid"] is None
    os.close(looking)


def make_link(path: Path) -> None:
    path.symlink_to(path.with_name("elsewhere"))


@pytest.mark.parametrize("make", [Path.mkdir, make_link], ids=["folder", "link"])
def test_what_is_no_file_is_refused(make: Callable[[Path], None], tmp_path: Path) -> None:
    make(tmp_path / "lock")
    with pytest.raises(StoreFailed):
        InstanceLock(tmp_path / "lock", FIRST)
    assert not (tmp_path / "elsewhere").exists()


def test_missing_folder_is_made_and_a_missing_workspace_is_not(tmp_path: Path) -> None:
    InstanceLock(tmp_path / "run" / "lock", FIRST).release()
    assert stat.S_IMODE((tmp_path / "run").stat().st_mode) == 0o700
    with pytest.raises(StoreFailed):
        InstanceLock(tmp_path / "missing" / "run" / "lock", FIRST)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"pid":"x"}', b"\xff", b" " * MAX_HOLDER_BYTES + b"{}"])
def test_holder_that_cannot_be_read_is_nobody(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "lock").write_bytes(data)
    assert read_holder(tmp_path / "lock") is None
    assert read_holder(tmp_path / "missing") is None


# ── network file systems ───────────────────────────────────────────────────────────────────────────────────


def mounts(*points: tuple[str, str]) -> str:
    """Return text as /proc/self/mountinfo has it (proc(5))."""
    return "".join(
        f"{number} 1 0:{number} / {point} rw,relatime shared:1 - {kind} source rw\n"
        for number, (point, kind) in enumerate(points, 30)
    )


@pytest.mark.parametrize("kind", ["nfs4", "cifs", "9p", "fuse.sshfs"])
def test_network_file_system_is_refused(kind: str, tmp_path: Path) -> None:
    with pytest.raises(StoreFailed) as refused:
        refuse_network_file_system(tmp_path, mounts(("/", "ext4"), (str(tmp_path), kind)))
    assert refused.value.context == {"reason": "network_file_system", "file_system": kind}


@pytest.mark.parametrize(
    "table",
    [
        mounts(("/", "ext4")),
        mounts(("/", "nfs4"), ("{here}", "ext4")),
        mounts(("/", "ext4"), ("{here}x", "nfs4"), ("{here}/below", "nfs4")),
        mounts(("{here}", "nfs4"), ("{here}", "ext4")),
        mounts(("/", "btrfs"), ("/proc", "proc")),
        "",
        "nonsense\n - \n1 2 3\n",
    ],
)
def test_local_file_system_is_taken(table: str, tmp_path: Path) -> None:
    try:
        refuse_network_file_system(tmp_path, table.replace("{here}", str(tmp_path)))
    except StoreFailed:
        pytest.fail("refused")


def test_mount_point_with_a_space_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "a b"
    folder.mkdir()
    with pytest.raises(StoreFailed):
        refuse_network_file_system(folder, mounts(("/", "ext4"), (str(folder).replace(" ", "\\040"), "nfs")))


def test_mount_point_in_another_alphabet_is_found(tmp_path: Path) -> None:
    folder = tmp_path / "größe"
    folder.mkdir()
    with pytest.raises(StoreFailed):
        refuse_network_file_system(folder, mounts(("/", "ext4"), (str(folder), "nfs")))
