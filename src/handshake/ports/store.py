"""Store port: units of work that commit state together with its evidence, and reads beside them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeAlias, TypeVar

import msgspec

from handshake.kernel.event import Context, Payload
from handshake.kernel.ids import ArtifactId
from handshake.kernel.units import Microseconds

Value: TypeAlias = str | int | bytes | None
Row: TypeAlias = tuple[Value, ...]
Parameters: TypeAlias = Mapping[str, object]
T = TypeVar("T")


class Content(msgspec.Struct, frozen=True, gc=False):
    """Bytes that are ready to be referred to: their hash, and the bytes themselves unless they lie in a file."""

    artifact_id: ArtifactId
    size_bytes: int
    media_type: str
    inline: bytes | None


class Reader(Protocol):
    """Queries by the name that they have in `storage/sql`, over one consistent state."""

    def row(self, query: str, parameters: Parameters = {}) -> Row | None:
        """Return the first row, or None."""
        ...

    def rows(self, query: str, parameters: Parameters = {}) -> list[Row]:
        """Return all rows; every query that can grow carries a limit of its own."""
        ...

    def artifact(self, artifact_id: ArtifactId) -> bytes | None:
        """Return the bytes of an artifact, checked against their hash, or None if there is none.

        Raises:
            IntegrityBroken: the stored bytes do not have this hash.
        """
        ...


class Tx(Reader, Protocol):
    """One unit of work. Exceptions undo it alone; refusals are results, and their events commit.

    A unit may run twice, so it has no effect outside; ids are handed in by its caller.
    """

    @property
    def now_us(self) -> Microseconds:
        """The moment of the batch, the same for every unit in it."""
        ...

    def run(self, query: str, parameters: Parameters) -> int:
        """Change rows; return how many."""
        ...

    def add(self, query: str, parameters: Parameters) -> None:
        """Add a row, written together with others of its kind by the end of the batch, and before anything reads it."""
        ...

    def insert(self, query: str, parameters: Parameters) -> int:
        """Add a row whose key the store numbers; return its number."""
        ...

    def run_all(self, query: str, parameters: Sequence[Parameters]) -> int:
        """Change rows once for each of `parameters`; return how many rows in all."""
        ...

    def put(self, content: Content) -> None:
        """Add an artifact in this transaction; one that is there already is the same."""
        ...

    def append(self, payload: Payload, context: Context) -> None:
        """Add an event to the log in this transaction.

        Raises:
            InvalidEvent: it does not match its schema; the unit must fail with it.
        """
        ...

    def sign_checkpoint(self) -> None:
        """Sign the log before COMMIT, with all events of the batch, unless everything is signed already."""
        ...


Unit: TypeAlias = Callable[[Tx], T]


class Follower(Protocol):
    """Memory that follows the store. Units may change it; what did not commit is read again from the truth.

    All methods are called on the writer's thread.
    """

    @property
    def changes(self) -> int:
        """Grows with every change, so that a failed unit shows whether it touched the memory."""
        ...

    def reload(self, tx: Tx) -> None:
        """Forget everything and read it from the state that `tx` sees."""
        ...

    def close_batch(self, tx: Tx) -> None:
        """Run as the last unit of each batch, before COMMIT."""
        ...

    def committed(self) -> Callable[[], None] | None:
        """Take note that everything up to here is durable.

        Returns:
            What is to be done about it on the event loop, before the batch's callers hear of it; it must not raise.
        """
        ...


class Store(Protocol):
    """Durable state with its evidence: `write` answers only after COMMIT (06 §1)."""

    async def write(self, unit: Unit[T], *, outcome: bool = False, then: Callable[[T], None] | None = None) -> T:
        """Run `unit` in a transaction and return its result once that is durable.

        Args:
            unit: a plain function; it may run twice.
            outcome: tells what already happened outside, and may use the reserve of a disk that is nearly full.
            then: called with the result on the event loop once it is durable, before this returns, and also if
                whoever called this was cancelled meanwhile; it must not raise.

        Raises:
            StoreFailed: not committed: disk full, I/O error, or store closed.
            HandshakeError: whatever `unit` raised; nothing of it is stored.
        """
        ...

    async def read(self, query: Callable[[Reader], T]) -> T:
        """Run `query` over one consistent state, away from the event loop."""
        ...

    def read_now(self, query: Callable[[Reader], T]) -> T:
        """Run a small `query` at once on the calling thread."""
        ...

    async def prepare(self, data: bytes, media_type: str) -> Content:
        """Hash `data`, and if it is large make it durable as a file; the row comes with `Tx.put`.

        Raises:
            StoreFailed: it cannot be written.
        """
        ...

    @property
    def has_room(self) -> bool:
        """Whether new intents are accepted: the disk has more than the reserve left. Any thread may ask."""
        ...

    async def make_room(self) -> bool:
        """Give up the ballast, if there is one, so that an outcome can be stored on a full disk; return whether."""
        ...

    def follow(self, follower: Follower) -> None:
        """Let `follower` take part in every batch from now on; there is at most one."""
        ...

    async def close(self) -> None:
        """Sign a last checkpoint and close; later writes are refused."""
        ...
