"""Queries: each one has a name, fits the schema, and is found by both."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from handshake.storage.queries import compiled, load
from handshake.storage.schema import migrate, open_writer

AT_START = (
    "budgets_of_open_work",
    "desk_expired",
    "job_in_progress",
    "job_orphans",
    "job_queue",
    "job_release_ended",
    "job_running_count",
    "job_settle_abandoned",
    "session_miscounted",
    "session_settle_abandoned",
)
"""What each start asks of all jobs."""
OF_ONE_SESSION = (
    "event_page_before_of_session",
    "event_page_of_session",
    "job_answer",
    "job_request_bytes",
    "message_evidence",
    "message_page",
    "message_thread",
)
"""What is found by jobs, and must not read those of other sessions."""


@pytest.fixture(scope="module")
def db() -> apsw.Connection:
    opened = open_writer(Path(":memory:"), new=True)
    migrate(opened)
    return opened


@pytest.mark.parametrize("name", sorted(load()))
def test_query_fits_the_schema(name: str, db: apsw.Connection) -> None:
    text = compiled()[name].text
    assert db.execute(f"EXPLAIN {text}", (None,) * text.count("?")).fetchall()


@pytest.mark.parametrize("name", sorted(load()))
def test_query_is_one_statement_without_a_comment(name: str) -> None:
    text = compiled()[name].text
    assert "--" not in text, "a comment would swallow what follows it"
    assert ";" not in text


@pytest.mark.parametrize("name", AT_START)
def test_a_start_reads_no_run_of_the_past(name: str, db: apsw.Connection) -> None:
    text = compiled()[name].text
    steps: list[str] = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", (None,) * text.count("?"))]
    through = [step for step in steps if step.startswith(("SCAN job", "SCAN j ", "SEARCH job", "SEARCH j "))]
    assert through
    assert [step for step in through if not any(one in step for one in ("job_open", "job_holding", "(job_id=?)"))] == []


@pytest.mark.parametrize("name", OF_ONE_SESSION)
def test_a_thread_is_found_by_its_jobs(name: str, db: apsw.Connection) -> None:
    text = compiled()[name].text
    steps: list[str] = [row[3] for row in db.execute(f"EXPLAIN QUERY PLAN {text}", (None,) * text.count("?"))]
    assert any("_by_job (job_id=?" in step for step in steps)
    assert {step for step in steps if step.startswith("SCAN")} <= {"SCAN thread", "SCAN run"}


def test_parameters_are_bound_in_the_order_of_the_text() -> None:
    query = compiled()["declaration_put"]
    assert query.bind({"at_us": 3, "subject": "a", "sha256": "b", "unused": 0}) == ("a", "b", 3)
    assert query.text.count("?") == 3


def test_missing_parameter_is_an_error() -> None:
    with pytest.raises(KeyError):
        compiled()["declaration_put"].bind({"subject": "a", "sha256": "b"})


def test_query_without_or_with_one_parameter_binds_a_tuple() -> None:
    assert compiled()["workspace_get"].bind({}) == ()
    assert compiled()["declaration_get"].bind({"subject": "a"}) == ("a",)
