"""Shell words: the plain commands of a shell script, or the finding that it holds more than plain commands.

Only words, quotes, `;`, `&`, `&&`, `|`, `||`, newlines, comments and redirections to plain words are understood.
Whatever depends on a value that only the shell knows (`$`, backquotes, `~`), and every construct (loops, functions,
groups, here-documents), is not: nobody can tell from the text what it would run.

Source:
    gate.workspace.destructive_denied (02 §7).
"""

from __future__ import annotations

from typing import NamedTuple

_BLANKS = " \t"
_ENDS = ";&|\n"
_BEYOND = frozenset("$`(){}!")
"""Characters that make a script more than a list of plain commands, wherever the shell would act on them."""
_RESERVED = frozenset(
    "if then else elif fi for in do done while until case esac function select time coproc [[ ]] { } !".split()
)


class PlainCommand(NamedTuple):
    """One command of a script: its words, and the files that its redirections name."""

    words: tuple[str, ...]
    files: tuple[str, ...]


class _Words:
    """A reader that goes through a script once, character by character."""

    def __init__(self, script: str) -> None:
        self.script = script
        self.at = 0
        self.is_plain = True

    def peek(self) -> str:
        return self.script[self.at : self.at + 1]

    def take(self) -> str:
        one = self.peek()
        self.at += 1
        return one

    def word(self) -> str:
        """Read one word with its quotes taken off."""
        found: list[str] = []
        while (one := self.peek()) and one not in _BLANKS + _ENDS + "<>":
            self.take()
            if one == "'":
                found.append(self._until_quote())
            elif one == '"':
                found.append(self._within_double())
            elif one == "\\":
                escaped = self.take()
                found.append("" if escaped == "\n" else escaped)
            else:
                self.is_plain = self.is_plain and one not in _BEYOND and not (one == "~" and not found)
                found.append(one)
        return "".join(found)

    def _until_quote(self) -> str:
        end = self.script.find("'", self.at)
        if end < 0:
            self.is_plain, end = False, len(self.script)
        text, self.at = self.script[self.at : end], end + 1
        return text

    def _within_double(self) -> str:
        found: list[str] = []
        while (one := self.take()) and one != '"':
            if one == "\\":
                escaped = self.take()
                found.append(escaped if escaped in '$`"\\' else "" if escaped == "\n" else "\\" + escaped)
                continue
            self.is_plain = self.is_plain and one not in "$`!"
            found.append(one)
        self.is_plain = self.is_plain and one == '"'
        return "".join(found)


def plain_commands(script: str) -> tuple[PlainCommand, ...] | None:
    """Return the commands of a script in their order, or None if it holds anything but plain commands."""
    reader = _Words(script)
    commands: list[PlainCommand] = []
    words: list[str] = []
    files: list[str] = []
    while reader.is_plain and (one := reader.peek()):
        if one in _BLANKS:
            reader.take()
        elif one == "#":
            reader.at = (reader.script + "\n").find("\n", reader.at)
        elif one in _ENDS:
            reader.take()
            commands.append(PlainCommand(tuple(words), tuple(files)))
            words, files = [], []
        elif one in "<>":
            _redirection(reader, words, files)
        else:
            words.append(reader.word())
    commands.append(PlainCommand(tuple(words), tuple(files)))
    if not reader.is_plain or any(one.words and one.words[0] in _RESERVED for one in commands):
        return None
    return tuple(one for one in commands if one.words or one.files)


def _redirection(reader: _Words, words: list[str], files: list[str]) -> None:
    """Read one redirection; a number right before it was its descriptor and no word."""
    if words and words[-1].isdigit() and reader.script[reader.at - 1] not in _BLANKS:
        words.pop()
    first = reader.take()
    if reader.peek() == first == "<":
        reader.is_plain = False  # a here-document
        return
    while reader.peek() and reader.peek() in "<>|":
        reader.take()
    is_descriptor = reader.peek() == "&"
    if is_descriptor:
        reader.take()
    while reader.peek() and reader.peek() in _BLANKS:
        reader.take()
    target = reader.word()
    reader.is_plain = reader.is_plain and bool(target)
    if not (is_descriptor and target.rstrip("-").isdigit()):
        files.append(target)
