"""Settings: what a workspace can be told, with defaults and bounds, and the bounds that nobody can change.

The structs are the schema of the configuration (07 §1): a field is a key, its `Meta` the range that
`kernel.configuration` holds every layer to. No key, value or variable switches a check off.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from msgspec import Meta, field

from handshake.kernel.grant_settings import PolicyRules
from handshake.kernel.lane import MAX_WEIGHT, Lane
from handshake.kernel.mcp_settings import McpSettings
from handshake.kernel.provider_settings import (
    MAX_SLOTS,
    PRICE_PLACES,
    Dialect,
    GroupName,
    ModelSettings,
    ProviderSettings,
    RequestsPerMinute,
    Slots,
    TokensPerMinute,
    ToolSupport,
)
from handshake.kernel.sandbox_settings import SandboxSettings
from handshake.kernel.section import Section, Text, Url

__all__ = ["MAX_SLOTS", "Dialect", "ModelSettings", "ProviderSettings", "ToolSupport"]

# ── Bounds that no configuration changes ───────────────────────────────────────────────────────────────────

MAX_MESSAGE_BYTES = 8 * 1024 * 1024
"""One message: no model's context holds more text, and one cannot fill a request alone."""
MAX_REQUEST_BYTES = 32 * 1024 * 1024
"""One request body, also one built from a thread (08, HSK-413-TOO-LARGE)."""
MAX_TOOLS_PER_REQUEST = 1_000
"""Tools that one request offers a model."""
MAX_WIRE_NAME_CHARS = 64
"""Longest name of a tool that providers take."""
MAX_TOOL_CALLS_PER_ANSWER = 128
"""Calls that a model asks for at once."""
MAX_TOOL_ARGUMENTS_BYTES = 2 * 1024 * 1024
"""Arguments of all calls of one answer: no model writes more, and each must fit a message, escaped."""
MAX_CALL_ID_CHARS = 256
"""Longest id that a provider gives a call."""
MAX_CALLED_NAME_CHARS = 256
"""Longest name of a tool that a model may write, there or not."""
MAX_ERROR_BODY_BYTES = 64 * 1024
"""What is kept of a provider's error body: enough to see why, small enough to stay inline."""
MAX_INLINE_ARTIFACT_BYTES = 64 * 1024
"""Artifacts up to this size live in the store, in the transaction of what refers to them; larger ones are files."""
MAX_ARTIFACT_BYTES = 256 * 1024 * 1024
"""One artifact; the largest thing that is ever hashed in one go."""
MIN_FREE_BYTES = 64 * 1024 * 1024
"""Below this much free space no new intent is accepted; outcomes may use it."""
OFF_LOOP_BYTES = 256 * 1024
"""From this size on, bytes are read and hashed off the event loop: a millisecond is what a loop turn may cost."""

MAX_IDEMPOTENCY_KEY_CHARS = 255
"""What client libraries allow themselves."""

MAX_BATCH_UNITS = 256
"""Units of work that share one commit: beyond some hundred a batch only adds waiting."""
BUSY_TIMEOUT_MS = 5_000
"""Longest wait for another process's read lock on the database."""
PAGE_BYTES = 8_192
"""A database page; measured, 4 096 and less cost more per commit of a full batch."""
PAGE_CACHE_KIB = 8_192
"""Pages the writer keeps: SQLite looks over all of them at each commit, and the operating system keeps the rest."""
WAL_AUTOCHECKPOINT_PAGES = 2_000
"""Log length at which it is copied into the database: 16 MB, so that a crash replays little."""
OUTCOME_RETRY_MS = 250
"""First wait before an outcome that could not be stored is tried again, which goes on as long as the process lives."""
MAX_OUTCOME_RETRY_DOUBLINGS = 6
"""How often that wait is doubled: up to 16 s, so that what was repaired is noticed soon."""
BALLAST_BYTES = 4 * 1024 * 1024
"""A file that is given up when the disk is full, so that outcomes can be written: some hundred of them."""
MAX_READ_CONNECTIONS = 4
"""Readers away from the event loop at once: more only wait for two cores."""
MAX_WAITING_UNITS = 8_192
"""Units of work that wait for the writer before callers are made to wait as well."""
MAX_OPEN_TURNS_PER_SESSION = 1_000
"""Turns that wait in one session: a caller in a loop cannot fill the queue."""
MAX_DEBUG_SCOPE_S = 4 * 3_600
"""Longest debug relaxation of a session: who needs more grants what is needed."""
DEFAULT_DEBUG_SCOPE_S = 15 * 60
"""Debug relaxation when nobody says how long."""
MAX_WRITE_SCOPES = 256
"""Scopes that one session writes in: each is compared with those of all others that write."""
MAX_RUNS_PER_TURN = 256
"""Calls of one turn: a model that never stops asking for tools is stopped."""
MAX_QUEUED_RUNS = 1_000_000
"""Runs that wait in one workspace: what the in-memory index was measured with, and some."""
MAX_REFUSED_RUNS_PER_BATCH = 256
"""Queued runs that one commit ends because they do not fit under a budget; the next are looked at soon after."""
MAX_RESTING_BUDGETS = 10_000
"""Sessions without work whose budgets stay in memory, so that their next run need not read them: some megabytes."""
ASSUMED_OUTPUT_TOKENS = 4_096
"""Tokens that an answer is expected to have when neither its sender nor the configuration gives its longest."""
MAX_OUTPUT_TOKENS = 100_000_000
"""Tokens of the longest answer that anyone may ask for."""
MAX_CALL_TOKENS = 2**31
"""Tokens that a provider may say one call took; a greater figure is no figure. So sums stay below 2**53."""

DESK_RECOVERY_EXPIRY_S = 7 * 86_400
"""How long a lost run waits for a person before it is failed (01 §2)."""
DESK_TOOL_APPROVAL_EXPIRY_S = 86_400
"""How long a call of a tool waits for a person before it is refused and its run goes on."""
MAX_ASKED_CALLS_PER_SESSION = 100
"""Calls of one session and of none of its runs that wait for a person at one time."""
MAX_RECOVERIES = 100
"""Times in a row that a lost run may be queued again at most: a run that ends every runtime must come to a person."""

MAX_PATH_CHARS = 1_024
"""A workspace-relative path: what tools are asked for and what they show."""
MAX_PATH_DEPTH = 64
"""Folders above a file; a deeper tree is not walked either."""
MAX_PATH_STEP_BYTES = 255
"""One name in a folder: no common file system has longer ones."""
MAX_TOOL_FILE_BYTES = 8 * 1024 * 1024
"""A file that tools write, patch or search whole; of a larger one a range can be read."""
MAX_WALKED_ENTRIES = 200_000
"""Names that one call looks at: a large repository with its dependencies, in a second or two."""
MAX_LISTED_ENTRIES = 2_000
"""Names that one call returns at most."""
MAX_SEARCHED_BYTES = 256 * 1024 * 1024
"""What one search reads at most."""
MAX_FOUND_LINES = 1_000
"""Lines that one search returns at most."""
MAX_FOUND_LINE_CHARS = 400
"""How much of a found line is shown: minified files have lines of megabytes."""
MAX_QUERY_CHARS = 512
"""What is searched for."""
MAX_PATTERN_PROGRAM_BYTES = 32 * 1024
"""What a regular expression compiles to: its size is what one step of the matching costs, at worst 5 µs."""
MAX_PATTERN_LINE_CHARS = 4_096
"""How much of a line is matched: nothing else of the process runs while one is, at worst 20 ms."""
MAX_PATCHED_FILES = 64
"""Files of one patch."""
MAX_FILE_EDITS = 256
"""Replacements, or hunks, in one file of a patch."""
MAX_WEB_HEADERS = 32
"""Headers of a tool's request, and of the answer as it is shown."""
MAX_WEB_HEADER_CHARS = 1_000
"""The name or the value of one."""
MAX_WEB_BODY_BYTES = 4 * 1024 * 1024
"""The body of a tool's request, and what is kept of an answer's."""
MAX_OFFERED_TOOLS = 50
"""Tools that one search for tools returns: more is no answer."""
MAX_FILE_THREADS = 4
"""Calls of file tools that are carried out at once: more only wait for the same disk."""
MAX_WALK_THREADS = 2
"""Listings and searches that are carried out at once, besides."""

MAX_COMMAND_PROCESSES = 256
"""Processes of one sandboxed command: a parallel build fits, a fork bomb does not get far."""
MAX_COMMAND_MEMORY_BYTES = 4 * 1024**3
"""Memory that the processes of one command hold together."""
MAX_COMMAND_ADDRESS_FACTOR = 16
"""Address space over memory: engines that reserve much and use little may run."""
MAX_COMMAND_FILE_BYTES = 1024**3
"""One file that a command writes."""
MAX_COMMAND_DISK_BYTES = 2 * 1024**3
"""By which the free space of a disk may shrink while a command runs."""
MAX_COMMAND_SCRATCH_BYTES = 512 * 1024**2
"""A command's private folder for temporary files; it is memory where it can be."""
MAX_COMMAND_OPEN_FILES = 4_096
MAX_COMMAND_KEPT_BYTES = 128 * 1024
"""What is kept of each output of a command, half from its beginning and half from its end."""
MAX_COMMAND_DRAINED_BYTES = 256 * 1024**2
"""What a command may write to its outputs before it is ended: a flood costs time, and nobody reads it."""
MAX_COMMAND_PLACES = 1_024
"""Folders and files that one command is given to write to, or that are hidden from it, or that lie around them."""
MAX_COMMAND_LOOKED_AT = 50_000
"""Entries of folders that are looked at to find those places."""
MAX_COMMAND_ARGUMENTS = 256
MAX_COMMAND_ARGUMENT_CHARS = 32_768
MAX_COMMAND_INPUT_CHARS = 1024 * 1024
MAX_COMMAND_VARIABLES = 64
MAX_COMMAND_VARIABLE_CHARS = 4_096
MAX_COMMAND_MS = 600_000
"""What a call of `process.run` may be: longer work is a verification or a job of its own."""
DEFAULT_COMMAND_MS = 120_000
COMMAND_GRACE_MS = 300
"""Between asking a command to end and killing it; with what follows less than a second."""
COMMAND_END_MS = 5_000
"""How long a launcher that was told to end may take before it is killed itself, and its command with it."""

DEFAULT_PAGE_ITEMS = 50
"""Items of a list when nobody says how many."""
MAX_PAGE_ITEMS = 1_000
"""Items of a list in one answer; the rest is behind the cursor."""
LOG_PAGE_EVENTS = 1_024
"""Events that are verified or proved in one go: as many as between two checkpoints, about 1 MiB."""

MAX_CONFIG_BYTES = 256 * 1024
"""One configuration file: thousands of models fit."""
MAX_CONFIG_LINE_CHARS = 4_096
"""One of its lines: TOML readers take quadratic time for one endless dotted key."""
MAX_GIT_INDEX_BYTES = 256 * 1024 * 1024
"""A repository's index: millions of files; in a larger one nobody can tell what git brings."""
GIT_LIMIT_S = 300
"""One command of the runtime's own git: hashing a large repository once."""
MAX_GIT_OUTPUT_BYTES = 256 * 1024 * 1024
"""What such a command may answer: the names of a large repository."""
MAX_WORKTREE_FILES = 500_000
"""Files of one session's worktree."""
MAX_TRUST_RECORD_BYTES = 64 * 1024
"""What the user's state folder knows of one workspace folder."""
MAX_PROVIDERS = 100
MAX_MODELS_PER_PROVIDER = 1_000
MAX_ALIASES = 1_000
MAX_CONCURRENCY_GROUPS = 1_000
"""Entries of the free tables: every dispatch looks into them."""

MAX_CALL_MS = 24 * 3_600_000
"""Longest call: a day; a longer one is a leak."""
MAX_BUDGET_USD_MICRO = 1_000_000_000 * 1_000_000
"""Largest budget: a billion dollars; sums of it stay below 2**53."""
MAX_BUDGET_COUNT = 10**15
"""Most tokens or calls of a budget."""
MAX_WORK_PACKET_BUDGETS = 1_000
"""Work packets with a budget of their own: every choice of the scheduler may look at each."""
MAX_TOOL_ID_CHARS = 128
"""An MCP server's tool has its server's name before its own."""
MAX_TOOL_VERSION_CHARS = 32
MAX_TOOL_DESCRIPTION_CHARS = 8_192
"""What a model reads of one tool, besides its schema."""
MAX_TOOL_SCHEMA_BYTES = 64 * 1024
"""One schema of a tool; servers exist whose schemas have tens of kilobytes."""
MAX_TOOL_SCHEMA_DEPTH = 48
"""Deepest nesting of a schema."""
MAX_TOOL_SCHEMA_NODES = 20_000
"""Parts of a schema that one value may be held to, references written out: some milliseconds."""
MAX_TOOL_POINTERS = 64
"""Sinks of a tool, and as many arguments that are content."""
MAX_TOOL_CAPABILITIES = 32
"""Templates of a tool; one may stand for every item of an argument."""
MAX_TOOL_TEMPLATE_CHARS = 256
"""One template, or one pointer."""
MAX_REQUIRED_CAPABILITIES = 256
"""Capabilities that one call may require: a call about more things is several calls."""
MAX_INLINE_PAYLOAD_BYTES = 32 * 1024
"""Arguments or a result inside an envelope; longer ones are artifacts (02 §3)."""
MAX_TOOL_PAYLOAD_BYTES = 8 * 1024 * 1024
"""Arguments or a result at all: what a message may hold."""
MAX_ENVELOPE_BYTES = 64 * 1024
"""One HTC-1.0 request as it comes: inline arguments, whitespace, and the rest."""
MAX_TOOL_ARGUMENT_DEPTH = 32
"""Deepest nesting of arguments: no schema that a person could read needs more."""
GATE_DECISION_MS = 5_000
"""Longest time that a decision may take; a later one is a no."""
MAX_TRUSTED_TEXT_BYTES = 1024 * 1024
"""What operators said in a session, newest first, as far as it is searched for the values of sinks."""
MAX_TOOLS = 4_096
"""Tools of one workspace, those of MCP servers included."""
MAX_MAILBOX_TEXT_CHARS = 32 * 1024
"""Text of one message between roles: what is longer is an artifact that the message names."""
MAX_MAILBOX_SUMMARY_CHARS = 280
"""Its summary (04 §6)."""
MAX_MAILBOX_BODY_BYTES = 128 * 1024
"""Its whole body: any text that is allowed, in whatever script."""
MAX_MAILBOX_REFERENCES = 64
"""Artifacts that one message names, and as many roles that it goes to."""
MAX_MAILBOX_LINKS = 16
"""Transcriptions of one message, and as many actions that it suggests."""
MAX_MAILBOX_THREADS = 100_000
"""Threads of one workspace: an export looks at each."""
MAX_MAILBOX_THREAD_MESSAGES = 10_000
"""Messages of one thread: an export holds one thread at a time."""
MAX_MAILBOX_WAITING_MESSAGES = 256
"""Messages to one role that nobody has taken note of; the next sender is refused (04 §6)."""
MAILBOX_MESSAGES_PER_S = 8
"""Messages that one role may send, in the long run (04 §6)."""
MAILBOX_BURST_MESSAGES = 32
"""Messages that one role may send at once after a rest (04 §6)."""
MAILBOX_FULL_RETRY_MS = 1_000
"""When a sender may look again whose receiver has too many: nobody knows when those are read."""


# ── Kinds of value ─────────────────────────────────────────────────────────────────────────────────────────

CallMs = Annotated[int, Meta(ge=1, le=MAX_CALL_MS)]
GraceMs = Annotated[int, Meta(ge=1_000, le=3_600_000)]
ResponseBytes = Annotated[int, Meta(ge=1_024, le=MAX_ARTIFACT_BYTES)]
OpenSessions = Annotated[int, Meta(ge=1, le=1_000_000)]
Weight = Annotated[int, Meta(ge=1, le=MAX_WEIGHT)]
BudgetCount = Annotated[int, Meta(ge=0, le=MAX_BUDGET_COUNT)]
BudgetUsd = Annotated[int, Meta(ge=0, le=MAX_BUDGET_USD_MICRO, extra={"decimal_places": PRICE_PLACES})]
"""As `Price`."""
ProviderName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=64,
        pattern="^[a-z0-9][a-z0-9_-]*$",
        extra={"expected": "1 to 64 lower-case letters, digits, - and _"},
    ),
]
ModelReference = Annotated[
    str,
    Meta(
        min_length=3,
        max_length=265,
        pattern="^[a-z0-9][a-z0-9_-]*/[ -~]+$",
        extra={"expected": "PROVIDER/MODEL"},
    ),
]


class AutomationLevel(StrEnum):
    """How much may be decided without a person, loosest first (03 §9)."""

    AUTONOMOUS = "AUTONOMOUS"
    HYBRID = "HYBRID"
    FULL_HUMAN = "FULL_HUMAN"
    LOCKED = "LOCKED"

    @classmethod
    def _missing_(cls, value: object) -> AutomationLevel | None:
        """Read the older words for HYBRID."""
        return cls.HYBRID if value in ("ASSISTED", "SUPERVISED") else None


class Approvals(StrEnum):
    """What proves that a person approved, loosest first (03 §4)."""

    ANY = "any"
    PRESENT = "present"


class LocalRuns(StrEnum):
    """What becomes of a local run whose runtime or worker was lost, loosest first (01 §8)."""

    REQUEUE = "requeue"
    DESK = "desk"
    CANCEL = "cancel"


# ── Sections ───────────────────────────────────────────────────────────────────────────────────────────────


class ProviderSlots(Section, frozen=True, kw_only=True):
    """Calls at a time to one provider."""

    cloud: Annotated[Slots, Meta(description="Of a cloud provider.")] = 32
    local: Annotated[Slots, Meta(description="Of a local provider.")] = 4


class ModelSlots(Section, frozen=True, kw_only=True):
    """Calls at a time to one model."""

    cloud: Annotated[Slots, Meta(description="Of a cloud model.")] = 16
    local: Annotated[Slots, Meta(description="Of a local model whose engine does not tell its slots.")] = 2


class LaneWeights(Section, frozen=True, kw_only=True, rename="upper"):
    """Shares of the lanes while all have work."""

    primary: Annotated[Weight, Meta(description="Share of PRIMARY.")] = 8
    validation: Annotated[Weight, Meta(description="Share of VALIDATION.")] = 4
    subagent: Annotated[Weight, Meta(description="Share of SUBAGENT.")] = 3
    background: Annotated[Weight, Meta(description="Share of BACKGROUND.")] = 1

    def of(self, lane: Lane) -> int:
        """Return the weight of `lane`."""
        return {
            Lane.PRIMARY: self.primary,
            Lane.VALIDATION: self.validation,
            Lane.SUBAGENT: self.subagent,
            Lane.BACKGROUND: self.background,
        }[lane]


class SchedulerSettings(Section, frozen=True, kw_only=True):
    """`SchedulerConfig` (01 §5)."""

    max_concurrent_runs: Annotated[Slots, Meta(description="Runs at a time in the workspace.")] = 64
    max_concurrent_per_provider: Annotated[ProviderSlots, Meta(description="Calls at a time to one provider.")] = field(
        default_factory=ProviderSlots
    )
    max_concurrent_per_model: Annotated[ModelSlots, Meta(description="Calls at a time to one model.")] = field(
        default_factory=ModelSlots
    )
    concurrency_groups: Annotated[dict[GroupName, Slots], Meta(description="Calls at a time of named groups.")] = field(
        default_factory=dict
    )
    lane_weights: Annotated[LaneWeights, Meta(description="Shares of the lanes.")] = field(default_factory=LaneWeights)
    primary_reserved_runs: Annotated[
        int, Meta(ge=0, le=MAX_SLOTS - 1, description="Slots that only PRIMARY may take; below max_concurrent_runs.")
    ] = 1
    max_open_sessions: Annotated[OpenSessions, Meta(description="Sessions that have not ended.")] = 10_000


class PolicySettings(PolicyRules, frozen=True, kw_only=True):
    """What people keep for themselves; a later layer may only tighten it."""

    automation_level: Annotated[AutomationLevel, Meta(description="What may be decided without a person.")] = (
        AutomationLevel.HYBRID
    )
    approvals: Annotated[Approvals, Meta(description="Whether an approval needs passphrase or passkey.")] = (
        Approvals.ANY
    )


class ServerSettings(Section, frozen=True, kw_only=True):
    """Where the service is reached."""

    public_url: Annotated[Url, Meta(description="The address that people and clients use.")] = "http://127.0.0.1:8484"


class RecorderSettings(Section, frozen=True, kw_only=True):
    """How often the log is signed; the bounds are the recorder's promise (06 §1)."""

    checkpoint_every_events: Annotated[int, Meta(ge=1, le=1_024, description="Events between checkpoints.")] = 1_024
    checkpoint_every_s: Annotated[int, Meta(ge=1, le=60, description="Seconds of activity between checkpoints.")] = 60


class CallSettings(Section, frozen=True, kw_only=True):
    """Bounds of one provider call (01 §4)."""

    local_timeout_ms: Annotated[CallMs, Meta(description="A whole call to a local model.")] = 120_000
    cloud_timeout_ms: Annotated[CallMs, Meta(description="A whole call to a cloud model.")] = 3_600_000
    first_byte_ms: Annotated[CallMs, Meta(description="Until the answer begins.")] = 600_000
    idle_ms: Annotated[CallMs, Meta(description="Between two pieces of an answer.")] = 300_000
    max_response_bytes: Annotated[ResponseBytes, Meta(description="Bytes of one answer.")] = 64 * 1024 * 1024


class RecoverySettings(Section, frozen=True, kw_only=True):
    """What becomes of runs that were lost; a later layer may only tighten it (01 §8)."""

    local_runs: Annotated[
        LocalRuns, Meta(description="A lost local run: queued again, put before a person, or cancelled.")
    ] = LocalRuns.REQUEUE
    max_recoveries: Annotated[
        int, Meta(ge=0, le=MAX_RECOVERIES, description="Times in a row that a lost run is queued again.")
    ] = 3
    lease_grace_ms: Annotated[
        GraceMs, Meta(description="Beyond its timeout, how long a call may take before its run is given up.")
    ] = 30_000


class BudgetSettings(Section, frozen=True, kw_only=True):
    """What may be spent; a later layer may only lower it, and an edit acts at the next start."""

    tokens: Annotated[BudgetCount | None, Meta(description="Tokens sent and answered; absent: unlimited.")] = None
    usd_micro: Annotated[BudgetUsd | None, Meta(description="USD, by the models' prices; absent: unlimited.")] = field(
        default=None, name="usd"
    )
    calls: Annotated[BudgetCount | None, Meta(description="Calls to models; absent: unlimited.")] = None


class WorkspaceBudgets(BudgetSettings, frozen=True, kw_only=True):
    """Budgets of the whole workspace and of its work packets."""

    work_packets: Annotated[dict[Text, BudgetSettings], Meta(description="Budgets of work packets.")] = field(
        default_factory=dict
    )


class LimitSettings(Section, frozen=True, kw_only=True):
    """The user layer's ceilings: no layer may be looser, and what is unset is held to them too."""

    max_concurrent_runs: Annotated[Slots | None, Meta(description="Of scheduler.max_concurrent_runs.")] = None
    max_concurrent_per_provider: Annotated[Slots | None, Meta(description="Of every provider's calls at a time.")] = (
        None
    )
    max_concurrent_per_model: Annotated[Slots | None, Meta(description="Of every model's calls at a time.")] = None
    max_open_sessions: Annotated[OpenSessions | None, Meta(description="Of scheduler.max_open_sessions.")] = None
    requests_per_minute: Annotated[RequestsPerMinute | None, Meta(description="Of every provider's rate.")] = None
    tokens_per_minute: Annotated[TokensPerMinute | None, Meta(description="Of every provider's rate.")] = None
    timeout_ms: Annotated[CallMs | None, Meta(description="Of every call, local and cloud.")] = None
    max_response_bytes: Annotated[ResponseBytes | None, Meta(description="Of calls.max_response_bytes.")] = None


class Settings(Section, frozen=True, kw_only=True):
    """The whole configuration of a workspace."""

    providers: dict[ProviderName, ProviderSettings] = field(default_factory=dict)
    aliases: Annotated[
        dict[Text, ModelReference], Meta(description="A client's name (glob) and the model it means.")
    ] = field(default_factory=dict)
    scheduler: SchedulerSettings = field(default_factory=SchedulerSettings)
    policy: PolicySettings = field(default_factory=PolicySettings)
    server: ServerSettings = field(default_factory=ServerSettings)
    recorder: RecorderSettings = field(default_factory=RecorderSettings)
    calls: CallSettings = field(default_factory=CallSettings)
    recovery: RecoverySettings = field(default_factory=RecoverySettings)
    budgets: WorkspaceBudgets = field(default_factory=WorkspaceBudgets)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    mcp: McpSettings = field(default_factory=McpSettings)
    limits: LimitSettings = field(default_factory=LimitSettings)
