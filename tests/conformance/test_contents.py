"""Deep verification: events against their schemas, messages against their events, artifacts against their hashes."""

from __future__ import annotations

import apsw
import pytest

from handshake.bootstrap import read_only
from handshake.operations import contents
from handshake.operations.verdict import Damage
from tests.requirement import requirement
from tests.written_log import Log

pytestmark = requirement("recorder.log.verifies")


@pytest.mark.parametrize(
    ("was", "is_now"), [(b'"actor":"', b'"actor":"x'), (b"{", b"{ "), (b'"payload":{', b'"payload":{"extra":1,')]
)
def test_event_that_nothing_seals(log: Log, was: bytes, is_now: bytes) -> None:
    """In the unsigned tail, with all hashes made to fit, only the schema shows it."""
    seq = log.size - 1
    log.run("UPDATE event SET body = ? WHERE seq = ?", log.body(seq).replace(was, is_now, 1), seq)
    log.rechain(seq)
    assert log.verdict().sound
    assert log.broken(deep=True) == (Damage.ALTERED, seq, seq)


@pytest.mark.parametrize(
    ("change", "seq_known"),
    [
        ("UPDATE message SET role = 'SYSTEM' WHERE message_id = ?", True),
        ("UPDATE message SET trusted = 1 - trusted WHERE message_id = ?", True),
        ("UPDATE message SET content_hash = upper(content_hash) WHERE message_id = ?", True),
        ("UPDATE message SET seq = seq + 100 WHERE message_id = ?", True),
        ("UPDATE message SET seq = seq - 1 WHERE message_id = ?", True),
        ("UPDATE message SET job_id = 'of no job' WHERE message_id = ?", True),
        ("UPDATE message SET session_id = (SELECT max(session_id) FROM session) WHERE message_id = ?", True),
        ("DELETE FROM message WHERE message_id = ?", True),
        ("DELETE FROM session WHERE session_id = (SELECT session_id FROM message WHERE message_id = ?)", False),
    ],
)
def test_message_that_is_not_as_its_event_tells(log: Log, change: str, seq_known: bool) -> None:
    message_id = str(log.value("SELECT message_id FROM message WHERE seq = 3"))
    seq = int(log.value("SELECT seq FROM event WHERE instr(body, ?)", message_id.encode()))
    log.run(change, message_id)
    assert log.verdict().sound
    damage, found, _ = log.broken(deep=True)
    assert damage is Damage.STATE_ALTERED
    assert found == seq or not seq_known


ADDED = (
    "INSERT INTO message SELECT session_id, {number}, 'x', turn_id, turn_seq, {job}, role, content_hash,"
    " content_artifact_id, content_bytes, timestamp_us, token_count, redacted, source_kind, trusted"
    " FROM message WHERE seq = 1 AND session_id = (SELECT min(session_id) FROM message)"
)


@pytest.mark.parametrize("job", ["job_id", "NULL", "'of no job'"])
def test_message_that_no_event_tells(log: Log, job: str) -> None:
    log.run(ADDED.format(number="seq + 100", job=job))
    assert log.broken(deep=True) == (Damage.STATE_ALTERED, 0, 0)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE job SET before_seq = NULL WHERE enqueue_seq = (SELECT max(enqueue_seq) FROM job)",
        "UPDATE session SET last_job_seq = (SELECT min(enqueue_seq) FROM job)",
        "UPDATE session SET last_job_seq = NULL",
    ],
)
def test_run_that_its_session_does_not_lead_to(log: Log, change: str) -> None:
    """Nothing else would show the run or what was said in it."""
    log.run(change)
    assert log.verdict().sound
    assert log.broken(deep=True)[0] is Damage.STATE_ALTERED


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("job", ["job_id", "NULL"])
def test_number_that_stands_twice(log: Log, number: int, job: str) -> None:
    """The first message that is not in its place is named by its event."""
    log.run(ADDED.format(number=number, job=job))
    follows = "SELECT message_id FROM message WHERE seq = ? AND session_id = (SELECT min(session_id) FROM message)"
    seq = int(log.value("SELECT seq FROM event WHERE instr(body, ?)", str(log.value(follows, number + 1)).encode()))
    assert log.broken(deep=True) == (Damage.STATE_ALTERED, seq, seq)


@pytest.mark.parametrize("page", [1, 2, 3])
def test_copy_of_a_message_at_the_end_of_a_page(log: Log, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contents, "LOG_PAGE_EVENTS", page)
    assert log.verdict(deep=True).sound
    last = "(SELECT max(seq) FROM message)"
    log.run(f"INSERT INTO message SELECT * FROM message WHERE seq = {last} LIMIT 1")
    assert log.broken(deep=True) == (Damage.STATE_ALTERED, 0, 0)


@pytest.mark.parametrize(
    "change", ["UPDATE artifact SET data = x'00' WHERE sha256 = ?", "DELETE FROM artifact WHERE sha256 = ?"]
)
def test_artifact_in_the_store(log: Log, change: str) -> None:
    artifact_id = str(log.value("SELECT sha256 FROM artifact WHERE data IS NOT NULL"))
    log.run(change, artifact_id)
    broken = log.verdict(deep=True).broken
    assert broken is not None
    assert (broken.damage, broken.artifact_id) == (Damage.ARTIFACT_BROKEN, artifact_id)


@pytest.mark.parametrize("gone", [True, False])
def test_artifact_in_a_file(log: Log, gone: bool) -> None:
    artifact_id = str(log.value("SELECT sha256 FROM artifact WHERE data IS NULL ORDER BY sha256"))
    file = log.place.artifacts / artifact_id[:2] / artifact_id[2:]
    kept = file.read_bytes()
    file.unlink()
    if not gone:
        file.write_bytes(kept[:-1])
    broken = log.verdict(deep=True).broken
    assert broken is not None
    assert (broken.damage, broken.artifact_id) == (Damage.ARTIFACT_BROKEN, artifact_id)


def test_verification_changes_nothing(log: Log) -> None:
    before = log.place.database.read_bytes()
    assert log.verdict(deep=True).sound
    assert log.place.database.read_bytes() == before
    store = read_only(log.place)
    try:
        with pytest.raises(apsw.ReadOnlyError):
            store._db.execute("DELETE FROM event")
    finally:
        store.shut()
