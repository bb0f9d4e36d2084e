"""Tests of grant invariants: what they hold, and that each break is found."""

from __future__ import annotations

from typing import Any

import pytest

from handshake.kernel.approval import Approval, ApprovalKind
from handshake.kernel.event import Context
from handshake.kernel.grant import Lifetime
from handshake.kernel.ids import SessionId
from handshake.operations import grant_requests, grants
from handshake.operations.grant_requests import GrantRequest, wanted
from handshake.ports.store import Tx
from tests.running import Stage


async def staged() -> tuple[Stage, SessionId, str]:
    """Return a stage with a session that was made with a grant, was given another, and had it used and taken back."""
    stage = await Stage.open()
    session_id = await stage.create(grants=wanted(["fs.read"]), wp_id="W")
    approval = Approval(
        approval_id=stage.new_id(), session_id=session_id, role="coder", kind=ApprovalKind.OPERATOR,
        lifetime=Lifetime.WORK_PACKET, user_id="operator", created_at_us=1,
    )  # fmt: skip
    asked = wanted([GrantRequest(capability="fs.write", max_uses=1)])
    given = grant_requests.to_grants(approval, stage.session(session_id), asked, iter([stage.new_id()]))

    def unit(tx: Tx) -> None:
        grants.give(tx, approval, given, Context(model_session_id=session_id))
        grants.count_use(tx, [given[0].grant_id])
        grants.revoke(tx, approval.approval_id, by="operator")

    await stage.store.write(unit)
    return stage, session_id, given[0].grant_id


async def test_what_operations_store_holds() -> None:
    stage, _, _ = await staged()
    assert len(stage.check().of("capability.granted")) == 2


@pytest.mark.parametrize(
    ("query", "given"),
    [
        ("grant_use", {"bytes": 0, "amount": 0}),
        ("grant_revoke", {"now_us": 1, "by": "nobody", "grant_id": "model"}),
        ("approval_revoke", {"now_us": 1, "by": "nobody", "approval_id": "session"}),
    ],
)
async def test_what_nobody_told_is_found(query: str, given: dict[str, Any]) -> None:
    stage, session_id, grant_id = await staged()
    meant = {"model": session_id, "session": session_id}
    values = {"grant_id": grant_id, **given}
    values = {name: meant.get(str(value), value) for name, value in values.items()}
    await stage.store.write(lambda tx: tx.run(query, values))
    with pytest.raises(AssertionError):
        stage.check()
