r"""Command pattern: an executable and its arguments, one by one; `*` at the end is any rest, elsewhere part of one.

Arguments stand apart by spaces. A backslash takes a character as it is: `\ `, `\*`, `\\`, `\"`; `\n` and `\t` are
line break and tab, `\u{1f}` any other that cannot be shown, and `""` is an empty argument.

Source:
    capability.axis.contains_scopes, capability.path.runtime_folder_closed (02 §1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from handshake.kernel import glob, path_glob
from handshake.kernel.errors import UnknownCapability
from handshake.kernel.grant_settings import MAX_SCOPE_ARGUMENTS

HOST = "host"
"""The scope `proc.exec:host`: commands without a sandbox. Nothing else contains it."""

_WILD = "\0"
"""A `*` in an argument as it is compared; no argument of a process has this character."""
_PIECE = re.compile(r"\\u\{([0-9a-f]{1,6})\}|\\([^\sA-Za-z0-9]| |n|t)|([^\\])")
_PLAIN = {"n": "\n", "t": "\t"}
_ESCAPED = {" ": "\\ ", "*": "\\*", "\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t"}
_WORD = re.compile(r"[^\w.-]+")
_LAST_CHARACTER = 0x10FFFF


class CommandPattern(msgspec.Struct, frozen=True, gc=False):
    """Commands of one executable."""

    executable: str
    arguments: tuple[str, ...]
    any_rest: bool
    """Whether further arguments may follow."""

    @property
    def is_literal(self) -> bool:
        """Whether exactly one command is meant."""
        return not self.any_rest and not any(_WILD in one for one in self.arguments)


def parse(text: str) -> CommandPattern:
    """Return the commands that a pattern names.

    Raises:
        UnknownCapability: `reason` says what no pattern may have.
    """
    if not text.isprintable():
        raise UnknownCapability(axis="proc.exec", reason="character")
    words = [_read(word) for word in _words(text)]
    if not words or not words[0]:
        raise UnknownCapability(axis="proc.exec", reason="empty")
    if _WILD in words[0]:
        raise UnknownCapability(axis="proc.exec", reason="executable")
    if len(words) > MAX_SCOPE_ARGUMENTS:
        raise UnknownCapability(axis="proc.exec", reason="too_many_arguments", limit=MAX_SCOPE_ARGUMENTS)
    any_rest = len(words) > 1 and words[-1] == _WILD
    return CommandPattern(words[0], tuple(words[1 : len(words) - any_rest]), any_rest)


def spell(pattern: CommandPattern) -> str:
    """Return the one spelling of a pattern."""
    words = (pattern.executable, *pattern.arguments)
    return " ".join([*(_spelled(word) for word in words), *("*" for _ in range(pattern.any_rest))])


def spell_command(arguments: Sequence[str]) -> str:
    """Return the scope that names exactly one command, whatever characters its arguments have."""
    return " ".join(_spelled(word) for word in arguments)


def contains(held: CommandPattern, wanted: CommandPattern) -> bool:
    """Return whether every command of `wanted` is one of `held`."""
    count = len(held.arguments)
    if held.executable != wanted.executable or len(wanted.arguments) < count:
        return False
    if not held.any_rest and (wanted.any_rest or len(wanted.arguments) > count):
        return False
    return all(
        glob.matches(mine, theirs, _WILD) for mine, theirs in zip(held.arguments, wanted.arguments, strict=False)
    )


def overlaps(one: CommandPattern, other: CommandPattern) -> bool:
    """Return whether some command may be one of both."""
    if one.executable != other.executable:
        return False
    longer = len(one.arguments) - len(other.arguments)
    if (longer > 0 and not other.any_rest) or (longer < 0 and not one.any_rest):
        return False
    return all(glob.overlaps(mine, theirs, _WILD) for mine, theirs in zip(one.arguments, other.arguments, strict=False))


def is_closed(pattern: CommandPattern) -> bool:
    """Return whether a word of the command names the runtime's folder, or what tells git which programs to start."""
    return any(
        path_glob.is_closed([word for word in _WORD.split(one) if word], writing=False)
        for one in (pattern.executable, *pattern.arguments)
    )


def _words(text: str) -> list[str]:
    """Return the words of a pattern, their escapes still in them."""
    words, word, skip = [], "", False
    for one in text:
        if one == " " and not skip:
            if word:
                words.append(word)
            word = ""
            continue
        word += one
        skip = one == "\\" and not skip
    return [*words, word] if word else words


def _read(word: str) -> str:
    if word == '""':
        return ""
    found, at = "", 0
    for piece in _PIECE.finditer(word):
        if piece.start() != at:
            break
        at = piece.end()
        code, escaped, plain = piece.groups()
        if code is not None:
            found += _character(int(code, 16))
        elif escaped is not None:
            found += _PLAIN.get(escaped, escaped)
        elif plain == '"':
            break
        elif not (plain == "*" and found.endswith(_WILD)):
            found += _WILD if plain == "*" else plain
    else:
        if at == len(word):
            return found
    raise UnknownCapability(axis="proc.exec", reason="escape")


def _character(code: int) -> str:
    if not 0 < code <= _LAST_CHARACTER:
        raise UnknownCapability(axis="proc.exec", reason="escape")
    return chr(code)


def _spelled(word: str) -> str:
    """Return a word with everything escaped that reads as something else; one with a NUL becomes a pattern."""
    if not word:
        return '""'
    return "".join(
        "*" if one == _WILD else _ESCAPED.get(one) or (one if one.isprintable() else f"\\u{{{ord(one):x}}}")
        for one in word
    )
