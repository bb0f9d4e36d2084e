"""Configuration file: reads one TOML file as a layer, within bounds.

Source:
    face.config.strict (07 §1).
"""

from __future__ import annotations

import os
import pwd
import re
import stat
import tomllib
from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import Any, NoReturn

from handshake.kernel.errors import InvalidConfig
from handshake.kernel.layer import Layer, LayerName
from handshake.kernel.schema import MAX_NUMBER_CHARS
from handshake.kernel.settings import MAX_CONFIG_BYTES, MAX_CONFIG_LINE_CHARS

WORKSPACE_FILE = Path(".handshake", "config.toml")
"""The workspace layer's file, from the workspace."""

_POSITION = re.compile(r"\(at line ([0-9]+), column ([0-9]+)\)")


def user_file(variables: Mapping[str, str], home: Path) -> Path:
    """Return where the user layer's file is.

    Source:
        XDG Base Directory Specification 0.8: a relative `XDG_CONFIG_HOME` is ignored.
    """
    given = Path(variables.get("XDG_CONFIG_HOME", ""))
    return (given if given.is_absolute() else home / ".config") / "handshake" / "config.toml"


def home_folder() -> Path:
    """Return the user's home; for a user without one, a place that holds nothing: never the current folder."""
    try:
        home = Path.home()
    except RuntimeError:
        return Path(os.devnull)
    return home if home.is_absolute() else Path(os.devnull)


def account_home() -> Path:
    """Return the home that this machine's accounts name for the user, whatever the environment says."""
    try:
        home = Path(pwd.getpwuid(os.getuid()).pw_dir)
    except KeyError:
        return Path(os.devnull)
    return home if home.is_absolute() else Path(os.devnull)


def read_layer(path: Path, name: LayerName) -> Layer:
    """Return the layer that the file at `path` holds, empty if there is no such file.

    Raises:
        InvalidConfig: not a regular file, unreadable, too large, not UTF-8, or not TOML.
    """
    data = _read(path, name)
    if data is None:
        return Layer(name, {})
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as broken:
        _refuse(path, name, "not_utf8", cause=broken, position_bytes=broken.start)
    for number, line in enumerate(text.split("\n"), start=1):
        if len(line) > MAX_CONFIG_LINE_CHARS:
            _refuse(path, name, "line_too_long", line=number, limit_chars=MAX_CONFIG_LINE_CHARS)
    try:
        return Layer(name, tomllib.loads(text, parse_float=_decimal))
    except RecursionError as broken:
        _refuse(path, name, "too_deep", cause=broken)
    except ValueError as broken:
        # The reader's message quotes the file, which may hold a secret: only the position is taken from it.
        place = _POSITION.search(str(broken))
        where: dict[str, Any] = {"line": int(place[1]), "column": int(place[2])} if place else {}
        _refuse(path, name, "not_toml", **where)


def _read(path: Path, name: LayerName) -> bytes | None:
    try:
        # Without O_NONBLOCK, opening a named pipe would wait for a writer.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as broken:
        _refuse(path, name, "unreadable", cause=broken)
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            _refuse(path, name, "not_a_file")
        with open(descriptor, "rb", closefd=False) as file:
            data = file.read(MAX_CONFIG_BYTES + 1)
    except OSError as broken:
        _refuse(path, name, "unreadable", cause=broken)
    finally:
        os.close(descriptor)
    if len(data) > MAX_CONFIG_BYTES:
        _refuse(path, name, "too_large", limit_bytes=MAX_CONFIG_BYTES)
    return data


def _decimal(text: str) -> Decimal:
    """Return a TOML float exactly; `ValueError` is what the TOML reader hands on."""
    try:
        return Decimal(text if len(text) <= MAX_NUMBER_CHARS else "too long")
    except InvalidOperation as broken:
        raise ValueError from broken


def _refuse(path: Path, name: LayerName, reason: str, *, cause: Exception | None = None, **where: Any) -> NoReturn:
    raise InvalidConfig(layer=name.value, file=str(path), reason=reason, **where) from cause
