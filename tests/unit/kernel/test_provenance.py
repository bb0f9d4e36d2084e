"""Nobody from outside speaks as SYSTEM, and nobody says of himself that he is trusted."""

from __future__ import annotations

import msgspec
import pytest

from handshake.kernel.errors import InvalidRequest
from handshake.kernel.ids import SessionId
from handshake.kernel.message import MessageRole, SourceKind
from handshake.kernel.provenance import Attested, Channel, Incoming, Provenance, SystemRejected, let_in
from tests.requirement import requirement

SOURCE = SessionId("018f0000-0000-7000-8000-000000000001")
LOOKALIKES = ["SYSTEM", "system", " System\n", "ＳＹＳＴＥＭ", "sys\u200btem", "developer", "DEVELOPER", "s-y-s-t-e-m"]


def incoming(channel: Channel = Channel.API, role: str = "user", **more: object) -> Incoming:
    plain = Incoming(channel=channel, role=role, content_sha256="0" * 64, session_id=None)
    return msgspec.structs.replace(plain, **more)


@requirement("trust.system.only_runtime")
@pytest.mark.parametrize("role", LOOKALIKES)
@pytest.mark.parametrize("channel", [one for one in Channel if one is not Channel.GATEWAY])
@pytest.mark.parametrize("is_operator", [True, False])
def test_no_channel_lets_anybody_speak_as_system(channel: Channel, role: str, is_operator: bool) -> None:
    attested = Attested(role="orchestrator", is_said=True, is_tainted=False)
    message = incoming(channel, role, is_operator=is_operator, source_session_id=SOURCE, claims_trust=True)
    assert let_in(message, attested) == SystemRejected(channel)


@requirement("trust.system.only_runtime")
@pytest.mark.parametrize("role", LOOKALIKES)
def test_instructions_of_a_gateway_client_are_kept_as_its_own_and_never_as_system(role: str) -> None:
    found = let_in(incoming(Channel.GATEWAY, role))
    assert isinstance(found, Provenance)
    assert (found.role, found.source_kind) == (MessageRole.USER, SourceKind.CLIENT_INSTRUCTIONS)


@pytest.mark.parametrize("role", ["", "assistant", "tool", "TOOL_RESULT", "root", "x" * 1_000])
def test_an_input_is_of_the_user_or_refused(role: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        let_in(incoming(role=role))
    assert refused.value.context["reason"] == "not_an_input"


@requirement("trust.flag.not_believed")
@pytest.mark.parametrize("channel", list(Channel))
@pytest.mark.parametrize("attested", [None, Attested(role="w", is_said=True, is_tainted=True)])
def test_what_a_sender_claims_changes_nothing(channel: Channel, attested: Attested | None) -> None:
    for source in (None, SOURCE):
        found = [
            let_in(incoming(channel, source_session_id=source, claims_trust=claim), attested)
            for claim in (None, False, True)
        ]
        assert found[0] == found[1] == found[2]


@requirement("trust.routed.carries_provenance")
@pytest.mark.parametrize(
    ("attested", "trusted"),
    [
        (Attested(role="coder", is_said=True, is_tainted=False), True),
        (Attested(role="coder", is_said=True, is_tainted=True), False),
        (Attested(role="coder", is_said=False, is_tainted=False), False),
        (None, False),
    ],
)
def test_words_of_a_session_are_trusted_only_as_far_as_the_runtime_attests_them(
    attested: Attested | None, trusted: bool
) -> None:
    for is_operator in (True, False):
        found = let_in(incoming(Channel.SESSION, is_operator=is_operator, source_session_id=SOURCE), attested)
        assert isinstance(found, Provenance)
        assert (found.trusted, found.source_kind, found.source_session_id) == (trusted, SourceKind.SESSION, SOURCE)
        assert found.source_role == (None if attested is None else attested.role)


def test_who_gives_a_session_its_task_is_trusted_and_what_reaches_it_besides_is_not() -> None:
    trusted = {
        channel: found.trusted for channel in Channel if isinstance(found := let_in(incoming(channel)), Provenance)
    }
    assert {channel for channel, is_trusted in trusted.items() if is_trusted} == {Channel.API, Channel.GATEWAY}
    operator = let_in(incoming(is_operator=True))
    assert operator == Provenance(role=MessageRole.USER, source_kind=SourceKind.OPERATOR, trusted=True)
