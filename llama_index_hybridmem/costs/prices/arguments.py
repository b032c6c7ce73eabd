"""Refuses what a price book cannot be made of, by name; pure, knows no price."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime
from os import PathLike

from llama_index_hybridmem.costs.prices.row import PriceRow
from llama_index_hybridmem.errors import ConfigurationError


def checked_rows(rows: Iterable[PriceRow]) -> tuple[PriceRow, ...]:
    """Give the rows, each of them a row.

    Raises:
        ConfigurationError: one is none, or they are a path.
    """
    if isinstance(rows, str | PathLike):
        raise ConfigurationError(f"rows: price rows are expected, not {rows!r}; PriceBook.from_file reads a file")
    if not isinstance(rows, Iterable):
        raise ConfigurationError(f"rows: a list of PriceRow is expected, not {rows!r:.80}")
    table = tuple(rows)
    for number, row in enumerate(table, start=1):
        if not isinstance(row, PriceRow):
            raise ConfigurationError(f"rows: number {number} is no PriceRow: {row!r:.80}")
    return table


def check_settings(at: object, only_rows: object, currency: object, stale_after_days: object, clock: object) -> None:
    """Look at the settings of a book, see `PriceBook`.

    Raises:
        ConfigurationError: one is of another type.
    """
    whole = type(stale_after_days) is int and stale_after_days >= 0
    for name, given, fits, wanted in (
        ("at", at, at is None or isinstance(at, datetime), "a datetime or None"),
        ("only_rows", only_rows, isinstance(only_rows, bool), "True or False"),
        ("currency", currency, isinstance(currency, str) and bool(currency.strip()), 'a text such as "USD"'),
        ("stale_after_days", stale_after_days, whole, "a whole number of days, 0 or more,"),
        ("clock", clock, callable(clock), "a function that gives Unix seconds"),
    ):
        if not fits:
            raise ConfigurationError(f"{name}: {wanted} is expected, not {given!r:.80}")
