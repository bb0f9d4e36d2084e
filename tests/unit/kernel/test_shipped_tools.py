from __future__ import annotations

import pytest

from handshake.gate.json_schema import CompiledSchema
from handshake.kernel.capability import CapabilityRegistry
from handshake.kernel.catalogue.tools import SideEffect
from handshake.kernel.tool import Asking, OutputTrust, ToolDefinition
from handshake.kernel.tool_registry import ToolRegistry, ToolSource
from handshake.kernel.tools import discovery, web
from handshake.kernel.tools.shipped import DEFINITIONS as SHIPPED
from tests.requirement import requirement


@requirement("gate.registry.nothing_defaults")
@pytest.mark.parametrize("definition", SHIPPED, ids=lambda one: one.tool_id)
def test_every_shipped_tool_is_classified_and_its_schemas_compile(definition: ToolDefinition) -> None:
    tool = ToolRegistry(CapabilityRegistry(), CompiledSchema).register(definition, ToolSource.RUNTIME)
    assert tool.definition == definition
    for schema in (definition.input_schema, definition.output_schema):
        assert schema["additionalProperties"] is False


def test_every_shipped_tool_stands_once_in_the_order_of_its_id() -> None:
    ids = [one.tool_id for one in SHIPPED]
    assert ids == sorted(set(ids))


def test_what_changes_something_names_where_as_a_sink_and_needs_a_capability() -> None:
    for definition in SHIPPED:
        assert bool(definition.sinks) == (definition.side_effect is not SideEffect.READ)
        assert bool(definition.required_capabilities) or definition in discovery.DEFINITIONS


def test_a_request_to_the_web_leaves_the_machine_and_its_answer_is_not_trusted() -> None:
    (request,) = web.DEFINITIONS
    assert (request.is_egress, request.asks, request.output_trust) == (True, Asking.UNLESS_FIXED, OutputTrust.UNTRUSTED)
