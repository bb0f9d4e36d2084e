from __future__ import annotations

import pytest

from handshake.tools.sandbox.orders import MAX_BYTES, NAMESPACES, Orders, decoded, encoded


def orders(*argv: str) -> Orders:
    return Orders(
        mode=NAMESPACES,
        argv=list(argv),
        cwd="/a b",
        environment=[("A", ""), ("B", "x=y\nz")],
        timeout_ms=1,
        grace_ms=2,
        max_processes=3,
        max_memory_bytes=4,
        max_disk_bytes=5,
        watched="/a b",
        limits=[(1, 2), (3, 4)],
        mounts=[("link", "usr/bin", "/bin"), ("processes", "", "/proc")],
        rules=[("read", "/")],
        program=bytes(range(16)),
        wrapper=["bwrap", "{seccomp}"],
        has_network=False,
    )


def test_orders_arrive_as_they_were_given() -> None:
    given = orders("prog", "", "é", "\udcff", "a\nb")
    found = decoded(encoded(given))
    assert {one: getattr(found, one) for one in Orders.__slots__} == {
        one: getattr(given, one) for one in Orders.__slots__
    }


def test_a_network_arrives_too() -> None:
    given = orders("prog")
    given.has_network = True
    assert decoded(encoded(given)).has_network is True


def test_no_nul_and_no_endless_orders() -> None:
    with pytest.raises(ValueError):
        encoded(orders("a\0b"))
    with pytest.raises(ValueError):
        encoded(orders("a" * (MAX_BYTES + 1)))
