"""Command: whether a command line is one of the destructive ones that a child or background session asks for each time.

What is told from the words of a command line: hard resets, cleans and interactive rebases of git, recursive removal
outside the write scope, and anything that names the runtime's folder; also behind the programs that start another one
(`env`, `timeout`, `xargs`, `find -exec`, `sh -c`, ...). Whatever cannot be told counts as destructive.

What a program does that is not listed here, what a script file holds, and what an interpreter is told to do
(`python -c`) is not looked into: there the sandbox bounds what can be lost, and the write scope is all of it.

Source:
    gate.workspace.destructive_denied (02 §7).
"""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from enum import StrEnum
from fnmatch import fnmatchcase

from handshake.kernel import git_command
from handshake.kernel.shell_words import plain_commands

MAX_NESTING = 8
"""Programs that start one another in one command line; more is nobody's intent."""
RUNTIME_FOLDER = ".handshake"

InScope = Callable[[str], bool]
"""Whether everything under a workspace-relative path is in the session's write scope."""


class Destruction(StrEnum):
    """Why a command line counts as destructive."""

    RUNTIME_FOLDER = "runtime_folder"
    GIT_DISCARDS = "git_discards"
    GIT_CLEANS = "git_cleans"
    GIT_REWRITES = "git_rewrites"
    GIT_UNKNOWN = "git_unknown"
    REMOVES_OUTSIDE = "removes_outside"
    SHELL_UNKNOWN = "shell_unknown"
    NESTED_TOO_DEEP = "nested_too_deep"


_SHELLS = frozenset("sh bash dash zsh ksh ash mksh fish".split())
_BY_GIT = {
    git_command.Effect.DISCARDS: Destruction.GIT_DISCARDS,
    git_command.Effect.CLEANS: Destruction.GIT_CLEANS,
    git_command.Effect.REWRITES: Destruction.GIT_REWRITES,
    git_command.Effect.UNKNOWN: Destruction.GIT_UNKNOWN,
}
_STARTERS: dict[str, tuple[frozenset[str], int]] = {
    "env": (frozenset({"-u", "--unset", "-C", "--chdir"}), 0),
    "nice": (frozenset({"-n", "--adjustment"}), 0),
    "ionice": (frozenset({"-c", "-n", "-p", "--class", "--classdata"}), 0),
    "chrt": (frozenset(), 1),
    "taskset": (frozenset(), 1),
    "timeout": (frozenset({"-k", "--kill-after", "-s", "--signal"}), 1),
    "stdbuf": (frozenset({"-i", "-o", "-e", "--input", "--output", "--error"}), 0),
    "time": (frozenset({"-f", "-o", "--format", "--output"}), 0),
    "sudo": (frozenset({"-u", "-g", "-h", "-p", "-C", "-r", "-t", "-D", "--user", "--group"}), 0),
    "doas": (frozenset({"-u", "-C"}), 0),
    "flock": (frozenset({"-w", "--timeout", "-E", "--conflict-exit-code"}), 1),
    "unshare": (frozenset(), 0),
    "xargs": (
        frozenset({"-I", "-n", "-L", "-P", "-d", "-E", "-s", "-a", "--max-args", "--max-procs", "--delimiter"}),
        0,
    ),
    **{name: (frozenset(), 0) for name in "nohup setsid command exec builtin busybox toybox chronic".split()},
}
"""Programs that start another: their options that take a value, and how many words of their own come before it."""
_SHELL_OPTIONS_WITH_VALUE = frozenset({"-o", "+o", "-O", "+O", "--rcfile", "--init-file"})
_EVALUATING = frozenset({"eval", "source", ".", "trap", "alias"})


def is_destructive(argv: Sequence[str], *, cwd: str = ".", root: str = "", in_scope: InScope) -> bool:
    """Return whether a child or background session needs approval for this very command."""
    return destruction(argv, cwd=cwd, root=root, in_scope=in_scope) is not None


def destruction(argv: Sequence[str], *, cwd: str = ".", root: str = "", in_scope: InScope) -> Destruction | None:
    """Return why a command line counts as destructive, or None.

    Args:
        argv: the words as the program gets them; nothing is expanded.
        cwd: workspace-relative folder that it would run in.
        root: absolute path of the workspace, so that absolute words can be told apart; empty: all are outside.
        in_scope: the session's write scope, for recursive removal.
    """
    return _Judge(root.rstrip("/"), in_scope).of(tuple(argv), cwd, 0)


class _Judge:
    """What stays the same while one command line is taken apart."""

    def __init__(self, root: str, in_scope: InScope) -> None:
        self._root = root
        self._in_scope = in_scope

    def of(self, argv: tuple[str, ...], cwd: str, depth: int) -> Destruction | None:
        if depth > MAX_NESTING:
            return Destruction.NESTED_TOO_DEEP
        if any(map(_names_runtime_folder, (*argv, cwd))):
            return Destruction.RUNTIME_FOLDER
        if not argv:
            return None
        name = argv[0].rpartition("/")[2]
        if name in _SHELLS:
            return self._of_shell(argv[1:], cwd, depth)
        if name in _STARTERS:
            return self._of_starter(name, argv[1:], cwd, depth)
        if name in _EVALUATING:
            return Destruction.SHELL_UNKNOWN
        if name == "git":
            return _BY_GIT.get(git_command.effect(argv[1:]))
        if name == "find":
            return self._of_find(argv[1:], cwd, depth)
        if name == "rm":
            return self._of_removal(argv[1:], cwd)
        return None

    def _of_shell(self, words: tuple[str, ...], cwd: str, depth: int) -> Destruction | None:
        """Look into `-c SCRIPT`; a script file is a program like any other; standard input could be anything."""
        is_script = False
        at = 0
        while at < len(words) and words[at][:1] in ("-", "+"):
            option = words[at]
            if option == "-":
                return Destruction.SHELL_UNKNOWN
            is_script = is_script or (not option.startswith("--") and "c" in option)
            at += 2 if option in _SHELL_OPTIONS_WITH_VALUE else 1
        if at >= len(words):
            return Destruction.SHELL_UNKNOWN
        return self._of_script(words[at], cwd, depth) if is_script else None

    def _of_script(self, script: str, cwd: str, depth: int) -> Destruction | None:
        commands = plain_commands(script)
        if commands is None:
            return Destruction.SHELL_UNKNOWN
        for one in commands:
            if any(map(_names_runtime_folder, one.files)):
                return Destruction.RUNTIME_FOLDER
            words = _without_assignments(one.words)
            if words and words[0] in ("cd", "pushd"):
                cwd = self._place(words[-1], cwd) if len(words) == 2 else ".."
                continue
            found = self.of(words, cwd, depth + 1)
            if found is not None:
                return found
        return None

    def _of_starter(self, name: str, words: tuple[str, ...], cwd: str, depth: int) -> Destruction | None:
        with_value, own_words = _STARTERS[name]
        at = 0
        while at < len(words) and (words[at].startswith("-") or (name in ("env", "sudo") and "=" in words[at])):
            if name == "env" and words[at].startswith(("-S", "--split-string", "-C", "--chdir")):
                return Destruction.SHELL_UNKNOWN
            at += 2 if words[at] in with_value else 1
            if words[at - 1] == "--":
                break
        started = words[at + own_words :]
        if name == "xargs":  # what it appends is read from its input
            started = (*started, "/")
        return self.of(started, cwd, depth + 1)

    def _of_find(self, words: tuple[str, ...], cwd: str, depth: int) -> Destruction | None:
        first = next((n for n, one in enumerate(words) if one.startswith("-") or one in ("(", "!")), len(words))
        places = words[:first] or (".",)
        if "-delete" in words and not all(self._removable(place, cwd) for place in places):
            return Destruction.REMOVES_OUTSIDE
        for number, word in enumerate(words):
            if word not in ("-exec", "-execdir", "-ok", "-okdir"):
                continue
            rest = words[number + 1 :]
            end = next((n for n, one in enumerate(rest) if one in (";", "+")), len(rest))
            for place in places:
                started = tuple(one.replace("{}", place) for one in rest[:end])
                found = self.of(started, cwd, depth + 1)
                if found is not None:
                    return found
        return None

    def _of_removal(self, words: tuple[str, ...], cwd: str) -> Destruction | None:
        is_recursive = False
        targets: list[str] = []
        options_end = False
        for word in words:
            if not options_end and word == "--":
                options_end = True
            elif not options_end and word.startswith("--"):
                is_recursive = is_recursive or (len(word) > 3 and "--recursive".startswith(word))
            elif not options_end and word.startswith("-") and word != "-":
                is_recursive = is_recursive or bool(set("rR") & set(word))
            else:
                targets.append(word)
        if is_recursive and not all(self._removable(one, cwd) for one in targets):
            return Destruction.REMOVES_OUTSIDE
        return None

    def _removable(self, word: str, cwd: str) -> bool:
        """Return whether all that a word names is in the write scope; what the shell would expand, from its folder."""
        at = next((n for n, one in enumerate(word) if one in "*?["), -1)
        place = self._place(word if at < 0 else word[:at].rpartition("/")[0] or ".", cwd)
        if place.startswith("..") or (at < 0 and place == "."):
            return False
        return self._in_scope(place)

    def _place(self, word: str, cwd: str) -> str:
        """Return the workspace-relative path that a word names, or one that begins with `..`."""
        if word.startswith("/"):
            if not self._root or not (word + "/").startswith(self._root + "/"):
                return ".."
            return _plain(word[len(self._root) :])
        return ".." if word.startswith("~") else _plain(f"{cwd}/{word}")


def _plain(path: str) -> str:
    """Return a relative path without empty parts, `.` and `..`; `.` is the workspace, `..` all that is above it."""
    parts: list[str] = []
    for one in path.split("/"):
        if one == ".." and not parts:
            return ".."
        if one == "..":
            parts.pop()
        elif one not in ("", "."):
            parts.append(one)
    return "/".join(parts) or "."


def _without_assignments(words: tuple[str, ...]) -> tuple[str, ...]:
    """Leave out the `NAME=value` words before a command."""
    first = next((n for n, one in enumerate(words) if not one.partition("=")[0].isidentifier() or "=" not in one), None)
    return () if first is None else words[first:]


def _names_runtime_folder(word: str) -> bool:
    """Return whether a word could name the runtime's folder, however it is spelt."""
    plain = "".join(one for one in unicodedata.normalize("NFKC", word).casefold() if one.isprintable())
    plain = "".join(one for one in plain if one not in "\\'\"")
    return RUNTIME_FOLDER in plain or any(
        part[:1] in (".", "[") and fnmatchcase(RUNTIME_FOLDER, part) for part in plain.split("/")
    )
