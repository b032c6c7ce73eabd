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
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.disk import on_disk, sync_folder
from llama_index_hybridmem.errors import ConfigurationError


@dataclass
class Repriced:
    """What came of it.

    Attributes:
        currency: of the new prices.
        traces: how many.
        before: what the priced calls cost by the old prices; in `currencies_before`.
        after: the same by the new ones.
        unpriced_before: calls without an old price.
        unpriced_after: calls without a new one.
        currencies_before: of the old prices; sums in another one cannot be compared with the new.
    """

    currency: str
    traces: int = 0
    before: Decimal = Decimal(0)
    after: Decimal = Decimal(0)
    unpriced_before: int = 0
    unpriced_after: int = 0
    currencies_before: set[str] = field(default_factory=set)

    def add(self, old: QueryTrace, new: QueryTrace) -> None:
        """Count one trace."""
        self.traces += 1
        self.before += old.cost_known
        self.after += new.cost_known
        self.unpriced_before += old.unpriced
        self.unpriced_after += new.unpriced
        self.currencies_before.add(old.currency)

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON: money as text."""
        before, after = (format(amount.normalize(), "f") for amount in (self.before, self.after))
        return {**asdict(self), "before": before, "after": after, "currencies_before": sorted(self.currencies_before)}


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
        ConfigurationError: the target is there already.
        StoreError: it cannot be written.
    """
    path = Path(target)
    if path.exists():
        raise ConfigurationError(f"{path} is there already; name a new file, so that the old traces stay")
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
