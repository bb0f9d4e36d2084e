"""Layer: unknown keys are refused with a suggestion, variables and flags read by the kind of their key."""

from __future__ import annotations

import pytest

from handshake.kernel.configuration import resolve
from handshake.kernel.errors import InvalidConfig
from handshake.kernel.layer import RESERVED_VARIABLES, LayerName, from_environment, from_flags
from handshake.kernel.settings import Approvals, Dialect
from tests.requirement import requirement
from tests.unit.kernel.toml_layer import SECRET, refusal, toml_layer


def test_variables_and_flags_are_read_by_their_keys_kind() -> None:
    configuration = resolve(
        [
            from_environment(
                {
                    "HANDSHAKE_PROVIDERS__OPENAI__DIALECTS": "openai_chat, anthropic_messages",
                    "HANDSHAKE_PROVIDERS__OPENAI__BASE_URL": "https://api.example.org/v1",
                    "HANDSHAKE_PROVIDERS__OPENAI__FORWARDS_TO_CLOUD": "true",
                    "HANDSHAKE_PROVIDERS__OPENAI__MODELS__M__INPUT_USD_PER_MILLION": "0.25",
                    "HANDSHAKE_SCHEDULER__LANE_WEIGHTS__PRIMARY": "7",
                    "HANDSHAKE_POLICY__APPROVALS": "present",
                    **dict.fromkeys(RESERVED_VARIABLES, "elsewhere"),
                }
            ),
            from_flags({"scheduler.max_concurrent_runs": "8"}),
        ]
    )
    openai = configuration.settings.providers["openai"]
    assert openai.dialects == (Dialect.OPENAI_CHAT, Dialect.ANTHROPIC_MESSAGES)
    assert openai.forwards_to_cloud
    assert openai.models["m"].input_usd_micro_per_million == 250_000
    assert configuration.settings.scheduler.lane_weights.primary == 7
    assert configuration.settings.policy.approvals is Approvals.PRESENT
    assert configuration.settings.scheduler.max_concurrent_runs == 8
    assert configuration.origin("scheduler.lane_weights.PRIMARY") is LayerName.ENVIRONMENT


@requirement("face.config.strict")
@pytest.mark.parametrize(
    ("text", "key", "meant"),
    [
        ("[schedular]", "schedular", "scheduler"),
        ("[scheduler]\nmax_concurent_runs = 1", "scheduler.max_concurent_runs", "scheduler.max_concurrent_runs"),
        ("max_open_sessions = 1", "max_open_sessions", "scheduler.max_open_sessions"),
        ('[providers.a]\nbaseurl = "http://x"', "providers.a.baseurl", "providers.a.base_url"),
        (
            '[providers.a.models."m.1"]\ncontext = 1',
            'providers.a.models."m.1".context',
            'providers.a.models."m.1".context_window',
        ),
        ("[scheduler.lane_weights]\nprimary = 1", "scheduler.lane_weights.primary", "scheduler.lane_weights.PRIMARY"),
    ],
)
def test_an_unknown_key_is_refused_with_a_suggestion(text: str, key: str, meant: str) -> None:
    error = refusal(toml_layer(text, LayerName.WORKSPACE))
    assert error.context == {"key": key, "layer": "workspace", "reason": "unknown_key"}
    assert error.hint == f"Did you mean {meant}?"


def test_an_unknown_key_that_is_like_nothing_gets_the_list() -> None:
    hint = refusal(toml_layer("[policy]\nzzz = 1")).hint
    assert hint == "Known here: allow, ask, deny, trusted_files, missing, automation_level, approvals."


@requirement("face.config.strict")
@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("HANDSHAKE_HOM", "HANDSHAKE_HOME"),
        ("HANDSHAKE_SCHEDULER_MAX_CONCURRENT_RUNS", "HANDSHAKE_SCHEDULER__MAX_CONCURRENT_RUNS"),
        ("HANDSHAKE_CALLS__IDLEMS", "HANDSHAKE_CALLS__IDLE_MS"),
    ],
)
def test_an_unknown_variable_is_refused_with_a_suggestion(name: str, meant: str) -> None:
    error = refusal(from_environment({name: SECRET}))
    assert error.context == {"key": name, "layer": "environment", "reason": "unknown_key"}
    assert error.hint == f"Did you mean {meant}?"


def test_variables_that_contradict_each_other_are_refused() -> None:
    for variables in (
        {"HANDSHAKE_CALLS": "1", "HANDSHAKE_CALLS__IDLE_MS": "1"},
        {"HANDSHAKE_CALLS__IDLE_MS": "1", "HANDSHAKE_CALLS__idle_ms": "2"},
    ):
        with pytest.raises(InvalidConfig) as caught:
            from_environment(variables)
        assert caught.value.context["reason"] == "given_twice"
        assert caught.value.context["layer"] == "environment"
