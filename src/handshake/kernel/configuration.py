"""Configuration: how layers are laid over each other and held to their ceilings.

Built-in < user < workspace < environment < flag. Built-ins are defaults; ceilings are the schema's bounds and
the user layer's `[limits]`; what gives permission may only be tightened by a later layer.

Source:
    face.config.strict (07 §1); 03 §7 for what belongs to a provider's address.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from handshake.kernel.capability import SHIPPED, Capability
from handshake.kernel.config_trust import ENTERED, LOOSEST_FIRST, UNITED, built_in, is_tighter
from handshake.kernel.containment import covers
from handshake.kernel.errors import InvalidRequest, UnknownCapability
from handshake.kernel.layer import Layer, LayerName, Leaf, Path, Table, dotted, leaves, refuse
from handshake.kernel.mcp_settings import (
    MAX_MCP_MAPPED_TOOLS,
    MAX_MCP_SERVERS,
    MAX_MCP_VARIABLES,
    RESERVED_SERVER_NAMES,
    McpServerSettings,
)
from handshake.kernel.settings import (
    MAX_ALIASES,
    MAX_CONCURRENCY_GROUPS,
    MAX_MODELS_PER_PROVIDER,
    MAX_PROVIDERS,
    MAX_WORK_PACKET_BUDGETS,
    Settings,
)
from handshake.kernel.suggestion import suggest
from handshake.kernel.template import parse_template

_ORDER = tuple(LayerName)
_PROVIDER = ("providers", "*")
_ADDRESS = (*_PROVIDER, "base_url")
_MCP_SERVER = ("mcp", "servers", "*")
_OF_COMMAND = ("env", "cwd", "read", "network")
_OF_URL = ("credential", "run_by_operator")
"""What is said of an MCP server that is started, and of one that is reached over HTTP."""
_OF_ADDRESS = ("credential", "run_by_operator")
"""What is said of a provider's address, and is not true of another one."""
_CAPPED: dict[str, tuple[Path, ...]] = {
    "max_concurrent_runs": (("scheduler", "max_concurrent_runs"),),
    "max_concurrent_per_provider": (
        ("scheduler", "max_concurrent_per_provider", "cloud"),
        ("scheduler", "max_concurrent_per_provider", "local"),
        (*_PROVIDER, "max_concurrent"),
    ),
    "max_concurrent_per_model": (
        ("scheduler", "max_concurrent_per_model", "cloud"),
        ("scheduler", "max_concurrent_per_model", "local"),
        (*_PROVIDER, "models", "*", "max_concurrent"),
    ),
    "max_open_sessions": (("scheduler", "max_open_sessions"),),
    "requests_per_minute": ((*_PROVIDER, "requests_per_minute"),),
    "tokens_per_minute": ((*_PROVIDER, "tokens_per_minute"),),
    "timeout_ms": (("calls", "local_timeout_ms"), ("calls", "cloud_timeout_ms")),
    "max_response_bytes": (("calls", "max_response_bytes"),),
}
"""Keys of `[limits]`, and what each holds down."""
_UNLIMITED = frozenset({"requests_per_minute", "tokens_per_minute"})
"""Keys whose absence means no limit at all, so that a ceiling stands in for it."""
_ALLOWED = ("policy", "allow")
"""The list that a later layer may only shorten."""
_TRUSTED = ("policy", "trusted_files")
"""As `_ALLOWED`; its globs are read as what may be read."""
_RULES = UNITED | {_ALLOWED, _TRUSTED}
_LOWERED = frozenset(
    (*table, name) for table in (("budgets",), ("budgets", "work_packets", "*")) for name in ("tokens", "usd", "calls")
)
"""Keys whose number a later layer may only lower."""
_MOST_ENTRIES: dict[Path, int] = {
    ("budgets", "work_packets", "*"): MAX_WORK_PACKET_BUDGETS,
    _PROVIDER: MAX_PROVIDERS,
    (*_PROVIDER, "models", "*"): MAX_MODELS_PER_PROVIDER,
    ("aliases", "*"): MAX_ALIASES,
    ("scheduler", "concurrency_groups", "*"): MAX_CONCURRENCY_GROUPS,
    _MCP_SERVER: MAX_MCP_SERVERS,
    (*_MCP_SERVER, "env", "*"): MAX_MCP_VARIABLES,
    (*_MCP_SERVER, "tools", "*"): MAX_MCP_MAPPED_TOOLS,
}


class Configuration(msgspec.Struct, frozen=True):
    """The settings in force, and which layer decided each key."""

    settings: Settings
    origins: dict[str, LayerName]
    """Keys as `layer.dotted` writes them; a key that is missing here is built in."""
    left_out: tuple[str, ...] = ()
    """Keys that do not count because their layer is not trusted."""

    def origin(self, key: str) -> LayerName:
        """Return the layer that decided `key`; for a value that `[limits]` holds down, the user layer."""
        return self.origins.get(key, LayerName.BUILT_IN)


class _Merge:
    """The layers so far, laid over each other: values and origins by key."""

    def __init__(self) -> None:
        self.values: dict[Path, Leaf] = {}
        self.origins: dict[Path, LayerName] = {}

    def put(self, leaf: Leaf, origin: LayerName) -> None:
        """Set one key."""
        self.values[leaf.path] = leaf
        self.origins[leaf.path] = origin

    def drop(self, path: Path) -> None:
        """Forget one key."""
        self.values.pop(path, None)
        self.origins.pop(path, None)

    def number(self, path: Path) -> int:
        """Return the number that a key without free names has, set or built in."""
        value: object = Settings()
        for part in path:
            value = getattr(value, part)
        return _whole(self.values[path].value if path in self.values else value)


def resolve(layers: Iterable[Layer]) -> Configuration:
    """Return the settings in force under `layers`, which may come in any order.

    Raises:
        InvalidConfig: a key is unknown; a value is of the wrong type, out of range, or looser than an earlier
            layer or `[limits]` allows; a provider or MCP server is incomplete, or two layers describe one MCP server;
            a group has no limit.
    """
    merge = _Merge()
    left_out: list[str] = []
    for layer in sorted(layers, key=lambda one: _ORDER.index(one.name)):
        found = list(leaves(layer))
        if not layer.is_trusted:
            found, rest = _limits_only(merge, found)
            left_out += rest
        _refuse_looser(merge, layer.name, found)
        _refuse_described_again(merge, layer.name, found)
        _detach_moved(merge, found)
        for leaf in found:
            merge.put(_with_earlier(merge, leaf) if leaf.pattern in UNITED else leaf, layer.name)
    _hold_to_limits(merge)
    _fit_reserve(merge)
    _check_entries(merge)
    settings = msgspec.convert(_nested(merge.values.values()), Settings)
    for name, server in settings.mcp.servers.items():
        _check_mcp_server(merge, name, server)
    _check_groups(merge, settings)
    return Configuration(
        settings, {dotted(path): origin for path, origin in merge.origins.items()}, tuple(sorted(left_out))
    )


def _limits_only(merge: _Merge, found: list[Leaf]) -> tuple[list[Leaf], list[str]]:
    """Return what a layer that is not trusted may say, which is to tighten what there is, and the keys of the rest."""
    kept: list[Leaf] = []
    left: list[str] = []
    for leaf in found:
        path, pattern, value = leaf
        current = merge.values[path].value if path in merge.values else built_in(pattern)
        known = pattern[:2] != _PROVIDER or path[:2] in merge.values
        if isinstance(value, Table):
            may_stand = pattern == ENTERED or path in merge.values
        else:
            may_stand = known and is_tighter(pattern, value, current)
        if may_stand:
            kept.append(leaf)
        else:
            left.append(dotted(path))
    return kept, left


def _refuse_looser(merge: _Merge, layer: LayerName, found: list[Leaf]) -> None:
    """Refuse what a layer may not say, or not as loosely as it does."""
    own = {leaf.path for leaf in found}
    for path, pattern, value in found:
        if pattern[0] == "limits" and layer is not LayerName.USER:
            refuse(layer, path, "only_in_user_layer")
        scale = LOOSEST_FIRST.get(pattern)
        if scale and path in merge.values and scale.index(value) < scale.index(merge.values[path].value):
            refuse(layer, path, "looser_than_layer", than=merge.origins[path].value)
        if pattern in _LOWERED and path in merge.values and _whole(value) > _whole(merge.values[path].value):
            refuse(layer, path, "looser_than_layer", than=merge.origins[path].value)
        if pattern in _RULES:
            _check_rules(merge, layer, path, _texts(value))
        if pattern == (*_PROVIDER, "run_by_operator"):
            address = (*path[:-1], "base_url")
            if address in merge.values and address not in own:
                refuse(layer, path, "not_beside_base_url", than=merge.origins[address].value)


def _check_rules(merge: _Merge, layer: LayerName, path: Path, texts: list[str]) -> None:
    """Refuse capabilities that nobody knows, and ones to allow that an earlier layer does not."""
    rules = [_rule(layer, path, one) for one in texts]
    if path in (_ALLOWED, _TRUSTED) and path in merge.values:
        earlier = [_rule(layer, path, one) for one in _texts(merge.values[path].value)]
        if not all(any(covers(wide, one) for wide in earlier) for one in rules):
            refuse(layer, path, "looser_than_layer", than=merge.origins[path].value)


def _rule(layer: LayerName, path: Path, text: str) -> Capability:
    try:
        return SHIPPED.parse_rule(f"fs.read:{text}" if path == _TRUSTED else text)
    except UnknownCapability as unknown:
        refuse(layer, path, "unknown_capability", hint=unknown.hint)


def _with_earlier(merge: _Merge, leaf: Leaf) -> Leaf:
    """Return a list with what earlier layers said before it."""
    earlier = _texts(merge.values[leaf.path].value) if leaf.path in merge.values else []
    return leaf._replace(value=list(dict.fromkeys([*earlier, *_texts(leaf.value)])))


def _texts(value: object) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list | tuple) else []


def _refuse_described_again(merge: _Merge, layer: LayerName, found: list[Leaf]) -> None:
    """Refuse a word about an MCP server of an earlier layer: what it runs and may do is read in one place."""
    for path, pattern, _ in found:
        if pattern == _MCP_SERVER and path in merge.values:
            refuse(layer, path, "given_by_earlier_layer", than=merge.origins[path].value)


def _detach_moved(merge: _Merge, found: list[Leaf]) -> None:
    """Forget credential and locality of a provider that a later layer moves: they were given to the old address."""
    for path, pattern, value in found:
        if pattern == _ADDRESS and path in merge.values and merge.values[path].value != value:
            for name in _OF_ADDRESS:
                merge.drop((*path[:-1], name))


def _hold_to_limits(merge: _Merge) -> None:
    """Refuse what is looser than the user layer's `[limits]`, and hold what nobody set to them."""
    for name, patterns in _CAPPED.items():
        limit = merge.values.get(("limits", name))
        if limit is None:
            continue
        cap = _whole(limit.value)
        for leaf in merge.values.values():
            if leaf.pattern in patterns and _whole(leaf.value) > cap:
                refuse(
                    merge.origins[leaf.path],
                    leaf.path,
                    "looser_than_limit",
                    than=f"limits.{name}",
                    expected=f"at most {cap}",
                )
        unset = [Leaf(path, path, cap) for path in patterns if "*" not in path and merge.number(path) > cap]
        if name in _UNLIMITED:
            providers = [leaf.path for leaf in merge.values.values() if leaf.pattern == _PROVIDER]
            unset += [Leaf((*path, name), patterns[0], cap) for path in providers if (*path, name) not in merge.values]
        for leaf in unset:
            merge.put(leaf, LayerName.USER)


def _fit_reserve(merge: _Merge) -> None:
    """Keep PRIMARY's reserve below the number of slots: refuse one that was given, lower the built-in one."""
    path = ("scheduler", "primary_reserved_runs")
    most = merge.number(("scheduler", "max_concurrent_runs")) - 1
    if merge.number(path) > most:
        if path in merge.values:
            refuse(merge.origins[path], path, "wrong_value", expected=f"a whole number from 0 to {most}")
        merge.values[path] = Leaf(path, path, most)


def _check_entries(merge: _Merge) -> None:
    """Refuse a provider without address or dialect, and free tables with too many entries."""
    counts: dict[Path, int] = {}
    for path, pattern, _ in merge.values.values():
        if pattern == _PROVIDER:
            for name in ("dialects", "base_url"):
                if (*path, name) not in merge.values:
                    refuse(merge.origins[path], (*path, name), "missing")
        if pattern in _MOST_ENTRIES:
            counts[path[:-1]] = counts.get(path[:-1], 0) + 1
            if counts[path[:-1]] > _MOST_ENTRIES[pattern]:
                refuse(merge.origins[path], path[:-1], "too_many", expected=f"at most {_MOST_ENTRIES[pattern]} entries")


def _check_mcp_server(merge: _Merge, name: str, server: McpServerSettings) -> None:
    """Refuse an MCP server that is neither a command nor an address, is both, or is told what is for the other."""
    path = (*_MCP_SERVER[:-1], name)
    layer = merge.origins[path]
    if name in RESERVED_SERVER_NAMES:
        refuse(layer, path, "reserved", expected="another name")
    if not server.command and server.url is None:
        refuse(layer, (*path, "command"), "missing", hint="Give it a command to start, or the url of a running server.")
    if server.command and server.url is not None:
        refuse(layer, (*path, "url"), "not_beside_command")
    for key in _OF_URL if server.command else _OF_COMMAND:
        given = [one for one in merge.values if one[: len(path) + 1] == (*path, key)]
        if given:
            refuse(layer, given[0], "not_beside_command" if server.command else "not_beside_url")
    for tool, said in server.tools.items():
        _check_templates(merge, (*path, "tools", tool, "capabilities"), said.capabilities)


def _check_templates(merge: _Merge, path: Path, texts: Iterable[str]) -> None:
    """Refuse what no call of a tool could be held to."""
    for text in texts:
        try:
            SHIPPED.parse(parse_template(text).axis)
        except InvalidRequest:
            refuse(merge.origins[path], path, "template", expected="one as fs.read:{path}, an argument in braces")
        except UnknownCapability as unknown:
            refuse(merge.origins[path], path, "unknown_capability", hint=unknown.hint)


def _check_groups(merge: _Merge, settings: Settings) -> None:
    """Refuse a model's group that has no limit."""
    groups = settings.scheduler.concurrency_groups
    for provider_id, provider in settings.providers.items():
        for model_id, model in provider.models.items():
            if model.group is not None and model.group not in groups:
                path = ("providers", provider_id, "models", model_id, "group")
                meant = suggest(model.group, groups)
                hint = f"Did you mean {meant}?" if meant else "Give it a limit in scheduler.concurrency_groups."
                refuse(merge.origins[path], path, "unknown_group", hint=hint)


def _nested(values: Iterable[Leaf]) -> Mapping[str, Any]:
    tree: dict[str, Any] = {}
    for path, _, value in values:
        table = tree
        for part in path[:-1]:
            table = table.setdefault(part, {})
        if isinstance(value, Table):
            table.setdefault(path[-1], {})
        else:
            table[path[-1]] = value
    return tree


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise TypeError("a capped key holds a whole number")
    return value
