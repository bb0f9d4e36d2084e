"""`policy trust` on a workspace that came with a repository, as a person and as a program use it."""

from __future__ import annotations

import asyncio
from pathlib import Path

from handshake.testing.upstream import Upstream
from tests.e2e.command_line import NEW_SESSION, CommandLine, configure
from tests.requirement import requirement

THEIRS = '[providers.theirs]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:9/v1"\n'
NEW = ("--role", "coder", "--model", "theirs/m", "--memory-policy", "EPHEMERAL")


@requirement("trust.config.foreign_is_untrusted")
async def test_a_cloned_configuration_waits_until_its_reader_accepts_what_it_says(tmp_path: Path) -> None:
    work, home = tmp_path / "clone", tmp_path / "home"
    (work / ".handshake").mkdir(parents=True)
    (work / ".handshake" / "config.toml").write_text(THEIRS)
    home.mkdir()
    handshake = CommandLine(work, home)

    made = await handshake("init", str(work))
    assert made.code == 0
    assert "handshake policy trust" in made.out
    refused = await handshake("session", "create", *NEW, "--json")
    assert (refused.code, refused.error["details"]["reason"]) == (2, "unknown_provider")
    assert "handshake policy trust" in refused.error["hint"]
    status, findings = await asyncio.gather(handshake("status", "--json"), handshake("doctor", "--json"))
    assert status.json["configuration"] == "foreign"
    (found,) = [one for one in findings.json["findings"] if one["subject"] == "configuration"]
    assert (found["verdict"], "handshake policy trust" in found["next_step"]) == ("warn", True)

    shown = await handshake("policy", "trust")
    assert "providers.theirs.base_url = http://127.0.0.1:9/v1" in shown.out
    told = (await handshake("policy", "trust", "--json")).json
    assert (told["standing"], told["trusted"], told["sha256"] in shown.out) == ("foreign", False, True)
    assert {"key": "providers.theirs.dialects", "value": "openai_chat"} in told["says"]
    wrong = await handshake("policy", "trust", "--shown", "0" * 64, "--json")
    assert (wrong.code, wrong.error["code"]) == (5, "HSK-409-CONFLICT")
    accepted = await handshake("policy", "trust", "--shown", told["sha256"], "--json")
    assert (accepted.code, accepted.json["standing"]) == (0, "accepted")
    assert (await handshake("status", "--json")).json["configuration"] == "accepted"
    again = await handshake("policy", "trust")
    assert (again.code, "counts whole" in again.out) == (0, True)


@requirement("trust.debug.scoped")
async def test_a_relaxed_session_is_shown_while_it_lasts(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream() as upstream:
        configure(handshake.folder, upstream.base_url)
        session_id = (await handshake("session", "create", *NEW_SESSION, "--json")).json["session_id"]
    opened = (await handshake("session", "debug", session_id, "--for", "2h", "--json")).json
    assert (opened["session_id"], opened["relaxation"]) == (session_id, "policy_questions")
    shown, status = await asyncio.gather(
        handshake("session", "show", session_id, "--json"), handshake("status", "--json")
    )
    assert shown.json["debug_scope"] == opened
    assert status.json["debug_scopes"] == [opened]
    assert (await handshake("session", "debug", session_id, "--for", "soon")).code == 2
    assert (await handshake("session", "debug", session_id, "--end", "--json")).json["ended"] is True
    assert (await handshake("status", "--json")).json["debug_scopes"] == []
