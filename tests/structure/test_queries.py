"""Queries: SQL lives in named files, every name that is used is defined, and every one defined is used."""

from __future__ import annotations

import ast
import re

from tests.structure.tree import ROOT, SOURCE, dotted, name_of, source_files, syntax, text

DEFINED = re.compile(r"^-- name: (\S+)$", re.MULTILINE)
NAME = re.compile(r"[a-z][a-z0-9_]*")
STATEMENT = re.compile(
    r"\s*(SELECT\s.+\sFROM|INSERT\s+(OR\s+\w+\s+)?INTO|UPDATE\s+\w+\s+SET|DELETE\s+FROM|CREATE\s+(UNIQUE\s+)?(TABLE|INDEX))\s",
    re.DOTALL | re.IGNORECASE,
)
ASKING = frozenset({"row", "rows", "run", "run_all", "add", "insert", "value"})
BEFORE_QUERIES = {
    "src/handshake/storage/schema.py": "keeps the list of migrations, before there is a schema for queries",
}
"""Modules with statements of their own, each with its reason. This list only shrinks."""
QUERIES = sorted((SOURCE / "storage" / "sql").glob("*.sql"))


def defined() -> list[str]:
    """Return the names of all queries, twice if they stand twice."""
    return [name for path in QUERIES for name in DEFINED.findall(text(path))]


def strings(node: ast.AST) -> list[str]:
    """Return every string below a node."""
    return [one.value for one in ast.walk(node) if isinstance(one, ast.Constant) and isinstance(one.value, str)]


def asked(call: ast.Call) -> list[str]:
    """Return the query names that a call asks a transaction or reader for."""
    if not (isinstance(call.func, ast.Attribute) and call.func.attr in ASKING and call.args):
        return []
    on = dotted(call.func.value).rpartition(".")[2]
    return [one for one in strings(call.args[0]) if NAME.fullmatch(one)] if on in {"tx", "reader"} else []


def test_every_query_has_one_definition() -> None:
    """A name means one statement."""
    names = defined()
    assert names
    assert sorted(names) == sorted(set(names))


def test_every_query_that_is_asked_for_is_defined() -> None:
    """A name that a unit of work uses stands in a file."""
    missing = {
        f"{name_of(path)}:{node.lineno} {name}"
        for path in source_files()
        for node in ast.walk(syntax(path))
        if isinstance(node, ast.Call)
        for name in asked(node)
        if name not in defined()
    }
    assert missing == set()


def test_every_query_that_is_defined_is_asked_for() -> None:
    """A statement that nobody uses is taken away."""
    used = {one for path in source_files() for one in strings(syntax(path))}
    assert set(defined()) - used == set()


def test_statements_stand_in_sql_files() -> None:
    """The runtime's Python holds no SQL statement; what `testing` breaks on purpose and `bench` counts may."""
    inside = {
        f"{name_of(path)}: {one.strip()[:60]}"
        for path in source_files()
        if not path.is_relative_to(SOURCE / "testing")
        and not path.is_relative_to(SOURCE / "bench")
        and name_of(path) not in BEFORE_QUERIES
        for one in strings(syntax(path))
        if STATEMENT.match(one)
    }
    assert inside == set()


def test_every_sql_file_is_a_query_file_or_a_migration() -> None:
    """SQL has two places: named queries, and numbered migrations."""
    elsewhere = {
        name_of(path)
        for path in (ROOT / "src").rglob("*.sql")
        if path not in QUERIES
        and not (
            path.parent == SOURCE / "storage" / "sql" / "migrations" and re.match(r"\d{4}_[a-z_]+\.sql$", path.name)
        )
    }
    assert elsewhere == set()
