"""Fetches the part of the graph that a walk needs, cut where little mass would go; asks a graph store, ranks nothing.

Two steps of a popular name reach most of a store, so the frontier is cut by how much mass would arrive, not by
distance: a name is followed only if each of its passages would get at least a set tolerance, a passage only if it holds
that much itself (the push rule of Andersen, Chung and Lang 2006, "Local graph partitioning using PageRank vectors").
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from scipy import sparse

from ..filters import Filter
from .stores.base import Foresight, GraphReads, Ids, NameRule, Push
from .walk import Array, Neighbourhood, WalkSettings

ROUNDS = 2
"""Steps passage → name → passage that are fetched; a walk of 12 steps stays almost wholly inside (see `tolerance`)."""


class Frontier:
    """The known links around one question; grows, and never asks the store for the same links twice.

    Args:
        store: the graph.
        rule: which names carry mass.
        keep: passages outside this filter neither appear nor carry mass.
        settings: the numbers of the walk, `tolerance` among them.
    """

    def __init__(self, store: GraphReads, rule: NameRule, keep: Filter | None, settings: WalkSettings) -> None:
        self._store = store
        self._rule = rule
        self._keep = keep
        self._settings = settings
        self._out: dict[int, list[int]] = {}  # passage -> its names
        self._back: dict[int, list[int]] = {}  # name -> its passages
        self._titles: dict[int, set[int]] = {}  # name -> passages titled by it
        self._ties: dict[int, list[int]] = {}  # name -> names that a fact ties it to
        self._df: dict[int, int] = {}

    def grow(self, passages: Mapping[int, float], names: Mapping[int, float]) -> None:
        """Fetch what mass from these starting points reaches."""
        held, moving = dict(passages), dict(names)
        if isinstance(self._store, Foresight):
            push = Push(self._settings.tolerance, self._settings.damping, self._settings.fact_share)
            self._store.foresee_walk(held, moving, self._back, self._rule, push)
        self._fetch_facts(moving)
        for _ in range(ROUNDS):
            self._fetch_passages(held)
            tied = self._spread(moving, self._ties, names, self._settings.fact_share)
            moving = self._spread(held, self._out, tied)
            self._fetch_facts(moving)
            self._fetch_names({name: mass for name, mass in moving.items() if self._worth(name, mass)})
            held = self._spread({n: m for n, m in moving.items() if n in self._back}, self._back, passages)
        self._fetch_passages(held)

    def passages(self) -> list[int]:
        """List every passage whose names are known."""
        return list(self._out)

    def titled_by(self, name: int) -> set[int]:
        """List the passages that a name titles, as far as it was followed."""
        return self._titles.get(name, set())

    def names_of(self, passage: int) -> set[int]:
        """List a passage's names that carry mass."""
        return set(self._out.get(passage, ()))

    def graph(self, passages: list[int]) -> tuple[Neighbourhood, list[int]]:
        """Build the matrices over the given passages and every known name; returns them and the names' order."""
        names = list(self._df)
        row_of = {passage: row for row, passage in enumerate(passages)}
        column_of = {name: column for column, name in enumerate(names)}
        shape = (len(passages), len(names))
        out = _matrix(
            [(row_of[p], [column_of[n] for n in ns], len(ns)) for p, ns in self._out.items() if p in row_of], shape
        )
        backward = []
        seen = self._seen_members()
        for name, column in column_of.items():
            followed = name in self._back  # else only the passages that led here are known, out of df
            members = self._back[name] if followed else seen.get(name, [])
            degree = len(members) if followed else self._df[name]
            backward.append((column, [row_of[p] for p in members if p in row_of], degree))
        back = _matrix(backward, (shape[1], shape[0]))
        return Neighbourhood(out, back, self._facts(names, column_of)), names

    def _seen_members(self) -> dict[int, list[int]]:
        members: dict[int, list[int]] = {}
        for passage, names in self._out.items():
            for name in names:
                members.setdefault(name, []).append(passage)
        return members

    def _facts(self, names: list[int], column_of: Mapping[int, int]) -> sparse.csr_array | None:
        rows = [(name, [column_of[end] for end in self._ties.get(name, ()) if end in column_of]) for name in names]
        if not any(ends for _, ends in rows):
            return None
        shape = (len(names), len(names))
        return _matrix([(column_of[name], ends, len(ends)) for name, ends in rows], shape)

    def _worth(self, name: int, mass: float) -> bool:
        return name not in self._back and mass / max(self._df[name], 1) >= self._settings.tolerance

    def _fetch_passages(self, held: Mapping[int, float]) -> None:
        wanted = [p for p, mass in held.items() if p not in self._out and mass >= self._settings.tolerance]
        if not wanted:
            return
        links = self._store.links_of_passages(np.asarray(wanted, dtype=np.int64), self._rule)
        self._out.update({passage: [] for passage in wanted})
        self._out.update(_grouped(links.passages, links.names))
        self._df.update(zip(links.names.tolist(), links.df.tolist(), strict=True))

    def _fetch_names(self, names: Mapping[int, float]) -> None:
        wanted = list(names)
        if not wanted:
            return
        links = self._store.links_of_names(np.asarray(wanted, dtype=np.int64), self._keep)
        self._back.update({name: [] for name in wanted})
        self._back.update(_grouped(links.names, links.passages))
        for name, passage in zip(
            links.names[links.titled].tolist(), links.passages[links.titled].tolist(), strict=True
        ):
            self._titles.setdefault(name, set()).add(passage)

    def add_names(self, degrees: Mapping[int, int]) -> None:
        """Make names known that no fetched passage has led to: those of the question, with their passages' number."""
        self._df.update(degrees)

    def _fetch_facts(self, names: Mapping[int, float]) -> None:
        """Learn the ties of names that hold mass: they may lead to names that no passage here has."""
        wanted = [name for name, mass in names.items() if name not in self._ties and mass >= self._settings.tolerance]
        ties: dict[int, dict[int, int]] = {name: {} for name in wanted}
        for name, end, df in self._store.fact_links(np.asarray(wanted, dtype=np.int64), self._rule, self._keep):
            ties[name][end] = df
        for name, ends in ties.items():
            if names[name] * self._settings.fact_share >= self._settings.tolerance * len(ends):
                self._df.update(ends)
        for name, ends in ties.items():  # once all of them are known: the order of names must not matter
            self._ties[name] = [end for end in ends if end in self._df]

    def _spread(
        self,
        held: Mapping[int, float],
        links: Mapping[int, Collection[int]],
        start: Mapping[int, float],
        share: float = 1.0,
    ) -> dict[int, float]:
        arrived = dict(start)
        for source, mass in held.items():
            targets = links.get(source, ())
            if len(targets) and mass >= self._settings.tolerance:
                each = self._settings.damping * share * mass / len(targets)
                for target in targets:
                    arrived[target] = arrived.get(target, 0.0) + each
        return arrived


def _grouped(keys: Ids, values: Ids) -> dict[int, list[int]]:
    groups: dict[int, list[int]] = {}
    for key, value in zip(keys.tolist(), values.tolist(), strict=True):
        groups.setdefault(key, []).append(value)
    return groups


def _matrix(rows: list[tuple[int, list[int], int]], shape: tuple[int, int]) -> sparse.csr_array:
    """Build a matrix from (row, columns, degree): each entry is 1 / degree."""
    columns = np.asarray([column for _, ends, _ in rows for column in ends], dtype=np.int64)
    where = np.repeat([row for row, _, _ in rows], [len(ends) for _, ends, _ in rows]).astype(np.int64)
    values: Array = np.repeat([1.0 / max(degree, 1) for _, _, degree in rows], [len(ends) for _, ends, _ in rows])
    return sparse.csr_array((values, (where, columns)), shape=shape)
