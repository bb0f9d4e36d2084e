"""Paging: the options of commands that print a page of a list and go on after a cursor."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from handshake.kernel.settings import DEFAULT_PAGE_ITEMS, MAX_PAGE_ITEMS

F = TypeVar("F", bound=Callable[..., Any])


def limit_option(function: F) -> F:
    """Add `--limit`."""
    return click.option(
        "--limit",
        type=click.IntRange(1, MAX_PAGE_ITEMS),
        default=DEFAULT_PAGE_ITEMS,
        show_default=True,
        help="Most entries to print.",
    )(function)


def after_option(what: str) -> Callable[[F], F]:
    """Add `--after` with a cursor that is a number; `what` names the field that it is taken from."""
    return click.option(
        "--after",
        type=click.IntRange(min=0),
        default=0,
        metavar="NUMBER",
        help=f"Go on after this {what}, as the last line before had it.",
    )
