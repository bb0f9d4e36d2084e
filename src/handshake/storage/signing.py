"""Signing key: the workspace's Ed25519 key, a seed in a file that only its owner can read.

The key is made once, by `init`; where it is missing later nothing makes a new one in silence, because a log that
changes its key without a word is what a forged log looks like.

Source:
    recorder.checkpoint.signed (06 §1); 07 §1 (`keys/`, 0600 and 0700); RFC 8032.
"""

from __future__ import annotations

import stat
from pathlib import Path

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from handshake.kernel.checkpoint import VerifierKey
from handshake.kernel.errors import IntegrityBroken, InvalidRequest, NotFound, StateConflict
from handshake.kernel.units import Bytes
from handshake.ports.chance import Chance
from handshake.ports.files import Files
from handshake.storage.failures import coded

SEED_BYTES = 32
MAX_PUBLIC_KEY_BYTES = Bytes(4_096)
"""Largest file that is taken for a public key."""
KEY_FILE = "log.ed25519"
"""Name of the file in the workspace's `keys/` folder; it holds the raw seed of RFC 8032 §5.1.5 and nothing else."""

PUBLIC_KEY_FILE = "log.pub"
"""Name of the file beside it: the verifier key in one line, so that whoever verifies never opens the private one."""

_NEW_FILE = ".log.ed25519.new"
_OF_OTHERS = 0o077
_WRITABLE_BY_OTHERS = 0o022


class SigningKey:
    """The key that signs the workspace's checkpoints; `create` and `load` keep its seed in a file.

    Args:
        name: the name of the log: its origin, and its key name in checkpoints.
        seed: `SEED_BYTES` of chance.
    """

    __slots__ = ("_private", "key_id", "name", "public_bytes")

    name: str
    """The name of the log."""
    public_bytes: bytes
    """The public key, 32 bytes as in RFC 8032."""
    key_id: bytes
    """The id of name and key in signature lines, 4 bytes."""

    def __init__(self, name: str, seed: bytes) -> None:
        self._private = Ed25519PrivateKey.from_private_bytes(seed)
        self.name = name
        self.public_bytes = self._private.public_key().public_bytes_raw()
        self.key_id = self.verifier_key.key_id

    @property
    def verifier_key(self) -> VerifierKey:
        """What others need to verify what this key signed."""
        return VerifierKey(self.name, self.public_bytes)

    @classmethod
    def create(cls, folder: Path, name: str, *, files: Files, chance: Chance) -> SigningKey:
        """Return a new key and keep it in `folder`, which is made if it is missing.

        When this returns, the key survives a power loss; a crash before leaves no key, or a whole one. The caller
        holds the workspace's lock, so nobody else creates one at the same time.

        Raises:
            StateConflict: there is a key already.
            IntegrityBroken: others can write to the folder.
            StoreFailed: the disk is full or the folder cannot be written.
        """
        seed = chance.bits(8 * SEED_BYTES).to_bytes(SEED_BYTES, "big")
        try:
            files.make_folder(folder)
            _check_folder(folder)
            if files.exists(folder / KEY_FILE):
                raise StateConflict(subject="signing_key", reason="exists")
            files.unlink(folder / _NEW_FILE)  # of a creation that a crash ended: never used
            files.write_new(folder / _NEW_FILE, seed)
            files.rename(folder / _NEW_FILE, folder / KEY_FILE)
            files.sync_folder(folder)
        except OSError as failure:
            raise coded(failure) from failure
        return cls(name, seed)

    @classmethod
    def load(cls, folder: Path, name: str, *, files: Files) -> SigningKey:
        """Return the key kept in `folder`.

        Raises:
            NotFound: there is none.
            IntegrityBroken: `subject` is `signing_key`; `reason` is `not_a_file` (a link is none), `permissions`
                (others can read or write it, or write to the folder) or `size`.
            StoreFailed: the file cannot be read.
        """
        path = folder / KEY_FILE
        try:
            _check_folder(folder)
            size = _check_file(path)
            seed = files.read(path, max_bytes=Bytes(SEED_BYTES)) if size == SEED_BYTES else b""
        except FileNotFoundError as missing:
            raise NotFound(subject="signing_key") from missing
        except OSError as failure:
            raise coded(failure) from failure
        if len(seed) != SEED_BYTES:
            raise _broken("size")
        return cls(name, seed)

    def sign(self, message: bytes) -> bytes:
        """Return the signature of `message`, 64 bytes, always the same for the same message."""
        return self._private.sign(message)


def publish(key: SigningKey, folder: Path, *, files: Files) -> None:
    """Keep the public part of `key` in `folder`, beside the key; made with the key, before anyone sees the folder.

    Raises:
        StoreFailed: the disk is full or the folder cannot be written.
    """
    try:
        files.write_new(folder / PUBLIC_KEY_FILE, f"{key.verifier_key.text()}\n".encode())
        files.sync_folder(folder)
    except OSError as failure:
        raise coded(failure) from failure


def load_verifier_key(folder: Path, name: str, *, files: Files) -> VerifierKey:
    """Return the public key that `publish` kept in `folder`.

    Raises:
        NotFound: there is none.
        IntegrityBroken: `subject` is `verifier_key`; `reason` is `form`, or `name`: it is another log's.
        StoreFailed: the file cannot be read.
    """
    try:
        text = files.read(folder / PUBLIC_KEY_FILE, max_bytes=MAX_PUBLIC_KEY_BYTES).decode()
        key = VerifierKey.parse(text.removesuffix("\n"))
    except FileNotFoundError as missing:
        raise NotFound(subject="verifier_key") from missing
    except OSError as failure:
        raise coded(failure) from failure
    except (InvalidRequest, UnicodeDecodeError) as broken:
        raise IntegrityBroken(subject="verifier_key", reason="form") from broken
    if key.name != name:
        raise IntegrityBroken(subject="verifier_key", reason="name")
    return key


def verify(public_key: bytes, message: bytes, signature: bytes) -> bool:
    """Return whether `signature` over `message` was made by the owner of `public_key`; malformed counts as no."""
    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def _check_folder(folder: Path) -> None:
    if folder.stat().st_mode & _WRITABLE_BY_OTHERS:
        raise _broken("permissions")


def _check_file(path: Path) -> int:
    """Return the size of the file in bytes."""
    found = path.lstat()
    if not stat.S_ISREG(found.st_mode):
        raise _broken("not_a_file")
    if found.st_mode & _OF_OTHERS:
        raise _broken("permissions")
    return found.st_size


def _broken(reason: str) -> IntegrityBroken:
    return IntegrityBroken(subject="signing_key", reason=reason)
