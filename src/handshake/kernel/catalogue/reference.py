"""Reference: the catalogue as rows and as JSON Schemas, for the generated documents."""

from __future__ import annotations

from enum import StrEnum
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import msgspec

from handshake.kernel import fields
from handshake.kernel.event import EventType, Payload, Retention, registry

_KINDS: dict[Any, str] = {
    bool: "bool",
    fields.Count: "Count",
    fields.Id: "Id",
    fields.Name: "Name",
    fields.Sha256: "Sha256",
    fields.Timestamp: "Timestamp",
    fields.Token: "Token",
    fields.Usd: "Usd",
}


class FieldRow(msgspec.Struct, frozen=True):
    """One field of a payload; a field of a nested record or of a list's items has a dotted name."""

    name: str
    kind: str
    optional: bool
    """Whether it may be left out."""
    nullable: bool
    """Whether it may stand there as null; an optional field is never written as null."""


class Row(msgspec.Struct, frozen=True):
    """One type of the catalogue."""

    type: str
    fr_id: str | None
    version: int
    retention: Retention
    in_session: bool
    fields: tuple[FieldRow, ...]
    summary: str


def table() -> tuple[Row, ...]:
    """Return every type, by name."""
    return tuple(_row(kind) for _, kind in sorted(registry().items()))


def json_schemas() -> dict[str, dict[str, Any]]:
    """Return the JSON Schema (2020-12) of every type's payload, by type."""
    return {name: msgspec.json.schema(kind.payload) for name, kind in sorted(registry().items())}


def _row(kind: EventType) -> Row:
    return Row(
        type=kind.name,
        fr_id=kind.fr_id,
        version=kind.version,
        retention=kind.retention,
        in_session=kind.in_session,
        fields=tuple(_field_rows(kind.payload, "")),
        summary=kind.summary,
    )


def _field_rows(payload: type[Payload], prefix: str) -> list[FieldRow]:
    hints = get_type_hints(payload, include_extras=True)
    rows: list[FieldRow] = []
    for field in msgspec.structs.fields(payload):
        annotation = hints[field.name]
        nullable = NoneType in get_args(annotation)
        kind, nested = _kind(_without_none(annotation))
        name = prefix + field.encode_name
        rows.append(FieldRow(name, kind, optional=not field.required, nullable=nullable and field.required))
        if nested is not None:
            rows.extend(_field_rows(nested, f"{name}[]." if kind.startswith("list") else f"{name}."))
    return rows


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) in (Union, UnionType):
        rest = [one for one in get_args(annotation) if one is not NoneType]
        if len(rest) == 1:
            return rest[0]
    return annotation


def _kind(annotation: Any) -> tuple[str, type[Payload] | None]:
    """Return the name of a kind, and the record whose fields follow it, if it holds one."""
    if annotation in _KINDS:
        return _KINDS[annotation], None
    if get_origin(annotation) is Literal:
        return " | ".join(get_args(annotation)), None
    if isinstance(annotation, type) and issubclass(annotation, StrEnum):
        return " | ".join(annotation), None
    if isinstance(annotation, type) and issubclass(annotation, Payload):
        return "record", annotation
    if get_origin(annotation) is Annotated:
        return _bounded_kind(*get_args(annotation))
    raise TypeError(f"no kind of field: {annotation!r}")


def _bounded_kind(annotation: Any, meta: msgspec.Meta) -> tuple[str, type[Payload] | None]:
    if annotation is int:
        return f"integer from {meta.ge} to {meta.le}", None
    kind, nested = _kind(get_args(annotation)[0])
    return f"list of {kind}, at most {meta.max_length}", nested
