from __future__ import annotations

import jsonschema_rs
import pytest

from handshake.kernel.catalogue.tools import SideEffect
from handshake.kernel.tool import Asking, OutputTrust, ToolDefinition, admit
from handshake.kernel.tools import files, web
from tests.requirement import requirement

SHIPPED = (*files.DEFINITIONS, *web.DEFINITIONS)


@requirement("gate.registry.nothing_defaults")
@pytest.mark.parametrize("definition", SHIPPED, ids=lambda one: one.tool_id)
def test_every_shipped_tool_is_classified_and_its_schemas_compile(definition: ToolDefinition) -> None:
    assert admit(definition) == definition
    for schema in (definition.input_schema, definition.output_schema):
        jsonschema_rs.validator_for(schema)
        assert schema["additionalProperties"] is False


def test_what_changes_something_names_where_as_a_sink_and_needs_a_capability() -> None:
    for definition in SHIPPED:
        assert definition.required_capabilities
        assert bool(definition.sinks) == (definition.side_effect is not SideEffect.READ)


def test_a_request_to_the_web_leaves_the_machine_and_its_answer_is_not_trusted() -> None:
    (request,) = web.DEFINITIONS
    assert (request.is_egress, request.asks, request.output_trust) == (True, Asking.UNLESS_FIXED, OutputTrust.UNTRUSTED)
