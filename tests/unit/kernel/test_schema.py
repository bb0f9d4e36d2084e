"""Schema: a value is taken exactly, or refused with what is allowed and without being shown."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.configuration import resolve
from handshake.kernel.layer import Layer, LayerName, from_environment, from_flags
from handshake.kernel.settings import AutomationLevel
from tests.requirement import requirement
from tests.unit.kernel.toml_layer import OLLAMA, SECRET, configured, refusal, toml_layer


@requirement("face.config.strict")
@pytest.mark.parametrize(
    ("text", "key", "expected"),
    [
        ("[scheduler]\nmax_concurrent_runs = 0", "scheduler.max_concurrent_runs", "a whole number from 1 to 4096"),
        ("[scheduler]\nmax_concurrent_runs = 4097", "scheduler.max_concurrent_runs", "a whole number from 1 to 4096"),
        ("[scheduler]\nmax_concurrent_runs = true", "scheduler.max_concurrent_runs", "a whole number from 1 to 4096"),
        ('[scheduler]\nmax_concurrent_runs = "8"', "scheduler.max_concurrent_runs", "a whole number from 1 to 4096"),
        ("[scheduler]\nmax_concurrent_runs = 8.0", "scheduler.max_concurrent_runs", "a whole number from 1 to 4096"),
        ("[recorder]\ncheckpoint_every_events = 1025", "recorder.checkpoint_every_events", "from 1 to 1024"),
        ("[recorder]\ncheckpoint_every_s = 61", "recorder.checkpoint_every_s", "a whole number from 1 to 60"),
        ("scheduler = 1", "scheduler", "a table"),
        ("[providers]\na = 1", "providers.a", "a table"),
        ('[policy]\napprovals = "none"', "policy.approvals", "one of any, present"),
        ('[policy]\nautomation_level = "OFF"', "policy.automation_level", "AUTONOMOUS, HYBRID, FULL_HUMAN, LOCKED"),
        ("[policy]\nautomation_level = []", "policy.automation_level", "one of"),
        ("[providers.A]", "providers.A", "lower-case"),
        ("[providers.a]\ndialects = []", "providers.a.dialects", "a list of 1 to 4 of: one of openai_chat"),
        ('[providers.a]\ndialects = ["openai_chat", "openai_chat"]', "providers.a.dialects", "a list"),
        ('[providers.a]\ndialects = ["chat"]', "providers.a.dialects", "a list"),
        ('[providers.a]\ndialects = "openai_chat"', "providers.a.dialects", "a list"),
        ('[providers.a]\nbase_url = "ftp://x"', "providers.a.base_url", "an http:// or https:// URL"),
        ('[providers.a]\nbase_url = "http://x\\n"', "providers.a.base_url", "an http:// or https:// URL"),
        ('[providers.a]\nforwards_to_cloud = "yes"', "providers.a.forwards_to_cloud", "true or false"),
        ('[providers.a]\nrun_by_operator = ""', "providers.a.run_by_operator", "one line of 1 to 200 characters"),
        ('[providers.a]\nrun_by_operator = "a\\u202eb"', "providers.a.run_by_operator", "one line"),
        ("[providers.a.models.m]\ninput_usd_per_million = -0.1", "providers.a.models.m.input_usd_per_million", "a dec"),
        ("[providers.a.models.m]\ninput_usd_per_million = nan", "providers.a.models.m.input_usd_per_million", "a dec"),
        ("[providers.a.models.m]\ninput_usd_per_million = inf", "providers.a.models.m.input_usd_per_million", "a dec"),
        ("[providers.a.models.m]\ninput_usd_per_million = 1e99", "providers.a.models.m.input_usd_per_million", "a dec"),
        (
            "[providers.a.models.m]\ninput_usd_per_million = 0.0000001",
            "providers.a.models.m.input_usd_per_million",
            "a decimal from 0 to 1000000 with at most 6 places",
        ),
        ("[providers.a.models.m]\ninput_usd_per_million = true", "providers.a.models.m.input_usd_per_million", "a dec"),
        ('[aliases]\na = "model-without-provider"', "aliases.a", "PROVIDER/MODEL"),
        ('[scheduler.concurrency_groups]\n"a b" = 1', 'scheduler.concurrency_groups."a b"', "letters"),
        ("[calls]\nidle_ms = 2020-01-01", "calls.idle_ms", "a whole number"),
    ],
)
def test_a_wrong_value_is_refused_with_key_layer_and_range(text: str, key: str, expected: str) -> None:
    error = refusal(toml_layer(text))
    assert (error.context["key"], error.context["layer"]) == (key, "user")
    assert error.context["reason"] == "wrong_value"
    assert expected in str(error.context["expected"])


@pytest.mark.parametrize("text", ["", "1.5", "0x10", "1_0", "٣", " 1", "9" * 41, "9" * 5_000, "\udc80"])
def test_a_variable_that_is_no_number_is_refused(text: str) -> None:
    error = refusal(from_environment({"HANDSHAKE_CALLS__IDLE_MS": text}))
    assert error.context["key"] == "HANDSHAKE_CALLS__IDLE_MS"
    assert error.context["expected"] == "a whole number from 1 to 86400000"


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("providers.a.forwards_to_cloud", "1"),
        ("providers.a.models.m.input_usd_per_million", "1e3"),
        ("providers.a.dialects", "openai_chat,"),
    ],
)
def test_a_flag_of_the_wrong_kind_is_refused(key: str, text: str) -> None:
    assert refusal(from_flags({key: text})).context["key"] == key


@requirement("face.config.strict")
@pytest.mark.parametrize(
    "value",
    [SECRET, f"env:{SECRET}", f"Bearer {SECRET}", "env:", "file:", "keyring:", f"value:{SECRET}", f"file:a\\n{SECRET}"],
)
def test_a_literal_credential_is_refused_without_being_shown(value: str) -> None:
    error = refusal(toml_layer(OLLAMA + f'credential = "{value}"'))
    assert error.context["key"] == "providers.ollama.credential"
    assert "never the credential itself" in str(error.context["expected"])


@pytest.mark.parametrize("value", ["env:OPENAI_API_KEY", "file:/run/secrets/key", "keyring:handshake/openai"])
def test_a_reference_to_a_credential_is_kept(value: str) -> None:
    assert configured(OLLAMA + f'credential = "{value}"').settings.providers["ollama"].credential == value


@pytest.mark.parametrize(
    ("text", "micro"),
    [
        ("0", 0),
        ("0.5", 500_000),
        ("3", 3_000_000),
        ("0.000001", 1),
        ("0.10", 100_000),
        ("1e3", 10**9),
        ("1000000", 10**12),
    ],
)
def test_prices_are_exact(text: str, micro: int) -> None:
    settings = configured(OLLAMA + f"[providers.ollama.models.m]\noutput_usd_per_million = {text}").settings
    assert settings.providers["ollama"].models["m"].output_usd_micro_per_million == micro


@given(st.integers(0, 10**12))
def test_every_price_of_whole_micro_dollars_is_exact(micro: int) -> None:
    written = {"providers": {"a": {"dialects": ["openai_chat"], "base_url": "http://a", "models": {"m": {}}}}}
    written["providers"]["a"]["models"] = {"m": {"input_usd_per_million": Decimal(micro).scaleb(-6)}}
    settings = resolve([Layer(LayerName.USER, written)]).settings
    assert settings.providers["a"].models["m"].input_usd_micro_per_million == micro


def test_older_words_mean_hybrid() -> None:
    for word in ("ASSISTED", "SUPERVISED"):
        settings = configured(f'[policy]\nautomation_level = "{word}"').settings
        assert settings.policy.automation_level is AutomationLevel.HYBRID
