"""Laws of containment: a relation that can be chained, and that no path, command or request leads out of.

The oracles try every way to match, character by character and segment by segment; they share no code with the kernel.
"""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import example, given
from hypothesis import strategies as st

from handshake.kernel import command_pattern, glob, http_scope, path_glob
from handshake.kernel.capability import SHIPPED, Capability
from handshake.kernel.command_pattern import spell_command
from handshake.kernel.containment import covers, home, homes, is_closed, overlaps
from handshake.kernel.errors import UnknownCapability
from tests.requirement import requirement

LETTERS = st.text("ab*", max_size=5)
WORDS = st.text("ab", max_size=5)
SEGMENTS = st.text("ab*", min_size=1, max_size=3) | st.just("**")
PATHS = st.lists(SEGMENTS, max_size=5).map(lambda parts: path_glob.parse("/".join(parts) or "."))
PLACES = st.lists(st.text("ab", min_size=1, max_size=3), max_size=6).map(tuple)
HOSTS = st.lists(st.sampled_from(["a", "b", "ab", "a-b"]), min_size=1, max_size=4).map(".".join)
HOST_SCOPES = HOSTS | HOSTS.map("*.{}".format) | st.just("*")
HTTP_PATHS = st.lists(st.text("ab*", max_size=2).filter(lambda one: one != "**"), max_size=4).map("/".join)
REQUESTS = st.builds(
    "{} {}{}{}".format,
    st.sampled_from(["GET", "POST", "*"]),
    HOST_SCOPES,
    st.sampled_from(["", ":80", ":*"]),
    st.just("") | HTTP_PATHS.map("/{}".format),
)
COMMANDS = st.lists(st.text("ab*", max_size=3), max_size=4).map(
    lambda words: "run " + " ".join(word or '""' for word in words)
)
CLOSED = (".handshake", ".HANDSHAKE", ".hand\uff53hake", ".git/hooks", ".GIT/Config", ".git/a/hooks", ".handshake. ")
SCOPES = st.one_of(
    PATHS.map(path_glob.spell).map("fs.read:{}".format),
    PATHS.map(path_glob.spell).map("fs.write:{}".format),
    REQUESTS.map("net.http:{}".format),
    COMMANDS.map("proc.exec:{}".format),
    st.tuples(st.sampled_from(["a", "b", "*"]), LETTERS.filter(bool)).map(lambda pair: f"model.cloud:{'/'.join(pair)}"),
    LETTERS.filter(bool).map("session.spawn:{}".format),
    WORDS.filter(bool).map("secrets.use:{}".format),
    st.sampled_from(
        ["fs.read", "net.http", "proc.exec", "proc.exec:host", "client.*", "client.a", "mcp.a.*", "mcp.a.b"]
    ),
)


def text_fits(pattern: str, text: str) -> bool:
    """Return whether a pattern matches a text, by trying everything."""
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(text_fits(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] == text[0] and text_fits(pattern[1:], text[1:])


def path_fits(pattern: Sequence[str], path: Sequence[str]) -> bool:
    """Return whether a path glob matches a path, by trying everything."""
    if not pattern:
        return not path
    if pattern[0] == "**":
        return any(path_fits(pattern[1:], path[at:]) for at in range(len(path) + 1))
    return bool(path) and text_fits(pattern[0], path[0]) and path_fits(pattern[1:], path[1:])


def capability(text: str) -> Capability | None:
    """Return the capability that a text names, or None if it names none."""
    try:
        return SHIPPED.parse(text)
    except UnknownCapability:
        return None


@given(LETTERS, WORDS)
def test_a_glob_matches_what_the_oracle_matches(pattern: str, text: str) -> None:
    assert glob.matches(pattern, text) is text_fits(pattern, text)


@given(LETTERS, LETTERS, WORDS)
def test_a_glob_inside_another_matches_no_more(wide: str, narrow: str, text: str) -> None:
    if glob.matches(wide, narrow) and text_fits(narrow, text):
        assert text_fits(wide, text)
    if text_fits(wide, text) and text_fits(narrow, text):
        assert glob.overlaps(wide, narrow)


@requirement("capability.axis.contains_scopes")
@given(PATHS, PLACES)
def test_a_path_glob_matches_what_the_oracle_matches(pattern: path_glob.Segments, path: tuple[str, ...]) -> None:
    assert path_glob.contains(pattern, path) is path_fits(pattern, path)


@requirement("capability.axis.contains_scopes")
@given(PATHS, PATHS, st.lists(PLACES, min_size=1, max_size=20))
@example(("**", "a"), ("*", "**", "a"), [("a",), ("b", "a")])
def test_a_path_glob_inside_another_matches_no_more(
    wide: path_glob.Segments, narrow: path_glob.Segments, paths: list[tuple[str, ...]]
) -> None:
    for path in paths:
        if path_glob.contains(wide, narrow) and path_fits(narrow, path):
            assert path_fits(wide, path)
        if path_fits(wide, path) and path_fits(narrow, path):
            assert path_glob.overlaps(wide, narrow)


@requirement("capability.axis.contains_scopes")
@given(REQUESTS, st.sampled_from(["GET", "POST"]), HOSTS, st.sampled_from(["80", "443"]), PLACES)
def test_a_request_is_inside_only_by_method_label_port_and_segment(
    scope: str, method: str, host: str, port: str, path: tuple[str, ...]
) -> None:
    held = http_scope.parse(scope)
    wanted = http_scope.parse(f"{method} {'http' if port == '80' else 'https'}://{host}/{'/'.join(path)}")
    labels, name = host.split("."), held.host.removeprefix("*.")
    suffix = name.split(".")
    by_host = held.host == "*" or (labels[-len(suffix) :] == suffix and (name != held.host) == (labels != suffix))
    by_path = held.path is None or path_fits(held.path, path or ("",))
    expected = held.method in ("*", method) and held.port in ("*", port) and by_host and by_path
    assert http_scope.contains(held, wanted) is expected


@requirement("capability.axis.contains_scopes")
@given(COMMANDS, st.lists(st.text("ab *", max_size=3), max_size=5))
def test_a_command_is_inside_only_word_by_word(pattern: str, arguments: list[str]) -> None:
    held = command_pattern.parse(pattern)
    words = pattern.split()[1:]
    has_rest = bool(words) and set(words[-1]) == {"*"}
    fixed = ["" if word == '""' else word for word in (words[:-1] if has_rest else words)]
    enough = len(arguments) >= len(fixed) if has_rest else len(arguments) == len(fixed)
    expected = enough and all(text_fits(*pair) for pair in zip(fixed, arguments, strict=False))
    wanted = command_pattern.parse(spell_command(["run", *arguments]))
    assert command_pattern.contains(held, wanted) is expected


@requirement("capability.axis.contains_scopes")
@given(SCOPES)
def test_every_capability_covers_itself_and_is_spelled_once(text: str) -> None:
    one = capability(text)
    if one is not None:
        assert capability(str(one)) == one
        assert covers(one, one) is not is_closed(one)


@requirement("capability.axis.contains_scopes", "capability.child.never_wider")
@given(SCOPES, SCOPES, SCOPES)
def test_containment_can_be_chained(first: str, second: str, third: str) -> None:
    one, two, three = capability(first), capability(second), capability(third)
    if one is not None and two is not None and three is not None and covers(one, two):
        assert overlaps(one, two)
        assert not covers(two, three) or covers(one, three)


@given(SCOPES, SCOPES)
def test_what_covers_is_found_where_it_is_looked_up(wide: str, narrow: str) -> None:
    one, other = capability(wide), capability(narrow)
    if one is None or other is None or one.scope is None or other.scope is None or one.axis != other.axis:
        return
    if covers(one, other):
        assert home(one) in homes(other)


@requirement("capability.path.runtime_folder_closed")
@given(
    st.lists(st.sampled_from(["a", ".", "**", "*"]), max_size=3),
    st.sampled_from(
        [".handshake", ".HANDSHAKE", ".hand\uff53hake", ".git/hooks", ".GIT/Config", ".git/a/hooks", ".handshake. "]
    ),
    st.lists(st.sampled_from(["a", "*", "**"]), max_size=2),
    SCOPES,
)
def test_no_scope_holds_what_is_the_runtimes(before: list[str], closed: str, after: list[str], held: str) -> None:
    path = "/".join([*before, closed, *after])
    one = capability(held)
    for wanted in (f"fs.read:{path}", f"fs.write:{path}", f"proc.exec:{spell_command(['cat', path])}"):
        for wide in filter(None, (one, capability("fs.read"), capability("fs.write:**"), capability("proc.exec"))):
            assert not covers(wide, SHIPPED.parse(wanted))


@requirement("capability.axis.contains_scopes")
@given(
    st.text(max_size=30),
    st.sampled_from(["fs.read", "fs.write", "net.http", "proc.exec", "model.local", "secrets.use"]),
)
@example("GET a/\u0130/..", "net.http")
@example("a/\u2024\u2024/b", "fs.read")
def test_whatever_is_written_is_one_capability_or_none(text: str, axis: str) -> None:
    one = capability(f"{axis}:{text}")
    if one is not None:
        assert capability(str(one)) == one
        assert str(one).isprintable()
        if axis.startswith("fs."):
            assert not {"..", "."} & set((one.scope or "").split("/")) - ({"."} if one.scope == "." else set())
