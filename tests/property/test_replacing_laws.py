"""Laws of replacing: no content that somebody was told is written is lost, whoever else writes at the same time."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from handshake.ports.tool import ToolFailed
from handshake.tools.filesystem import Tree
from handshake.tools.replacing import Replacing

STEPS = ("count",)


def everywhere(_steps: tuple[str, ...]) -> bool:
    return True


def add_one(before: bytes | None) -> bytes:
    return b"%d" % (int(before or b"0") + 1)


def counted(root: Path, call: str, times: int) -> int:
    """Add one to a file again and again, and return how often that is said to be done."""
    done = 0
    for number in range(times):
        try:
            with Tree(str(root)) as tree, Replacing(tree, everywhere, f"{call}-{number}") as one:
                one.prepare(STEPS, add_one, make=False)
                one.commit()
            done += 1
        except ToolFailed:
            continue
    return done


def test_no_update_of_several_calls_is_lost(tmp_path: Path) -> None:
    (tmp_path / "count").write_bytes(b"0")
    with ThreadPoolExecutor(4) as threads:
        done = sum(threads.map(lambda number: counted(tmp_path, f"call-{number}", 60), range(4)))
    assert int((tmp_path / "count").read_bytes()) == done > 0
    assert os.listdir(tmp_path) == ["count"]


def test_what_another_program_wrote_last_is_what_stands_unless_it_was_read(tmp_path: Path) -> None:
    """Another program replaces the file meanwhile; calls that were told to have changed it built on what it wrote."""
    (tmp_path / "count").write_bytes(b"0")
    over = threading.Event()
    last = [0]

    def replace() -> None:
        while not over.is_set() or last[0] < 1_000:
            last[0] += 1_000
            (tmp_path / "theirs").write_bytes(b"%d" % last[0])
            os.replace(tmp_path / "theirs", tmp_path / "count")

    thread = threading.Thread(target=replace)
    thread.start()
    try:
        done = counted(tmp_path, "call", 400)
    finally:
        over.set()
        thread.join()
    stands = int((tmp_path / "count").read_bytes())
    assert last[0] <= stands <= last[0] + done
    assert os.listdir(tmp_path) == ["count"]
