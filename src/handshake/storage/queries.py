"""Queries: the SQL of the product by name, read from `storage/sql/*.sql`."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from importlib.resources import files
from operator import itemgetter
from typing import Any, NamedTuple

_NAME = re.compile(r"^-- name: ([a-z][a-z0-9_]*)$", re.MULTILINE)

_FRAGMENTS = {
    "{runs_of_session}": """run (job_id, before_seq) AS (
  SELECT j.job_id, j.before_seq FROM session AS s JOIN job AS j ON j.enqueue_seq = s.last_job_seq
  WHERE s.session_id = :session_id
  UNION ALL
  SELECT j.job_id, j.before_seq FROM run JOIN job AS j ON j.enqueue_seq = run.before_seq
)"""
}
"""What several queries share: the runs of a session, from the last to the first."""

_PARAMETER = re.compile(r"(?<![:\w]):([a-z][a-z0-9_]*)")


ADDED_TOGETHER = ("artifact_put", "message_insert")
"""Rows that are hardly ever read in the batch that adds them: all of a batch go in at once, in this order, in which
none comes before one that it refers to."""
_TOUCHES_ADDED = re.compile(r"\b(?:FROM|JOIN|INTO|UPDATE)\s+(?:artifact|job_artifact|message)\b")


class Query(NamedTuple):
    """A query with its parameters by position, which costs a third less to bind than by name."""

    text: str
    bind: Callable[[Mapping[str, object]], tuple[Any, ...]]


@cache
def compiled() -> dict[str, Query]:
    """Return every query by its name, ready to run; a parameter that is not given raises KeyError."""
    return {name: _compile(text) for name, text in load().items()}


@cache
def touching_added() -> frozenset[str]:
    """Return the queries that must find what was added before them."""
    return frozenset(name for name, text in load().items() if _TOUCHES_ADDED.search(text)) - {*ADDED_TOGETHER}


@cache
def load() -> dict[str, str]:
    """Return every query by its name; a name that stands twice is a programming error."""
    found: dict[str, str] = {}
    folder = files("handshake.storage") / "sql"
    for file in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if not file.name.endswith(".sql"):
            continue
        parts = _NAME.split(file.read_text(encoding="utf-8"))
        for name, text in zip(parts[1::2], parts[2::2], strict=True):
            if name in found:
                raise ValueError(f"query defined twice: {name}")
            found[name] = _with_fragments(text.strip().rstrip(";"))
    return found


def _with_fragments(text: str) -> str:
    for name, fragment in _FRAGMENTS.items():
        text = text.replace(name, fragment)
    return text


def _compile(text: str) -> Query:
    names = _PARAMETER.findall(text)
    return Query(" ".join(_PARAMETER.sub("?", text).split()), _binder(names))


def _binder(names: list[str]) -> Callable[[Mapping[str, object]], tuple[Any, ...]]:
    if len(names) > 1:
        return itemgetter(*names)
    if not names:
        return lambda given: ()
    (only,) = names
    return lambda given: (given[only],)
