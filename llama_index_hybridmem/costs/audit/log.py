"""The audit log: a chained record for each answer, kept for so many days, forgotten on demand; knows no engine."""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping
from itertools import chain, islice
from pathlib import Path
from typing import Any

from llama_index_hybridmem.costs.audit.chain import START, Fault, Head, canonical, seal, stand_in, without_personal
from llama_index_hybridmem.costs.audit.file import ChainFile, readable
from llama_index_hybridmem.costs.audit.record import Redact, answer_fields, is_answer
from llama_index_hybridmem.costs.audit.verify import Verdict, older, verify
from llama_index_hybridmem.costs.exporting import Finished
from llama_index_hybridmem.errors import ConfigurationError, StoreDamagedError

SHORTEST_KEY = 16
"""Bytes of a key; a shorter one can be guessed."""

_DAY_S = 86_400.0
_WRITING_S = 0.1


class AuditLog:
    """Writes one record for each answer of a query, chat, agent or workflow, chained to the one before.

    Threads and processes may write to one file. A record is on the disk when `export` returns.

    Args:
        path: the file of JSON lines, made by the first record for its owner alone; a folder ``<path>.lock`` beside it
            keeps writers apart.
        redact: goes over every text before it is kept or hashed, as `redact_personal`.
        keep_days: records older than that are removed, once a day and by `prune`; None keeps them.
        texts: keep question, answer and cited sentences, not only their hashes. `hybridmem audit replay` needs them.
        key: seals by HMAC: 16 bytes or more, or the name of an environment variable that holds them. It is never
            written. Without one, whoever can write the file can write all of it anew; see `head`.
        clock: Unix seconds.

    Raises:
        ConfigurationError: no such variable, a short key, days that are none.
    """

    name = "audit"

    def __init__(
        self,
        path: str | Path,
        redact: Redact | None = None,
        keep_days: float | None = None,
        texts: bool = False,
        key: bytes | str | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        if keep_days is not None and not keep_days > 0:
            raise ConfigurationError(f"keep_days={keep_days}: a number above 0 is expected, or None")
        self.path = Path(path)
        self._redact = redact
        self._keep_days = keep_days
        self._texts = texts
        self._key = read_key(key)
        self._clock = clock
        self._file = ChainFile(self.path, self._key, clock)
        self._pruned_at = float("-inf")

    def context(self) -> None:
        """Note nothing."""

    def export(self, finished: Finished) -> None:
        """Write the record of an answer; what is none (a retrieval, a query that failed) is passed over.

        Raises:
            StoreError: it cannot be written.
            StoreDamagedError: the log's last record, or with `keep_days` an old one, does not hold.
            ConfigurationError: the log is sealed with another key.
        """
        if not is_answer(finished):
            return
        now, salt = self._clock(), secrets.token_hex(16)
        fields = answer_fields(finished, at=now, salt=salt, texts=self._texts, redact=self._redact)
        with self._file.writing() as writer:
            writer.append(fields)
        if self._keep_days is not None and now - self._pruned_at >= _DAY_S:
            self._pruned_at = now
            self.prune(now)

    def close(self) -> None:
        """Do nothing: every record is on the disk already."""

    def head(self) -> Head:
        """Say where the chain ends. Keep it where the log's writers cannot write, and hold the log against it later.

        Raises:
            StoreDamagedError: the last record does not hold.
        """
        return self._file.head() if self.path.exists() else START

    def verify(self, head: Head | None = None) -> Verdict:
        """Look for the first place where the log does not hold.

        Args:
            head: what `head` gave at an earlier moment.

        Raises:
            StoreError: no such file.
        """
        verdict = verify(self._file.lines(), self._key, head)
        if verdict.fault is not None and verdict.fault.problem == "torn":
            time.sleep(_WRITING_S)  # so looks a line that is just being written
            verdict = verify(self._file.lines(), self._key, head)
        return verdict

    def records(self) -> Iterator[dict[str, Any]]:
        """Give the records that can be read, oldest first, whether they hold or not.

        Raises:
            StoreError: no such file.
        """
        return readable(self._file.lines())

    def prune(self, now: float | None = None) -> int:
        """Remove the records older than `keep_days`, up to the first that is not; one `pruned` record stands for them.

        Args:
            now: Unix seconds; None for the clock's.

        Returns:
            How many were removed.

        Raises:
            ConfigurationError: the log has no `keep_days`.
            StoreDamagedError: one of them does not hold; then all stay, as evidence.
        """
        if self._keep_days is None:
            raise ConfigurationError("prune() wants to know for how long records are kept: AuditLog(keep_days=…)")
        at = self._clock() if now is None else now
        with self._file.writing() as writer:
            old = older(writer.lines(), at - self._keep_days * _DAY_S, self._key)
            if isinstance(old, Fault):
                raise StoreDamagedError(f"{self.path}, line {old.line}: {old.message}; nothing was removed")
            if old.records:
                first = stand_in(old.head, old.since, old.until, round(at, 3), self._key)
                writer.replace(chain([canonical(first) + b"\n"], islice(writer.lines(), old.lines, None)))
        return old.records

    def forget(self, user: str | None = None, tenant: str | None = None) -> int:
        """Erase the personal part of records: user, tenant, texts, and every hash of a text.

        The chain holds as before, and an `erased` record at its end says of which records. Earlier heads stay good.

        Args:
            user: whose.
            tenant: whose; given both, of the records that have both.

        Returns:
            How many records lost theirs.

        Raises:
            ConfigurationError: neither is given.
        """
        wanted = {name: value for name, value in (("user", user), ("tenant", tenant)) if value is not None}
        if not wanted:
            raise ConfigurationError("forget() wants a user or a tenant")
        with self._file.writing() as writer:
            seqs = [record["seq"] for record in readable(writer.lines()) if _is_of(record, wanted)]
            if seqs:
                erased = seal({"kind": "erased", "at": round(self._clock(), 3), "seqs": seqs}, writer.head, self._key)
                writer.replace(chain(_without(writer.lines(), wanted), [canonical(erased) + b"\n"]))
        return len(seqs)


def read_key(key: bytes | str | None) -> bytes | None:
    """Take a key as it is, or from the environment variable of that name.

    Raises:
        ConfigurationError: no such variable, or the key is shorter than `SHORTEST_KEY`.
    """
    if isinstance(key, str):
        held = os.environ.get(key)
        if not held:
            raise ConfigurationError(
                f"the environment variable {key}, which should hold the audit log's key, is not set"
            )
        key = held.encode()
    if key is not None and len(key) < SHORTEST_KEY:
        raise ConfigurationError(f"the audit log's key has {len(key)} bytes; {SHORTEST_KEY} or more are expected")
    return key


def _is_of(record: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    personal = record.get("personal")
    if not isinstance(personal, Mapping) or not isinstance(record.get("seq"), int):
        return False
    return all(personal.get(name) == value for name, value in wanted.items())


def _without(lines: Iterator[bytes], wanted: Mapping[str, str]) -> Iterator[bytes]:
    """The lines, those of one person without their personal part, all others byte by byte."""
    for line in lines:
        record = next(readable([line]), None)
        theirs = record is not None and _is_of(record, wanted)
        yield canonical(without_personal(record)) + b"\n" if record is not None and theirs else line
