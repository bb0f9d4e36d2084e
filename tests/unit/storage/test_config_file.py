"""Configuration file: a layer from bytes on disk, bounded, and quiet about what the bytes say."""

from __future__ import annotations

import os
from decimal import Decimal
from pathlib import Path

import pytest

from handshake.kernel.configuration import resolve
from handshake.kernel.errors import InvalidConfig
from handshake.kernel.layer import LayerName
from handshake.kernel.settings import MAX_CONFIG_BYTES, MAX_CONFIG_LINE_CHARS
from handshake.storage.config_file import read_layer, user_file

SECRET = "sk-abcdefghijklmnop"


def _refused(path: Path) -> InvalidConfig:
    with pytest.raises(InvalidConfig) as caught:
        read_layer(path, LayerName.USER)
    assert caught.value.context["layer"] == "user"
    assert SECRET not in str(caught.value)
    return caught.value


def test_three_lines_make_a_provider(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('[providers.ollama]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:11434/v1"\n')
    settings = resolve([read_layer(path, LayerName.WORKSPACE)]).settings
    assert settings.providers["ollama"].base_url == "http://127.0.0.1:11434/v1"
    assert settings.providers["ollama"].dialects == ("openai_chat",)


def test_decimals_are_read_exactly(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text("a = 0.1\n")
    assert read_layer(path, LayerName.USER).values == {"a": Decimal("0.1")}


@pytest.mark.parametrize("place", ["absent.toml", "absent/config.toml", "file/config.toml"])
def test_no_file_is_an_empty_layer(tmp_path: Path, place: str) -> None:
    (tmp_path / "file").write_text("")
    assert read_layer(tmp_path / place, LayerName.USER).values == {}


def test_a_syntax_error_names_the_place_and_not_the_text(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text(f'[providers.openai]\ncredential = "{SECRET}\n')
    error = _refused(path)
    assert (error.context["reason"], error.context["line"]) == ("not_toml", 2)
    assert error.context["file"] == str(path)[:200]
    assert error.__suppress_context__


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"a = '\xff'", "not_utf8"),
        (b"a = " + b"[" * (MAX_CONFIG_LINE_CHARS - 4), "too_deep"),
        (b"a." * MAX_CONFIG_LINE_CHARS + b"a = 1", "line_too_long"),
        (b"#" * 100 + b"\n" + b"#\n" * (MAX_CONFIG_BYTES // 2), "too_large"),
        (b"a = 1\na = 2", "not_toml"),
        (b"a = " + b"9" * 4_090, "wrong_size"),
        (b"a = 1." + b"0" * 100, "not_toml"),
        (b"a = 1e9999999999999999999999", "not_toml"),
    ],
)
def test_hostile_bytes_are_refused(tmp_path: Path, data: bytes, reason: str) -> None:
    path = tmp_path / "config.toml"
    path.write_bytes(data)
    if reason == "wrong_size":
        # Python reads such a number; the schema refuses it.
        with pytest.raises(InvalidConfig):
            resolve([read_layer(path, LayerName.USER)])
    else:
        assert _refused(path).context["reason"] == reason


def test_what_is_no_file_is_refused_without_waiting(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    assert _refused(pipe).context["reason"] == "not_a_file"
    assert _refused(tmp_path).context["reason"] == "not_a_file"


def test_an_unreadable_path_is_refused(tmp_path: Path) -> None:
    loop = tmp_path / "loop"
    loop.symlink_to(loop)
    assert _refused(loop).context["reason"] == "unreadable"


def test_the_users_file_follows_the_desktop_standard() -> None:
    home = Path("/home/someone")
    assert user_file({"XDG_CONFIG_HOME": "/etc/xdg"}, home) == Path("/etc/xdg/handshake/config.toml")
    for variables in ({}, {"XDG_CONFIG_HOME": ""}, {"XDG_CONFIG_HOME": "relative"}):
        assert user_file(variables, home) == home / ".config" / "handshake" / "config.toml"
