"""A workspace of an older version is brought up to date when it is opened for work, and nothing of it is lost."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import apsw
import pytest

from handshake.bootstrap import find_workspace, init_workspace, read_only, verifier_key
from handshake.kernel.errors import IntegrityBroken
from handshake.kernel.ids import ProviderId
from handshake.kernel.job import JobState
from handshake.kernel.settings import ASSUMED_OUTPUT_TOKENS
from handshake.storage.schema import migrations
from handshake.testing.invariants import check_workspace
from handshake.testing.scripted_model import ScriptedModel
from handshake.workspace import open_workspace

CONFIG = '[providers.desk]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:9/v1"\n'
MODELS = {ProviderId("desk"): ScriptedModel()}


def columns(db: apsw.Connection) -> dict[str, list[Any]]:
    """Return every table with its columns."""
    tables = [str(row[0]) for row in db.execute("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")]
    return {table: sorted(db.execute(f"PRAGMA table_info({table})"), key=lambda row: str(row[1])) for table in tables}


def indexes(db: apsw.Connection) -> dict[str, str]:
    """Return every index that a statement made, with the statement."""
    rows = db.execute("SELECT name, sql FROM sqlite_schema WHERE type = 'index' AND sql IS NOT NULL")
    return {str(name): str(text) for name, text in rows}


def made_by(db: apsw.Connection, name: str) -> str:
    """Return the statement that made a table."""
    (row,) = db.execute("SELECT sql FROM sqlite_schema WHERE type = 'table' AND name = ?", (name,))
    return str(row[0])


def rebuild(db: apsw.Connection, name: str, statement: str) -> None:
    """Make a table anew as `statement` says, with its rows in their order."""
    old = ", ".join(str(row[1]) for row in db.execute(f"PRAGMA table_info({name})"))
    db.execute(f"ALTER TABLE {name} RENAME TO rebuilt")
    db.execute(statement)
    db.execute(f"INSERT INTO {name} ({old}) SELECT {old} FROM rebuilt ORDER BY rowid")
    db.execute("DROP TABLE rebuilt")


def make_old(database: Path) -> None:
    """Take away whatever later migrations added, so that the database is one of version 0.1.0."""
    first = migrations()[0]
    fresh = apsw.Connection(":memory:")
    fresh.execute("CREATE TABLE migration (number INTEGER PRIMARY KEY, sha256 TEXT NOT NULL) STRICT")
    fresh.execute(first[2])
    wanted = columns(fresh)
    db = apsw.Connection(str(database))
    db.execute("PRAGMA foreign_keys=OFF; PRAGMA legacy_alter_table=ON").fetchall()
    for table, found in columns(db).items():
        if table not in wanted:
            db.execute(f"DROP TABLE {table}")
            continue
        known = {row[1] for row in wanted[table]}
        for name in {row[1] for row in found} - known:
            db.execute(f"ALTER TABLE {table} DROP COLUMN {name}")
    rebuild(db, "message", made_by(fresh, "message"))
    for name in [one for one, text in indexes(db).items() if indexes(fresh).get(one) != text]:
        db.execute(f"DROP INDEX {name}")
    for name in indexes(fresh).keys() - indexes(db).keys():
        db.execute(indexes(fresh)[name])
    assert indexes(db) == indexes(fresh)
    db.execute("DELETE FROM migration WHERE number > 1")
    without_place = {table: [row[1:] for row in rows] for table, rows in columns(db).items()}
    assert without_place == {table: [row[1:] for row in rows] for table, rows in wanted.items()}
    assert list(db.execute("SELECT number, sha256 FROM migration")) == [first[:2]]
    db.close()


async def test_a_workspace_of_the_first_version_goes_on_with_its_queue(tmp_path: Path) -> None:
    place = init_workspace(tmp_path)
    place.config.write_text(CONFIG)
    async with open_workspace(tmp_path, models=MODELS, dispatch=False) as workspace:
        session = await workspace.sessions.create(role="coder", model="desk/tiny", memory_policy="EPHEMERAL")
        jobs = [(await session.send(text)).job_id for text in ("one", "two")]
        said = await session.messages()
    make_old(place.database)
    with pytest.raises(IntegrityBroken) as refused:
        read_only(find_workspace(tmp_path))
    assert (refused.value.context["reason"], "queue run" in refused.value.hint) == ("older_schema", True)
    async with open_workspace(tmp_path, models=MODELS, dispatch=False) as workspace:
        waiting = [await workspace.job(job_id) for job_id in jobs]
        assert [job.state for job in waiting] == [JobState.QUEUED] * 2
        assert [job.estimated_tokens for job in waiting] == [ASSUMED_OUTPUT_TOKENS + 2] * 2
        assert await workspace.sessions.get(session.session_id).messages() == said
    async with open_workspace(tmp_path, models=MODELS) as workspace:
        handle = workspace.sessions.get(session.session_id)
        last = await handle.send("three")
        assert (await last.result()).state is JobState.COMPLETED
    store = read_only(place)
    found = store.read_now(lambda reader: check_workspace(reader, verifier_key(place)))
    store.shut()
    assert {job.state for job in found.jobs} == {JobState.COMPLETED}
    assert len(found.jobs) == 3
