"""JSON Schema: schemas compiled once, which then say of a value whether and where it does not fit.

References are followed inside a schema only, patterns take linear time, and what is told of a fault holds no value.

Source:
    gate.envelope.validated_both_ways, gate.arguments.are_strict (02 §2, §4).
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from typing import Any

import jsonschema_rs
import msgspec

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.tool_schema import Misfit

MAX_PATTERN_BYTES = 1024 * 1024
"""Memory of one compiled pattern: a pattern that repeats repetitions is refused."""
MAX_SENTENCE_CHARS = 300
"""What is told of one fault."""

_PATTERNS = jsonschema_rs.RegexOptions(size_limit=MAX_PATTERN_BYTES, dfa_size_limit=MAX_PATTERN_BYTES)
_MASK = "the value"


class CompiledSchema:
    """A schema, ready to be held against values.

    Args:
        schema: JSON Schema 2020-12.

    Raises:
        InvalidRequest: field `schema`, reason `schema_invalid`: it does not compile.
    """

    def __init__(self, schema: Mapping[str, Any]) -> None:
        try:
            self._validator = jsonschema_rs.Draft202012Validator(
                dict(schema), pattern_options=_PATTERNS, offline=True, mask=_MASK
            )
        except (ValueError, TypeError, RecursionError):
            raise InvalidRequest(field="schema", reason="schema_invalid") from None

    def misfit(self, value: Any) -> Misfit | None:
        """Return the first place at which `value` does not fit, or None; what is no JSON fits nothing."""
        try:
            if self._validator.is_valid(value):
                return None
            fault = next(iter(self._validator.iter_errors(value)))
        except (ValueError, TypeError, RecursionError):
            return Misfit("", "type", "it is no JSON")
        place = "".join(f"/{one}" for one in fault.instance_path)
        rule = next((one for one in reversed(fault.schema_path) if isinstance(one, str)), "schema")
        return Misfit(_line(place), rule, _line(fault.message))


@cache
def envelope_schemas() -> tuple[CompiledSchema, CompiledSchema]:
    """Return the schemas of an HTC-1.0 request and response, from the file that ships with the package."""
    text = (files("handshake.gate") / "htc-1.0.schema.json").read_bytes()
    definitions = msgspec.json.decode(text)["$defs"]
    request, response = (
        CompiledSchema({"$ref": f"#/$defs/{one}", "$defs": definitions}) for one in ("request", "response")
    )
    return request, response


def _line(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text[:MAX_SENTENCE_CHARS])
