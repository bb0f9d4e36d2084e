"""Mutant: a rule of the product that is broken on purpose, and the promise under whose name that must be noticed."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import pytest

from handshake.storage.queries import _compile, compiled, load

Break = Callable[[pytest.MonkeyPatch], None]


class Mutant(NamedTuple):
    """One broken rule; `promises` are the ids of which the simulator may name any."""

    name: str
    scenario: str
    promises: frozenset[str]
    seeds: int
    break_it: Break


MUTANTS: dict[str, Mutant] = {}


def mutant(scenario: str, *promises: str, seeds: int = 3) -> Callable[[Break], Break]:
    """Add the decorated function to the broken rules.

    Args:
        scenario: in which it must be noticed.
        promises: what must be said not to hold; any of them.
        seeds: how many seeds may be tried.
    """

    def decorate(break_it: Break) -> Break:
        name = break_it.__name__
        assert name not in MUTANTS, "each has a name of its own"
        MUTANTS[name] = Mutant(name, scenario, frozenset(promises), seeds, break_it)
        return break_it

    return decorate


def weaken(patch: pytest.MonkeyPatch, query: str, condition: str, instead: str = "") -> None:
    """Take a condition out of a query."""
    text = load()[query]
    assert condition in text, f"{query} has no {condition!r} any more"
    patch.setitem(compiled(), query, _compile(text.replace(condition, instead)))
