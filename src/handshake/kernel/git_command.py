"""Git command: what a git command line does to work that is not committed, as far as its words tell.

Source:
    gate.workspace.destructive_denied (02 §7).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from enum import Enum, auto


class Effect(Enum):
    """What becomes of uncommitted work, or of history."""

    NONE = auto()
    DISCARDS = auto()
    CLEANS = auto()
    REWRITES = auto()
    UNKNOWN = auto()
    """An alias, or a command that is not git's own."""


_WITH_VALUE = frozenset({"-C", "-c", "--git-dir", "--work-tree", "--namespace", "--exec-path", "--super-prefix",
                         "--config-env", "--attr-source"})  # fmt: skip
_CONFIGURED_PROGRAMS = ("alias.", "core.hookspath", "core.fsmonitor", "core.sshcommand", "core.pager", "core.editor",
                        "sequence.editor", "include", "filter.", "diff.", "merge.")  # fmt: skip
"""Settings that make git start a program; given with a command, what it does is not in its words."""
_KNOWN = frozenset(
    "add am annotate apply archive bisect blame branch bundle cat-file check-attr check-ignore check-mailmap "
    "check-ref-format checkout cherry cherry-pick clean clone column commit commit-graph commit-tree count-objects "
    "describe diff diff-files diff-index diff-tree difftool fast-export fetch for-each-ref format-patch fsck gc grep "
    "hash-object help init interpret-trailers log ls-files ls-remote ls-tree merge merge-base merge-file merge-tree mv "
    "name-rev notes pull push range-diff read-tree rebase reflog remote rerere reset restore rev-list rev-parse "
    "revert rm shortlog show show-branch show-ref sparse-checkout stash status stripspace switch symbolic-ref tag "
    "unpack-objects update-index var verify-commit verify-tag version whatchanged worktree write-tree".split()
)


def effect(words: Sequence[str]) -> Effect:
    """Return what the words after `git` do; options may stand anywhere, be shortened and be combined."""
    at = 0
    while at < len(words) and words[at].startswith("-"):
        option, is_joined, value = words[at].partition("=")
        if option in _WITH_VALUE and not is_joined:
            value = words[at + 1] if at + 1 < len(words) else ""
            at += 1
        if option in ("-c", "--config-env") and value.lower().startswith(_CONFIGURED_PROGRAMS):
            return Effect.UNKNOWN
        if option.startswith("-c") and option != "-c":
            return Effect.UNKNOWN
        at += 1
    if at >= len(words):
        return Effect.NONE
    name, rest = words[at], words[at + 1 :]
    if name not in _KNOWN:
        return Effect.UNKNOWN
    rule = _RULES.get(name)
    return rule(rest) if rule else Effect.NONE


def _given(words: Sequence[str], long: str, short: str = "") -> bool:
    """Return whether an option is among the words: whole, shortened as git allows, or among combined letters."""
    for word in words:
        if word == "--":
            return False
        plain = word.partition("=")[0]
        if word.startswith("--"):
            if len(plain) > 2 and long.startswith(plain):
                return True
        elif short and word.startswith("-") and short in word[1:]:
            return True
    return False


def _reset(words: Sequence[str]) -> Effect:
    return Effect.DISCARDS if _given(words, "--hard") else Effect.NONE


def _clean(words: Sequence[str]) -> Effect:
    """A dry run only if nothing else can be meant by its letter: `-e` takes what follows as a pattern."""
    letters = [word for word in words if word.startswith("-") and not word.startswith("--")]
    is_dry = _given(words, "--dry-run", "n") and not any("e" in one for one in letters) and "--exclude" not in words
    return Effect.NONE if is_dry else Effect.CLEANS


def _rebase(words: Sequence[str]) -> Effect:
    asks = _given(words, "--interactive", "i") or _given(words, "--edit-todo") or _given(words, "--exec", "x")
    return Effect.REWRITES if asks else Effect.NONE


def _checkout(words: Sequence[str]) -> Effect:
    return Effect.DISCARDS if _given(words, "--force", "f") else Effect.NONE


def _switch(words: Sequence[str]) -> Effect:
    return Effect.DISCARDS if _given(words, "--discard-changes") or _checkout(words) is Effect.DISCARDS else Effect.NONE


def _read_tree(words: Sequence[str]) -> Effect:
    return Effect.DISCARDS if _given(words, "--reset") else Effect.NONE


_RULES: dict[str, Callable[[Sequence[str]], Effect]] = {
    "reset": _reset,
    "clean": _clean,
    "rebase": _rebase,
    "checkout": _checkout,
    "switch": _switch,
    "read-tree": _read_tree,
}
