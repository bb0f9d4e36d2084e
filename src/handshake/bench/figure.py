"""Figures: what is measured, in which unit, and which goals were set; the one table that all output follows."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence

import msgspec

RUNS_PER_S = "runs/s"
EVENTS_PER_S = "events/s"
MS = "ms"
US = "µs"
TIMES = "×"
MIB = "MiB"
MB = "MB"
S = "s"
HOURS_PER_S = "h/s"
SEEDS_PER_S = "seeds/s"


class Kind(msgspec.Struct, frozen=True, kw_only=True):
    """What one figure means; goals are in its unit."""

    bench: str
    unit: str
    says: str
    at_least: float | None = None
    at_most: float | None = None
    floor_ratio_at_least: float | None = None
    sizes_in: str | None = None
    """Unit of `by_size`, where the figure is a ratio of sizes."""


class Figure(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One measured value; floor and peers are in its unit and come from the same run of the bench."""

    value: float
    unit: str
    floor: float | None = None
    ratio_to_floor: float | None = None
    peers: dict[str, float] | None = None
    by_size: dict[str, float] | None = None
    """What was measured for each length of the queue, or number of sessions."""
    low: float | None = None
    high: float | None = None
    """The worst and best of the rounds of which `value` is the median, in order of size."""


class Machine(msgspec.Struct, frozen=True, kw_only=True):
    """What the figures depend on; nothing that names a machine, a person or a path."""

    cores: int
    architecture: str
    system: str
    python: str
    sqlite: str
    flush_ms: float
    """Median time in which the disk makes 4 KiB durable."""


class Result(msgspec.Struct, frozen=True, kw_only=True):
    """What one run of a bench found, in the shape of `bench NAME --json` (07 §2)."""

    bench: str
    machine: Machine
    figures: dict[str, Figure]
    notes: tuple[str, ...] = ()


TABLE: dict[str, Kind] = {
    "runs": Kind(
        bench="scheduler",
        unit=RUNS_PER_S,
        says="Durable no-op runs, enqueue to completion, 64 in flight.",
        at_least=6_000,
        floor_ratio_at_least=0.25,
    ),
    "runs_behind_queue": Kind(
        bench="scheduler",
        unit=RUNS_PER_S,
        says="The same while the longest queue waits behind a provider whose slots are taken.",
        at_least=6_000,
        floor_ratio_at_least=0.25,
    ),
    "runs_limited": Kind(
        bench="scheduler",
        unit=RUNS_PER_S,
        says="The same with everything on: rates, prices, and budgets of workspace and session, all of them far away.",
        at_least=6_000,
        floor_ratio_at_least=0.25,
    ),
    "runs_through_gate": Kind(
        bench="scheduler",
        unit=RUNS_PER_S,
        says="The same with the thread read, a request built and the gate passed, to a model that answers at once.",
    ),
    "events_per_run": Kind(bench="scheduler", unit="events", says="Fewest events of any run.", at_least=5),
    "commits_per_run": Kind(
        bench="scheduler", unit="commits", says="Fewest commits that hold the evidence of any run.", at_least=2
    ),
    "runs_per_commit": Kind(bench="scheduler", unit="runs", says="Runs that share a commit, on average."),
    "alone_start": Kind(bench="scheduler", unit=MS, says="One run alone: enqueue to start, p50.", at_most=0.6),
    "alone_durable": Kind(
        bench="scheduler", unit=MS, says="One run alone: enqueue to durable completion, p50.", at_most=1.5
    ),
    "choose_growth": Kind(
        bench="scheduler",
        unit=TIMES,
        says="Finishing a run and choosing and starting the next from the queue: longest queue to shortest.",
        at_most=1.5,
        sizes_in="µs/run",
    ),
    "enqueue_growth": Kind(
        bench="scheduler",
        unit=TIMES,
        says="Enqueueing durably, 64 at a time: longest queue to shortest.",
        at_most=1.5,
        sizes_in="µs/run",
    ),
    "history_growth": Kind(
        bench="scheduler",
        unit=TIMES,
        says="Both beside the shortest queue: in a workspace of as many runs as the longest queue, to a fresh one.",
    ),
    "index_growth": Kind(
        bench="scheduler",
        unit=TIMES,
        says="Taking a run from the index and adding one, without the store: longest queue to shortest.",
        at_most=1.5,
        sizes_in="µs/run",
    ),
    "sessions_growth": Kind(
        bench="scheduler",
        unit=TIMES,
        says="Runs, enqueue to completion, in a workspace of many sessions: most sessions to fewest.",
        sizes_in="µs/run",
    ),
    "restart": Kind(
        bench="scheduler",
        unit=S,
        says="Opening a workspace in which the longest queue waits, until its first run starts.",
        at_most=3,
        sizes_in="ms",
    ),
    "events_durable": Kind(
        bench="recorder",
        unit=EVENTS_PER_S,
        says="Events validated, hashed and made durable, 64 units of 8 events to a commit.",
        at_least=40_000,
    ),
    "verify": Kind(bench="recorder", unit=EVENTS_PER_S, says="Events verified by `audit verify`.", at_least=100_000),
    "verify_deep": Kind(
        bench="recorder", unit=EVENTS_PER_S, says="Events verified with schemas, `audit verify --deep`."
    ),
    "decision": Kind(
        bench="gate",
        unit=US,
        says="Deciding about one call of a session that holds many grants, one of which fits; nothing is recorded.",
        at_most=8,
    ),
    "decision_denied": Kind(
        bench="gate", unit=US, says="The same where none fits, with what is missing and what is held."
    ),
    "decision_growth": Kind(
        bench="gate",
        unit=TIMES,
        says="Deciding about a call that fits: most grants to fewest.",
        at_most=1.5,
        sizes_in="µs",
    ),
    "call_begun": Kind(
        bench="gate",
        unit=US,
        says="One tool call of 64 at a time, of a session with 200 grants: checked, decided, its start recorded.",
        at_most=100,
    ),
    "call": Kind(bench="gate", unit=US, says="The same to its recorded outcome, of a tool that answers at once."),
    "call_denied": Kind(bench="gate", unit=US, says="The same where it is denied."),
    "path_check": Kind(
        bench="gate",
        unit=US,
        says="Opening a file for a tool of a session with 200 granted folders: beneath the workspace, then judged.",
        at_most=25,
    ),
    "sandbox_start": Kind(
        bench="gate",
        unit=MS,
        says="Running a command that does nothing in the sandbox, over running it bare.",
        at_most=25,
    ),
    "import_handshake": Kind(bench="start", unit=MS, says="A whole process that imports `handshake`.", at_most=150),
    "first_use": Kind(bench="start", unit=MS, says="A whole process that also resolves `open_workspace`."),
    "handshake_help": Kind(bench="start", unit=MS, says="A whole process `handshake --help`.", at_most=250),
    "memory_import": Kind(bench="start", unit=MIB, says="Peak memory of a process that imports `handshake`."),
    "memory_open": Kind(bench="start", unit=MIB, says="Peak memory of a process that opens a workspace for work."),
    "memory_idle_sessions": Kind(
        bench="start",
        unit=MB,
        says="Memory of 10 000 open sessions between two turns, above that of the runtime before they were made.",
        at_most=60,
    ),
    "simulated_hours": Kind(
        bench="simulator",
        unit=HOURS_PER_S,
        says="Simulated hours per second of a few sessions with a turn an hour, every commit checked.",
        at_least=30,
    ),
    "seeds": Kind(
        bench="simulator",
        unit=SEEDS_PER_S,
        says="Seeds of the scenario `standard` per second, one after the other on one core, every commit checked.",
        at_least=5,
    ),
}
"""Every figure of every bench, in the order in which they are shown."""

FLOORS: dict[str, str] = {
    "runs": "A bare loop that writes the same rows with the same SQL, 64 runs to a commit, two commits to a run.",
    "alone_durable": "The same loop with one run to a commit.",
    "events_durable": "A bare loop that inserts the same finished events in the same commits.",
    "verify": "Reading every event and hashing its bytes.",
    "path_check": "Opening the same file by its whole path, with nothing checked.",
    "import_handshake": "A process that does nothing.",
}
"""What the floors are, by the first figure that is held to each."""


def kinds(bench: str) -> dict[str, Kind]:
    """Return the figures of one bench, or of all of them."""
    return {name: kind for name, kind in TABLE.items() if bench in ("all", kind.bench)}


def rounded(value: float) -> float:
    """Return four significant digits: more would pretend."""
    return float(f"{value:.4g}")


def median(values: Sequence[float]) -> float:
    """Return the median."""
    return statistics.median(values)


def figure(
    name: str,
    rounds: Sequence[float],
    *,
    floors: Sequence[float] = (),
    peers: Mapping[str, float] | None = None,
    by_size: Mapping[int, float] | None = None,
) -> Figure:
    """Return a figure from what its rounds gave.

    Args:
        name: its key in `TABLE`.
        rounds: one value per round.
        floors: the floor of each round, or one for all; the ratio is the median of the rounds' ratios.
        peers: what others do.
        by_size: the medians for each size.
    """
    against = list(floors) * len(rounds) if len(floors) == 1 else list(floors)
    ratios = [one / floor for one, floor in zip(rounds, against, strict=True)] if against else []
    return Figure(
        value=rounded(median(rounds)),
        unit=TABLE[name].unit,
        floor=rounded(median(floors)) if floors else None,
        ratio_to_floor=rounded(median(ratios)) if ratios else None,
        peers={peer: rounded(value) for peer, value in peers.items()} if peers else None,
        by_size={str(size): rounded(value) for size, value in by_size.items()} if by_size else None,
        low=rounded(min(rounds)) if len(rounds) > 1 else None,
        high=rounded(max(rounds)) if len(rounds) > 1 else None,
    )


def goals(name: str) -> list[str]:
    """Return the goals of a figure as they are shown."""
    kind = TABLE[name]
    bounds = ((kind.at_least, "≥ {:g}"), (kind.at_most, "≤ {:g}"), (kind.floor_ratio_at_least, "≥ {:g} of the floor"))
    return [words.format(bound) for bound, words in bounds if bound is not None]


def missed(name: str, one: Figure) -> list[str]:
    """Return the goals that a figure does not reach, as `goals` shows them."""
    kind = TABLE[name]
    ratio = one.ratio_to_floor or 0.0
    reached = (
        (kind.at_least, kind.at_least is not None and one.value >= kind.at_least),
        (kind.at_most, kind.at_most is not None and one.value <= kind.at_most),
        (kind.floor_ratio_at_least, kind.floor_ratio_at_least is not None and ratio >= kind.floor_ratio_at_least),
    )
    set_goals = [is_reached for bound, is_reached in reached if bound is not None]
    return [goal for goal, is_reached in zip(goals(name), set_goals, strict=True) if not is_reached]
