"""Tests of naming: what people write becomes a value of the kernel, or an error that helps."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from handshake.kernel.budget import BudgetType
from handshake.kernel.errors import InvalidRequest
from handshake.kernel.lane import Lane
from handshake.kernel.section import MAX_NAME_CHARS
from handshake.kernel.session import MemoryPolicy
from handshake.kernel.settings import Dialect, ProviderSettings, Settings
from handshake.operations import naming
from tests.requirement import requirement

PROVIDER = ProviderSettings(dialects=(Dialect.OPENAI_CHAT,), base_url="http://127.0.0.1:1/v1")
SETTINGS = Settings(
    providers={"desk": PROVIDER, "shed": PROVIDER}, aliases={"gpt-*": "desk/large", "fast": "shed/tiny:latest"}
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("desk/tiny", ("desk", "tiny")),
        ("desk/acme/large: 2 @ home+v1", ("desk", "acme/large: 2 @ home+v1")),
        ("shed/模型", ("shed", "模型")),
        ("gpt-4o", ("desk", "large")),
        ("fast", ("shed", "tiny:latest")),
    ],
)
def test_a_model_is_provider_and_name_or_an_alias(name: str, expected: tuple[str, str]) -> None:
    assert naming.model(name, SETTINGS) == expected


@pytest.mark.parametrize(
    ("name", "reason", "hint"),
    [
        ("dsk/tiny", "unknown_provider", "did you mean desk/tiny?"),
        ("Desk/tiny", "unknown_provider", "did you mean desk/tiny?"),
        ("cellar/tiny", "unknown_provider", "write PROVIDER/MODEL with one of: desk, shed"),
        ("desk", "not_provider_slash_model", "did you mean desk/MODEL?"),
        ("desk/", "unknown_provider", "did you mean desk/MODEL?"),
        ("/tiny", "unknown_provider", "write PROVIDER/MODEL with one of: desk, shed"),
        ("tiny", "not_provider_slash_model", "write PROVIDER/MODEL with one of: desk, shed"),
        ("Fast", "not_provider_slash_model", "write PROVIDER/MODEL with one of: desk, shed"),
    ],
)
def test_an_unknown_model_is_refused_with_help(name: str, reason: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.model(name, SETTINGS)
    assert (refused.value.context["reason"], refused.value.hint) == (reason, hint)
    assert refused.value.context["providers"] == ["desk", "shed"]


def test_without_a_provider_the_help_says_where_to_add_one() -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.model("desk/tiny", Settings())
    assert refused.value.hint == "configure a provider in .handshake/config.toml"


@pytest.mark.parametrize("name", ["", "desk/a\nb", "desk/\x00", "desk/" + "x" * MAX_NAME_CHARS])
def test_a_model_name_is_one_short_line(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.model(name, SETTINGS)
    assert refused.value.context == {"field": "model", "reason": "not_a_name", "limit_chars": MAX_NAME_CHARS}


@pytest.mark.parametrize("name", [*naming.RESERVED_ROLES, "rolepack:law/clerk", "rolepack:a.b-c_d/e0"])
def test_a_role_is_reserved_or_of_a_pack(name: str) -> None:
    assert naming.role(name) == name


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("codr", "did you mean coder?"),
        ("Coder", "did you mean coder?"),
        ("coder\n", "did you mean coder?"),
        ("wizard", "one of operator, frontend, orchestrator, worker, coder, validator, or rolepack:PACK/ROLE"),
        ("", "one of operator, frontend, orchestrator, worker, coder, validator, or rolepack:PACK/ROLE"),
        ("rolepack:law", "one of operator, frontend, orchestrator, worker, coder, validator, or rolepack:PACK/ROLE"),
        ("x" * 1_000_000, "one of operator, frontend, orchestrator, worker, coder, validator, or rolepack:PACK/ROLE"),
    ],
)
def test_an_unknown_role_is_refused_with_help(name: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.role(name)
    assert refused.value.hint == hint


@pytest.mark.parametrize("name", ["rolepack:Law/clerk", "rolepack:law/clerk/", "rolepack:/clerk", "rolepack:law/c k"])
def test_a_role_of_a_pack_has_a_closed_form(name: str) -> None:
    with pytest.raises(InvalidRequest):
        naming.role(name)


def test_a_choice_is_read_in_either_case() -> None:
    assert naming.choice(Lane, "lane", "PRIMARY") is Lane.PRIMARY
    assert naming.choice(Lane, "lane", "background") is Lane.BACKGROUND
    assert naming.choice(MemoryPolicy, "memory_policy", "ephemeral") is MemoryPolicy.EPHEMERAL


@requirement("session.memory_policy.is_fixed")
@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("EPHEMERL", "did you mean EPHEMERAL?"),
        ("Ephemeral", "one of EPHEMERAL, SESSION_SCOPED, WORKSPACE_SCOPED"),
        ("", "one of EPHEMERAL, SESSION_SCOPED, WORKSPACE_SCOPED"),
        ("x" * 100_000, "one of EPHEMERAL, SESSION_SCOPED, WORKSPACE_SCOPED"),
    ],
)
def test_any_other_choice_is_refused_with_help(name: str, hint: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.choice(MemoryPolicy, "memory_policy", name)
    assert refused.value.context == {"field": "memory_policy", "reason": "unknown"}
    assert refused.value.hint.startswith(("did you mean", hint))


@pytest.mark.parametrize("word", ["a", "not_needed", "A.b:c/d-e", "0" * 64])
def test_a_token_is_taken(word: str) -> None:
    assert naming.token("reason", word) == word


@pytest.mark.parametrize("word", ["", " ", "not needed", "-a", "é", "a\n", "0" * 65, "why: <script>"])
def test_what_is_no_token_is_refused(word: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.token("reason", word)
    assert refused.value.context == {"field": "reason", "reason": "not_a_token"}


def test_a_session_id_is_a_uuid_in_lower_case() -> None:
    good = "018f0000-0000-7000-8000-00000000000a"
    assert naming.session_id(good) == good
    for bad in ("", good.upper(), good + "\n", good[:-1], "x" * 36):
        with pytest.raises(InvalidRequest) as refused:
            naming.session_id(bad)
        assert refused.value.context == {"field": "session_id", "reason": "not_a_uuid"}


@pytest.mark.parametrize("name", [None, "x", "Grüße 你好", "x" * MAX_NAME_CHARS])
def test_a_name_is_taken(name: str | None) -> None:
    assert naming.require_name("title", name) == name


@pytest.mark.parametrize("name", ["", "a\nb", "\u2028", "\x7f", "a\tb", "\x1b[31m", "x" * (MAX_NAME_CHARS + 1)])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.require_name("title", name)
    assert refused.value.context == {"field": "title", "reason": "not_a_name", "limit_chars": MAX_NAME_CHARS}


def test_a_budget_has_the_limits_that_are_given() -> None:
    assert naming.budget(None, None, None) == {}
    assert naming.budget(0, "0.5", 3) == {BudgetType.TOKENS: 0, BudgetType.USD_MICRO: 500_000, BudgetType.CALLS: 3}
    assert naming.budget(None, Decimal("1.000001"), None) == {BudgetType.USD_MICRO: 1_000_001}


@pytest.mark.parametrize(
    ("given", "field"),
    [
        ((-1, None, None), "budget_tokens"),
        ((True, None, None), "budget_tokens"),
        ((None, "0.0000001", None), "budget_usd"),
        ((None, "NaN", None), "budget_usd"),
        ((None, Decimal("Infinity"), None), "budget_usd"),
        ((None, "1e3", None), "budget_usd"),
        ((None, None, 10**16), "budget_calls"),
    ],
)
def test_what_is_no_budget_is_refused_by_field(given: tuple[Any, Any, Any], field: str) -> None:
    with pytest.raises(InvalidRequest) as refused:
        naming.budget(*given)
    assert (refused.value.context["field"], refused.value.context["reason"]) == (field, "out_of_range")
