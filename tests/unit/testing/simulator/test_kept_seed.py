from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from handshake.kernel.errors import InvalidConfig
from handshake.testing.simulator import Failure, KeptSeed, Verdict, keep, read_kept

FAILURE = Failure("scheduler.queue.never_drops", 'a "turn" is gone', "7", 3_000_001, ())
VERDICT = Verdict(
    scenario="standard", seed=7, history="00", virtual_us=4, commits=1, events=1, jobs=1, calls=1, lives=1, faults=1,
    steps=1, failure=FAILURE,
)  # fmt: skip


def test_what_is_kept_is_read_back(tmp_path: Path) -> None:
    path = keep(tmp_path / "kept", "mine.toml", VERDICT)
    assert path.name == "standard-7.toml"
    assert read_kept(path) == KeptSeed("mine.toml", 7, FAILURE.requirement, FAILURE.sentence, 3)
    assert VERDICT.passed is False
    assert msgspec.structs.replace(VERDICT, failure=None).passed is True


@pytest.mark.parametrize("text", ["", "seed = 1", "not toml", 'scenario = "a"\nseed = "b"'])
def test_another_file_is_refused(text: str, tmp_path: Path) -> None:
    path = tmp_path / "other.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(InvalidConfig) as error:
        read_kept(path)
    assert error.value.context["reason"] == "no_kept_seed"
