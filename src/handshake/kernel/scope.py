"""Scope: per axis, how a scope is read, spelled, compared and looked up; the one table of what scopes mean.

`home` and `homes` make finding cheap: whatever contains a scope has its `home` among the scope's `homes`.

Source:
    capability.axis.contains_scopes (02 §1).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from handshake.kernel import command_pattern, glob, http_scope, path_glob
from handshake.kernel.errors import UnknownCapability


class Axis(StrEnum):
    """What a capability is about."""

    FS_READ = "fs.read"
    FS_WRITE = "fs.write"
    PROC_EXEC = "proc.exec"
    NET_HTTP = "net.http"
    DEVICE = "device"
    SECRETS_USE = "secrets.use"
    SESSION_SPAWN = "session.spawn"
    MAILBOX_SEND = "mailbox.send"
    MODEL_LOCAL = "model.local"
    MODEL_CLOUD = "model.cloud"
    ARTIFACT_READ = "artifact.read"
    MEMORY_WRITE = "memory.write"


class Terms(NamedTuple):
    """What scopes of one axis mean. A form is what `parse` gave; only the functions beside it know its type."""

    parse: Callable[[str], Any]
    spell: Callable[[Any], str]
    contains: Callable[[Any, Any], bool]
    overlaps: Callable[[Any, Any], bool]
    home: Callable[[Any], str]
    homes: Callable[[Any], tuple[str, ...]]
    is_literal: Callable[[Any], bool]
    is_closed: Callable[[Any], bool]
    """Whether no scope contains it, nor the bare axis."""
    as_meant: Callable[[Any], Any]
    """What a person means who writes the scope in a rule."""


def _never(_form: object) -> bool:
    return False


def _itself(form: Any) -> Any:
    return form


def _text(text: str) -> str:
    if not text or not text.isprintable() or text != text.strip():
        raise UnknownCapability(axis="scope", reason="character" if text else "empty")
    return text


def _name(text: str) -> str:
    if glob.WILD in text:
        raise UnknownCapability(axis="scope", reason="pattern")
    return _text(text)


def _model(text: str) -> str:
    provider, slash, model = text.partition("/")
    if not text.isprintable():
        raise UnknownCapability(axis="model", reason="character")
    if not (provider and slash and model) or (glob.WILD in provider and provider != glob.WILD):
        raise UnknownCapability(axis="model", reason="expected_provider_and_model")
    return text


def _model_contains(held: str, wanted: str) -> bool:
    mine, _, pattern = held.partition("/")
    theirs, _, model = wanted.partition("/")
    return mine in (theirs, glob.WILD) and glob.matches(pattern, model)


def _model_overlaps(one: str, other: str) -> bool:
    mine, _, pattern = one.partition("/")
    theirs, _, model = other.partition("/")
    return (mine == theirs or glob.WILD in (mine, theirs)) and glob.overlaps(pattern, model)


def _pattern_home(form: str) -> str:
    return "" if glob.WILD in form else form


def _pattern_homes(form: str) -> tuple[str, ...]:
    return ("", form)


def _path_home(form: path_glob.Segments) -> str:
    return "/".join(path_glob.literal_start(form))


def _path_homes(form: path_glob.Segments) -> tuple[str, ...]:
    start = path_glob.literal_start(form)
    return tuple("/".join(start[:count]) for count in range(len(start) + 1))


def _paths(*, writing: bool) -> Terms:
    return Terms(
        path_glob.parse,
        path_glob.spell,
        path_glob.contains,
        path_glob.overlaps,
        _path_home,
        _path_homes,
        path_glob.is_literal,
        lambda form: path_glob.is_closed(form, writing=writing),
        path_glob.with_all_inside,
    )


_NAMES = Terms(
    _name,
    _itself,
    str.__eq__,
    str.__eq__,
    _itself,
    lambda form: (form,),
    lambda _form: True,
    _never,
    _itself,
)
_PATTERNS = Terms(
    _text,
    _itself,
    glob.matches,
    glob.overlaps,
    _pattern_home,
    _pattern_homes,
    lambda form: glob.WILD not in form,
    _never,
    _itself,
)
_MODELS = _PATTERNS._replace(parse=_model, contains=_model_contains, overlaps=_model_overlaps)
_COMMANDS = Terms(
    command_pattern.parse,
    command_pattern.spell,
    command_pattern.contains,
    command_pattern.overlaps,
    lambda form: str(form.executable),
    lambda form: (form.executable,),
    lambda form: bool(form.is_literal),
    command_pattern.is_closed,
    _itself,
)
_REQUESTS = Terms(
    http_scope.parse,
    http_scope.spell,
    http_scope.contains,
    http_scope.overlaps,
    http_scope.home,
    http_scope.homes,
    lambda form: bool(form.is_literal),
    _never,
    _itself,
)

TERMS: Mapping[str, Terms] = {
    Axis.FS_READ.value: _paths(writing=False),
    Axis.FS_WRITE.value: _paths(writing=True),
    Axis.PROC_EXEC.value: _COMMANDS,
    Axis.NET_HTTP.value: _REQUESTS,
    Axis.DEVICE.value: _NAMES,
    Axis.SECRETS_USE.value: _NAMES,
    Axis.SESSION_SPAWN.value: _PATTERNS,
    Axis.MAILBOX_SEND.value: _PATTERNS,
    Axis.MODEL_LOCAL.value: _MODELS,
    Axis.MODEL_CLOUD.value: _MODELS,
    Axis.ARTIFACT_READ.value: _NAMES,
    Axis.MEMORY_WRITE.value: _NAMES,
}
"""By axis; an axis that is not here does not exist."""
