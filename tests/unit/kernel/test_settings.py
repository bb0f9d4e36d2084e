"""Settings: the defaults, bounds and names that the specification gives."""

from __future__ import annotations

import re

import msgspec

from handshake.kernel.configuration import resolve
from handshake.kernel.lane import LANES
from handshake.kernel.layer import RESERVED_VARIABLES, known_keys
from handshake.kernel.settings import Approvals, AutomationLevel, Dialect, Settings
from tests.unit.kernel.toml_layer import configured

# The example of the specification (07 §1).
EXAMPLE = """
[providers.ollama]
dialects = ["openai_chat"]
base_url = "http://127.0.0.1:11434/v1"

[providers.openai]
dialects   = ["openai_responses", "openai_chat"]
base_url   = "https://api.openai.com/v1"
credential = "env:OPENAI_API_KEY"
requests_per_minute = 60

[providers.openai.models."gpt-x"]
input_usd_per_million  = 0.5
output_usd_per_million = 1.5
context_window = 128000

[aliases]
"claude-*" = "ollama/qwen2.5-coder:7b"

[scheduler]
max_concurrent_runs = 64

[policy]
automation_level = "HYBRID"
approvals = "any"

[server]
public_url = "http://127.0.0.1:8484"
"""


def test_without_a_layer_the_defaults_of_the_specification_hold() -> None:
    settings = resolve([]).settings
    assert settings == Settings()
    scheduler = settings.scheduler
    assert (scheduler.max_concurrent_runs, scheduler.primary_reserved_runs) == (64, 1)
    assert scheduler.max_open_sessions == 10_000
    assert msgspec.to_builtins(scheduler.max_concurrent_per_provider) == {"cloud": 32, "local": 4}
    assert msgspec.to_builtins(scheduler.max_concurrent_per_model) == {"cloud": 16, "local": 2}
    assert [scheduler.lane_weights.of(lane) for lane in LANES] == [8, 4, 3, 1]
    assert (scheduler.concurrency_groups, settings.providers, settings.aliases) == ({}, {}, {})
    calls = settings.calls
    assert (calls.local_timeout_ms, calls.cloud_timeout_ms) == (120_000, 3_600_000)
    assert (calls.first_byte_ms, calls.idle_ms) == (600_000, 300_000)
    assert (settings.recorder.checkpoint_every_events, settings.recorder.checkpoint_every_s) == (1_024, 60)
    assert settings.policy.automation_level is AutomationLevel.HYBRID
    assert settings.policy.approvals is Approvals.ANY
    assert settings.server.public_url == "http://127.0.0.1:8484"


def test_the_example_of_the_specification_is_read_whole() -> None:
    settings = configured(EXAMPLE).settings
    openai = settings.providers["openai"]
    assert openai.dialects == (Dialect.OPENAI_RESPONSES, Dialect.OPENAI_CHAT)
    assert (openai.credential, openai.requests_per_minute) == ("env:OPENAI_API_KEY", 60)
    model = openai.models["gpt-x"]
    assert (model.input_usd_micro_per_million, model.output_usd_micro_per_million) == (500_000, 1_500_000)
    assert model.context_window == 128_000
    assert settings.aliases == {"claude-*": "ollama/qwen2.5-coder:7b"}


def test_every_key_has_a_description_and_says_what_it_takes() -> None:
    keys = known_keys()
    assert len({key.name for key in keys}) == len(keys) > 40
    for key in keys:
        assert key.description.endswith("."), key.name
        assert key.expected, key.name


def test_no_key_or_variable_is_named_like_a_bypass() -> None:
    names = {key.name for key in known_keys()} | set(RESERVED_VARIABLES)
    bypass = re.compile("skip|bypass|disable|unsafe|insecure|no_verify|allow_all|trust_all|danger|yolo|debug", re.I)
    assert not [name for name in names if bypass.search(name)]
