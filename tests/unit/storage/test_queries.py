"""Queries: each one has a name, fits the schema, and is found by both."""

from __future__ import annotations

from pathlib import Path

import apsw
import pytest

from handshake.storage.queries import compiled, load
from handshake.storage.schema import migrate, open_writer


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
