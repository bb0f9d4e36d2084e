"""Grants from the command line: given, listed, refused with a code and a hint, and taken back."""

from __future__ import annotations

import pytest

from handshake.testing.replies import chunked, event_stream
from handshake.testing.upstream import Upstream
from tests.e2e.command_line import NEW_SESSION, CommandLine, configure
from tests.requirement import requirement

ANSWERS = chunked(event_stream("Hello"))
NOWHERE = "http://127.0.0.1:1/v1"


@requirement("capability.grant.traces_to_token", "capability.revoke.acts_at_once")
async def test_grants_are_given_listed_and_taken_back(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    options = ("--grant", "fs.read:src", "--grant", "ask:fs.write:src/a", "--delegable", "fs.read:src/b")
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        made = await handshake("session", "create", *NEW_SESSION, *options, "--json")
    session = made.json["session_id"]
    assert made.json["capability_grants"] == ["fs.read:src/**", "fs.write:src/a/**", "model.local:tiny/tiny-words"]
    assert made.json["delegable_grants"] == ["fs.read:src/b/**", "model.local:tiny/tiny-words"]
    assert made.json["capability_token_ids"] == [session]
    listed = (await handshake("approval", "grants", session, "--json")).lines
    assert [(one["approval_id"], one["role"], one["user_id"]) for one in listed] == [(session, "coder", "operator")] * 4
    (write,) = [one for one in listed if one["capability"] == "fs.write:src/a/**"]
    assert (write["use"], write["held"], write["delegable"], write["lifetime"]) == ("ask", True, False, "session")
    assert "fs.write:src/a/**" in (await handshake("approval", "grants")).out
    revoked = (await handshake("approval", "revoke", write["grant_id"], "--json")).json
    assert revoked == {"revoked": write["grant_id"], "session_id": session}
    shown = (await handshake("session", "show", session, "--json")).json
    assert shown["capability_grants"] == ["fs.read:src/**", "model.local:tiny/tiny-words"]
    everything = (await handshake("approval", "grants", session, "--revoked", "--json")).lines
    assert [one["grant_id"] for one in everything if one["revoked_at"]] == [write["grant_id"]]
    (told,) = (await handshake("events", "list", "--type", "capability.revoked", "--json")).lines
    assert told["payload"]["grant_id"] == write["grant_id"]


@requirement("capability.unknown.is_refused")
@pytest.mark.parametrize(
    ("option", "grant", "code", "exit_code"),
    [
        ("--grant", "fs.raed:src", "HSK-4001", 2),
        ("--grant", "fs.read:../src", "HSK-4001", 2),
        ("--grant", "fs.read:.handshake", "HSK-4001", 2),
        ("--delegable", "fs.raed", "HSK-4001", 2),
        ("--delegable", "fs.read", "HSK-403-CAPABILITY", 3),
        ("--grant", "{", "HSK-400-INVALID-REQUEST", 2),
    ],
)
async def test_what_is_no_grant_makes_no_session(
    handshake: CommandLine, option: str, grant: str, code: str, exit_code: int
) -> None:
    assert handshake.folder is not None
    configure(handshake.folder, NOWHERE)
    refused = await handshake("session", "create", *NEW_SESSION, option, grant, "--json")
    assert (refused.code, refused.error["code"]) == (exit_code, code)
    assert refused.error["hint"]
    assert (await handshake("session", "list", "--json")).lines == []


async def test_what_is_not_there_is_not_taken_back(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session()
    unknown = await handshake("approval", "revoke", "018f0000-0000-7000-8000-000000000001", "--json")
    assert (unknown.code, unknown.error["code"]) == (4, "HSK-404-NOT-FOUND")
    model = await handshake("approval", "revoke", session, "--json")
    assert (model.code, model.error["code"]) == (5, "HSK-409-CONFLICT")
    assert (await handshake("approval", "grants", "018f0000-0000-7000-8000-000000000001", "--json")).code == 4
