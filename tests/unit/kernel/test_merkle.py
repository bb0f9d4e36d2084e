"""Merkle tree: the reference tree of Certificate Transparency, the frontier as bytes, and proofs that must not pass."""

from __future__ import annotations

from hashlib import sha256

import pytest

from handshake.kernel.errors import IntegrityBroken, InvalidRequest
from handshake.kernel.merkle import (
    EMPTY_ROOT,
    MAX_PROOF_HASHES,
    Frontier,
    consistency_proof,
    extend,
    inclusion_proof,
    leaf_hash,
    root_of,
    verify_consistency,
    verify_inclusion,
)
from tests.requirement import requirement

LEAVES = [
    leaf_hash(bytes.fromhex(content))
    for content in (
        "",
        "00",
        "10",
        "2021",
        "3031",
        "40414243",
        "5051525354555657",
        "606162636465666768696a6b6c6d6e6f",
    )
]
"""The eight leaves of the reference implementation's tests."""

ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
"""Their roots, by tree size."""

A = "96a296d224f285c67bee93c30f8a309157f0daa35dc5b87e410b78630a09cfc7"
B = "5f083f0a1a33ca076a95279832580db3e0ef4584bdff1f54c8a360f50de3031e"
C = "6b47aaf29ee3c2af9af889bc1fb9254dabd31177f16232dd6aab035ca39bf6e4"
D = "bc1a0643b12e4d2d7c77918f44e0f4f79a838b6cf9ec5b5c283e1f4d88599e6b"
E = "ca854ea128ed050b41b35ffc1b87b8eb2bde461e9e3b5596ece6b9d5975a0ae0"
F = "0ebc5d3437fbe2db158b9f126a1d118e308181031d0a949f8dededebc558ef6a"

INCLUSION = [
    (0, 1, []),
    (0, 8, [A, B, C]),
    (5, 8, [D, E, ROOTS[4]]),
    (2, 3, [ROOTS[2]]),
    (1, 5, [ROOTS[1], B, D]),
]
"""Reference proofs of inclusion: index, tree size, hashes."""

CONSISTENCY = [
    (1, 1, []),
    (1, 8, [A, B, C]),
    (6, 8, [F, E, ROOTS[4]]),
    (2, 5, [B, D]),
]
"""Reference proofs of consistency: first size, second size, hashes."""


def hashes(proof: list[str]) -> tuple[bytes, ...]:
    return tuple(map(bytes.fromhex, proof))


@pytest.mark.parametrize("size", range(9))
def test_roots_are_those_of_the_reference_tree(size: int) -> None:
    assert root_of(LEAVES[:size]).hex() == ROOTS[size]
    frontier = Frontier()
    for leaf in LEAVES[:size]:
        frontier = frontier.append(leaf)
    assert frontier.root().hex() == ROOTS[size]


def test_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert sha256(b"").digest() == EMPTY_ROOT
    assert Frontier().root() == EMPTY_ROOT


@requirement("recorder.proof.inclusion")
@pytest.mark.parametrize(("index", "size", "proof"), INCLUSION)
def test_inclusion_proofs_are_those_of_the_reference_tree(index: int, size: int, proof: list[str]) -> None:
    assert inclusion_proof(index, LEAVES[:size]) == hashes(proof)
    assert verify_inclusion(index, size, LEAVES[index], hashes(proof), bytes.fromhex(ROOTS[size]))


@requirement("recorder.proof.inclusion")
@pytest.mark.parametrize(("first", "second", "proof"), CONSISTENCY)
def test_consistency_proofs_are_those_of_the_reference_tree(first: int, second: int, proof: list[str]) -> None:
    assert consistency_proof(first, LEAVES[:second]) == hashes(proof)
    roots = bytes.fromhex(ROOTS[first]), bytes.fromhex(ROOTS[second])
    assert verify_consistency(first, second, *roots, hashes(proof))


@pytest.mark.parametrize(
    ("index", "size", "proof"),
    [
        (-1, 8, [A, B, C]),
        (8, 8, [A, B, C]),
        (0, 0, []),
        (1, 8, [A, B, C]),
        (0, 4, [A, B, C]),
        (0, 16, [A, B, C]),
        (0, 8, [A, B]),
        (0, 8, [A, B, C, C]),
        (0, 8, [B, A, C]),
        (0, 8, [A, B, C[:-2]]),
        (0, 8, []),
        (0, 2**53, [A, B, C]),
    ],
)
def test_false_inclusion_is_not_verified(index: int, size: int, proof: list[str]) -> None:
    assert not verify_inclusion(index, size, LEAVES[0], hashes(proof), bytes.fromhex(ROOTS[8]))


def test_inclusion_of_another_leaf_or_in_another_tree_is_not_verified() -> None:
    proof = inclusion_proof(5, LEAVES)
    assert not verify_inclusion(5, 8, LEAVES[4], proof, bytes.fromhex(ROOTS[8]))
    assert not verify_inclusion(5, 8, LEAVES[5], proof, bytes.fromhex(ROOTS[7]))
    assert not verify_inclusion(5, 8, LEAVES[5][:-1], proof, bytes.fromhex(ROOTS[8]))
    assert not verify_inclusion(5, 8, LEAVES[5], proof, b"")


@pytest.mark.parametrize(
    ("first", "second", "proof"),
    [
        (0, 8, [F, E, ROOTS[4]]),
        (6, 5, [F, E, ROOTS[4]]),
        (6, 6, []),
        (6, 8, []),
        (6, 8, [F, E]),
        (6, 8, [F, E, ROOTS[4], ROOTS[4]]),
        (6, 8, [E, F, ROOTS[4]]),
        (5, 8, [F, E, ROOTS[4]]),
        (6, 16, [F, E, ROOTS[4]]),
        (6, 8, [F, E, ROOTS[4][2:]]),
        (6, 2**53, [F, E, ROOTS[4]]),
    ],
)
def test_false_consistency_is_not_verified(first: int, second: int, proof: list[str]) -> None:
    assert not verify_consistency(first, second, bytes.fromhex(ROOTS[6]), bytes.fromhex(ROOTS[8]), hashes(proof))


def test_equal_trees_need_equal_roots_and_no_proof() -> None:
    root = bytes.fromhex(ROOTS[6])
    assert verify_consistency(6, 6, root, root, ())
    assert not verify_consistency(6, 6, root, root, (root,))
    assert not verify_consistency(6, 6, root, bytes.fromhex(ROOTS[5]), ())


def test_endless_proof_is_not_walked() -> None:
    root = bytes.fromhex(ROOTS[8])
    assert not verify_inclusion(0, 2**53 - 1, root, [root] * (MAX_PROOF_HASHES + 1), root)
    assert not verify_consistency(1, 2**53 - 1, root, root, [root] * 1_000_000)


@pytest.mark.parametrize(("index", "size"), [(-1, 3), (3, 3), (0, 0)])
def test_there_is_no_proof_for_a_leaf_outside_the_tree(index: int, size: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        inclusion_proof(index, LEAVES[:size])
    assert refused.value.context == {"field": "index", "reason": "out_of_range", "index": index, "size": size}


@pytest.mark.parametrize(("first", "size"), [(0, 3), (4, 3), (0, 0), (-1, 3)])
def test_there_is_no_proof_from_a_tree_that_was_not(first: int, size: int) -> None:
    with pytest.raises(InvalidRequest) as refused:
        consistency_proof(first, LEAVES[:size])
    assert refused.value.context == {"field": "first", "reason": "out_of_range", "first": first, "size": size}


@pytest.mark.parametrize("leaf", [b"", LEAVES[0][:-1], LEAVES[0] + b"\x00"])
def test_leaf_that_is_no_hash_is_refused(leaf: bytes) -> None:
    with pytest.raises(IntegrityBroken):
        Frontier().append(leaf)
    with pytest.raises(IntegrityBroken):
        extend(Frontier(), [LEAVES[0], leaf])


@pytest.mark.parametrize("size", range(9))
def test_frontier_comes_back_from_its_bytes(size: int) -> None:
    frontier = extend(Frontier(), LEAVES[:size])
    assert frontier.to_bytes()[:8] == size.to_bytes(8, "big")
    assert len(frontier.to_bytes()) == 8 + 32 * size.bit_count()
    assert Frontier.from_bytes(frontier.to_bytes()) == frontier


@pytest.mark.parametrize(
    "data",
    [
        b"",
        bytes(7),
        bytes(8) + LEAVES[0],
        (3).to_bytes(8, "big") + LEAVES[0],
        (3).to_bytes(8, "big") + LEAVES[0] + LEAVES[1][:-1],
        (1).to_bytes(8, "big") + LEAVES[0] + b"\x00",
        (1 << 63).to_bytes(8, "big") + LEAVES[0],
    ],
)
def test_bytes_that_are_no_frontier_are_refused(data: bytes) -> None:
    with pytest.raises(IntegrityBroken) as broken:
        Frontier.from_bytes(data)
    assert broken.value.context == {"subject": "frontier", "reason": "length", "size_bytes": len(data)}
