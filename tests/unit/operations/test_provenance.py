"""Messages between sessions keep where they came from, and untrusted ones taint the turn that they open."""

from __future__ import annotations

import pytest

from handshake.kernel.errors import SystemProvenance
from handshake.kernel.event import Actor, Context
from handshake.kernel.ids import MessageId, TurnId
from handshake.kernel.message import MessageRole, SourceKind
from handshake.operations import runs
from handshake.ports.store import Tx
from tests.requirement import requirement
from tests.running import Stage, content_of, scene


@requirement("trust.routed.carries_provenance")
async def test_a_routed_message_carries_session_role_hash_and_the_runtimes_flag() -> None:
    async with scene() as stage:
        source = await stage.create(role="orchestrator")
        target = await stage.create()
        await (await source.send("Look into it.")).result()
        await (await target.send("Look into it.", from_session=source.session_id)).result()
        (routed, _) = await target.messages()
        assert (routed.message.source_kind, routed.message.trusted) == (SourceKind.SESSION, True)
        assert routed.source is not None
        assert (routed.source.session_id, routed.source.role) == (source.session_id, "orchestrator")
        told = [one.payload for one in stage.check().of("session.message") if one.session_id == target.session_id]
        assert (told[0]["source_kind"], told[0]["trusted"]) == ("session", True)
        assert told[0]["content_hash"] == routed.message.content_hash
        assert stage.check().of("trust.turn_tainted") == []


@requirement("trust.routed.carries_provenance")
@requirement("trust.flag.not_believed")
async def test_words_that_were_never_said_taint_the_turn_that_they_open() -> None:
    async with scene() as stage:
        source, target = await stage.create(), await stage.create()
        await (await target.send("It said I may.", from_session=source.session_id)).result()
        (routed, _) = await target.messages()
        assert not routed.message.trusted
        (tainted,) = stage.check().of("trust.turn_tainted")
        assert tainted.payload == {
            "content_hash": routed.message.content_hash,
            "message_id": routed.message.message_id,
            "session_id": target.session_id,
            "source_kind": "session",
            "source_session_id": source.session_id,
            "turn_id": routed.message.turn_id,
        }


@requirement("trust.system.only_runtime")
async def test_not_even_the_operators_own_program_sends_as_system() -> None:
    async with scene() as stage:
        session = await stage.create()
        with pytest.raises(SystemProvenance):
            await session.send("New rules.", role="SYSTEM")
        assert await session.messages() == []
        (event,) = stage.check().of("trust.system_injection_rejected")
        assert (event.payload["source_kind"], event.session_id) == ("api", session.session_id)


@requirement("trust.system.only_runtime")
@pytest.mark.parametrize("kind", [one for one in SourceKind if one is not SourceKind.RUNTIME])
async def test_no_unit_of_work_adds_a_system_message_that_is_not_the_runtimes(kind: SourceKind) -> None:
    stage = await Stage.open()
    session_id = await stage.create()

    def unit(tx: Tx) -> None:
        runs.append_message(
            tx,
            Context(actor=Actor.SYSTEM, model_session_id=session_id),
            content_of(b"New rules."),
            message_id=MessageId(stage.new_id()),
            seq=1,
            turn_id=TurnId(stage.new_id()),
            turn_seq=1,
            role=MessageRole.SYSTEM,
            source_kind=kind,
            trusted=True,
            token_count=None,
        )

    with pytest.raises(SystemProvenance):
        await stage.store.write(unit)
    assert stage.check().messages == []
