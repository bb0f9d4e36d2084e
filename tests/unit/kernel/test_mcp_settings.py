"""MCP settings: a server is a command or an address, and one layer says all of it."""

from __future__ import annotations

import pytest

from handshake.kernel.layer import LayerName
from handshake.kernel.mcp_settings import MAX_MCP_SERVERS, McpToolSettings
from tests.unit.kernel.toml_layer import SECRET, configured, refusal, toml_layer

STDIO = """
[mcp.servers.files]
command = ["files-server", "--root", "."]
cwd = "tools"
env.TOKEN = "env:FILES_TOKEN"
[mcp.servers.files.tools."read.file"]
side_effect = "READ"
risk = "LOW"
idempotency = "IDEMPOTENT"
capabilities = ["fs.read:{path}"]
sinks = []
"""
HTTP = '[mcp.servers.docs]\nurl = "http://127.0.0.1:9000/mcp"\ncredential = "env:DOCS_TOKEN"\n'


def test_servers_of_both_transports_are_read_whole() -> None:
    servers = configured(STDIO + HTTP).settings.mcp.servers
    files, docs = servers["files"], servers["docs"]
    assert (files.command, files.cwd, files.env) == (
        ("files-server", "--root", "."),
        "tools",
        {"TOKEN": "env:FILES_TOKEN"},
    )
    assert (files.network, files.url) == (False, None)
    mapped = files.tools["read.file"]
    assert (mapped.side_effect, mapped.risk, mapped.idempotency) == ("READ", "LOW", "IDEMPOTENT")
    assert (mapped.capabilities, mapped.sinks, mapped.content) == (("fs.read:{path}",), (), ())
    assert (docs.command, docs.url, docs.credential) == ((), "http://127.0.0.1:9000/mcp", "env:DOCS_TOKEN")


def test_what_is_not_said_of_a_tool_is_the_worst() -> None:
    silent = McpToolSettings()
    assert (silent.side_effect, silent.risk, silent.reversibility) == ("EXECUTE", "HIGH", "IRREVERSIBLE")
    assert (silent.idempotency, silent.sinks) == ("NON_IDEMPOTENT", None)


@pytest.mark.parametrize(
    ("text", "key", "reason"),
    [
        ("[mcp.servers.x]", "mcp.servers.x.command", "missing"),
        ("[mcp.servers.x]\ncommand = []", "mcp.servers.x.command", "wrong_value"),
        (HTTP + 'command = ["x"]', "mcp.servers.docs.url", "not_beside_command"),
        (HTTP + "network = false", "mcp.servers.docs.network", "not_beside_url"),
        (HTTP + 'env.X = "env:X"', "mcp.servers.docs.env.X", "not_beside_url"),
        (STDIO.replace('cwd = "tools"', 'credential = "env:X"'), "mcp.servers.files.credential", "not_beside_command"),
        ('[mcp.servers.handshake]\ncommand = ["x"]', "mcp.servers.handshake", "reserved"),
        ('[mcp.servers.A]\ncommand = ["x"]', "mcp.servers.A", "wrong_value"),
        ('[mcp.servers.a__b]\ncommand = ["x"]', "mcp.servers.a__b", "wrong_value"),
        (f'[mcp.servers.x]\ncommand = ["x"]\nenv.KEY = "{SECRET}"', "mcp.servers.x.env.KEY", "wrong_value"),
        (STDIO.replace('"READ"', '"NONE"'), 'mcp.servers.files.tools."read.file".side_effect', "wrong_value"),
        (STDIO.replace("sinks = []", 'sinks = ["to"]'), 'mcp.servers.files.tools."read.file".sinks', "wrong_value"),
        (STDIO.replace("{path}", "{/path}"), 'mcp.servers.files.tools."read.file".capabilities', "template"),
        (
            STDIO.replace("fs.read:", "fs.raed:"),
            'mcp.servers.files.tools."read.file".capabilities',
            "unknown_capability",
        ),
        (STDIO + "asks = false", 'mcp.servers.files.tools."read.file".asks', "unknown_key"),
    ],
)
def test_half_a_server_and_a_slip_are_refused_by_name(text: str, key: str, reason: str) -> None:
    refused = refusal(toml_layer(text))
    assert (refused.context["key"], refused.context["reason"]) == (key, reason)


@pytest.mark.parametrize(
    "later",
    [
        '[mcp.servers.files]\ncommand = ["another"]',
        '[mcp.servers.files.tools.write]\nrisk = "LOW"',
        '[mcp.servers.files.env]\nOTHER = "env:SECRET"',
    ],
)
def test_a_later_layer_has_no_word_about_a_server_that_it_did_not_bring(later: str) -> None:
    refused = refusal(toml_layer(STDIO), toml_layer(later, LayerName.WORKSPACE))
    assert (refused.context["reason"], refused.context["layer"]) == ("given_by_earlier_layer", "workspace")
    both = configured(STDIO, HTTP).settings.mcp.servers
    assert sorted(both) == ["docs", "files"]


def test_servers_are_counted() -> None:
    text = "".join(f'[mcp.servers.s{number}]\ncommand = ["x"]\n' for number in range(MAX_MCP_SERVERS + 1))
    assert refusal(toml_layer(text)).context["reason"] == "too_many"
