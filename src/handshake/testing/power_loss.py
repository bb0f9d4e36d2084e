"""Power-loss disk: a simulated disk for a store and its files, with power cuts, full disks and I/O errors.

kill -9 cannot show durability, since the operating system keeps what a dead process wrote; a power loss does:

    disk = Disk(tmp_path / "before", seed=7)
    disk.cut_at(40)                      # power goes in the middle of the 40th write, sync, rename, ...
    run_workload(disk.root / "state.db", vfs=disk.vfs, files=disk.files)
    disk = disk.power_loss(tmp_path / "after")
    check(disk.root / "state.db", vfs=disk.vfs, files=disk.files)

Without a fault, `disk.operations` counts what there is to cut, so that a test can loop over every number.
"""

from __future__ import annotations

from pathlib import Path

from handshake.testing.medium import Medium
from handshake.testing.medium_files import MediumFiles
from handshake.testing.medium_vfs import VFS_NAME, mount


class Disk(Medium):
    """A folder on a simulated disk. What is written and not synced may be lost, torn or reordered.

    A disk writes sectors of 512 bytes, whole and in any order. A name that was made, changed or removed
    is on the disk once its folder is synced; unsynced changes of names are lost singly, with those that
    build on them. Every choice follows from the seed and the order of operations.

    Source:
        recovery.power_loss.loses_nothing; recorder.disk_full.fails_whole.
    """

    def __init__(self, root: Path, *, seed: int = 0) -> None:
        """Take over the folder, made if missing; what is in it is durable.

        Args:
            root: the folder of the disk. From now on all below it is made through `vfs` and `files`; a file
                in a folder that was made otherwise, or over a file that was, is refused.
            seed: chooses what outlives a power loss and a failed sync.
        """
        root.mkdir(parents=True, exist_ok=True)
        super().__init__(root, seed=seed)
        self.vfs = VFS_NAME
        """The VFS for every connection to a database on this disk; the same for all disks, told apart by path."""
        self.files = MediumFiles(self)
        """The files port on this disk."""
        mount(self)

    def power_loss(self, into: Path, *, seed: int | None = None) -> Disk:
        """Cut the power, if it is still on, and return the disk as found after it is back.

        A dead disk can be asked again, with other seeds, for other fates of the same moment.

        Args:
            into: where to lay it out; an empty folder or none, outside this disk.
            seed: chooses what outlives; None means the seed of this disk.
        """
        into.mkdir(parents=True, exist_ok=True)
        if any(into.iterdir()):
            raise ValueError("a power loss needs an empty folder to lay out what outlived it")
        fate = self.seed if seed is None else seed
        self.restore(into, seed=fate)
        return Disk(into, seed=fate)
