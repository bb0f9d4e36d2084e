"""Settings of the whole suite: repeatable examples, and the audit hook under which every test runs."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from tests import audit

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")
audit.install()
_state = tempfile.TemporaryDirectory(prefix="handshake-state-")
os.environ["XDG_STATE_HOME"] = _state.name  # what tests make and accept is nothing that the developer's home learns of


@pytest.fixture(autouse=True)
def _within_bounds() -> Iterator[None]:
    """Fail the test during which something left the machine, or opened what its module may not open."""
    audit.refused.clear()
    yield
    assert audit.refused == []


def pytest_make_parametrize_id(val: object) -> str | None:
    """Name sets in one order, whatever the hash seed, so that all workers collect the same tests."""
    return "+".join(sorted(map(str, val))) if isinstance(val, set | frozenset) else None
