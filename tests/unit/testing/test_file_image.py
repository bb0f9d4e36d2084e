"""What of a file and a folder outlives a power loss."""

from __future__ import annotations

from handshake.testing.file_image import SECTOR_BYTES, FileImage, FolderLog
from handshake.testing.seeded_chance import SeededChance

SEEDS = range(60)


def fates(image: FileImage) -> list[bytes]:
    return [image.survivor(SeededChance(seed)) for seed in SEEDS]


def test_what_is_synced_stays() -> None:
    image = FileImage(b"old")
    image.write(1, b"new bytes")
    image.truncate(6)
    image.sync()
    assert set(fates(image)) == {b"onew b"}
    assert image.size == 6


def test_unsynced_write_is_kept_lost_or_torn_at_sectors() -> None:
    image = FileImage(b"o" * 4 * SECTOR_BYTES)
    image.write(SECTOR_BYTES // 2, b"n" * 3 * SECTOR_BYTES)
    head, tail = b"o" * (SECTOR_BYTES // 2), b"o" * (SECTOR_BYTES // 2)
    found = set(fates(image))
    assert head + b"n" * 3 * SECTOR_BYTES + tail in found
    assert b"o" * 4 * SECTOR_BYTES in found
    assert len(found) > 4
    # The write covers two whole sectors and two halves; each of the four pieces is old or new as a whole.
    borders = [0, SECTOR_BYTES // 2, SECTOR_BYTES, 2 * SECTOR_BYTES, 3 * SECTOR_BYTES, len(head) + 3 * SECTOR_BYTES]
    for content in found:
        pieces = [content[start:stop] for start, stop in zip(borders, [*borders[1:], None], strict=True)]
        assert all(len(set(piece)) == 1 for piece in pieces)


def test_later_write_may_outlive_an_earlier_one() -> None:
    image = FileImage()
    image.write(0, b"a" * SECTOR_BYTES)
    image.write(SECTOR_BYTES, b"b" * SECTOR_BYTES)
    assert bytes(SECTOR_BYTES) + b"b" * SECTOR_BYTES in fates(image)


def test_unsynced_truncation_may_be_undone() -> None:
    image = FileImage(b"kept")
    image.truncate(0)
    assert set(fates(image)) == {b"", b"kept"}


def test_failed_sync_decides_once() -> None:
    image = FileImage()
    image.write(0, b"a" * SECTOR_BYTES * 8)
    image.fail_sync(SeededChance(3))
    image.sync()
    assert len(set(fates(image))) == 1


def names_of(log: FolderLog) -> set[frozenset[str]]:
    return {frozenset(log.survivors(SeededChance(seed))) for seed in SEEDS}


def test_unsynced_names_are_lost_singly() -> None:
    log = FolderLog({"/d/old": FileImage()})
    log.set("/d/new", FileImage())
    log.unlink("/d/old")
    every = [{"/d/old"}, {"/d/old", "/d/new"}, {"/d/new"}, set[str]()]
    assert names_of(log) == {frozenset(names) for names in every}


def test_rename_is_done_or_not() -> None:
    log = FolderLog({"/d/a": FileImage(b"a"), "/d/b": FileImage(b"b")})
    log.rename("/d/a", "/d/b")
    left = [
        {path: image.survivor(SeededChance(0)) for path, image in log.survivors(SeededChance(seed)).items()}
        for seed in SEEDS
    ]
    assert {"/d/b": b"a"} in left
    assert {"/d/a": b"a", "/d/b": b"b"} in left
    assert all(names in ({"/d/b": b"a"}, {"/d/a": b"a", "/d/b": b"b"}) for names in left)


def test_change_that_builds_on_a_lost_one_is_lost_too() -> None:
    log = FolderLog({})
    log.set("/d/a", FileImage())
    log.rename("/d/a", "/d/b")
    assert names_of(log) == {frozenset(), frozenset({"/d/a"}), frozenset({"/d/b"})}


def test_sync_of_a_folder_is_for_its_own_names() -> None:
    log = FolderLog({})
    log.set("/d/a", FileImage())
    log.set("/e/b", FileImage())
    log.sync("/d")
    assert names_of(log) == {frozenset({"/d/a"}), frozenset({"/d/a", "/e/b"})}


def test_rename_between_folders_is_settled_with_its_target() -> None:
    log = FolderLog({})
    log.set("/d/a", FileImage())
    log.rename("/d/a", "/e/a")
    log.sync("/e")
    log.sync("/d")
    assert names_of(log) == {frozenset({"/e/a"})}
