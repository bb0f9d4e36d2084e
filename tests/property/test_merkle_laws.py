"""Laws of the Merkle tree, against a tree written down as RFC 6962 §2.1 defines it, with nothing of ours in it."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from itertools import pairwise

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from handshake.kernel.merkle import (
    EMPTY_ROOT,
    MAX_PROOF_HASHES,
    Frontier,
    consistency_path,
    consistency_proof,
    extend,
    inclusion_path,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tests.requirement import requirement

SIZES = range(1, 71)
DATA = [b"event %d" % number for number in range(70)]
HASHES = [leaf_hash(one) for one in DATA]
TREES = st.lists(st.binary(max_size=8), max_size=80)


# ── the definition ─────────────────────────────────────────────────────────────────────────────────────────


def split(size: int) -> int:
    """Return the largest power of two below `size`."""
    part = 1
    while part * 2 < size:
        part *= 2
    return part


def joined(left: bytes, right: bytes) -> bytes:
    return sha256(b"\x01" + left + right).digest()


def tree_hash(data: Sequence[bytes]) -> bytes:
    """MTH(D[n]) of RFC 6962 §2.1."""
    if not data:
        return sha256(b"").digest()
    if len(data) == 1:
        return sha256(b"\x00" + data[0]).digest()
    left = split(len(data))
    return joined(tree_hash(data[:left]), tree_hash(data[left:]))


def root_by_inclusion(index: int, size: int, leaf: bytes, proof: list[bytes]) -> bytes:
    """Return the root that an audit path leads to, by undoing PATH(m, D[n]) of RFC 6962 §2.1.1; consumes `proof`."""
    if size == 1:
        return leaf
    sibling = proof.pop()
    left = split(size)
    if index < left:
        return joined(root_by_inclusion(index, left, leaf, proof), sibling)
    return joined(sibling, root_by_inclusion(index - left, size - left, leaf, proof))


def roots_by_consistency(
    first: int, second: int, known: bytes, proof: list[bytes], *, whole: bool = True
) -> tuple[bytes, bytes]:
    """Return both roots that a proof leads to, by undoing SUBPROOF(m, D[n], b) of RFC 6962 §2.1.2."""
    if first == second:
        node = known if whole else proof.pop()
        return node, node
    sibling = proof.pop()
    left = split(second)
    if first <= left:
        old, new = roots_by_consistency(first, left, known, proof, whole=whole)
        return old, joined(new, sibling)
    old, new = roots_by_consistency(first - left, second - left, known, proof, whole=False)
    return joined(sibling, old), joined(sibling, new)


# ── trees ──────────────────────────────────────────────────────────────────────────────────────────────────


@given(TREES)
def test_root_is_the_tree_hash(data: list[bytes]) -> None:
    assert root_of(map(leaf_hash, data)) == tree_hash(data)


@given(TREES, st.integers(0, 80))
def test_growing_at_once_or_by_parts_or_through_bytes_is_the_same(data: list[bytes], cut: int) -> None:
    hashes = [leaf_hash(one) for one in data]
    at_once = extend(Frontier(), hashes)
    by_parts = extend(Frontier.from_bytes(extend(Frontier(), hashes[:cut]).to_bytes()), hashes[cut:])
    singly = Frontier()
    for one in hashes:
        singly = singly.append(one)
    assert at_once == by_parts == singly
    assert len(at_once.subtrees) == len(data).bit_count()
    assert at_once.root() == (tree_hash(data) if data else EMPTY_ROOT)


# ── proofs ─────────────────────────────────────────────────────────────────────────────────────────────────


@requirement("recorder.proof.inclusion")
@pytest.mark.parametrize("size", SIZES)
def test_every_inclusion_proof_is_accepted_by_the_definition_and_by_us(size: int) -> None:
    root = tree_hash(DATA[:size])
    for index in range(size):
        proof = inclusion_proof(index, HASHES[:size])
        rest = list(proof)
        assert root_by_inclusion(index, size, HASHES[index], rest) == root
        assert rest == []
        assert verify_inclusion(index, size, HASHES[index], proof, root)


@requirement("recorder.proof.inclusion")
@pytest.mark.parametrize("second", SIZES)
def test_every_consistency_proof_is_accepted_by_the_definition_and_by_us(second: int) -> None:
    new_root = tree_hash(DATA[:second])
    for first in range(1, second + 1):
        old_root = tree_hash(DATA[:first])
        proof = consistency_proof(first, HASHES[:second])
        rest = list(proof)
        assert roots_by_consistency(first, second, old_root, rest) == (old_root, new_root)
        assert rest == []
        assert verify_consistency(first, second, old_root, new_root, proof)


@given(st.integers(1, 70), st.data())
def test_changed_inclusion_proof_is_refused(size: int, data: st.DataObject) -> None:
    index = data.draw(st.integers(0, size - 1))
    root = tree_hash(DATA[:size])
    proof = inclusion_proof(index, HASHES[:size])
    other = data.draw(st.integers(-1, 80)), data.draw(st.integers(0, 80)), tuple(data.draw(changed(proof)))
    assume(other != (index, size, proof))
    told_index, told_size, told_proof = other
    fits = told_proof == proof and is_same_path(index, size, told_index, told_size)
    assert verify_inclusion(told_index, told_size, HASHES[index], told_proof, root) is fits


@given(st.integers(1, 70), st.data())
def test_changed_consistency_proof_is_refused(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    proof = consistency_proof(first, HASHES[:second])
    told = tuple(data.draw(changed(proof)))
    assume(told != proof)
    assert not verify_consistency(first, second, tree_hash(DATA[:first]), tree_hash(DATA[:second]), told)


@given(st.integers(2, 70), st.data())
def test_history_that_was_rewritten_has_no_proof(second: int, data: st.DataObject) -> None:
    first = data.draw(st.integers(1, second))
    at = data.draw(st.integers(0, first - 1))
    rewritten = [*HASHES[:at], leaf_hash(b"another"), *HASHES[at + 1 : second]]
    for proof in (consistency_proof(first, HASHES[:second]), consistency_proof(first, rewritten)):
        assert not verify_consistency(first, second, tree_hash(DATA[:first]), root_of(rewritten), proof)


def changed(proof: tuple[bytes, ...]) -> st.SearchStrategy[list[bytes]]:
    """Return a strategy of proofs near this one: as it is, shortened, lengthened, reordered, or with another hash."""
    hashes = st.sampled_from([*proof, *HASHES[:3], EMPTY_ROOT])
    return st.one_of(
        st.just(list(proof)),
        st.permutations(proof),
        st.integers(0, len(proof)).map(lambda cut: list(proof[:cut])),
        st.lists(hashes, max_size=MAX_PROOF_HASHES + 2),
        st.tuples(st.integers(0, len(proof)), hashes).map(
            lambda place: [*proof[: place[0]], place[1], *proof[place[0] + 1 :]]
        ),
        st.tuples(st.integers(0, len(proof)), hashes).map(
            lambda place: [*proof[: place[0]], place[1], *proof[place[0] :]]
        ),
    )


def is_same_path(index: int, size: int, other_index: int, other_size: int) -> bool:
    """Return whether both places turn the same ways from leaf to root: then one proof fits both, and says the same."""
    return 0 <= other_index < other_size and turns(index, size) == turns(other_index, other_size)


def turns(index: int, size: int) -> list[bool]:
    """Return, from the root down, whether the path goes left."""
    found = []
    while size > 1:
        left = split(size)
        found.append(index < left)
        index, size = (index, left) if index < left else (index - left, size - left)
    return found


def test_split_is_the_one_of_the_definition() -> None:
    assert [split(size) for size in (2, 3, 4, 5, 8, 9)] == [1, 2, 2, 4, 4, 8]
    assert all(split(later) >= split(earlier) for earlier, later in pairwise(range(2, 70)))


@pytest.mark.parametrize("size", SIZES)
def test_stretches_of_a_proof_are_all_leaves_but_the_proved_ones(size: int) -> None:
    """Whoever reads the leaves in pages reads each one once."""
    for place in range(size):
        stretches = [leaf for part in inclusion_path(place, size) for leaf in part]
        assert sorted([*stretches, place]) == list(range(size))
        first = place + 1
        parts = consistency_path(first, size)
        read = sorted(leaf for part in parts for leaf in part)
        assert read == list(range(size - len(read), size))
        assert set(range(first, size)) <= set(read)
        roots = tuple(root_of(HASHES[part.start : part.stop]) for part in parts)
        assert roots == consistency_proof(first, HASHES[:size])
