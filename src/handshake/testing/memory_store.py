"""Memory store: the Store port in memory, for tests and for trying things out; each unit is its own commit."""

from __future__ import annotations

from pathlib import Path

from handshake.kernel.ids import CHANCE_BITS, uuid7
from handshake.kernel.settings import RecorderSettings
from handshake.ports.chance import Chance
from handshake.ports.clock import Clock
from handshake.storage.schema import open_writer
from handshake.storage.signing import SEED_BYTES, SigningKey
from handshake.storage.sqlite_store import open_committer, start
from handshake.testing.memory_files import MemoryFiles
from handshake.testing.seeded_chance import SeededChance
from handshake.testing.serial_store import SerialStore
from handshake.testing.virtual_clock import VirtualClock

_NOWHERE = Path("/artifacts")
_IN_MEMORY = Path(":memory:")


class MemoryStore(SerialStore):
    """A new workspace whose database and artifacts are gone with the object.

    The SQL, the transactions, the log and its signatures are those of a workspace on disk. There is no thread and
    no disk; with the same clock, chance and calls it holds the same bytes.
    """

    def __init__(
        self,
        *,
        clock: Clock | None = None,
        chance: Chance | None = None,
        recorder: RecorderSettings | None = None,
    ) -> None:
        """Make the workspace.

        Args:
            clock: its time; a `VirtualClock` that stands still if None.
            chance: its chance, for ids and the key; seeded with 0 if None.
            recorder: how often its log is signed; as shipped if None.
        """
        self.clock: Clock = clock or VirtualClock()
        self.chance: Chance = chance or SeededChance(0)
        self.files = MemoryFiles()
        self.workspace_id = uuid7(self.clock.now_us(), self.chance.bits(CHANCE_BITS))
        seed = self.chance.bits(8 * SEED_BYTES).to_bytes(SEED_BYTES, "big")
        self.key = SigningKey(f"handshake.log/{self.workspace_id}", seed)
        db = open_writer(_IN_MEMORY, new=True)
        start(db, self.workspace_id, self.clock.now_us())
        opened = open_committer(
            db,
            _NOWHERE,
            files=self.files,
            clock=self.clock,
            chance=self.chance,
            key=self.key,
            recorder=recorder or RecorderSettings(),
        )
        super().__init__(opened, batch_units=1)
