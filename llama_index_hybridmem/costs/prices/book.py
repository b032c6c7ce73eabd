"""The price book: what a call costs by own rows, the table of this package and genai-prices; knows no trace store."""

from __future__ import annotations

import copy
import logging
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import date, datetime, timezone
from functools import lru_cache
from pathlib import Path
from typing import Any

from llama_index_hybridmem.costs.prices import genai
from llama_index_hybridmem.costs.prices.arguments import check_settings, checked_rows
from llama_index_hybridmem.costs.prices.file import dated, read_rows, shipped_rows
from llama_index_hybridmem.costs.prices.money import Amount, exactly
from llama_index_hybridmem.costs.prices.row import HOUR, LEVELS, Level, PriceRow
from llama_index_hybridmem.costs.prices.tariffs import Priced, Tariff, tariffs
from llama_index_hybridmem.costs.tokens.usage import Usage
from llama_index_hybridmem.costs.trace import ModelCall, QueryTrace
from llama_index_hybridmem.errors import ConfigurationError

_log = logging.getLogger(__name__)

REMEMBERED = 1024
"""Kinds of calls whose rows a book keeps found."""


class PriceBook:
    """Prices calls. It never changes: `with_rows` and `self_hosted` give another book.

    Three places are asked in turn: the rows given here, the table that comes with this package, and genai-prices
    (``pip install "llama-index-hybridmem[prices]"``). The first that knows the model decides, and within a table the
    first row whose patterns fit. A model that nobody knows is unpriced: None, never 0.

    Args:
        rows: own rows; they win.
        at: price every call as of this moment instead of its own; without a time zone it counts as UTC. It matters to
            genai-prices, which knows of price changes; a row of a table has one price.
        level: which amount of a row counts, ``low``, ``typical`` or ``high``; genai-prices has one.
        only_rows: ask neither the table of this package nor genai-prices.
        currency: of every amount; nothing is converted. The table and genai-prices are in USD, so any other needs
            `only_rows`.
        stale_after_days: rows that were read longer ago warn, once each, when they price a call, and say so in
            `Priced.source`.
        clock: Unix seconds, for the age of rows.

    Raises:
        ConfigurationError: a row of another currency; two prices for the same thing; an unknown level; an argument of
            another type.
    """

    def __init__(
        self,
        rows: Iterable[PriceRow] = (),
        *,
        at: datetime | None = None,
        level: Level = "typical",
        only_rows: bool = False,
        currency: str = "USD",
        stale_after_days: int = 180,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if not isinstance(level, str) or level not in LEVELS:
            raise ConfigurationError(f"level: unknown {level!r}; one of {', '.join(LEVELS)}")
        check_settings(at, only_rows, currency, stale_after_days, clock)
        if currency != genai.CURRENCY and not only_rows:
            raise ConfigurationError(
                f"currency: the table of this package and genai-prices are in {genai.CURRENCY}; for prices in "
                f"{currency} give your own rows and only_rows=True"
            )
        self.currency = currency
        self.level: Level = level
        self._at = at
        self._asks_genai = not only_rows
        self._stale_after_days = stale_after_days
        self._clock = clock
        self._tables: tuple[tuple[Tariff, ...], ...] = ()
        self._names: tuple[str, ...] = ()
        self._add(() if only_rows else shipped_rows(), _shipped_name())
        self._add(rows)

    @classmethod
    def from_file(cls, path: str | Path, **settings: Any) -> PriceBook:
        """Make a book with the rows of a file on top.

        Args:
            path: CSV with the columns kind, provider, model, unit, low, typical, high, currency, source, read_on and
                note; low, high, currency and note may be left out.
            settings: see the class.

        Raises:
            ConfigurationError: names the file, the line and the field.
            StoreError: the file cannot be read.
        """
        rows, book = read_rows(path), cls(**settings)
        try:
            book._add(rows, f"{_counted(len(rows), 'price')} of {path}")
            return book
        except ConfigurationError as error:
            raise ConfigurationError(f"{path}: {error}") from error

    def with_rows(self, rows: Iterable[PriceRow]) -> PriceBook:
        """Give a book that asks these rows first, and then this one's."""
        book = copy.copy(self)
        book._add(rows)
        return book

    def self_hosted(
        self,
        model: str,
        per_hour: Amount,
        source: str,
        read_on: date | str,
        *,
        kind: str = "llm",
        provider: str = "*",
        note: str = "",
    ) -> PriceBook:
        """Give a book that prices a model by the time it keeps its machine busy.

        A call pays for its share of the busy seconds (`ModelCall.busy_s`), at the price of the whole machine. The hours
        in which it was idle are on the bill too: `sharing.share_machine` splits that.

        Args:
            model: its name, or a pattern (``my-model*``); encoders and rerankers of this process too.
            per_hour: of the machine that runs it, in this book's currency.
            source: who charges that ("invoice of May").
            read_on: when; a date, or text as 2026-11-21.
            kind: ``llm``, ``embedding`` or ``rerank``.
            provider: of the calls; any.
            note: what else one should know.

        Raises:
            ConfigurationError: names the argument.
        """
        amount = exactly(per_hour, "per_hour")
        day = dated(read_on) if isinstance(read_on, str) else read_on
        row = PriceRow(kind, provider, model, HOUR, amount, amount, amount, self.currency, source, day, note)
        return self.with_rows([row])

    @property
    def rows(self) -> tuple[PriceRow, ...]:
        """Every row, in the order in which they are asked."""
        return tuple(row for table in self._tables for tariff in table for row in tariff.rows)

    def lookup(self, kind: str, provider: str | None, model: str | None) -> tuple[PriceRow, ...]:
        """Give the rows that price something, one for each unit; none where the tables do not know it.

        Args:
            kind: see `PriceRow`.
            provider: who is paid; None when unknown.
            model: the model, plan or machine.
        """
        tariff = self._found(kind, provider or "", model or "")
        return () if tariff is None else tariff.rows

    def row(self, kind: str, provider: str | None, model: str | None, unit: str) -> PriceRow | None:
        """Give the one row of a unit, see `lookup`; None where there is none."""
        return next((row for row in self.lookup(kind, provider, model) if row.unit == unit), None)

    def providers(self) -> tuple[str, ...]:
        """Name everybody who is paid by some row or known to genai-prices; ``*`` stands for anybody."""
        asked = genai.providers() if self._asks_genai else ()
        return tuple(dict.fromkeys([*(row.provider for row in self.rows), *asked]))

    def knows(self, kind: str, provider: str, model: str, at: datetime | None = None) -> bool:
        """Tell whether a call of some tokens, or of a busy second, would have a price.

        Args:
            kind: ``llm``, ``embedding`` or ``rerank``.
            provider: who is paid.
            model: the model.
            at: as of when; now unless given here or with the book.
        """
        now = datetime.fromtimestamp(self._clock(), timezone.utc)
        usage = Usage(1, 1 if kind == "llm" else 0)
        call = ModelCall(kind, model, provider, None, False, "ok", 0.0, 1.0, None, 1.0, usage)
        return self.cost(call, at or self._at or now) is not None

    def cost(self, call: ModelCall, at: datetime) -> Priced | None:
        """Price a call.

        Args:
            call: with its usage and its busy seconds.
            at: when it was made; a book made for a moment of its own ignores it.

        Returns:
            None when the model is not known, or its tokens are not and it is priced by them.
        """
        tariff = self._found(call.kind, call.provider or "", call.model or "")
        if tariff is None:
            return genai.price(call, self._at or at) if self._asks_genai else None
        amount = tariff.amount(call, self.level)
        return None if amount is None else Priced(amount, self.currency, self._cited(tariff))

    def reprice(
        self, trace: QueryTrace, as_model: tuple[str, str] | None = None, at: datetime | None = None
    ) -> QueryTrace:
        """Give a trace with the cost of every call set anew; the rest stays as it was.

        Args:
            trace: of any age: it holds tokens and seconds.
            as_model: provider and model whose prices count for the calls of language models, ``("anthropic",
                "claude-haiku-4-5")``. The tokens stay those of the model that ran, which another one would count a
                little differently.
            at: as of when; the query's own time unless given here or with the book.
        """
        moment = at or self._at or datetime.fromtimestamp(trace.started, timezone.utc)
        calls = tuple(self._repriced(call, as_model, moment) for call in trace.calls)
        return replace(trace, calls=calls, currency=self.currency)

    def stale(self, at: date | None = None) -> tuple[PriceRow, ...]:
        """Give the rows that are older than `stale_after_days` on a day, today unless given."""
        on = at or self._today()
        return tuple(row for row in self.rows if row.stale(on, self._stale_after_days))

    def sources(self) -> tuple[str, ...]:
        """Say what this book asks, in order, for reports."""
        if not self._asks_genai:
            return self._names
        version = genai.installed()
        missing = f"genai-prices is not installed ({genai.HOW_TO_INSTALL})"
        return (*self._names, f"genai-prices {version}" if version else missing)

    def _add(self, rows: Iterable[PriceRow], name: str = "") -> None:
        """Put a table in front; only while the book is being made."""
        table = checked_rows(rows)
        for row in table:
            if row.currency != self.currency:
                raise ConfigurationError(
                    f"{row.model}: priced in {row.currency}, the book is in {self.currency}; nothing is converted"
                )
        if table:
            self._tables = (tariffs(table), *self._tables)
            self._names = (name or _counted(len(table), "own price"), *self._names)
        self._warned: dict[Tariff, object] = {}
        self._found = lru_cache(maxsize=REMEMBERED)(self._find)

    def _find(self, kind: str, provider: str, model: str) -> Tariff | None:
        asked = (tariff for table in self._tables for tariff in table)
        return next((tariff for tariff in asked if tariff.matches(kind, provider, model)), None)

    def _repriced(self, call: ModelCall, as_model: tuple[str, str] | None, at: datetime) -> ModelCall:
        asked = call
        if as_model is not None and call.kind == "llm":
            asked = replace(call, provider=as_model[0], model=as_model[1])
        priced = self.cost(asked, at)
        if priced is None:
            return replace(call, cost=None, price=None)
        source = priced.source if asked is call else f"as {'/'.join(as_model or ())}: {priced.source}"
        return replace(call, cost=priced.amount, price=source)

    def _cited(self, tariff: Tariff) -> str:
        source = tariff.origin if self.level == "typical" else f"{tariff.origin}, {self.level}"
        on = self._today()
        if not any(row.stale(on, self._stale_after_days) for row in tariff.rows):
            return source
        token = object()
        if self._warned.setdefault(tariff, token) is token:  # atomic: one thread warns
            days = self._stale_after_days
            _log.warning("the price of %s is older than %d days: %s", tariff.rows[0].model, days, tariff.origin)
        return f"{source}, stale"

    def _today(self) -> date:
        return datetime.fromtimestamp(self._clock(), timezone.utc).date()


def _shipped_name() -> str:
    days = [row.read_on for row in shipped_rows()]
    return f"{_counted(len(days), 'price')} of this package, read {min(days)} to {max(days)}"


def _counted(number: int, noun: str) -> str:
    """Say how many: "1 price", "2 prices"."""
    return f"{number:,} {noun if number == 1 else f'{noun}s'}"
