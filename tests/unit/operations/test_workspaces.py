"""A session that writes has files of its own; an operator brings them back, and what does not fit BLOCKS it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path

import pytest

from handshake.kernel.errors import NotFound, StateConflict, StoreFailed
from handshake.kernel.ids import ArtifactId, SessionId
from handshake.kernel.session import SessionState
from handshake.operations import workspaces
from handshake.operations.workspaces import Workspaces
from handshake.ports.worktree import MergePlan
from handshake.tools.worktrees import GitWorktrees
from tests.requirement import requirement
from tests.running import Stage
from tests.unit.tools.test_worktrees import files_of, git, written


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Give a repository with a commit."""
    folder = tmp_path / "work"
    written(folder, {"a.txt": "one\n", "b.txt": "b\n"})
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "first")
    return folder


class BrokenOff(GitWorktrees):
    """Worktrees whose merges end after their first file, as if the machine had stopped."""

    async def apply(self, session_id: SessionId, plan: MergePlan) -> None:
        """Bring one file back, and stop."""
        path = plan.files[0]
        (self._root / path).write_bytes((Path(self.path(session_id)) / path).read_bytes())
        raise StoreFailed(reason="power")


def rooms(stage: Stage, root: Path, kind: type[GitWorktrees] = GitWorktrees) -> Workspaces:
    worktrees = kind(root, root.parent / "trees", root.parent / "staging")
    return Workspaces(stage.store, stage.queue, str(root), worktrees)


async def test_a_session_works_in_the_workspace_until_it_writes_and_then_in_its_own(root: Path) -> None:
    stage = await Stage.open()
    one, other = await stage.create(), await stage.create()
    place = rooms(stage, root)
    assert await place.room(one, writes=False) == str(root)
    own = await place.room(one, writes=True)
    assert own != str(root)
    assert files_of(Path(own)) == files_of(root)
    written(Path(own), {"a.txt": "theirs\n"})
    assert await place.room(one, writes=False) == await rooms(stage, root).room(one, writes=True) == own
    assert await place.room(other, writes=True) not in (own, str(root))
    assert (root / "a.txt").read_text() == "one\n"


async def test_calls_at_once_make_one_worktree(root: Path) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    place = rooms(stage, root)
    found = await asyncio.gather(*(place.room(session_id, writes=True) for _ in range(3)))
    assert len(set(found)) == 1


async def test_where_there_is_no_repository_sessions_write_in_the_workspace(tmp_path: Path) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    place = rooms(stage, tmp_path)
    assert await place.room(session_id, writes=True) == str(tmp_path)
    with pytest.raises(NotFound):
        await place.merge(session_id)


@requirement("gate.workspace.merge_explicit")
async def test_nothing_comes_back_until_an_operator_merges_which_is_evented(root: Path) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    place = rooms(stage, root)
    written(Path(await place.room(session_id, writes=True)), {"new.txt": "new\n", "a.txt": "two\n"})
    await stage.batch(stage.completing(session_id))
    assert files_of(root) == {"a.txt": "one\n", "b.txt": "b\n"}
    assert stage.check().of("workspace.merged") == []
    merged = await place.merge(session_id)
    assert merged.files == ("a.txt", "new.txt")
    assert files_of(root) == {"a.txt": "two\n", "b.txt": "b\n", "new.txt": "new\n"}
    (event,) = stage.check().of("workspace.merged")
    assert event.payload == {"diff_sha256": merged.diff_sha256, "files_count": 2, "session_id": session_id}
    assert git(root, "log", "--oneline").count("\n") == 1


@requirement("gate.workspace.merge_explicit")
async def test_a_conflict_changes_nothing_and_blocks_the_session_with_a_report_until_it_fits(root: Path) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    place = rooms(stage, root)
    written(Path(await place.room(session_id, writes=True)), {"a.txt": "theirs\n", "new.txt": "new\n"})
    written(root, {"a.txt": "ours\n"})
    for _ in range(2):
        found = await place.merge(session_id)
        assert (found.files, found.conflicts) == ((), ("a.txt",))
        assert files_of(root) == {"a.txt": "ours\n", "b.txt": "b\n"}
    session = stage.session(session_id)
    assert (session.state, session.blockers) == (SessionState.BLOCKED, 1)
    await stage.send(session_id)
    await stage.look()
    assert stage.performed == []
    event, _ = stage.check().of("workspace.merge_conflict")
    assert (event.payload["conflicts_count"], event.payload["session_id"]) == (1, session_id)
    report_id = ArtifactId(str(event.payload["report_artifact_id"]))
    report = stage.store.read_now(lambda reader: reader.artifact(report_id))
    assert report is not None
    assert json.loads(report)["conflicts"] == [{"path": "a.txt", "reason": "both_changed"}]
    written(root, {"a.txt": "theirs\n"})
    assert (await place.merge(session_id)).files == ("new.txt",)
    await stage.look()
    assert len(stage.performed) == 1


async def test_a_conflict_of_an_ended_session_is_reported_and_its_state_stays(root: Path) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    place = rooms(stage, root)
    written(Path(await place.room(session_id, writes=True)), {"a.txt": "theirs\n"})
    written(root, {"a.txt": "ours\n"})
    await stage.batch(stage.completing(session_id))
    assert (await place.merge(session_id)).conflicts == ("a.txt",)
    assert stage.session(session_id).state is SessionState.COMPLETED
    written(root, {"a.txt": "one\n"})
    assert (await place.merge(session_id)).files == ("a.txt",)


async def test_a_session_at_work_is_not_merged(root: Path) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    place = rooms(stage, root)
    written(Path(await place.room(session_id, writes=True)), {"a.txt": "half\n"})
    await stage.send(session_id)
    await stage.look()
    with pytest.raises(StateConflict) as refused:
        await place.merge(session_id)
    assert refused.value.context["reason"] == "session_is_active"
    assert (root / "a.txt").read_text() == "one\n"


@requirement("gate.workspace.merge_explicit")
async def test_a_merge_that_was_cut_off_is_completed_and_told_as_what_it_was(root: Path) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    written(Path(await rooms(stage, root).room(session_id, writes=True)), {"a.txt": "two\n", "c.txt": "c\n"})
    with pytest.raises(StoreFailed):
        await rooms(stage, root, BrokenOff).merge(session_id)
    assert stage.check().of("workspace.merged") == []
    assert (await rooms(stage, root).merge(session_id)).files == ("c.txt",)
    assert files_of(root) == {"a.txt": "two\n", "b.txt": "b\n", "c.txt": "c\n"}
    (event,) = stage.check().of("workspace.merged")
    assert event.payload["files_count"] == 1


async def test_a_merge_that_was_done_and_not_told_is_told_by_the_next(root: Path) -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    written(Path(await rooms(stage, root).room(session_id, writes=True)), {"c.txt": "c\n"})
    with pytest.raises(StoreFailed):
        await rooms(stage, root, BrokenOff).merge(session_id)
    found = await rooms(stage, root).merge(session_id)
    assert found.files == ()
    (event,) = stage.check().of("workspace.merged")
    assert (event.payload["files_count"], event.payload["diff_sha256"]) == (1, found.diff_sha256)
    stored = stage.store.read_now(lambda reader: workspaces.worktree_of(reader, session_id))
    assert stored is not None
    assert (stored.merging_sha256, stored.merged_at_us is not None) == (None, True)
