"""Demo board: what the demo knows of its sessions while they run, as a live table or as plain lines."""

from __future__ import annotations

from collections import Counter
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

from handshake.cli.rendering import one_line
from handshake.cli.shapes import Shape
from handshake.kernel.job import JobState

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table

    from handshake.operations.views import QueueView
    from handshake.workspace import Result

FIRST_WORDS = 6
LAST_CHARS = 46
REFRESH_PER_S = 8


class Row:
    """One session of the demo."""

    def __init__(self, number: int, session_id: str, role: str, lane: str) -> None:
        self.number = number
        self.session_id = session_id
        self.role = role
        self.lane = lane
        self.state = "CREATED"
        self.to_be_cancelled = False
        self.words = 0
        self.tokens = 0
        self.why = ""
        self.ended: list[Result] = []
        self._text = ""

    @property
    def name(self) -> str:
        """What lines call it."""
        return f"{self.number} {self.role}"

    def hear(self, text: str) -> None:
        """Take over text that the model added."""
        self._text += text
        self.words += text.count(" ")

    def first_words(self) -> str:
        """Return how its first answer began."""
        texts = [one.text for one in self.ended if one.text] or [self._text]
        return " ".join(texts[0].split()[:FIRST_WORDS])

    def last_words(self) -> str:
        """Return the newest text in one line."""
        return one_line(self._text[-2 * LAST_CHARS :])[-LAST_CHARS:]

    def runs(self) -> str:
        """Return how its runs ended."""
        counted = Counter(one.state.value for one in self.ended)
        return ", ".join(f"{count} {state}" for state, count in sorted(counted.items()))

    def as_expected(self) -> bool:
        """Return whether the session and its runs ended as the demo says that they will."""
        states = {one.state for one in self.ended}
        if self.to_be_cancelled:
            return self.state == "CANCELLED" and JobState.CANCELLED in states
        return self.state == "COMPLETED" and states == {JobState.COMPLETED}

    def shape(self) -> Shape:
        """Return the session as programs read it."""
        return {
            "role": self.role,
            "lane": self.lane,
            "state": self.state,
            "tokens": self.tokens,
            "runs": [{"job_id": one.job_id, "state": one.state, "attempts": one.attempts} for one in self.ended],
            "first_words": self.first_words(),
        }


class Board:
    """All sessions of the demo, and how they are shown: a live table on a terminal, lines on a pipe, or nothing."""

    def __init__(self, *, live: bool, quiet: bool) -> None:
        self.rows: list[Row] = []
        self._by_session: dict[str, Row] = {}
        self._wants_live = live
        self._quiet = quiet
        self._live: Live | None = None
        self._running = 0
        self._queued = 0
        self._told: set[tuple[str, str]] = set()

    async def __aenter__(self) -> Self:
        """Begin to show."""
        if self._wants_live:
            from rich.live import Live

            self._live = Live(get_renderable=self._table, refresh_per_second=REFRESH_PER_S)
            self._live.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Leave the last picture on the screen."""
        if self._live is not None:
            self._live.stop()
            self._live = None

    def add(self, session_id: str, role: str, lane: str) -> Row:
        """Return the row of a new session."""
        row = Row(len(self.rows) + 1, session_id, role, lane)
        self.rows.append(row)
        self._by_session[session_id] = row
        self.say(f"session {row.name} in {lane}")
        return row

    def see(self, queue: QueueView) -> None:
        """Take over which runs wait, and why."""
        self._running, self._queued = queue.running, queue.queued
        for row in self.rows:
            row.why = ""
        for item in queue.items:
            row = self._by_session[item.session_id]
            if not row.why:
                row.why = item.sentence
                if (item.job_id, item.wait_reason) not in self._told:
                    self._told.add((item.job_id, item.wait_reason))
                    self.say(f"{row.name} waits: {item.sentence} ({self._running} running, {self._queued} waiting)")
        if self._live is not None:
            self._live.refresh()

    def started(self, row: Row) -> None:
        """Take note that a run of the session has its slot."""
        row.state = "ACTIVE"
        self.say(f"{row.name} runs")

    def cancelled(self, row: Row, *, runs: int) -> None:
        """Take note that the session was cancelled while it ran."""
        self.say(f"{row.name} cancelled after {row.words} words: {runs} runs end")

    def ended(self, row: Row, result: Result) -> None:
        """Take note of the end of a run."""
        row.ended.append(result)
        if row.state != "CANCELLED":
            row.state = "IDLE"
        if result.usage is not None and result.usage.total_tokens is not None:
            row.tokens += result.usage.total_tokens
        self.say(f"{row.name}: {result.state}, {row.tokens} tokens so far")

    def say(self, text: str) -> None:
        """Print a line while no table is drawn."""
        if self._live is None and not self._quiet:
            click.echo(text)

    def as_expected(self) -> bool:
        """Return whether everything went as the demo says that it will."""
        return bool(self.rows) and all(row.as_expected() for row in self.rows)

    def _table(self) -> Table:
        from rich.box import SIMPLE_HEAD
        from rich.table import Table
        from rich.text import Text

        tokens = sum(row.tokens for row in self.rows)
        title = f"{self._running} running, {self._queued} waiting, {tokens} tokens"
        table = Table(title=title, box=SIMPLE_HEAD, pad_edge=False, header_style="bold", title_justify="left")
        for column in ("SESSION", "LANE", "STATE", "DONE", "WORDS"):
            table.add_column(column, no_wrap=True)
        table.add_column("NOW", no_wrap=True, width=LAST_CHARS)
        for row in self.rows:
            now = row.last_words() if row.state == "ACTIVE" else row.why
            style = {"ACTIVE": "green", "CANCELLED": "red", "COMPLETED": "bold"}.get(row.state, "")
            done = str(sum(one.state is JobState.COMPLETED for one in row.ended))
            table.add_row(row.name, row.lane, Text(row.state, style), done, str(row.words), Text(now, "dim"))
        return table
