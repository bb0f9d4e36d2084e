"""The catalogue holds every type of 06 §3 with its id and fields, and no place for content."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import msgspec
import pytest
from msgspec import inspect

from handshake.kernel import catalogue
from handshake.kernel.catalogue import Row, json_schemas, registry, table
from handshake.kernel.event import FORBIDDEN_KEYS, EventType, Payload, Retention
from handshake.kernel.units import MAX_SAFE_INTEGER
from tests.requirement import requirement

LONGEST_STRING_CHARS = 200

# Transcribed from 06 §3 (and 01 §7, 05 §4): type, id, and the fields that the row names.
SPECIFIED = """
session.created | FR-EVT-SESS-001 | session_id model_id backend role wp_id mt_id memory_policy spawn_depth
session.state_change | FR-EVT-SESS-002 | session_id from_state to_state reason
session.completed | FR-EVT-SESS-003 | session_id status total_tokens total_cost_usd duration_ms messages_count
session.message | FR-EVT-SESS-004 | session_id message_id role content_hash content_artifact_id token_count \
source_kind trusted
session.budget_warning | FR-EVT-SESS-005 | session_id budget_type current_value threshold_value
session_scheduler.enqueue | FR-EVT-SESS-SCHED-001 | session_id job_id lane priority concurrency_group
session_scheduler.dispatch | FR-EVT-SESS-SCHED-002 | session_id job_id lane queue_wait_ms session_state_after
session_scheduler.rate_limited | FR-EVT-SESS-SCHED-003 | session_id job_id provider backoff_ms attempt
session_scheduler.cancelled | FR-EVT-SESS-SCHED-004 | session_id job_id reason cancelled_by
session.spawn_requested | FR-EVT-SESS-SPAWN-001 | requester_session_id child_role spawn_depth spawn_mode
session.spawn_accepted | FR-EVT-SESS-SPAWN-002 | requester_session_id child_session_id child_role spawn_depth
session.spawn_rejected | FR-EVT-SESS-SPAWN-003 | requester_session_id rejection_reason spawn_depth active_children_count
session.announce_back | FR-EVT-SESS-SPAWN-004 | child_session_id requester_session_id status summary_artifact_id \
mailbox_message_id
session.cascade_cancel | FR-EVT-SESS-SPAWN-005 | root_session_id cancelled_session_ids skipped_session_ids reason
cloud_escalation_requested | FR-EVT-CLOUD-001 | request_id reason requested_model_id job_id trace_id wp_id mt_id \
projection_plan_id payload_sha256 local_attempts
cloud_escalation_approved | FR-EVT-CLOUD-002 | request_id reason requested_model_id job_id trace_id wp_id mt_id \
projection_plan_id payload_sha256 consent_receipt_id local_attempts outcome
cloud_escalation_denied | FR-EVT-CLOUD-003 | request_id reason requested_model_id job_id trace_id wp_id mt_id \
denial_code local_attempts outcome
cloud_escalation_executed | FR-EVT-CLOUD-004 | request_id reason requested_model_id job_id trace_id wp_id mt_id \
projection_plan_id payload_sha256 consent_receipt_id attempt local_attempts outcome
consent.draw_settled | - | draw_id job_id attempt state bytes_sent
consent.receipt_issued | - | consent_receipt_id consent_scope session_ids presence plan_sha256 payload_sha256
consent.receipt_revoked | - | consent_receipt_id cancelled_job_ids session_ids
consent.receipt_drawn | - | consent_receipt_id draw_id job_id plan_sha256 payload_sha256
consent.receipt_expired | - | consent_receipt_id consent_scope session_ids
consent.scope_widened | - | consent_receipt_id consent_scope session_ids presence plan_sha256
consent.denied | - | session_ids plan_sha256 payload_sha256
policy.changed | - | key from to user_id
provider.locality_declared | - | provider_id origin note_sha256
key.created | - | key_id kind policy_sha256
key.revoked | - | key_id kind policy_sha256
llm_inference | FR-EVT-006 | session_state_after trace_id model_id token_usage latency_ms time_to_first_token_ms \
prompt_hash response_hash finish_reason error_code
tool_call | FR-EVT-007 | actor args_hash result_hash args_ref result_ref tool_call_id trace_id session_id tool_id \
tool_version ok error timing resources transport executed_by
capability.decision | - | capability_id actor_id session_id tool_id decision_outcome reason missing \
capability_registry_version
trust.system_injection_rejected | - | source_kind source_session_id content_hash
trust.cross_session_read | - | source_kind source_session_id content_hash
trust.turn_tainted | - | source_kind source_session_id content_hash
trust.debug_scope_opened | - | session_id expires_at
pack.built | - | role wp_id mt_id requested_pack_sha256 effective_pack_sha256 redactions omitted_count
pack.reused | - | role wp_id mt_id requested_pack_sha256 effective_pack_sha256 redactions omitted_count
pack.rejected | - | role wp_id mt_id requested_pack_sha256 effective_pack_sha256 redactions omitted_count
pack.bound | - | role wp_id mt_id requested_pack_sha256 effective_pack_sha256 redactions omitted_count
model_swap_requested | FR-EVT-MODEL-001 | {swap}
model_swap_completed | FR-EVT-MODEL-002 | {swap}
model_swap_failed | FR-EVT-MODEL-003 | {swap}
model_swap_timeout | FR-EVT-MODEL-004 | {swap}
model_swap_rollback | FR-EVT-MODEL-005 | {swap}
work_profile_selected | FR-EVT-PROFILE-001 | {profile}
work_profile_changed | FR-EVT-PROFILE-002 | {profile}
work_profile_resolved | FR-EVT-PROFILE-003 | {profile}
gov_decision_created | FR-EVT-GOV-001 | {decision}
gov_decision_applied | FR-EVT-GOV-002 | {decision}
gov_auto_signature_created | FR-EVT-GOV-003 | {decision}
gov_human_intervention_requested | FR-EVT-GOV-004 | {decision}
gov_human_intervention_received | FR-EVT-GOV-005 | {decision}
gov_mailbox_message_created | FR-EVT-GOV-MAILBOX-001 | thread_id message_id from_role to_roles message_type body_ref \
body_sha256 idempotency_key
gov_mailbox_exported | FR-EVT-GOV-MAILBOX-002 | index_sha256 messages_count threads_count
gov_mailbox_transcribed | FR-EVT-GOV-MAILBOX-003 | thread_id message_id target_kind target_ref
micro_task_loop_started | FR-EVT-MT-001 | wp_id
micro_task_iteration_started | FR-EVT-MT-002 | wp_id mt_id iteration level model_id pack_sha256
micro_task_iteration_complete | FR-EVT-MT-003 | wp_id mt_id iteration level model_id pack_sha256 decision \
verifier_outcome verifier_refs
micro_task_complete | FR-EVT-MT-004 | wp_id mt_id iteration level model_id verifier_outcome verifier_refs
micro_task_escalated | FR-EVT-MT-005 | wp_id mt_id iteration requested_pack_sha256 effective_pack_sha256
micro_task_hard_gate | FR-EVT-MT-006 | wp_id mt_id iteration level
micro_task_pause_requested | FR-EVT-MT-007 | wp_id mt_id iteration
micro_task_resumed | FR-EVT-MT-008 | wp_id mt_id iteration
micro_task_loop_completed | FR-EVT-MT-009 | wp_id completed_count iterations_count
micro_task_loop_failed | FR-EVT-MT-010 | wp_id completed_count iterations_count
micro_task_loop_cancelled | FR-EVT-MT-011 | wp_id completed_count iterations_count
micro_task_validation | FR-EVT-MT-012 | wp_id mt_id iteration verifier_outcome verifier_refs
micro_task_drop_back | FR-EVT-MT-013 | wp_id mt_id
micro_task_distillation_candidate | FR-EVT-MT-014 | wp_id mt_id
micro_task_skipped | FR-EVT-MT-015 | wp_id mt_id iteration level
micro_task_blocked | FR-EVT-MT-016 | wp_id mt_id iteration level model_id
workflow_recovery | FR-EVT-WF-RECOVERY | workflow_run_id job_id from_state to_state reason last_heartbeat_ts \
threshold_secs
checkpoint.created | - | session_id checkpoint_id trigger
recovery.attempted | - | session_id result reason
security_violation | - | violation_type guard_name trigger action_taken
budget.paused | - |
provider.breaker_opened | - | provider_id
provider.breaker_closed | - | provider_id
workspace.denied | - | session_id
workspace.merged | - | session_id
workspace.merge_conflict | - | session_id
export.blocked | - |
debug_bundle_export | FR-EVT-005 |
meta.gc_summary | - |
meta.checkpoint_signed | - | root_hash tree_size key_id
""".format(
    swap="request_id current_model_id target_model_id role reason swap_strategy state_hash context_compile_ref outcome "
    "requested_pack_sha256 effective_pack_sha256",
    profile="profile_id previous_profile_id resolved_models automation_level allow_cloud_escalation",
    decision="decision_id gate_type target_ref automation_level decision confidence_permille evidence_refs user_id",
)

ADDED = {
    "session_scheduler.retry", "session_scheduler.wait_reason", "session_scheduler.ended", "capability.granted",
    "capability.revoked",
}  # fmt: skip
"""Types beyond 06 §3: what a run goes through without an answer of a model, and what people give and take back."""

AUDIT_PREFIXES = (
    "capability.", "cloud_escalation_", "consent.", "export.", "gov_", "key.", "meta.", "policy.",
    "provider.locality", "security_violation", "session.announce", "session.cascade", "session.spawn", "trust.",
    "work_profile_",
)  # fmt: skip

Specified = tuple[str, str | None, frozenset[str]]


def specified() -> list[Specified]:
    rows: list[Specified] = []
    for line in SPECIFIED.strip().splitlines():
        name, fr_id, fields = (part.strip() for part in line.split("|"))
        rows.append((name, None if fr_id == "-" else fr_id, frozenset(fields.split())))
    return rows


KINDS = sorted(registry().values(), key=lambda kind: kind.name)


@pytest.mark.parametrize(("name", "fr_id", "fields"), specified())
def test_every_specified_type_stands_with_its_id_and_fields(name: str, fr_id: str | None, fields: set[str]) -> None:
    kind = registry()[name]
    assert kind.fr_id == fr_id
    assert fields <= set(kind.payload.__struct_encode_fields__)


@requirement("recorder.registry.no_duplicates")
def test_no_type_and_no_id_stands_twice_and_none_is_unknown_to_the_specification() -> None:
    rows = table()
    assert Counter(row.type for row in rows).most_common(1)[0][1] == 1
    assert Counter(row.fr_id for row in rows if row.fr_id).most_common(1)[0][1] == 1
    assert {row.type for row in rows} == {name for name, _, _ in specified()} | ADDED
    assert not any(row.fr_id == "FR-EVT-CLOUD-005" for row in rows)


def test_every_payload_is_handed_out_by_the_package_and_says_what_it_is_for() -> None:
    for kind in KINDS:
        assert getattr(catalogue, kind.payload.__name__) is kind.payload
        assert kind.payload.__name__ in catalogue.__all__
        assert kind.summary.endswith(".")
        assert (kind.version, kind.payload.__struct_config__.frozen) == (1, True)


def test_evidence_of_consent_trust_and_governance_is_kept_longest() -> None:
    for kind in KINDS:
        if kind.name.startswith(AUDIT_PREFIXES):
            assert kind.retention is Retention.AUDIT, kind.name
    assert registry()["llm_inference"].retention is Retention.RUN
    assert registry()["checkpoint.created"].retention is Retention.VOLUME


def test_types_of_a_session_demand_one() -> None:
    free = {kind.name for kind in KINDS if not kind.in_session}
    for kind in KINDS:
        field = {field.name: field for field in msgspec.structs.fields(kind.payload)}.get("session_id")
        needs = field is not None and field.required and type(None) not in _members(field.type)
        assert not (needs and kind.name in free), kind.name
    assert {"llm_inference", "consent.draw_settled", "session.spawn_rejected"}.isdisjoint(free)
    assert {"policy.changed", "meta.checkpoint_signed", "tool_call"} <= free


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_fields_are_alphabetical_ascii_and_hold_no_content(kind: EventType) -> None:
    for record in records(inspect.type_info(kind.payload)):
        names = [field.encode_name for field in record.fields]
        assert names == sorted(names)
        assert all(name.isascii() for name in names)
        assert FORBIDDEN_KEYS.isdisjoint(names)
        assert record.forbid_unknown_fields
        assert issubclass(record.cls, Payload)
        assert record.cls.__struct_config__.omit_defaults


@requirement("recorder.schema.enforced")
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_nothing_in_a_schema_is_unbounded(kind: EventType) -> None:
    for leaf in leaves(inspect.type_info(kind.payload)):
        match leaf:
            case inspect.StrType(max_length=longest, min_length=shortest):
                assert (longest or LONGEST_STRING_CHARS + 1) <= LONGEST_STRING_CHARS
                assert shortest
            case inspect.IntType(ge=least, le=most):
                assert least == 0
                assert (most or MAX_SAFE_INTEGER + 1) <= MAX_SAFE_INTEGER
            case inspect.VarTupleType(max_length=longest):
                assert longest
            case inspect.EnumType() | inspect.LiteralType() | inspect.BoolType() | inspect.NoneType():
                pass
            case _:
                pytest.fail(f"{kind.name} has a field of a kind that is not of kernel.fields: {leaf!r}")


def test_optional_fields_are_left_out_and_never_null() -> None:
    for kind in KINDS:
        for record in records(inspect.type_info(kind.payload)):
            assert all(field.default is None for field in record.fields if not field.required), kind.name


def test_rows_tell_what_the_documents_need() -> None:
    rows = {row.type: row for row in table()}
    assert [row.type for row in table()] == sorted(rows)
    assert fields_of(rows["session_scheduler.dispatch"]) == [
        "attempt Count",
        "job_id Id",
        "lane PRIMARY | VALIDATION | SUBAGENT | BACKGROUND",
        "queue_wait_ms Count",
        "session_id Id",
        "session_state_after CREATED | IDLE | ACTIVE | PAUSED | BLOCKED | COMPLETED | FAILED | CANCELLED optional",
    ]
    assert "token_usage record nullable" in fields_of(rows["llm_inference"])
    assert "token_usage.total_tokens Count optional" in fields_of(rows["llm_inference"])
    assert fields_of(rows["policy.changed"])[0] == "from Name nullable"
    assert "redactions list of record, at most 16" in fields_of(rows["pack.built"])
    assert "redactions[].category Token" in fields_of(rows["pack.built"])
    assert "outcome denied" in fields_of(rows["cloud_escalation_denied"])
    assert "confidence_permille integer from 0 to 1000 optional" in fields_of(rows["gov_decision_created"])


def test_every_type_has_a_json_schema_that_is_closed() -> None:
    schemas = json_schemas()
    assert set(schemas) == set(registry())
    for name, schema in schemas.items():
        for record in schema["$defs"].values():
            if record.get("type") == "object":
                assert record["additionalProperties"] is False, name
                assert list(record["properties"]) == sorted(record["properties"]), name


def fields_of(row: Row) -> list[str]:
    marks = {"optional": "optional", "nullable": "nullable"}
    return [
        " ".join([field.name, field.kind, *(mark for name, mark in marks.items() if getattr(field, name))])
        for field in row.fields
    ]


def records(kind: inspect.Type) -> Iterator[inspect.StructType]:
    for part in parts(kind):
        if isinstance(part, inspect.StructType):
            yield part


def leaves(kind: inspect.Type) -> Iterator[inspect.Type]:
    for part in parts(kind):
        if not isinstance(part, inspect.StructType | inspect.UnionType):
            yield part


def parts(kind: inspect.Type) -> Iterator[inspect.Type]:
    yield kind
    match kind:
        case inspect.StructType(fields=fields):
            for field in fields:
                yield from parts(field.type)
        case inspect.UnionType(types=types):
            for one in types:
                yield from parts(one)
        case inspect.VarTupleType(item_type=item):
            yield from parts(item)


def _members(annotation: object) -> tuple[object, ...]:
    return getattr(annotation, "__args__", ())
