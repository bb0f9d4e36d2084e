"""Merkle tree: the hash tree over the log, its frontier that grows with each event, and proofs that anyone can check.

Hashes and tree shape are those of RFC 6962 §2.1, which RFC 9162 §2.1 keeps; what is verified here verifies with any
tool for Certificate Transparency logs.

Source:
    recorder.proof.inclusion, recorder.log.verifies (06 §1).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from hashlib import sha256

import msgspec

from handshake.kernel.errors import IntegrityBroken, InvalidRequest
from handshake.kernel.units import MAX_SAFE_INTEGER

HASH_BYTES = 32
"""Size of every leaf and node hash, in bytes."""
EMPTY_ROOT = sha256(b"").digest()
"""Root of the tree without leaves."""
MAX_PROOF_HASHES = 64
"""Longest proof that is looked at: a log of 2^53 leaves needs 53 hashes for inclusion and 54 for consistency."""

_SIZE_BYTES = 8


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf from its content."""
    return sha256(b"\x00" + data).digest()


class Frontier(msgspec.Struct, frozen=True, gc=False):
    """All that a log must remember to grow: its size, and the roots of its full subtrees from left to right.

    There is one subtree for each bit that is set in `size`, the largest first.
    """

    size: int = 0
    subtrees: tuple[bytes, ...] = ()

    def append(self, leaf: bytes) -> Frontier:
        """Return the frontier after one more leaf hash.

        Raises:
            IntegrityBroken: `leaf` is not `HASH_BYTES` long.
        """
        return extend(self, (leaf,))

    def root(self) -> bytes:
        """Return the root hash of the tree."""
        if not self.subtrees:
            return EMPTY_ROOT
        *left, node = self.subtrees
        for subtree in reversed(left):
            node = _node(subtree, node)
        return node

    def to_bytes(self) -> bytes:
        """Return the frontier as bytes: the size in 8 bytes, big-endian, and then the subtree hashes."""
        return self.size.to_bytes(_SIZE_BYTES, "big") + b"".join(self.subtrees)

    @classmethod
    def from_bytes(cls, data: bytes) -> Frontier:
        """Return the frontier that `to_bytes` wrote.

        Raises:
            IntegrityBroken: the length does not fit the size, or the size is beyond 2^53−1.
        """
        size = int.from_bytes(data[:_SIZE_BYTES], "big")
        if len(data) != _SIZE_BYTES + HASH_BYTES * size.bit_count() or size > MAX_SAFE_INTEGER:
            raise IntegrityBroken(subject="frontier", reason="length", size_bytes=len(data))
        return cls(size, tuple(data[at : at + HASH_BYTES] for at in range(_SIZE_BYTES, len(data), HASH_BYTES)))


def extend(frontier: Frontier, leaf_hashes: Iterable[bytes]) -> Frontier:
    """Return the frontier after more leaf hashes, in order.

    Raises:
        IntegrityBroken: a leaf hash is not `HASH_BYTES` long.
    """
    size = frontier.size
    subtrees = list(frontier.subtrees)
    for leaf in leaf_hashes:
        if len(leaf) != HASH_BYTES:
            raise IntegrityBroken(subject="leaf_hash", reason="length", size_bytes=len(leaf))
        node = leaf
        full = size
        while full & 1:  # each low bit that is set is a full subtree as large as the one that ends here
            node = sha256(b"\x01" + subtrees.pop() + node).digest()
            full >>= 1
        subtrees.append(node)
        size += 1
    return Frontier(size, tuple(subtrees))


def root_of(leaf_hashes: Iterable[bytes]) -> bytes:
    """Return the root of the tree over `leaf_hashes`."""
    return extend(Frontier(), leaf_hashes).root()


def inclusion_path(index: int, size: int) -> tuple[range, ...]:
    """Return the stretches of leaves whose roots prove leaf `index` (from 0) of `size`, sibling of the leaf first.

    Raises:
        InvalidRequest: there is no such leaf.

    Source:
        RFC 6962 §2.1.1.
    """
    if not 0 <= index < size:
        raise InvalidRequest(field="index", reason="out_of_range", index=index, size=size)
    path: list[range] = []
    low, high = 0, size
    while high - low > 1:
        middle = _middle(low, high)
        if index < middle:
            path.append(range(middle, high))
            high = middle
        else:
            path.append(range(low, middle))
            low = middle
    return tuple(reversed(path))


def consistency_path(first: int, size: int) -> tuple[range, ...]:
    """Return the stretches of leaves whose roots prove that a tree of `size` leaves began as the one of `first`.

    Raises:
        InvalidRequest: `first` is not from 1 to `size`; every tree continues the empty one.

    Source:
        RFC 6962 §2.1.2.
    """
    if not 1 <= first <= size:
        raise InvalidRequest(field="first", reason="out_of_range", first=first, size=size)
    path: list[range] = []
    low, high = 0, size
    while high != first:
        middle = _middle(low, high)
        if first <= middle:
            path.append(range(middle, high))
            high = middle
        else:
            path.append(range(low, middle))
            low = middle
    if low:  # the verifier knows the first root itself, but not that of a part of it
        path.append(range(low, high))
    return tuple(reversed(path))


def inclusion_proof(index: int, leaf_hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the proof that leaf `index` (from 0) is in the tree over `leaf_hashes`, sibling of the leaf first.

    Raises:
        InvalidRequest: there is no such leaf.
    """
    path = inclusion_path(index, len(leaf_hashes))
    return tuple(root_of(leaf_hashes[part.start : part.stop]) for part in path)


def consistency_proof(first: int, leaf_hashes: Sequence[bytes]) -> tuple[bytes, ...]:
    """Return the proof that the tree over all `leaf_hashes` began as the tree over the first `first` of them.

    Raises:
        InvalidRequest: `first` is not from 1 to the number of leaves.
    """
    path = consistency_path(first, len(leaf_hashes))
    return tuple(root_of(leaf_hashes[part.start : part.stop]) for part in path)


def verify_inclusion(index: int, size: int, leaf: bytes, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether `proof` shows that `leaf` is the leaf hash at `index` in the tree of `size` leaves with `root`.

    Take `size` and `root` from one signed checkpoint: trees of other sizes can have a path of the same shape, so
    the proof alone does not bind a root to its size.

    Source:
        RFC 9162 §2.1.3.2.
    """
    if not (0 <= index < size <= MAX_SAFE_INTEGER and _are_hashes(leaf, root, *proof[: MAX_PROOF_HASHES + 1])):
        return False
    at, last, node = index, size - 1, leaf
    for sibling in proof[: MAX_PROOF_HASHES + 1]:
        if last == 0:
            return False
        if at & 1 or at == last:
            node = _node(sibling, node)
            at, last = _above_right_edge(at, last)
        else:
            node = _node(node, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and node == root


def verify_consistency(first: int, second: int, first_root: bytes, second_root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether `proof` shows that the tree of `second` leaves continues the tree of `first`, at least 1.

    Take each size and root from one signed checkpoint, as for `verify_inclusion`.

    Source:
        RFC 9162 §2.1.4.2.
    """
    hashes = tuple(proof[: MAX_PROOF_HASHES + 1])
    if not (1 <= first <= second <= MAX_SAFE_INTEGER and _are_hashes(first_root, second_root, *hashes)):
        return False
    if first == second:
        return not hashes and first_root == second_root
    if not hashes:
        return False
    if first & (first - 1) == 0:  # a full tree is a node of the larger one: the proof leaves it out
        hashes = (first_root, *hashes)
    at, last = first - 1, second - 1
    while at & 1:
        at >>= 1
        last >>= 1
    old = new = hashes[0]
    for sibling in hashes[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            old, new = _node(sibling, old), _node(sibling, new)
            at, last = _above_right_edge(at, last)
        else:
            new = _node(new, sibling)
        at >>= 1
        last >>= 1
    return last == 0 and old == first_root and new == second_root


def _node(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def _middle(low: int, high: int) -> int:
    """Return where a tree is cut in two: its left subtree is the largest full one that is not all of it."""
    return low + (1 << (high - low - 1).bit_length() - 1)


def _above_right_edge(at: int, last: int) -> tuple[int, int]:
    """Return both places moved up past the levels on which a node at the right edge has no sibling."""
    while at and not at & 1:
        at >>= 1
        last >>= 1
    return at, last


def _are_hashes(*hashes: bytes) -> bool:
    return all(len(one) == HASH_BYTES for one in hashes)
