"""Credentials are read where their references point, and every one that was read is known to the recorder."""

from __future__ import annotations

from pathlib import Path

import pytest

from handshake.kernel.errors import InvalidConfig, Unsupported
from handshake.kernel.redaction import PLACEHOLDER, KnownValues
from handshake.storage.secrets import MAX_SECRET_BYTES, Secrets


def test_a_variable_is_read_and_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "sk-0123456789abcdef")
    known = KnownValues()
    assert Secrets(known)("env:A_KEY") == "sk-0123456789abcdef"
    assert known.clean(b"sk-0123456789abcdef") == PLACEHOLDER


def test_a_file_is_read_without_its_line_end(tmp_path: Path) -> None:
    file = tmp_path / "key"
    file.write_text("sk-0123456789abcdef\n")
    assert Secrets(KnownValues())(f"file:{file}") == "sk-0123456789abcdef"


@pytest.mark.parametrize("content", [b"", b"two\nlines", b"\xff\xfe", b"x" * (MAX_SECRET_BYTES + 1)])
def test_a_file_that_holds_no_credential_is_refused(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "key"
    file.write_bytes(content)
    with pytest.raises(InvalidConfig) as refused:
        Secrets(KnownValues())(f"file:{file}")
    assert content.decode(errors="replace")[:20] not in str(refused.value) or not content


@pytest.mark.parametrize("reference", ["env:NOT_SET_ANYWHERE", "file:/does/not/exist"])
def test_a_missing_credential_is_refused(reference: str) -> None:
    with pytest.raises(InvalidConfig):
        Secrets(KnownValues())(reference)


def test_another_kind_of_reference_is_unsupported() -> None:
    with pytest.raises(Unsupported):
        Secrets(KnownValues())("keyring:service/user")


def test_look_up_learns_what_it_can_and_ignores_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("A_KEY", "sk-0123456789abcdef")
    known = KnownValues()
    Secrets(known).look_up(["env:NOT_SET_ANYWHERE", "env:A_KEY", "keyring:x/y"])
    assert known.clean(b"sk-0123456789abcdef") == PLACEHOLDER
