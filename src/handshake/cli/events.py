"""Events: the commands that read the log: a page of it, its end as it grows, one event."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import click

from handshake.cli import place, shapes
from handshake.cli.command import Invocation, noun, verb
from handshake.cli.paging import after_option, limit_option
from handshake.cli.rendering import one_line, print_object, print_objects, print_table, print_text
from handshake.kernel.settings import MAX_PAGE_ITEMS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from handshake.cli.interruption import Interruption
    from handshake.kernel.ids import SessionId
    from handshake.kernel.units import Microseconds
    from handshake.operations.audit import EventView
    from handshake.ports.store import Reader

    Seen: TypeAlias = tuple[list[EventView], int]

events = noun("events", "Read the log of everything that happened.", example="handshake events list")

LOOK_EVERY_S = 0.2
"""How often `events tail` looks for new events, in seconds."""
TAIL_EVENTS = 10
"""Events before its start that `events tail` prints."""
_COLUMNS = ("SEQ", "TIME", "TYPE", "SESSION", "JOB")


@verb(
    events,
    "list",
    example="handshake events list --since 15m\nhandshake events list --type session.created --session SESSION_ID",
)
@click.option("--type", "type_", metavar="TYPE", help="Only events of this type.")
@click.option("--session", "session_id", metavar="ID", help="Only events of this session.")
@click.option(
    "--since", metavar="TIME", help="Only events from then on: 2026-01-31T08:00:00Z, or 90s, 15m, 2h, 7d ago."
)
@click.option("--newest-first", is_flag=True, help="Begin at the end of the log; --after goes down from there.")
@limit_option
@after_option("seq")
def list_(
    invocation: Invocation,
    type_: str | None,
    session_id: str | None,
    since: str | None,
    newest_first: bool,
    limit: int,
    after: int,
) -> None:
    """List events in their order."""
    from handshake.operations import audit

    since_us = _since(since)
    found = place.read(
        invocation,
        lambda reader: audit.events(
            reader,
            after=after,
            limit=limit,
            session_id=_session(session_id),
            type=type_,
            since_us=since_us,
            newest_first=newest_first,
        ),
    )
    if invocation.as_json:
        print_objects(map(shapes.event, found))
    else:
        print_table(_COLUMNS, ((one.seq, one.at, one.type, one.session_id, one.job_id) for one in found))


@verb(events, "show", example="handshake events show 1")
@click.argument("seq", type=int)
def show(invocation: Invocation, seq: int) -> None:
    """Show one event as it stands in the log, with its hash."""
    from handshake.operations import audit

    found = place.read(invocation, lambda reader: audit.event(reader, seq))
    if invocation.as_json:
        print_object(shapes.event(found))
        return
    import msgspec

    text = msgspec.json.format(msgspec.json.encode(shapes.event(found)), indent=2)
    print_text(text.decode())


@verb(events, "tail", example="handshake events tail --type llm_inference")
@click.option("--type", "type_", metavar="TYPE", help="Only events of this type.")
@click.option("--session", "session_id", metavar="ID", help="Only events of this session.")
@click.option(
    "--after", type=click.IntRange(min=0), metavar="SEQ", help="Begin after this event instead of the last 10."
)
def tail(invocation: Invocation, type_: str | None, session_id: str | None, after: int | None) -> None:
    """Print the last events, then each new one as it is committed, until Ctrl-C."""
    from handshake.cli.interruption import run_async

    run_async(lambda interruption: _tail(invocation, interruption, type_, _session(session_id), after))


async def _tail(
    invocation: Invocation,
    interruption: Interruption,
    type_: str | None,
    session_id: SessionId | None,
    after: int | None,
) -> None:
    import asyncio

    from handshake.bootstrap import read_only
    from handshake.operations import audit

    def last(reader: Reader) -> Seen:
        found = audit.events(reader, limit=TAIL_EVENTS, session_id=session_id, type=type_, newest_first=True)
        return list(reversed(found)), audit.end(reader)

    def next_page(reader: Reader) -> Seen:
        found = audit.events(reader, after=seen, limit=MAX_PAGE_ITEMS, session_id=session_id, type=type_)
        return found, found[-1].seq if len(found) == MAX_PAGE_ITEMS else audit.end(reader)

    store = read_only(place.find(invocation))
    try:
        async with interruption.scope():
            seen = after or 0
            page, seen = store.read_now(last if after is None else next_page)
            while True:
                _print_lines(invocation, page)
                if len(page) < MAX_PAGE_ITEMS:
                    await asyncio.sleep(LOOK_EVERY_S)
                page, seen = store.read_now(next_page)
    finally:
        store.shut()


def _print_lines(invocation: Invocation, page: Sequence[EventView]) -> None:
    if invocation.as_json:
        print_objects(map(shapes.event, page))
        return
    for one in page:
        about = one_line(" ".join(one_id for one_id in (one.session_id, one.job_id) if one_id))
        click.echo(f"{one.seq}  {one.at}  {one.type}  {about}".rstrip())


def _session(session_id: str | None) -> SessionId | None:
    from handshake.kernel.ids import SessionId

    return None if session_id is None else SessionId(session_id)


def _since(text: str | None) -> Microseconds | None:
    if text is None:
        return None
    from handshake.bootstrap import now_us
    from handshake.kernel.moment import parse_moment

    return parse_moment("since", text, now_us=now_us())
