"""What each phase cost, from building the graph to answering: traces and entries by hand; knows no prices."""

from __future__ import annotations

import threading
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timezone
from decimal import Decimal
from pathlib import Path

from llama_index_hybridmem.costs.bills.entry import PHASES, Entry, Phase, checked_phase
from llama_index_hybridmem.costs.prices.money import Amount, exactly
from llama_index_hybridmem.costs.trace import QueryTrace
from llama_index_hybridmem.disk import Journal, make_folder
from llama_index_hybridmem.errors import ConfigurationError


@dataclass(frozen=True, slots=True)
class Total:
    """Sums of one phase. Money and people's time stand apart: `with_people` adds them, where that can be done.

    Attributes:
        phase: which.
        amount: money, as far as it is known, without people's time.
        currency: of amount and people.
        unpriced: things without a price; their cost is missing from the amount.
        hours: person-hours.
        people: what they cost; None when some have no rate.
        queries: traces summed up.
        input_tokens: of language models, as far as they were counted.
        output_tokens: see input_tokens.
        wall_s: seconds that the queries took.
        entries: summed up.
    """

    phase: Phase
    amount: Decimal
    currency: str
    unpriced: int
    hours: Decimal
    people: Decimal | None
    queries: int
    input_tokens: int
    output_tokens: int
    wall_s: float
    entries: int

    @property
    def with_people(self) -> Decimal | None:
        """Money and people's time together; None when some hours have no rate."""
        return None if self.people is None else self.amount + self.people


class Ledger:
    """Entries by phase. Safe to share between threads; a file of it is for one process at a time.

    Args:
        entries: to begin with.
        currency: of every entry; nothing is converted.

    Raises:
        ConfigurationError: an entry in another currency.
    """

    def __init__(self, entries: Iterable[Entry] = (), currency: str = "USD") -> None:
        self.currency = currency
        self._lock = threading.Lock()
        self._journal: Journal | None = None
        self._entries: list[Entry] = []
        for entry in entries:
            self.add(entry)

    @classmethod
    def open(cls, path: str | Path, currency: str = "USD") -> Ledger:
        """Read a ledger from its file, and keep what is added in it.

        Args:
            path: JSON lines, one entry each; the first entry makes the file.
            currency: see the class.

        Raises:
            ConfigurationError: a line is no entry, or in another currency; names the file and the line.
            StoreDamagedError: a line is no JSON; names the file and the line.
            StoreError: the file cannot be read.
        """
        place = Path(path)
        journal = Journal(place)
        ledger = cls(currency=currency)
        for number, fields in enumerate(journal.entries(), start=1):
            line = f"{place}, line {number}"
            try:
                ledger.add(Entry.from_json(fields, line))
            except ConfigurationError as error:
                raise ConfigurationError(str(error) if line in str(error) else f"{line}: {error}") from error
        ledger._journal = journal
        make_folder(place.parent)
        return ledger

    @classmethod
    def of_traces(cls, traces: Iterable[QueryTrace], currency: str = "USD") -> Ledger:
        """Sum traces up, one entry for each phase that they name.

        Args:
            traces: of any phases; read once.
            currency: see the class.

        Raises:
            ConfigurationError: a trace of an unknown phase, or in another currency; names the trace.
        """
        sums: dict[str, _Sum] = {}
        for trace in traces:
            if trace.phase not in PHASES or trace.currency != currency:
                known = f"phases are {', '.join(PHASES)}, the currency {currency}"
                raise ConfigurationError(f"trace {trace.id}: phase {trace.phase!r} in {trace.currency}; {known}")
            sums.setdefault(trace.phase, _Sum()).add(trace)
        return cls((summed.entry(phase, currency) for phase, summed in sums.items()), currency)

    @property
    def entries(self) -> tuple[Entry, ...]:
        """All of them, in the order in which they were added."""
        with self._lock:
            return tuple(self._entries)

    def add(self, entry: Entry) -> None:
        """Add an entry; in a ledger with a file, it is on the disk when this returns.

        Raises:
            ConfigurationError: it is in another currency.
            StoreError: it cannot be written; the ledger is as before.
        """
        if entry.currency != self.currency:
            problem = f"{entry.what!r} is in {entry.currency}, the ledger in {self.currency}; nothing is converted"
            raise ConfigurationError(f"currency: {problem}")
        with self._lock:
            if self._journal is not None:
                self._journal.append(entry.to_json())
            self._entries.append(entry)

    def total(self, phase: str, per_hour: Amount | None = None) -> Total:
        """Sum a phase up.

        Args:
            phase: one of `PHASES`.
            per_hour: rate of the person-hours that have none of their own; without it their cost stays unknown.

        Raises:
            ConfigurationError: an unknown phase; a rate that is no amount.
        """
        known = checked_phase(phase)
        rate = None if per_hour is None else exactly(per_hour, "per_hour")
        own = [entry for entry in self.entries if entry.phase == known]
        return Total(
            phase=known,
            amount=sum((entry.amount for entry in own if entry.amount is not None), Decimal(0)),
            currency=self.currency,
            unpriced=sum(entry.unpriced for entry in own),
            hours=sum((entry.hours for entry in own if entry.hours is not None), Decimal(0)),
            people=_people(own, rate),
            queries=sum(entry.queries for entry in own),
            input_tokens=sum(entry.input_tokens for entry in own),
            output_tokens=sum(entry.output_tokens for entry in own),
            wall_s=sum(entry.wall_s for entry in own),
            entries=len(own),
        )

    def totals(self, per_hour: Amount | None = None) -> tuple[Total, ...]:
        """Sum every phase up that has entries, in the order of `PHASES`; see `total`."""
        every = (self.total(phase, per_hour) for phase in PHASES)
        return tuple(total for total in every if total.entries)


def _people(entries: Iterable[Entry], per_hour: Decimal | None) -> Decimal | None:
    cost = Decimal(0)
    for entry in entries:
        rate = per_hour if entry.rate is None else entry.rate
        if entry.hours:
            if rate is None:
                return None
            cost += entry.hours * rate
    return cost


@dataclass(slots=True)
class _Sum:
    """Adds up the traces of one phase."""

    queries: int = 0
    amount: Decimal = field(default_factory=Decimal)
    unpriced: int = 0
    input_tokens: int = 0
    output_tokens: int = 0
    wall_s: float = 0.0
    last: float = 0.0

    def add(self, trace: QueryTrace) -> None:
        """Take one more trace."""
        read, written = trace.tokens()
        self.queries += 1
        self.amount += trace.cost_known
        self.unpriced += trace.unpriced
        self.input_tokens += read
        self.output_tokens += written
        self.wall_s += trace.wall_s
        self.last = max(self.last, trace.started)

    def entry(self, phase: str, currency: str) -> Entry:
        """Give the sum as an entry."""
        return Entry(
            phase=phase,
            at=datetime.fromtimestamp(self.last, timezone.utc),
            what=f"{self.queries} traces",
            amount=self.amount,
            currency=currency,
            unit="query",
            quantity=Decimal(self.queries),
            source="traces",
            queries=self.queries,
            unpriced=self.unpriced,
            input_tokens=self.input_tokens,
            output_tokens=self.output_tokens,
            wall_s=self.wall_s,
        )
