"""Written log: a log of real runs to verify, and the hands of somebody who may write its file but not sign."""

from __future__ import annotations

import hashlib
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import apsw

from handshake.bootstrap import init_workspace, read_only, verify_log
from handshake.kernel.checkpoint import Checkpoint, sign
from handshake.kernel.ids import ProviderId
from handshake.kernel.merkle import Frontier, extend
from handshake.operations.verdict import Break, Damage, Verdict
from handshake.ports.store import Reader
from handshake.storage.signing import KEY_FILE, SigningKey
from handshake.storage.workspace_folder import WorkspaceFolder
from handshake.testing.scripted_model import ScriptedModel
from handshake.workspace import Workspace, open_workspace

T = TypeVar("T")
EVERY = 16
"""Events between checkpoints."""
TAIL = 6
"""Least number of events after the last checkpoint and its own event."""
MODELS = {ProviderId("near"): ScriptedModel()}
LARGE = "a long question. " * 5_000
"""More than the store holds in a row: its artifact is a file."""
_CONFIG = '[providers.near]\ndialects = ["openai_chat"]\nbase_url = "http://127.0.0.1:1/v1"\n'
_PREV = re.compile(rb'"prev_hash":"[0-9a-f]{64}"')


def new_workspace(root: Path) -> WorkspaceFolder:
    """Return a new workspace with one provider."""
    place = init_workspace(root)
    place.config.write_text(_CONFIG)
    return place


async def write_log(folder: Path) -> WorkspaceFolder:
    """Return a workspace whose log ends with some events that no checkpoint covers, as a crash leaves it."""
    place = new_workspace(folder / "live")
    flags = {"recorder.checkpoint_every_events": str(EVERY)}
    async with open_workspace(place.root, models=MODELS, flags=flags) as hs:
        made = [
            await hs.sessions.create(role="coder", model="near/m", memory_policy="EPHEMERAL", title=f"number {n}")
            for n in range(6)
        ]
        for text in ("first", "second", LARGE, "Grüße, four times", "fifth", "sixth", "seventh"):
            for turn in [await one.send(text) for one in made]:
                assert (await turn.result()).text
        await made[0].cancel()
        await made[1].pause()
        while await _tail(hs) < TAIL:
            await hs.sessions.create(role="coder", model="near/m", memory_policy="SESSION_SCOPED")
        return _copy(place, folder / "log")


async def _tail(hs: Workspace) -> int:
    def count(reader: Reader) -> int:
        end: Any = reader.row("log_state")
        signed: Any = reader.row("checkpoint_last")
        return int(end[0]) - int(signed[0]) - 1

    return await hs.runtime.store.read(count)


def _copy(place: WorkspaceFolder, root: Path) -> WorkspaceFolder:
    copy = WorkspaceFolder(root)
    shutil.copytree(place.folder, copy.folder, ignore=shutil.ignore_patterns("state.db*", "run"))
    source = apsw.Connection(str(place.database), flags=apsw.SQLITE_OPEN_READONLY)
    target = apsw.Connection(str(copy.database))
    with target.backup("main", source, "main") as backup:
        backup.step()
    target.close()
    source.close()
    return copy


class Log:
    """A workspace's log and its file. What `rehash`, `rechain` and `move_end` do needs no key; `sign_end` does."""

    def __init__(self, place: WorkspaceFolder) -> None:
        self.place = place
        self.db = apsw.Connection(str(place.database))
        self.db.execute("PRAGMA foreign_keys=OFF")

    @property
    def size(self) -> int:
        """Number of the last event."""
        return int(self.value("SELECT max(seq) FROM event"))

    @property
    def signed_sizes(self) -> list[int]:
        """How many events each checkpoint covers."""
        return [size for (size,) in self.rows("SELECT tree_size FROM checkpoint ORDER BY tree_size")]

    @property
    def key(self) -> SigningKey:
        """The log's own key."""
        name = str(self.value("SELECT note FROM checkpoint")).partition("\n")[0]
        return SigningKey(name, (self.place.keys / KEY_FILE).read_bytes())

    def rows(self, statement: str, *parameters: Any) -> list[Any]:
        """Return what a statement finds."""
        return self.db.execute(statement, parameters).fetchall()

    def value(self, statement: str, *parameters: Any) -> Any:
        """Return the first value that a statement finds."""
        return self.rows(statement, *parameters)[0][0]

    def run(self, statement: str, *parameters: Any) -> None:
        """Write to the file; something must change."""
        self.db.execute(statement, parameters).fetchall()
        assert self.db.changes() > 0

    def read(self, query: Callable[[Reader], T]) -> T:
        """Run a query as any other process would."""
        store = read_only(self.place)
        try:
            return store.read_now(query)
        finally:
            store.shut()

    def verdict(self, **options: Any) -> Verdict:
        """Verify the log."""
        return verify_log(self.place, **options)

    def broken(self, **options: Any) -> tuple[Damage, int, int]:
        """Return kind and place of the first break; there must be one."""
        found = self.verdict(**options).broken
        assert isinstance(found, Break)
        return found.damage, found.seq, found.last_seq

    def body(self, seq: int) -> bytes:
        """Return the bytes of an event."""
        body = self.value("SELECT body FROM event WHERE seq = ?", seq)
        assert isinstance(body, bytes)
        return body

    def alter(self, seq: int) -> None:
        """Give an event another id, and nothing else: still a valid event."""
        body = self.body(seq)
        at = body.index(b'"event_id":"') + len(b'"event_id":"')
        digit = b"1" if body[at : at + 1] == b"0" else b"0"
        self.run("UPDATE event SET body = ? WHERE seq = ?", body[:at] + digit + body[at + 1 :], seq)

    def rehash(self, seq: int) -> bytes:
        """Store the hash that an event has now, and return it."""
        digest = hashlib.sha256(b"\x00" + self.body(seq)).digest()
        self.db.execute("UPDATE event SET hash = ? WHERE seq = ?", (digest, seq))
        return digest

    def rechain(self, first: int) -> None:
        """Compute all hashes anew from event `first` on, and make the log's end agree."""
        prev = self.value("SELECT hash FROM event WHERE seq = ?", first - 1).hex() if first > 1 else "0" * 64
        for (seq,) in self.rows("SELECT seq FROM event WHERE seq >= ? ORDER BY seq", first):
            body = _PREV.sub(b'"prev_hash":"%b"' % prev.encode(), self.body(seq))
            self.run("UPDATE event SET body = ? WHERE seq = ?", body, seq)
            prev = self.rehash(seq).hex()
        self.move_end()

    def tree(self, size: int | None = None) -> Frontier:
        """Return the tree over the stored hashes, of the first `size` events or all."""
        rows = self.rows("SELECT hash FROM event WHERE ? IS NULL OR seq <= ? ORDER BY seq", size, size)
        return extend(Frontier(), [row[0] for row in rows])

    def move_end(self) -> None:
        """Make the log's stated end that of its events."""
        tree, last = self.tree(), self.value("SELECT hash FROM event ORDER BY seq DESC").hex()
        self.run("UPDATE log_state SET size = ?, last_hash = ?, frontier = ?", tree.size, last, tree.to_bytes())

    def cut(self, size: int) -> None:
        """Remove all events after `size` and all that tells of them."""
        self.run("DELETE FROM event WHERE seq > ?", size)
        self.run("DELETE FROM checkpoint WHERE tree_size >= ?", size)
        self.move_end()

    def note(self, key: SigningKey, size: int) -> str:
        """Return a checkpoint over the first `size` events as they are now."""
        return sign(Checkpoint(key.name, size, self.tree(size).root()), key.key_id, key.sign).decode()

    def sign_end(self, key: SigningKey) -> None:
        """Sign the log as it is, and tell it as the store does: by the event of an earlier checkpoint in new words."""
        size, root = self.size, self.tree().root().hex()
        *columns, body = self.rows("SELECT * FROM event WHERE seq = ?", self.signed_sizes[-1] + 1)[0]
        told = {"key_id": f'"{key.key_id.hex()}"', "root_hash": f'"{root}"', "tree_size": size, "seq": size + 1}
        for name, now in told.items():
            body = re.sub(rb'"%b":"?\w+"?' % name.encode(), f'"{name}":{now}'.encode(), body)
        self.run("INSERT INTO event VALUES (?, ?, ?, ?, ?, ?, ?)", size + 1, *columns[1:], body)
        self.run("INSERT INTO checkpoint VALUES (?, ?, ?, ?)", size, root, columns[4], self.note(key, size))
        self.rechain(size + 1)


def middle(log: Log) -> int:
    """Return an event well inside the signed part, neither the last of a checkpoint nor the one that tells of it."""
    return log.signed_sizes[3] + 5
