"""Rates and budgets from the command line: set, shown, warned of, and refused with a code and a hint."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from handshake.testing.replies import chunked, event_stream, response
from handshake.testing.upstream import Upstream
from tests.e2e.command_line import NEW_SESSION, CommandLine, configure
from tests.requirement import requirement

ANSWERS = chunked(event_stream("Hello"))
PRICE = "[providers.tiny.models.tiny-words]\ninput_usd_per_million = 2\noutput_usd_per_million = 10\n"
BUDGETS = '[budgets]\nusd = 0.5\n[budgets.work_packets."WP-1"]\ncalls = 3\n'


@requirement("face.cli.json", "scheduler.budget.reserved_before_dispatch")
async def test_budgets_are_set_shown_and_spent(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url, PRICE + BUDGETS)
        session = await handshake.session("--wp", "WP-1", "--budget-tokens", "9000", "--budget-usd", "0.25")
        sent = (await handshake("session", "send", session, "Hi", "--json")).json
    assert (sent["cost_usd"], sent["settled_tokens"], sent["settled_is_estimate"]) == ("0.000026", 5, False)
    shown = (await handshake("session", "show", session, "--json")).json
    assert shown["cost_usd"] == "0.000026"
    assert [tuple(one.values()) for one in shown["budgets"]] == [
        ("session", session, "tokens", 9000, 5, 0),
        ("session", session, "usd", "0.250000", "0.000026", "0.000000"),
        ("work_packet", "WP-1", "calls", 3, 1, 0),
        ("workspace", None, "usd", "0.500000", "0.000026", "0.000000"),
    ]
    plain = (await handshake("session", "show", session)).out
    assert "budget of WP-1, calls" in plain
    assert "1 spent and 0 reserved of 3" in plain
    status = (await handshake("status", "--json")).json
    assert [(one["scope"], one["type"], one["spent"]) for one in status["budgets"]] == [
        ("work_packet", "calls", 1),
        ("workspace", "usd", "0.000026"),
    ]
    assert "budget of workspace, usd" in (await handshake("status")).out
    job = (await handshake("job", "show", sent["job_id"], "--json")).json
    assert (job["cost_usd"], job["reserved_cost_usd"]) == ("0.000026", "0.000000")


@requirement("scheduler.budget.reserved_before_dispatch")
async def test_a_turn_that_does_not_fit_fails_with_the_code_of_budgets_before_anything_is_sent(
    handshake: CommandLine,
) -> None:
    assert handshake.folder is not None
    async with Upstream(ANSWERS) as upstream:
        configure(handshake.folder, upstream.base_url)
        session = await handshake.session("--budget-tokens", "10")
        refused = await handshake("session", "send", session, "Hi", "--json")
        assert upstream.requests == []
    assert refused.code == 3
    assert refused.error["code"] == "HSK-402-BUDGET-EXCEEDED"
    assert "session show" in refused.error["hint"]
    types = [one["type"] for one in (await handshake("events", "list", "--session", session, "--json")).lines]
    assert types.count("budget.paused") == 1
    assert "session_scheduler.dispatch" not in types


@pytest.mark.parametrize(
    ("option", "value", "field"),
    [
        ("--budget-usd", "0.0000001", "budget_usd"),
        ("--budget-usd", "-1", "budget_usd"),
        ("--budget-usd", "much", "budget_usd"),
        ("--budget-calls", "-1", "budget_calls"),
        ("--budget-tokens", str(10**16), "budget_tokens"),
    ],
)
async def test_a_budget_that_is_none_is_refused_with_what_is_allowed(
    handshake: CommandLine, option: str, value: str, field: str
) -> None:
    assert handshake.folder is not None
    configure(handshake.folder, "http://127.0.0.1:9/v1")
    refused = await handshake("session", "create", *NEW_SESSION, option, value, "--json")
    assert (refused.code, refused.error["code"]) == (2, "HSK-400-INVALID-REQUEST")
    assert refused.error["details"]["field"] == field
    assert "from 0 to" in refused.error["details"]["expected"]


@requirement("scheduler.queue.shows_reason", "scheduler.rate.honours_retry_after")
async def test_the_queue_shows_until_when_a_provider_is_closed(handshake: CommandLine) -> None:
    assert handshake.folder is not None
    async with Upstream(response(b"slow down", status=429, headers=(("Retry-After", "30"),))) as upstream:
        configure(handshake.folder, upstream.base_url)
        for _ in range(3):
            queued = await handshake("session", "send", await handshake.session(), "Hi", "--no-wait")
            assert queued.code == 0
        async with handshake.started("queue", "run"):
            shown: list[Any] = []
            while [one["wait_reason"] for one in shown] != ["backoff", "backoff", "rate_limit"]:
                shown = (await handshake("queue", "show", "--json")).json["items"]
            table = (await handshake("queue", "show")).out
    assert all(one["until"] > one_minute_ago() for one in shown)
    assert "the provider's rate admits it later" in table
    assert shown[2]["until"][:19] in table


def one_minute_ago() -> str:
    return (datetime.now(UTC) - timedelta(minutes=1)).isoformat()
