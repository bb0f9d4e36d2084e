"""Program tools: functions of the program that opened the workspace, each a tool that its signature describes.

What a function may do, its author says; what the author leaves out is taken for the worst: every argument is a sink,
the result is untrusted, and a call cannot be undone or repeated.

Source:
    07 §4; gate.registry.nothing_defaults (02 §2).
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, get_type_hints

import msgspec

from handshake.kernel.catalogue.tools import SideEffect, ToolExecutor
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.pointer import escaped
from handshake.kernel.tool import (
    Asking,
    Availability,
    Determinism,
    Idempotency,
    OutputTrust,
    Reversibility,
    Risk,
    ToolDefinition,
)
from handshake.kernel.units import US_PER_MS, US_PER_S
from handshake.ports.tool import ToolContext, ToolFailed, ToolPass, ToolResult

RESULT = "result"
"""The member of a tool's result that holds what the function returned."""
DEFAULT_TIMEOUT_S = 60
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_LEAVING = ("net.http", "mailbox.send", "model.cloud", "session.spawn")
"""Axes by which arguments leave the runtime's hands."""
_RISKS = {SideEffect.READ: Risk.LOW, SideEffect.WRITE: Risk.MEDIUM, SideEffect.EXECUTE: Risk.HIGH}

Function = Callable[..., Awaitable[Any]]


class Described(msgspec.Struct, frozen=True, kw_only=True):
    """What the author of a function says of it as a tool."""

    side_effect: str
    capabilities: Sequence[str]
    name: str | None = None
    """The tool's id; `program.` and the function's name if None."""
    version: str = "1.0.0"
    description: str | None = None
    """For models; the function's docstring if None."""
    sinks: Sequence[str] | None = None
    """Names of the arguments that choose a destination, recipient or amount; all if None."""
    risk: str | None = None
    """LOW, MEDIUM or HIGH; by the side effect if None."""
    idempotent: bool = False
    trusted: bool = False
    """Whether the result may count as trusted content."""
    deferred: bool = False
    timeout_s: int = DEFAULT_TIMEOUT_S


def define(function: Function, said: Described) -> ToolDefinition:
    """Return the tool that an asynchronous function is, by its signature and what is said of it.

    Raises:
        InvalidRequest: field `function` (not `async def`, or a parameter without a name of its own or without a type
            that JSON can hold), `side_effect`, `risk` or `sinks`.
    """
    arguments = _arguments(function)
    effect = _word(SideEffect, said.side_effect, "side_effect")
    names = arguments.__struct_fields__
    sinks = names if said.sinks is None else tuple(said.sinks)
    if not set(sinks) <= set(names):
        raise InvalidRequest(field="sinks", reason="unknown_argument")
    reads = effect is SideEffect.READ
    repeatable = reads or said.idempotent
    return ToolDefinition(
        tool_id=said.name or f"program.{function.__name__.lower()}",
        tool_version=said.version,
        description=said.description or inspect.getdoc(function) or function.__name__,
        input_schema=_schema_of(arguments),
        output_schema=_schema_of(_result(function)),
        sinks=tuple(f"/{escaped(name)}" for name in sinks),
        content=tuple(f"/{escaped(name)}" for name in names if name not in sinks),
        reversibility=Reversibility.REVERSIBLE if reads else Reversibility.IRREVERSIBLE,
        side_effect=effect,
        idempotency=Idempotency.IDEMPOTENT if repeatable else Idempotency.NON_IDEMPOTENT,
        determinism=Determinism.NON_DETERMINISTIC,
        availability=Availability.ALWAYS,
        required_capabilities=tuple(said.capabilities),
        risk_level=_RISKS[effect] if said.risk is None else _word(Risk, said.risk, "risk"),
        output_trust=OutputTrust.TRUSTED if said.trusted else OutputTrust.UNTRUSTED,
        asks=Asking.AS_GRANTED,
        is_egress=any(one.partition(":")[0] in _LEAVING for one in said.capabilities),
        needs_sandbox=False,
        deferred=said.deferred,
        executed_by=ToolExecutor.RUNTIME,
        timeout_ms=said.timeout_s * US_PER_S // US_PER_MS,
    )


class ProgramTool:
    """The adapter of one function."""

    def __init__(self, function: Function, *, trusted: bool) -> None:
        self._function = function
        self._arguments = _arguments(function)
        self._is_trusted = trusted

    async def run(self, tool_pass: ToolPass, tool_id: str, args: Mapping[str, Any], context: ToolContext) -> ToolResult:
        """Call the function with the arguments in the types of its signature."""
        tool_pass.spend()
        try:
            given = msgspec.convert(args, self._arguments)
        except msgspec.ValidationError:
            raise ToolFailed("arguments", "The arguments do not fit the function.") from None
        answer = await self._function(**{name: getattr(given, name) for name in given.__struct_fields__})
        try:
            value = msgspec.to_builtins(answer)
        except (TypeError, msgspec.MsgspecError):
            raise ToolFailed("output_invalid", "The function returned what JSON cannot hold.") from None
        return ToolResult({RESULT: value}, is_trusted=self._is_trusted)

    async def close(self) -> None:
        """Nothing is open."""


def _arguments(function: Function) -> type[msgspec.Struct]:
    """Return the record of a function's arguments."""
    if not inspect.iscoroutinefunction(function):
        raise InvalidRequest(field="function", reason="not_async", hint="Write `async def`: calls are cut.")
    hints = _hints(function)
    fields: list[Any] = []
    for name, one in inspect.signature(function).parameters.items():
        if one.kind not in _NAMED or name not in hints:
            raise InvalidRequest(field="function", reason="parameter", parameter=name)
        default = msgspec.NODEFAULT if one.default is inspect.Parameter.empty else one.default
        fields.append((name, hints[name], msgspec.field(default=default)))
    return _record("Arguments", fields)


def _result(function: Function) -> type[msgspec.Struct]:
    return _record("Returned", [(RESULT, _hints(function).get("return", Any))])


def _record(name: str, fields: list[Any]) -> type[msgspec.Struct]:
    try:
        return msgspec.defstruct(name, fields, kw_only=True, forbid_unknown_fields=True)
    except (TypeError, ValueError):
        raise InvalidRequest(field="function", reason="signature") from None


def _hints(function: Function) -> dict[str, Any]:
    try:
        return get_type_hints(function, include_extras=True)
    except (NameError, TypeError):
        raise InvalidRequest(field="function", reason="types") from None


def _schema_of(record: type[msgspec.Struct]) -> dict[str, Any]:
    """Return the schema of a record, with what it refers to in it."""
    try:
        _, named = msgspec.json.schema_components([record], ref_template="#/$defs/{name}")
    except TypeError:
        raise InvalidRequest(field="function", reason="types") from None
    schema = dict(named.pop(record.__name__))
    schema.pop("title", None)
    return {**schema, "$defs": named} if named else schema


def _word(kind: Any, text: str, field: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise InvalidRequest(field=field, reason="unknown") from None
