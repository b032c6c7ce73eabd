"""Writes a file of traces anew with other prices; knows no price itself."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

from llama_index_hybridmem.costs.prices.book import PriceBook
from llama_index_hybridmem.costs.prices.genai import HOW_TO_INSTALL, installed
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.disk import on_disk, sync_folder
from llama_index_hybridmem.errors import ConfigurationError


@dataclass
class Repriced:
    """What came of it.

    Attributes:
        currency: of the new prices.
        traces: how many.
        calls: model calls in them.
        before: what the priced calls cost by the old prices; in `currencies_before`.
        after: the same by the new ones.
        unpriced_before: calls without an old price.
        unpriced_after: calls without a new one.
        currencies_before: of the old prices; sums in another one cannot be compared with the new.
        prices: by which new prices, as the traces name them, and how many calls each.
    """

    currency: str
    traces: int = 0
    calls: int = 0
    before: Decimal = Decimal(0)
    after: Decimal = Decimal(0)
    unpriced_before: int = 0
    unpriced_after: int = 0
    currencies_before: set[str] = field(default_factory=set)
    prices: dict[str, int] = field(default_factory=dict)

    def add(self, old: QueryTrace, new: QueryTrace) -> None:
        """Count one trace."""
        self.traces += 1
        self.calls += len(new.calls)
        self.before += old.cost_known
        self.after += new.cost_known
        self.unpriced_before += old.unpriced
        self.unpriced_after += new.unpriced
        self.currencies_before.add(old.currency)
        for price in (call.price for call in new.calls if call.price is not None):
            self.prices[price] = self.prices.get(price, 0) + 1

    @property
    def known_before(self) -> Decimal | None:
        """The old sum; None where no call had a price."""
        return None if self.calls and self.unpriced_before == self.calls else self.before

    @property
    def known_after(self) -> Decimal | None:
        """The new sum; None where no call has a price."""
        return None if self.calls and self.unpriced_after == self.calls else self.after

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON: money as text, null where nothing is known."""
        found = {"before": _plain(self.known_before), "after": _plain(self.known_after)}
        return {**asdict(self), **found, "currencies_before": sorted(self.currencies_before)}


def reprice_file(
    traces: Iterable[QueryTrace],
    target: str | Path,
    book: PriceBook,
    as_model: tuple[str, str] | None = None,
    at: datetime | None = None,
) -> Repriced:
    """Write traces with the prices of a book.

    Args:
        traces: as read; none is kept.
        target: a new file of JSON lines; it appears when it is complete.
        book: whose prices count.
        as_model: see `PriceBook.reprice`.
        at: see `PriceBook.reprice`.

    Raises:
        ConfigurationError: the target is there already, or nobody knows a price of the model in `as_model`.
        StoreError: it cannot be written.
    """
    path = Path(target)
    if path.exists():
        raise ConfigurationError(f"{path} is there already; name a new file, so that the old traces stay")
    if as_model is not None and not book.knows("llm", *as_model, at):
        raise ConfigurationError(_unknown(as_model))
    sums = Repriced(book.currency)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    with on_disk(path):
        try:
            with open(unfinished, "w", encoding="utf-8", newline="\n") as file:
                for old in traces:
                    new = book.reprice(old, as_model, at)
                    sums.add(old, new)
                    file.write(json.dumps(new.to_json(), separators=(",", ":"), allow_nan=False) + "\n")
                file.flush()
                os.fsync(file.fileno())
            os.replace(unfinished, path)
        finally:
            unfinished.unlink(missing_ok=True)
        sync_folder(path.parent)
    return sums


def _unknown(model: tuple[str, str]) -> str:
    without = "" if installed() else f"; genai-prices, which knows most, is not installed: {HOW_TO_INSTALL}"
    return (
        f"nobody knows a price of {'/'.join(model)}, so nothing can be repriced as that model: look at its name and "
        f"provider, or give rows of your own (--prices FILE, PriceBook.self_hosted()){without}"
    )


def _plain(amount: Decimal | None) -> str | None:
    return None if amount is None else format(amount.normalize(), "f")
