"""MCP settings: which MCP servers a workspace uses, how each is reached, and what the operator says of its tools.

What is said of a tool only ever classifies it; whether it may be used is decided by pins and grants. A tool of which
nothing is said executes, is of HIGH risk, and asks at every call.

Source:
    gate.mcp.unmapped_asks (02 §5).
"""

from __future__ import annotations

from typing import Annotated

from msgspec import Meta, field

from handshake.kernel.section import CredentialReference, Section, Text, Url

MAX_MCP_SERVERS = 32
"""Servers of a workspace: each may be a process."""
MAX_MCP_VARIABLES = 32
"""Environment variables that one server is given."""
MAX_MCP_MAPPED_TOOLS = 1_000
"""Tools of one server of which something is said."""
MAX_MCP_SERVER_CHARS = 20
"""A server's name, which begins the id of each of its tools."""
MAX_MCP_TOOL_NAME_CHARS = 128
"""A tool's name as its server spells it; what the protocol advises."""

MCP_START_MS = 30_000
"""From starting a server to its first answer; some fetch what they need."""
MCP_LIST_MS = 30_000
"""The whole listing of a server's tools."""
MCP_RELIST_MS = 1_000
"""Between two listings that a server asks for by saying that its own changed."""
MCP_WRITE_MS = 5_000
"""One message into a server's input; a server that reads nothing for so long is given up."""
MCP_CLOSE_MS = 1_000
"""From closing a connection until its server is made to end."""
MAX_MCP_MESSAGE_BYTES = 8 * 1024 * 1024
"""One message of a server; a longer one ends the connection before it is held whole."""
MAX_MCP_PAGES = 64
"""Pages of one listing."""
MAX_MCP_UNASKED_PER_S = 1_000
"""Messages of a server in one second that answer nothing; more end the connection."""
MAX_MCP_SERVED_CALLS = 16
"""Calls of one MCP client that are decided and carried out at a time."""
MAX_MCP_ERROR_CHARS = 2_000
"""What a model is told of a server's error."""

RESERVED_SERVER_NAMES = frozenset({"client", "handshake", "mcp"})
"""Names that would read as something else: the tools of a client, and of this runtime."""

ServerName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=MAX_MCP_SERVER_CHARS,
        pattern="^[a-z0-9]+(_[a-z0-9]+)*$",
        extra={"expected": f"1 to {MAX_MCP_SERVER_CHARS} lower-case letters and digits, with single _ between them"},
    ),
]
VariableName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=100,
        pattern="^[A-Za-z_][A-Za-z0-9_]*$",
        extra={"expected": "the name of an environment variable"},
    ),
]
ToolName = Annotated[str, Meta(min_length=1, max_length=MAX_MCP_TOOL_NAME_CHARS)]
Argument = Annotated[str, Meta(min_length=1, max_length=1_000)]
Template = Annotated[str, Meta(min_length=1, max_length=256)]
Pointer = Annotated[
    str, Meta(min_length=2, max_length=256, pattern="^/.+$", extra={"expected": "a JSON pointer, such as /to or /to/*"})
]
SideEffectWord = Annotated[
    str,
    Meta(min_length=4, max_length=7, pattern="^(READ|WRITE|EXECUTE)$", extra={"expected": "READ, WRITE or EXECUTE"}),
]
RiskWord = Annotated[
    str, Meta(min_length=3, max_length=6, pattern="^(LOW|MEDIUM|HIGH)$", extra={"expected": "LOW, MEDIUM or HIGH"})
]
IdempotencyWord = Annotated[
    str,
    Meta(
        min_length=10,
        max_length=19,
        pattern="^(IDEMPOTENT|IDEMPOTENT_WITH_KEY|NON_IDEMPOTENT)$",
        extra={"expected": "IDEMPOTENT, IDEMPOTENT_WITH_KEY or NON_IDEMPOTENT"},
    ),
]
ReversibilityWord = Annotated[
    str,
    Meta(
        min_length=10,
        max_length=12,
        pattern="^(REVERSIBLE|COMPENSABLE|IRREVERSIBLE)$",
        extra={"expected": "REVERSIBLE, COMPENSABLE or IRREVERSIBLE"},
    ),
]


class McpToolSettings(Section, frozen=True, kw_only=True):
    """What the operator says of one tool of a server; a tool that is named here does not ask at every call."""

    side_effect: Annotated[SideEffectWord, Meta(description="What a call may do to the world.")] = "EXECUTE"
    risk: Annotated[RiskWord, Meta(description="How much harm a call can do.")] = "HIGH"
    reversibility: Annotated[ReversibilityWord, Meta(description="Whether what a call did can be undone.")] = (
        "IRREVERSIBLE"
    )
    idempotency: Annotated[IdempotencyWord, Meta(description="Whether the same call may be made again.")] = (
        "NON_IDEMPOTENT"
    )
    capabilities: Annotated[
        tuple[Template, ...],
        Meta(
            min_length=0, max_length=16, description="What a call requires besides the tool itself: `fs.write:{path}`."
        ),
    ] = ()
    sinks: Annotated[
        Annotated[tuple[Pointer, ...], Meta(min_length=0, max_length=64)] | None,
        Meta(description="Arguments that choose a destination, recipient or amount; absent: every argument."),
    ] = None
    content: Annotated[
        tuple[Pointer, ...], Meta(min_length=0, max_length=64, description="Arguments that are content.")
    ] = ()


class McpServerSettings(Section, frozen=True, kw_only=True):
    """One MCP server: a command on this machine, or an address; `kernel.configuration` sees to it that it is one."""

    command: Annotated[
        tuple[Argument, ...],
        Meta(min_length=1, max_length=64, description="The program to start and its arguments; no shell reads them."),
    ] = ()
    env: Annotated[
        dict[VariableName, CredentialReference],
        Meta(description="Where the value of a variable is found that the program is given; it has no others."),
    ] = field(default_factory=dict)
    cwd: Annotated[Text | None, Meta(description="The folder that it starts in, from the workspace.")] = None
    read: Annotated[
        tuple[Text, ...],
        Meta(min_length=1, max_length=16, description="Absolute folders that it may read too, such as its program's."),
    ] = ()
    network: Annotated[bool, Meta(description="Whether the program may reach the network.")] = False
    url: Annotated[Url | None, Meta(description="The address of a server that is reached over HTTP.")] = None
    credential: Annotated[
        CredentialReference | None, Meta(description="Where the bearer token for this server, and no other, is found.")
    ] = None
    run_by_operator: Annotated[Text | None, Meta(description="Why a private address may be connected to.")] = None
    tools: Annotated[dict[ToolName, McpToolSettings], Meta(description="What is said of its tools.")] = field(
        default_factory=dict
    )

    @property
    def references(self) -> tuple[str, ...]:
        """Where all credentials of the server are found."""
        return (*self.env.values(), *(() if self.credential is None else (self.credential,)))


class McpSettings(Section, frozen=True, kw_only=True):
    """MCP servers whose tools pass the gate."""

    servers: Annotated[dict[ServerName, McpServerSettings], Meta(description="Servers by name.")] = field(
        default_factory=dict
    )
