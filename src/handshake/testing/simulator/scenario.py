"""Scenario: what a simulation is told: providers and their moods, sessions, clients, faults, and how long it lasts.

The structs are the schema of the TOML files: a field is a key, its `Meta` the range. Names of tables are free.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated

from msgspec import Meta, Struct, field

from handshake.kernel.job import DEFAULT_PRIORITY, LOWEST_PRIORITY
from handshake.kernel.lane import Lane
from handshake.kernel.section import Text
from handshake.kernel.settings import MAX_TOOL_CALLS_PER_ANSWER, ProviderName, Settings

MAX_MS = 30 * 24 * 3_600_000
"""Longest span of a scenario: a month."""

Ms = Annotated[int, Meta(ge=0, le=MAX_MS)]
Percent = Annotated[int, Meta(ge=0, le=100)]
Words = Annotated[int, Meta(ge=0, le=1_000_000)]
Bytes = Annotated[int, Meta(ge=1, le=1 << 20)]
Count = Annotated[int, Meta(ge=1, le=100_000)]
Calls = Annotated[int, Meta(ge=1, le=MAX_TOOL_CALLS_PER_ANSWER // 2)]
Budget = Annotated[int, Meta(ge=0, le=1_000_000_000)]
Weight = Annotated[int, Meta(ge=0, le=1_000)]
Seconds = Annotated[int, Meta(ge=0, le=86_400)]
Operations = Annotated[int, Meta(ge=1, le=1_000_000)]
EntryName = Annotated[
    str, Meta(min_length=1, max_length=40, pattern="^[a-z][a-z0-9-]*$", extra={"expected": "lower-case words with -"})
]


class Form(StrEnum):
    """What kind of answer a provider gives."""

    STREAM = "stream"
    WHOLE = "whole"
    STATUS = "status"
    GARBAGE = "garbage"
    ENDLESS = "endless"
    HANG = "hang"
    REFUSE = "refuse"
    STUCK = "stuck"


class Framing(StrEnum):
    """How an answer says how long its body is, truly or not."""

    CHUNKED = "chunked"
    RIGHT = "right"
    TOO_SHORT = "too_short"
    TOO_LONG = "too_long"
    UNTIL_CLOSE = "until_close"


class FaultKind(StrEnum):
    """What happens to the runtime, its disk or its clock."""

    STOP = "stop"
    CRASH = "crash"
    POWER_LOSS = "power_loss"
    DISK_FULL = "disk_full"
    DISK_BROKEN = "disk_broken"
    CLOCK_JUMP = "clock_jump"
    SUSPEND = "suspend"
    STANDSTILL = "standstill"


class Entry(Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """A table of a scenario."""


class AnswerPlan(Entry, frozen=True, kw_only=True):
    """One way of a provider to answer; lengths and waits vary by half around what is said here."""

    form: Annotated[Form, Meta(description="What it is.")] = Form.STREAM
    words: Annotated[Words, Meta(description="Length of the text.")] = 8
    first_byte_ms: Annotated[
        Ms, Meta(description="From the request to the first byte; of the form `stuck`, how long nobody comes back.")
    ] = 300
    gap_ms: Annotated[Ms, Meta(description="Between two chunks.")] = 20
    chunk_bytes: Annotated[Bytes, Meta(description="Bytes that arrive at once.")] = 512
    status: Annotated[int, Meta(ge=300, le=599, description="Of the form `status`.")] = 503
    retry_after_s: Annotated[Seconds | None, Meta(description="The header, in seconds.")] = None
    framing: Annotated[Framing, Meta(description="What it says of its length.")] = Framing.CHUNKED
    cut_percent: Annotated[Percent, Meta(description="Chance that the connection is reset, at any byte.")] = 0
    usage: Annotated[bool, Meta(description="Whether it tells how many tokens it took.")] = True
    finish: Annotated[Text, Meta(description="The finish reason.")] = "stop"
    calls: Annotated[dict[EntryName, Weight], Meta(description="Weights of calls of tools, of which it draws.")] = (
        field(default_factory=dict)
    )
    calls_percent: Annotated[Percent, Meta(description="Chance that it asks for tools, if it has calls.")] = 100
    calls_at_once: Annotated[Calls, Meta(description="How many calls then, about.")] = 1


class CallPlan(Entry, frozen=True, kw_only=True):
    """A call that a model may ask for, of a tool that is there, or of none."""

    tool: Annotated[Text, Meta(description="The tool's id.")]
    arguments: Annotated[Text, Meta(description="The exact text of the arguments.")] = "{}"


class ToolPlan(Entry, frozen=True, kw_only=True):
    """How a simulated tool behaves: `read`, `write`, or `send`, which always asks a person."""

    ms: Annotated[Ms, Meta(description="How long a call takes, about.")] = 500
    fail_percent: Annotated[Percent, Meta(description="Calls that fail.")] = 0
    hang_percent: Annotated[Percent, Meta(description="Calls that do not come back by themselves.")] = 0
    trusted_percent: Annotated[Percent, Meta(description="Results that count as trusted content.")] = 100


class ProviderPlan(Entry, frozen=True, kw_only=True):
    """How one provider answers: names of answers and their weights."""

    answers: Annotated[dict[EntryName, Weight], Meta(description="Weights of answers.")]


class Weather(Entry, frozen=True, kw_only=True):
    """A time in which a provider answers otherwise."""

    provider: Annotated[ProviderName, Meta(description="Whose.")]
    answer: Annotated[EntryName, Meta(description="How.")]
    from_ms: Annotated[Ms, Meta(description="Since when.")] = 0
    for_ms: Annotated[Ms, Meta(description="How long.")] = MAX_MS
    percent: Annotated[Percent, Meta(description="Of the calls.")] = 100


class SessionPlan(Entry, frozen=True, kw_only=True):
    """Some sessions of one kind."""

    count: Annotated[Count, Meta(description="How many.")] = 1
    model: Annotated[Text, Meta(description="PROVIDER/MODEL.")]
    lane: Annotated[Lane, Meta(description="Their lane.")] = Lane.PRIMARY
    role: Annotated[Text, Meta(description="Their role.")] = "worker"
    wp: Annotated[Text | None, Meta(description="Their work packet.")] = None
    budget_tokens: Annotated[Budget | None, Meta(description="Tokens that each of them may take.")] = None
    budget_calls: Annotated[Budget | None, Meta(description="Calls that each of them may make.")] = None
    grants: Annotated[
        tuple[Text, ...], Meta(max_length=8, description="What each of them may do: paths, or folders with /**.")
    ] = ()


class ClientPlan(Entry, frozen=True, kw_only=True):
    """Who sends turns to some sessions, one after the other, and what else they do there.

    `*_percent` are chances per turn.
    """

    sessions: Annotated[EntryName, Meta(description="Which sessions.")]
    turns: Annotated[Count, Meta(description="Turns in each of them.")] = 5
    start_ms: Annotated[Ms, Meta(description="When they begin.")] = 0
    gap_ms: Annotated[Ms, Meta(description="Between two turns; 0: all at once.")] = 2_000
    waits: Annotated[bool, Meta(description="Whether a turn waits for the answer before it.")] = False
    words: Annotated[Words, Meta(description="Length of a turn.")] = 6
    priority: Annotated[int, Meta(ge=0, le=LOWEST_PRIORITY, description="Of the turns.")] = DEFAULT_PRIORITY
    timeout_ms: Annotated[Ms | None, Meta(description="Of a call; absent: the configured one.")] = None
    max_output_tokens: Annotated[Count | None, Meta(description="Longest answer that is asked for.")] = None
    cancel_percent: Annotated[Percent, Meta(description="The turn is cancelled, at any moment.")] = 0
    cancel_again_percent: Annotated[Percent, Meta(description="A cancelled or finished turn is cancelled again.")] = 0
    repeat_percent: Annotated[Percent, Meta(description="The turn is sent twice with the same key.")] = 0
    pause_percent: Annotated[Percent, Meta(description="The session is paused, and resumed later.")] = 0
    pause_ms: Annotated[Ms, Meta(description="How long a pause lasts.")] = 20_000
    revoke_percent: Annotated[Percent, Meta(description="All that the session was given is taken back.")] = 0
    end_percent: Annotated[Percent, Meta(description="The session is cancelled in the end, else completed.")] = 0


class FaultPlan(Entry, frozen=True, kw_only=True):
    """Something that goes wrong, once or again and again; moments vary by chance."""

    kind: Annotated[FaultKind, Meta(description="What.")]
    at_ms: Annotated[Ms, Meta(description="About when, for the first time.")] = 0
    every_ms: Annotated[Ms | None, Meta(description="About how often after that; absent: once.")] = None
    times: Annotated[Count, Meta(description="How often at most.")] = 1
    for_ms: Annotated[Ms, Meta(description="How long it lasts, or how far a clock jumps.")] = 0
    back: Annotated[bool, Meta(description="Whether a clock jumps back.")] = False
    within_operations: Annotated[
        Operations | None, Meta(description="In the middle of a disk operation, one of so many.")
    ] = None


class RunPlan(Entry, frozen=True, kw_only=True):
    """How long it lasts and how closely it is looked at."""

    description: Annotated[Text, Meta(description="What it shows.")]
    settle_ms: Annotated[Ms, Meta(description="Time in which all must end after the last turn and fault.")] = 3_600_000
    check_all_every_commits: Annotated[Count, Meta(description="How often everything is checked.")] = 400
    drain_ms: Annotated[Ms, Meta(description="How long a stop waits for what runs.")] = 5_000
    operator_ms: Annotated[Ms, Meta(description="How long what waits for a person waits.")] = 30_000
    denies_percent: Annotated[Percent, Meta(description="How much of it the person denies.")] = 20
    restart_ms: Annotated[Ms, Meta(description="How long a runtime is away after a crash.")] = 2_000


class Scenario(Struct, frozen=True, kw_only=True):
    """A whole scenario."""

    name: str
    run: RunPlan
    settings: Settings
    answers: dict[str, AnswerPlan]
    providers: dict[str, ProviderPlan]
    sessions: dict[str, SessionPlan]
    clients: dict[str, ClientPlan]
    calls: dict[str, CallPlan] = field(default_factory=dict)
    tools: dict[str, ToolPlan] = field(default_factory=dict)
    weather: dict[str, Weather] = field(default_factory=dict)
    faults: dict[str, FaultPlan] = field(default_factory=dict)


TABLES: Mapping[str, type[Entry]] = {
    "answers": AnswerPlan,
    "calls": CallPlan,
    "tools": ToolPlan,
    "providers": ProviderPlan,
    "sessions": SessionPlan,
    "clients": ClientPlan,
    "weather": Weather,
    "faults": FaultPlan,
}
"""What each free table holds."""
