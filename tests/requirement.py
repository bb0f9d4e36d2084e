"""Requirement marks: tie a test to the promises it proves, by their ids in `tests/requirements.toml`."""

from __future__ import annotations

import pytest


def requirement(*ids: str) -> pytest.MarkDecorator:
    """Return a decorator that claims the promises `ids`; `tests/structure` checks them both ways."""
    return pytest.mark.requirement(*ids)
