"""Grant invariants: what is true of grants and approvals at every moment, whatever happened to a workspace."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from handshake.kernel.approval import ApprovalKind
from handshake.kernel.grant import Grant, Lifetime
from handshake.kernel.session import Session
from handshake.kernel.settings import MAX_PAGE_ITEMS
from handshake.operations import grants
from handshake.operations.grants import GrantView
from handshake.ports.store import Reader


def check_grants(
    reader: Reader,
    sessions: Sequence[Session],
    given: Sequence[Mapping[str, Any]],
    revoked: Sequence[Mapping[str, Any]],
) -> None:
    """Check that every grant rests on an approval that was told, is used no more than it says, and ends as told.

    Args:
        reader: the workspace.
        sessions: all of them.
        given: payloads of `capability.granted`, in order.
        revoked: payloads of `capability.revoked`, in order.

    Source:
        capability.grant.traces_to_token, capability.sinks.are_constrained, capability.revoke.acts_at_once (02 §1).
    """
    views = list(_views(reader))
    by_id = {one.session_id: one for one in sessions}
    told = {str(one["approval_id"]): one for one in given}
    assert len(told) == len(given), "an approval was told twice"
    by_approval: dict[str, list[Grant]] = defaultdict(list)
    for view in views:
        one, session = view.grant, by_id[view.grant.session_id]
        by_approval[one.approval_id].append(one)
        assert view.role == session.role, f"{one.grant_id}: approved for another role"
        assert one.lifetime is not Lifetime.WORK_PACKET or one.wp_id == session.wp_id, f"{one.grant_id}: work packet"
        assert one.lifetime is not Lifetime.TURN or one.turn_id is not None, f"{one.grant_id}: of no turn"
        _check_uses(one)
        if one.grant_id == session.session_id:
            model = f"model.{session.backend.value}:{session.provider_id}/{session.model_id}"
            assert str(one.capability) == model, f"{session.session_id}: approved for another model"
            assert (view.kind, view.revoked_at_us) == (ApprovalKind.SESSION, None), f"{session.session_id}: its model"
        else:
            assert told[one.approval_id]["session_id"] == one.session_id, f"{one.grant_id}: of another session"
    models = Counter(one.grant_id for views_ in by_approval.values() for one in views_ if one.grant_id in by_id)
    assert models == Counter(by_id.keys()), "a session without the grant of its model"
    for approval_id, payload in told.items():
        assert payload["grant_count"] == len(by_approval[approval_id]), f"approval {approval_id}: another count"
    ended = {str(one["grant_id"] or one["approval_id"]) for one in revoked}
    stored = {one.grant.grant_id for one in views if one.revoked_at_us is not None}
    assert stored == {
        one.grant.grant_id for one in views if {one.grant.grant_id, one.grant.approval_id} & (ended - by_id.keys())
    }, "the log tells other revocations"


def _check_uses(one: Grant) -> None:
    bounds = one.constraints
    assert one.lifetime is not Lifetime.ONCE or one.uses <= 1, f"{one.grant_id}: used more than once"
    for used, most in ((one.uses, bounds.max_uses), (one.bytes, bounds.max_bytes), (one.amount, bounds.max_amount)):
        assert most is None or used <= most, f"{one.grant_id}: used up to {used} of {most}"


def _views(reader: Reader) -> Iterator[GrantView]:
    after = ""
    while page := grants.listed(reader, after=after, limit=MAX_PAGE_ITEMS, revoked=True):
        yield from page
        after = page[-1].grant.grant_id
