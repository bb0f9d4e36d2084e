"""Tests of tool records: a session reads what its own rows refer to, and learns of nothing else."""

from __future__ import annotations

import hashlib

from handshake.kernel.ids import ArtifactId, SessionId
from handshake.operations.tool_records import artifact_of_session
from tests.requirement import requirement
from tests.running import Stage, content_of


def sha256(data: bytes) -> ArtifactId:
    return ArtifactId(hashlib.sha256(data).hexdigest())


def read(stage: Stage, session_id: SessionId, artifact_id: ArtifactId) -> bytes | None:
    return stage.store.read_now(lambda reader: artifact_of_session(reader, session_id, artifact_id))


@requirement("capability.artifact.by_reference_only")
async def test_a_session_reads_what_its_own_rows_refer_to_and_nothing_else() -> None:
    stage = await Stage.open()
    mine, theirs = await stage.create(), await stage.create()
    job_id = await stage.send(mine, "my words")
    await stage.send(theirs, "their words")
    await stage.batch(stage.handing_back(stage.ticket(job_id), "partial text"))
    stray = content_of(b"nobody's")
    await stage.batch(lambda tx: tx.put(stray))
    assert read(stage, mine, sha256(b"my words")) == b"my words"
    assert read(stage, mine, sha256(b"partial text")) == b"partial text"
    assert read(stage, theirs, sha256(b"their words")) == b"their words"
    for foreign in (b"their words", b"nobody's", b"never stored"):
        assert read(stage, mine, sha256(foreign)) is None
    for foreign in (b"my words", b"partial text", b"nobody's"):
        assert read(stage, theirs, sha256(foreign)) is None
    assert read(stage, SessionId("018f0000-0000-7000-8000-000000000001"), sha256(b"my words")) is None


@requirement("capability.artifact.by_reference_only")
async def test_what_both_refer_to_both_read() -> None:
    stage = await Stage.open()
    sessions = [await stage.create(), await stage.create()]
    for session_id in sessions:
        await stage.send(session_id, "the same words")
    assert [read(stage, one, sha256(b"the same words")) for one in sessions] == [b"the same words"] * 2


async def test_what_is_no_hash_refers_to_nothing() -> None:
    stage = await Stage.open()
    session_id = await stage.create()
    for text in ("", "x" * 64, "../artifacts", sha256(b"x").upper()):
        assert read(stage, session_id, ArtifactId(text)) is None
