"""Pages: the reference, one function per page, each from the object that the product itself runs on."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from enum import StrEnum
from itertools import groupby
from pathlib import Path
from typing import TypeVar

import msgspec

from handshake.kernel import fields, job, mailbox, session, settings
from handshake.kernel.catalogue import reference
from handshake.kernel.errors import NOTICES, catalogue
from handshake.kernel.event import registry
from handshake.kernel.layer import known_keys
from handshake.kernel.session import Ending, Facts
from scripts.reading import documented_names, summary, table

_S = TypeVar("_S", bound=StrEnum)


def errors_page() -> str:
    """Return the table of codes, by who must act."""
    parts = ["# Errors", "Codes are public and stable. The family says who must act."]
    families = {leaf.family: leaf.__mro__[1] for leaf in catalogue()}
    for family, parent in families.items():
        parts += [f"## {family}", (parent.__doc__ or "").strip()]
        rows = [
            (
                f"`{leaf.code}`",
                f"`{leaf.__name__}`",
                leaf.sentence,
                leaf.hint,
                str(leaf.http_status),
                str(leaf.exit_code),
            )
            for leaf in catalogue()
            if leaf.family == family
        ]
        parts.append(table(("code", "raised as", "sentence", "hint", "HTTP", "exit"), rows))
    parts += ["## Notices", "Codes that inform and are never raised."]
    parts.append(table(("code", "sentence", "hint"), [(f"`{one.code}`", one.sentence, one.hint) for one in NOTICES]))
    return _page(parts)


def events_page() -> str:
    """Return the catalogue of event types with their fields."""
    kinds = [(f"`{name}`", text) for name, text in documented_names(_file(fields.__name__)) if not name.isupper()]
    parts = [
        "# Events",
        "Every event is checked against its type when it is written; what is not listed here is refused.",
    ]
    parts += ["## Kinds of value", table(("kind", "meaning"), kinds)]
    payloads = {name: kind.payload for name, kind in registry().items()}
    rows = sorted(reference.table(), key=lambda row: (payloads[row.type].__module__, row.type))
    for module, types in groupby(rows, key=lambda row: payloads[row.type].__module__):
        parts.append(f"## {summary(_file(module))}")
        for one in types:
            parts += _event(one, dict(documented_names(_file(module), payloads[one.type].__name__)))
    return _page(parts)


def _event(one: reference.Row, notes: dict[str, str]) -> list[str]:
    facts = [f"id `{one.fr_id}`"] if one.fr_id else []
    facts += [f"schema version {one.version}", f"kept as `{one.retention.value}`"]
    facts += ["always in a session"] if one.in_session else []
    rows = [
        (
            f"`{field.name}`",
            field.kind + (", may be left out" if field.optional else "") + (", or null" if field.nullable else ""),
            notes.get(field.name, ""),
        )
        for field in one.fields
    ]
    listed = table(("field", "kind", "words"), rows) if rows else "It has no fields."
    return [f"### `{one.type}`", one.summary, f"*{', '.join(facts)}*", listed]


def settings_page() -> str:
    """Return every key of the configuration, and the bounds that no configuration changes."""
    order = (
        "Built-in values, then the user's file, then the workspace's `.handshake/config.toml`, then `HANDSHAKE_*`, "
        "then the flag: the later one decides. What gives permission may only be tightened by a later layer, and "
        "`[limits]` of the user's file holds for all. Unknown keys are errors. `*` stands for a name of yours."
    )
    keys = [(f"`{key.name}`", _default(key.default), key.expected, key.description) for key in known_keys()]
    numbers = [
        (f"`{name}`", f"{value:_}", text)
        for name, text in documented_names(_file(settings.__name__))
        if isinstance(value := getattr(settings, name, None), int)
    ]
    return _page(
        [
            "# Settings",
            order,
            "## Keys",
            table(("key", "default", "takes", "meaning"), keys),
            "## Bounds that nobody can change",
            table(("bound", "value", "why"), numbers),
        ]
    )


def _default(value: object) -> str:
    return "" if value is None or value is msgspec.NODEFAULT else f"`{msgspec.json.encode(value).decode()}`"


def states_page() -> str:
    """Return the state diagrams: the closed tables, and what the session's deriving function can do."""
    return _page(
        [
            "# States",
            "## Job",
            "A job moves only by this table; every other move is refused.",
            _table_diagram(job.TRANSITIONS, job.JobState.QUEUED),
            "## Session",
            "Nobody sets a session's state: one total function derives it from facts, and changes with them.",
            _mermaid(
                [
                    "    [*] --> CREATED",
                    *_session_moves(),
                    *(f"    {one.value} --> [*]" for one in session.SessionState if one in session.TERMINAL),
                ]
            ),
            "## Thread of the Role Mailbox",
            "A thread moves only by this table; one that is resolved, expired or archived takes no more messages.",
            _table_diagram(mailbox.THREAD_TRANSITIONS, mailbox.ThreadState.OPEN),
            "## Message of the Role Mailbox",
            "A message moves only by this table.",
            _table_diagram(mailbox.DELIVERY_TRANSITIONS, mailbox.DeliveryState.QUEUED),
        ]
    )


def _table_diagram(table: Mapping[_S, frozenset[_S]], first: _S) -> str:
    """Return the diagram of a closed table of moves."""
    moves = [
        f"    {before.value} --> {after.value}"
        for before, targets in table.items()
        for after in type(first)
        if after in targets
    ]
    ends = [f"    {state.value} --> [*]" for state, targets in table.items() if not targets]
    return _mermaid([f"    [*] --> {first.value}", *moves, *ends])


def _session_moves() -> list[str]:
    """Return every change of a session's derived state that one changed fact can bring about, with that fact's name."""
    start = Facts(Ending.OPEN, running=0, waiting=0, blockers=0, paused=False, dispatched=False)
    pending, seen = [start], {start}
    moves: dict[tuple[str, str], set[str]] = {}
    while pending:
        before = pending.pop()
        for label, after in _changes(before):
            if session.derive(before) is not session.derive(after):
                moves.setdefault((session.derive(before).value, session.derive(after).value), set()).add(label)
            if after not in seen:
                seen.add(after)
                pending.append(after)
    return [
        f"    {before} --> {after}: {', '.join(sorted(labels))}" for (before, after), labels in sorted(moves.items())
    ]


def _changes(given: Facts) -> list[tuple[str, Facts]]:
    """Return what one change makes of `given`; one run and one blocker stand for any number."""
    change = msgspec.structs.replace
    if given.ending is not Ending.OPEN:
        return []
    changes = [("cancelled", change(given, ending=Ending.CANCELLED, running=0, waiting=0))]
    changes += [("failed", change(given, ending=Ending.FAILED, running=0, waiting=0))]
    if not (given.running or given.waiting):
        changes.append(("completed", change(given, ending=Ending.COMPLETED)))
    if session.may_dispatch(given):
        changes.append(("run starts", change(given, running=1, dispatched=True)))
    if given.running:
        changes.append(("run ends", change(given, running=0)))
        changes.append(("run waits", change(given, running=0, waiting=1)))
    if given.waiting:
        changes.append(("wait ends", change(given, waiting=0)))
    changes.append(
        ("unblocked", change(given, blockers=0)) if given.blockers else ("blocked", change(given, blockers=1))
    )
    changes.append(("resumed", change(given, paused=False)) if given.paused else ("paused", change(given, paused=True)))
    return changes


def _mermaid(lines: list[str]) -> str:
    return "\n".join(["```mermaid", "stateDiagram-v2", *lines, "```"])


def _page(parts: list[str]) -> str:
    return "\n\n".join([parts[0], "<!-- written by `make docs`; do not edit -->", *parts[1:]]) + "\n"


def _file(module: str) -> Path:
    return Path(sys.modules[module].__file__ or "")
