"""Goes along a chain of records and names the first place where it does not hold; pure, knows no file."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from llama_index_hybridmem.costs.audit.chain import START, Fault, Head, checked, fingerprint, head_of, parse


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a look at a chain found, up to its first fault.

    Attributes:
        fault: None when the chain holds.
        lines: that hold.
        answers: records of answers among them.
        erased: answers whose personal part was erased, and the chain says so.
        repaired: how often a torn last line was cut off.
        pruned: records that retention removed.
        since: Unix seconds of the first record that is there; None without one.
        until: of the last.
        head: where the chain ends.
        anchored: whether the given head was found; None without one, or when that record was pruned.
    """

    fault: Fault | None
    lines: int
    answers: int
    erased: int
    repaired: int
    pruned: int
    since: float | None
    until: float | None
    head: Head
    anchored: bool | None

    @property
    def ok(self) -> bool:
        """Whether the chain holds."""
        return self.fault is None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return {"ok": self.ok, **asdict(self)}


def verify(lines: Iterable[bytes], key: bytes | None = None, head: Head | None = None) -> Verdict:
    """Look for the first place where a chain does not hold.

    Args:
        lines: with their line ends, as a file gives them.
        key: with which it was sealed; None for none.
        head: of an earlier moment, kept elsewhere. Only against such a head can be seen that the end is missing, or,
            in a log without a key, that all of it was written anew.
    """
    walk, rest = Walk(key, head), iter(lines)
    for line in rest:
        fault = walk.step(line)
        if fault is not None:
            return walk.verdict(_refined(fault, walk.head.seq + 1, key, rest))
    return walk.verdict(walk.end())


class Walk:
    """Goes along a chain, line by line.

    Args:
        key: with which it was sealed; None for none.
        anchor: a head that must be on the way.
    """

    def __init__(self, key: bytes | None = None, anchor: Head | None = None) -> None:
        self.head = START
        self._key = key
        self._anchor = anchor
        self._anchored: bool | None = None
        self._lines = self._answers = self._erased = self._repaired = self._pruned = 0
        self._since: float | None = None
        self._until: float | None = None
        self._bare: dict[int, int] = {}

    def step(self, line: bytes) -> Fault | None:
        """Take the next line; None when it follows."""
        number = self._lines + 1
        record = checked(line, number, self._key)
        if isinstance(record, Fault):
            return record
        fault = self._misplaced(record, number)
        if fault is None:
            self._take(record, number)
            fault = self._unanchored(number)
        return fault

    def end(self) -> Fault | None:
        """Look at what only the end can tell."""
        if self._bare:
            line = min(self._bare.values())
            return Fault("changed", line, "its personal part is gone, and no erasure in the log says so")
        if self._anchor is not None and self._anchor.seq > self.head.seq:
            gone = f"the log ends with record {self.head.seq}, the given head is record {self._anchor.seq}"
            return Fault("truncated", self._lines + 1, gone)
        return None

    def verdict(self, fault: Fault | None) -> Verdict:
        """Sum up."""
        return Verdict(
            fault,
            lines=self._lines,
            answers=self._answers,
            erased=self._erased,
            repaired=self._repaired,
            pruned=self._pruned,
            since=self._since,
            until=self._until,
            head=self.head,
            anchored=self._anchored,
        )

    def _misplaced(self, record: Mapping[str, Any], number: int) -> Fault | None:
        seq, wanted = record["seq"], self.head.seq + 1
        if record.get("kind") == "pruned":
            return None if number == 1 else Fault("inserted", number, "what was pruned can only be told in line 1")
        if seq > wanted:
            which = f"record {wanted} is" if seq == wanted + 1 else f"records {wanted} to {seq - 1} are"
            return Fault("removed", number, f"{which} missing before it")
        if seq < wanted:
            return Fault("inserted", number, f"record {seq} has come before")
        if record["prev"] != self.head.hash:
            return Fault("changed", number, "it does not follow the line before: one of the two was replaced")
        return None

    def _take(self, record: Mapping[str, Any], number: int) -> None:
        kind, seq = record.get("kind"), record["seq"]
        self._lines, self.head = number, head_of(record)
        if kind == "pruned":
            self._pruned = seq
            return
        self._answers += kind == "answer"
        self._repaired += kind == "repaired"
        if kind == "erased":
            self._erased += sum(self._bare.pop(each, None) is not None for each in record["seqs"])
        if "personal_hash" in record and "personal" not in record:
            self._bare[seq] = number
        self._until = record["at"]
        self._since = self._until if self._since is None else self._since

    def _unanchored(self, number: int) -> Fault | None:
        if self._anchor is None or self._anchor.seq != self.head.seq:
            return None
        self._anchored = self._anchor.hash == self.head.hash
        if self._anchored:
            return None
        told = f"record {self.head.seq} is not the one of the given head: another log's, or this one was written anew"
        return Fault("rewritten", number, told)


def _refined(fault: Fault, wanted: int, key: bytes | None, rest: Iterable[bytes]) -> Fault:
    """Tell by the lines that follow a missing record from one that comes later, a wrong key from a changed line."""
    later = (record for record in (parse(line.rstrip(b"\n")) for line in rest) if record is not None)
    if fault.problem == "removed" and any(record.get("seq") == wanted for record in later):
        return Fault("reordered", fault.line, f"record {wanted} should be here and comes later")
    if fault.problem == "key" and (fault.line > 1 or any(each.get("key") == fingerprint(key) for each in later)):
        return Fault("changed", fault.line, f"{fault.message}; other lines are sealed as expected")
    return fault


@dataclass(frozen=True, slots=True)
class Prefix:
    """The beginning of a chain that is older than some moment.

    Attributes:
        lines: how many, with the one that stands for what was removed earlier.
        records: how many of them are records of their own.
        head: the last one's.
        since: Unix seconds of the first record, removed earlier or not; None without one.
        until: of the last.
    """

    lines: int = 0
    records: int = 0
    head: Head = START
    since: float | None = None
    until: float | None = None


def older(lines: Iterable[bytes], before: float, key: bytes | None) -> Prefix | Fault:
    """Take records off the front until one is young enough.

    Args:
        lines: with their line ends.
        before: Unix seconds; older records count.
        key: with which they were sealed.

    Returns:
        A fault when the chain does not hold so far.
    """
    walk, found = Walk(key), Prefix()
    for line in lines:
        fault = walk.step(line)
        if fault is not None:
            return fault
        record = parse(line[:-1]) or {}
        if record.get("kind") == "pruned":
            found = Prefix(1, 0, walk.head, record.get("since"), record.get("until"))
        elif record["at"] < before:
            since = record["at"] if found.since is None else found.since
            found = Prefix(found.lines + 1, found.records + 1, walk.head, since, record["at"])
        else:
            break
    return found
