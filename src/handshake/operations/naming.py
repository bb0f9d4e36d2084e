"""Naming: from what a person writes to the values of the kernel: models, roles, lanes and policies."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from decimal import Decimal
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import TypeVar

from handshake.kernel.budget import BudgetType
from handshake.kernel.errors import InvalidRequest, Unsupported
from handshake.kernel.ids import ModelId, ProviderId, is_uuid
from handshake.kernel.schema import Unfit, expectation, fields_of, plain, read
from handshake.kernel.section import MAX_NAME_CHARS
from handshake.kernel.settings import BudgetSettings, Dialect, Settings
from handshake.kernel.suggestion import suggest

RESERVED_ROLES = ("operator", "frontend", "orchestrator", "worker", "coder", "validator")
NOT_ACCEPTED = (
    "the configuration in .handshake/ names more, but came with the repository or was changed by it; "
    "look at it, and accept it: handshake policy trust"
)
_PACK_ROLE = re.compile(r"rolepack:[a-z0-9][a-z0-9_.-]{0,30}/[a-z0-9][a-z0-9_.-]{0,20}")
_TOKEN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.:/-]{0,63}")
_E = TypeVar("_E", bound=StrEnum)


def model(name: str, settings: Settings, left_out: Collection[str] = ()) -> tuple[ProviderId, ModelId]:
    """Return provider and model of `PROVIDER/MODEL` or of an alias.

    Args:
        name: what a person wrote.
        settings: what is configured.
        left_out: keys of a configuration that nobody has accepted yet, of which the error tells.

    Raises:
        InvalidRequest: no such provider or alias, or no usable name; with a suggestion.
        Unsupported: the provider speaks no dialect that this program does.
    """
    require_name("model", name)
    for pattern, target in settings.aliases.items():
        if fnmatchcase(name, pattern):
            name = target
            break
    provider, slash, model_name = name.partition("/")
    if provider not in settings.providers or not slash or not model_name:
        known = sorted(settings.providers)
        near = suggest(provider, known)
        hint = f"did you mean {near}/{model_name or 'MODEL'}?" if near else _how_to_name(known)
        raise InvalidRequest(
            field="model",
            reason="unknown_provider" if slash else "not_provider_slash_model",
            providers=known,
            hint=NOT_ACCEPTED if any(key.startswith(("providers.", "aliases.")) for key in left_out) else hint,
        )
    if Dialect.OPENAI_CHAT not in settings.providers[provider].dialects:
        raise Unsupported(field="dialects", provider_id=provider, needs=Dialect.OPENAI_CHAT.value)
    return ProviderId(provider), ModelId(model_name)


def role(name: str) -> str:
    """Return a role name that is reserved or belongs to a pack.

    Raises:
        InvalidRequest: neither.
    """
    if name in RESERVED_ROLES or _PACK_ROLE.fullmatch(name):
        return name
    near = suggest(name, RESERVED_ROLES) if len(name) <= MAX_NAME_CHARS else None
    raise InvalidRequest(
        field="role",
        reason="unknown_role",
        hint=f"did you mean {near}?" if near else f"one of {', '.join(RESERVED_ROLES)}, or rolepack:PACK/ROLE",
    )


def choice(kind: type[_E], field: str, name: str) -> _E:
    """Return the member of `kind` that `name` spells, in either case.

    Raises:
        InvalidRequest: there is none; with a suggestion.
    """
    words = [str(member.value) for member in kind]
    for member in kind:
        if name in (member.value, member.value.lower()):
            return member
    near = suggest(name, words) if len(name) <= MAX_NAME_CHARS else None
    raise InvalidRequest(
        field=field, reason="unknown", hint=f"did you mean {near}?" if near else f"one of {', '.join(words)}"
    )


def token(field: str, word: str) -> str:
    """Return a word that may stand as a token in events.

    Raises:
        InvalidRequest: it may not.
    """
    if _TOKEN.fullmatch(word):
        return word
    raise InvalidRequest(field=field, reason="not_a_token", hint="letters, digits and _ . : / -, at most 64")


def budget(tokens: int | None, usd: Decimal | str | None, calls: int | None) -> dict[BudgetType, int]:
    """Return the limits of a session's budget that are given.

    Raises:
        InvalidRequest: one is out of range, or USD have more places than a millionth.
    """
    kinds = {field.encode_name: field.type for field in fields_of(plain(BudgetSettings))}
    given = {
        BudgetType.TOKENS: ("tokens", tokens),
        BudgetType.USD_MICRO: ("usd", usd),
        BudgetType.CALLS: ("calls", calls),
    }
    limits: dict[BudgetType, int] = {}
    for kind, (name, value) in given.items():
        if value is None:
            continue
        try:
            most = read(value, kinds[name], is_text=isinstance(value, str))
        except Unfit:
            wanted = expectation(kinds[name])
            raise InvalidRequest(field=f"budget_{name}", reason="out_of_range", expected=wanted) from None
        assert isinstance(most, int), "budgets are whole numbers of their units"
        limits[kind] = most
    return limits


def session_id(text: str) -> str:
    """Return an id that a caller chose for a new session.

    Raises:
        InvalidRequest: it is not a UUID in lower case.
    """
    if is_uuid(text):
        return text
    raise InvalidRequest(field="session_id", reason="not_a_uuid")


def require_name(field: str, name: str | None) -> str | None:
    """Return a name that may stand in records: one line, not empty, not too long.

    Raises:
        InvalidRequest: it may not.
    """
    if name is None:
        return None
    if not name or len(name) > MAX_NAME_CHARS or not name.isprintable():
        raise InvalidRequest(field=field, reason="not_a_name", limit_chars=MAX_NAME_CHARS)
    return name


def _how_to_name(known: Iterable[str]) -> str:
    names = ", ".join(known)
    return f"write PROVIDER/MODEL with one of: {names}" if names else "configure a provider in .handshake/config.toml"
