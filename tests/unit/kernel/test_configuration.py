"""Configuration: precedence, ceilings, and what may only be tightened."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from handshake.kernel.configuration import resolve
from handshake.kernel.errors import InvalidConfig
from handshake.kernel.lane import LANES
from handshake.kernel.layer import Layer, LayerName, from_environment, from_flags, known_keys
from handshake.kernel.settings import MAX_ALIASES, MAX_PROVIDERS, Settings
from tests.requirement import requirement
from tests.unit.kernel.toml_layer import OLLAMA, configured, refusal, toml_layer


def test_later_layers_win_key_by_key_and_each_key_knows_its_layer() -> None:
    layers = [
        from_flags({"calls.idle_ms": "5"}),
        from_environment({"HANDSHAKE_CALLS__IDLE_MS": "4", "HANDSHAKE_CALLS__FIRST_BYTE_MS": "40", "HOME": "x"}),
        toml_layer("calls = {idle_ms = 3, first_byte_ms = 30, local_timeout_ms = 300}", LayerName.WORKSPACE),
        toml_layer("calls = {idle_ms = 2, first_byte_ms = 20, local_timeout_ms = 200, cloud_timeout_ms = 2000}"),
    ]
    expected = {
        "calls.idle_ms": (5, LayerName.FLAG),
        "calls.first_byte_ms": (40, LayerName.ENVIRONMENT),
        "calls.local_timeout_ms": (300, LayerName.WORKSPACE),
        "calls.cloud_timeout_ms": (2_000, LayerName.USER),
        "calls.max_response_bytes": (64 * 1024 * 1024, LayerName.BUILT_IN),
    }
    for order in (layers, layers[::-1]):
        configuration = resolve(order)
        found = {
            key: (getattr(configuration.settings.calls, key.removeprefix("calls.")), configuration.origin(key))
            for key in expected
        }
        assert found == expected


def test_tables_are_merged_not_replaced() -> None:
    configuration = configured(
        OLLAMA + "models.m.context_window = 128000\n[scheduler.lane_weights]\nPRIMARY = 9",
        "[scheduler.lane_weights]\nBACKGROUND = 2\n[providers.ollama.models.m]\nmax_output_tokens = 7",
    )
    weights = configuration.settings.scheduler.lane_weights
    assert [weights.of(lane) for lane in LANES] == [9, 4, 3, 2]
    model = configuration.settings.providers["ollama"].models["m"]
    assert (model.context_window, model.max_output_tokens) == (128_000, 7)
    assert configuration.origin("providers.ollama.models.m.max_output_tokens") is LayerName.WORKSPACE


def test_keys_with_free_names_are_spelled_as_toml_spells_them() -> None:
    configuration = configured(
        OLLAMA + '[providers.ollama.models."qwen2.5:7b"]\ncontext_window = 1\n[aliases]\n"a*" = "o/m"'
    )
    assert configuration.origin('providers.ollama.models."qwen2.5:7b".context_window') is LayerName.USER
    assert configuration.origin('aliases."a*"') is LayerName.USER


PROVIDER = 'providers.ollama.dialects = ["openai_chat"]\nproviders.ollama.base_url = "http://127.0.0.1:11434/v1"\n'
LIMITS = [
    ("max_concurrent_runs = 8", "scheduler.max_concurrent_runs"),
    ("max_concurrent_per_provider = 8", "scheduler.max_concurrent_per_provider.cloud"),
    ("max_concurrent_per_provider = 8", "scheduler.max_concurrent_per_provider.local"),
    ("max_concurrent_per_provider = 8", "providers.ollama.max_concurrent"),
    ("max_concurrent_per_model = 8", "scheduler.max_concurrent_per_model.cloud"),
    ("max_concurrent_per_model = 8", "scheduler.max_concurrent_per_model.local"),
    ("max_concurrent_per_model = 8", "providers.ollama.models.m.max_concurrent"),
    ("max_open_sessions = 8", "scheduler.max_open_sessions"),
    ("requests_per_minute = 8", "providers.ollama.requests_per_minute"),
    ("tokens_per_minute = 8", "providers.ollama.tokens_per_minute"),
    ("timeout_ms = 8", "calls.local_timeout_ms"),
    ("timeout_ms = 8", "calls.cloud_timeout_ms"),
    ("max_response_bytes = 2000", "calls.max_response_bytes"),
]


def _with(key: str, value: int) -> Mapping[str, Any]:
    tree: dict[str, Any] = {}
    table = tree
    *parts, last = key.split(".")
    for part in parts:
        table = table.setdefault(part, {})
    table[last] = value
    return tree


@requirement("face.config.strict")
@pytest.mark.parametrize(("limit", "key"), LIMITS)
def test_no_layer_is_looser_than_the_users_limits(limit: str, key: str) -> None:
    user = toml_layer(f"{OLLAMA}[limits]\n{limit}")
    cap = int(limit.split(" = ")[1])
    for name in (LayerName.WORKSPACE, LayerName.FLAG):
        error = refusal(user, Layer(name, _with(key, cap + 1)))
        assert error.context == {
            "key": key,
            "layer": name.value,
            "reason": "looser_than_limit",
            "than": f"limits.{limit.split(maxsplit=1)[0]}",
            "expected": f"at most {cap}",
        }
        assert resolve([user, Layer(name, _with(key, cap))]).origin(key) is name


def test_the_users_own_settings_are_held_to_the_limits_too() -> None:
    error = refusal(toml_layer("[limits]\nmax_concurrent_runs = 8\n[scheduler]\nmax_concurrent_runs = 9"))
    assert (error.context["layer"], error.context["reason"]) == ("user", "looser_than_limit")


def test_what_nobody_set_is_held_to_the_limits() -> None:
    text = "\n".join({limit: None for limit, _ in LIMITS})
    configuration = configured(f"{OLLAMA}[limits]\n{text}")
    settings = configuration.settings
    assert settings.scheduler.max_concurrent_runs == 8
    assert msgspec.to_builtins(settings.scheduler.max_concurrent_per_provider) == {"cloud": 8, "local": 4}
    assert msgspec.to_builtins(settings.scheduler.max_concurrent_per_model) == {"cloud": 8, "local": 2}
    assert settings.scheduler.max_open_sessions == 8
    assert (settings.calls.local_timeout_ms, settings.calls.cloud_timeout_ms) == (8, 8)
    assert settings.calls.max_response_bytes == 2_000
    provider = settings.providers["ollama"]
    assert (provider.requests_per_minute, provider.tokens_per_minute, provider.max_concurrent) == (8, 8, None)
    assert configuration.origin("providers.ollama.requests_per_minute") is LayerName.USER
    assert configuration.origin("scheduler.max_concurrent_per_provider.local") is LayerName.BUILT_IN


def test_limits_stand_in_the_user_layer_only() -> None:
    for layer in (
        toml_layer("[limits]\nmax_concurrent_runs = 8", LayerName.WORKSPACE),
        from_environment({"HANDSHAKE_LIMITS__MAX_CONCURRENT_RUNS": "8"}),
        from_flags({"limits.max_concurrent_runs": "8"}),
    ):
        assert refusal(layer).context["reason"] == "only_in_user_layer"


@pytest.mark.parametrize("key", ["budgets.usd", "budgets.calls", 'budgets.work_packets."WP.1".tokens'])
def test_a_later_layer_only_lowers_a_budget(key: str) -> None:
    assert refusal(toml_layer(f"{key} = 5"), toml_layer(f"{key} = 6", LayerName.WORKSPACE)).context == {
        "key": key, "layer": "workspace", "reason": "looser_than_layer", "than": "user"
    }  # fmt: skip
    lowered = resolve([toml_layer(f"{key} = 5"), toml_layer(f"{key} = 4", LayerName.FLAG)])
    assert lowered.origin(key) is LayerName.FLAG
    assert (
        resolve([toml_layer(f"{key} = 5"), toml_layer("[budgets]", LayerName.WORKSPACE)]).origin(key) is LayerName.USER
    )


def test_a_budget_in_dollars_is_exact_micro_usd() -> None:
    settings = resolve([toml_layer('budgets.usd = 0.000001\nbudgets.work_packets."WP-1".usd = 3')]).settings
    assert (settings.budgets.usd_micro, settings.budgets.work_packets["WP-1"].usd_micro) == (1, 3_000_000)
    error = refusal(toml_layer("budgets.usd = 0.0000001"))
    assert error.context["expected"] == "a decimal from 0 to 1000000000 with at most 6 places"


@requirement("face.config.strict")
@pytest.mark.parametrize(
    ("key", "tight", "loose"),
    [
        ("policy.automation_level", '"LOCKED"', '"FULL_HUMAN"'),
        ("policy.automation_level", '"FULL_HUMAN"', '"ASSISTED"'),
        ("policy.automation_level", '"HYBRID"', '"AUTONOMOUS"'),
        ("policy.approvals", '"present"', '"any"'),
        ("recovery.local_runs", '"desk"', '"requeue"'),
        ("recovery.local_runs", '"cancel"', '"desk"'),
        ("providers.ollama.forwards_to_cloud", "true", "false"),
    ],
)
def test_a_later_layer_only_tightens_permission(key: str, tight: str, loose: str) -> None:
    error = refusal(toml_layer(f"{PROVIDER}{key} = {tight}"), toml_layer(f"{key} = {loose}", LayerName.WORKSPACE))
    assert error.context == {"key": key, "layer": "workspace", "reason": "looser_than_layer", "than": "user"}
    assert configured(f"{PROVIDER}{key} = {loose}", f"{key} = {tight}").origin(key) is LayerName.WORKSPACE


def test_a_moved_provider_loses_what_was_said_of_its_old_address() -> None:
    user = OLLAMA + 'credential = "env:KEY"\nrun_by_operator = "my rack"\nforwards_to_cloud = true\n'
    moved = configured(user, '[providers.ollama]\nbase_url = "http://evil.example/v1"')
    provider = moved.settings.providers["ollama"]
    assert (provider.credential, provider.run_by_operator) == (None, None)
    assert provider.forwards_to_cloud
    assert moved.origin("providers.ollama.credential") is LayerName.BUILT_IN
    kept = configured(user, OLLAMA).settings.providers["ollama"]
    assert (kept.credential, kept.run_by_operator) == ("env:KEY", "my rack")


def test_locality_is_declared_where_the_address_stands() -> None:
    error = refusal(toml_layer(OLLAMA), toml_layer('[providers.ollama]\nrun_by_operator = "mine"', LayerName.WORKSPACE))
    assert (error.context["reason"], error.context["than"]) == ("not_beside_base_url", "user")
    assert configured("", OLLAMA + 'run_by_operator = "mine"').settings.providers["ollama"].run_by_operator == "mine"


def test_the_reserve_leaves_other_lanes_a_slot() -> None:
    error = refusal(toml_layer("[scheduler]\nmax_concurrent_runs = 4\nprimary_reserved_runs = 4"))
    assert error.context["expected"] == "a whole number from 0 to 3"
    assert configured("[scheduler]\nmax_concurrent_runs = 1").settings.scheduler.primary_reserved_runs == 0
    assert refusal(toml_layer("[scheduler]\nprimary_reserved_runs = 9\n[limits]\nmax_concurrent_runs = 9")).context[
        "key"
    ] == ("scheduler.primary_reserved_runs")


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("[providers.a]", "providers.a.dialects"),
        ('[providers.a]\ndialects = ["openai_chat"]', "providers.a.base_url"),
        ('[providers.a]\nbase_url = "http://a"\n[providers.a.models.m]', "providers.a.dialects"),
    ],
)
def test_an_incomplete_provider_is_refused(text: str, key: str) -> None:
    assert refusal(toml_layer(text)).context == {"key": key, "layer": "user", "reason": "missing"}


def test_a_group_without_limit_is_refused() -> None:
    model = '[providers.ollama.models.m]\ngroup = "gpus"\n'
    error = refusal(toml_layer(OLLAMA + model + "[scheduler.concurrency_groups]\ngpu = 1"))
    assert (error.context["key"], error.context["reason"]) == ("providers.ollama.models.m.group", "unknown_group")
    assert error.hint == "Did you mean gpu?"
    settings = configured(OLLAMA + model + "[scheduler.concurrency_groups]\ngpus = 1").settings
    assert settings.providers["ollama"].models["m"].group == "gpus"


def test_free_tables_are_bounded() -> None:
    provider = {"dialects": ["openai_chat"], "base_url": "http://a"}
    many = {f"p{number}": provider for number in range(MAX_PROVIDERS + 1)}
    error = refusal(Layer(LayerName.USER, {"providers": many}))
    assert (error.context["key"], error.context["expected"]) == ("providers", f"at most {MAX_PROVIDERS} entries")
    halves = [{f"{side}{number}": "a/b" for number in range(MAX_ALIASES // 2 + 1)} for side in "ab"]
    names = (LayerName.USER, LayerName.WORKSPACE)
    layers = [Layer(name, {"aliases": half}) for name, half in zip(names, halves, strict=True)]
    assert refusal(*layers).context["key"] == "aliases"


NESTED = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.decimals(), st.floats(), st.text(max_size=9), st.binary()),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(sorted({part for key in known_keys() for part in key.name.split(".")})), inner, max_size=4
        ),
    ),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(Settings.__struct_fields__), NESTED, max_size=4), st.sampled_from(LayerName))
def test_any_layer_is_resolved_or_refused(values: dict[str, Any], name: LayerName) -> None:
    refused: InvalidConfig | None = None
    settings = Settings()
    try:
        settings = resolve([Layer(name, values)]).settings
    except InvalidConfig as error:
        refused = error
    assert refused is None or refused.context["layer"] == name.value
    assert str(refused).isprintable()
    assert msgspec.json.decode(msgspec.json.encode(settings), type=Settings) == settings


@requirement("capability.session.intersection")
def test_a_later_layer_forbids_more_and_allows_less() -> None:
    user = 'policy = {allow = ["fs.read", "fs.write:src"], ask = ["fs.write"], deny = ["fs.read:secret"]}'
    workspace = 'policy = {allow = ["fs.read:docs", "fs.write:src/a"], ask = ["net.http"], deny = ["proc.exec"]}'
    policy = configured(user, workspace).settings.policy
    assert policy.allow == ("fs.read:docs", "fs.write:src/a")
    assert policy.ask == ("fs.write", "net.http")
    assert policy.deny == ("fs.read:secret", "proc.exec")
    assert Settings().policy.allow is None
    trusted = configured('policy.trusted_files = ["docs", "*.md"]', 'policy.trusted_files = ["docs/api"]')
    assert trusted.settings.policy.trusted_files == ("docs/api",)
    assert Settings().policy.trusted_files == ()


@pytest.mark.parametrize(
    ("user", "workspace", "reason"),
    [
        ('policy.allow = ["fs.read:docs"]', 'policy.allow = ["fs.read"]', "looser_than_layer"),
        ("policy.allow = []", 'policy.allow = ["fs.read"]', "looser_than_layer"),
        ('policy.missing = "deny"', 'policy.missing = "ask"', "looser_than_layer"),
        ('policy.trusted_files = ["docs"]', 'policy.trusted_files = ["docs/**", "src"]', "looser_than_layer"),
        ("policy.trusted_files = []", 'policy.trusted_files = ["docs"]', "looser_than_layer"),
        ("", 'policy.trusted_files = ["../docs"]', "unknown_capability"),
        ("", 'policy.trusted_files = [".handshake/x"]', "unknown_capability"),
    ],
)
def test_a_later_layer_that_allows_more_is_refused(user: str, workspace: str, reason: str) -> None:
    error = refusal(toml_layer(user), toml_layer(workspace, LayerName.WORKSPACE))
    assert error.context["reason"] == reason


@requirement("capability.unknown.is_refused")
@pytest.mark.parametrize("text", ["fs.raed", "fs.read:../x", "fs.read:.handshake", "doc.other"])
def test_a_policy_about_an_unknown_capability_is_refused(text: str) -> None:
    for key in ("allow", "ask", "deny"):
        error = refusal(toml_layer(f'policy.{key} = ["{text}"]'))
        assert (error.context["key"], error.context["reason"]) == (f"policy.{key}", "unknown_capability")
