"""Violation: a promise that did not hold, by the id that it has among the requirements."""

from __future__ import annotations


class Violation(Exception):
    """Something that must always hold did not.

    Args:
        requirement: the id of the promise.
        sentence: what was seen, in a few words.
        about: the id or number of what it was seen on.
    """

    def __init__(self, requirement: str, sentence: str, about: object = None) -> None:
        super().__init__(requirement, sentence, about)
        self.requirement = requirement
        self.sentence = sentence
        self.about = None if about is None else str(about)

    def __str__(self) -> str:
        """Return one line."""
        return f"{self.requirement}: {self.sentence}" + (f" ({self.about})" if self.about else "")


def require(holds: bool, requirement: str, sentence: str, about: object = None) -> None:
    """Return if it holds.

    Raises:
        Violation: it does not.
    """
    if not holds:
        raise Violation(requirement, sentence, about)
