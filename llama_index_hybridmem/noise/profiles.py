"""Noise profiles of traces, of an index, on disk; knows how to reach texts, and no detector.

Whatever is measured here is measured by `measuring`, and corrected by the error rates that the package's detectors have
been measured to have, unless others are given.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import re
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from llama_index.core.schema import BaseNode, NodeWithScore

from llama_index_hybridmem.disk import atomic_write_text, make_folder, on_disk
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.noise.detectors.catalog import detectors, versions
from llama_index_hybridmem.noise.detectors.measured import errors as error_rates
from llama_index_hybridmem.noise.kinds import Kind
from llama_index_hybridmem.noise.measuring import Errors, Tally
from llama_index_hybridmem.noise.mix import Mix
from llama_index_hybridmem.noise.passages import to_passages
from llama_index_hybridmem.noise.profile import Profile
from llama_index_hybridmem.noise.retrievals import Retrieval
from llama_index_hybridmem.noise.scene import Passage, Scene
from llama_index_hybridmem.noise.traces import read_retrievals

SAMPLE = 20_000
"""Chunks of an index that are looked at: a share is then known to 0.7 points or better, 19 times in 20."""

PAIRS: tuple[Kind, ...] = ("duplicate", "stale", "conflict")
"""Kinds that take two passages: they cannot be measured where only some passages are looked at."""

_PAGE = 256  # nodes read from a store at a time
_GROUP = 8  # passages that are compared with one another, at most
_SHINGLE, _MARKS = 3, 4  # words of a shingle; shingles that a passage is known by
_WORD = re.compile(r"\w+")
Progress = Callable[[int, "int | None"], None]


def from_traces(
    source: str | Path | Iterable[Any],
    *,
    errors: Mapping[Kind, Errors] | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Measure what queries got.

    Args:
        source: a file that `RetrievalTraces` has written, or an iterable of `Retrieval`, of pairs of a question and its
            nodes (or the response), of LlamaIndex responses, or of scenes. A response does not say what was asked, so
            that what needs the question is not measured.
        errors: how reliable each kind's detectors are; None: as measured for this package; {}: do not correct.
        progress: told how many queries were looked at so far, of how many (None: unknown).

    Raises:
        ConfigurationError: no query in it, an item that is none of these, or all of it was recorded without texts by
            detectors of other versions. A file's damaged lines are left out, and counted in the profile's ``source``;
            a file of nothing else is refused.
    """
    file = read_retrievals(source, strict=False) if isinstance(source, str | Path) else None
    place = Path(source).name if isinstance(source, str | Path) else "what was given"
    items: Iterable[Any] = source if file is None else file  # type: ignore[assignment]
    tally, older, done = Tally(), 0, 0
    today = frozenset(each.kind for each in detectors())
    for done, item in enumerate(items, start=1):
        older += not _counted(tally, item, today, done)
        if progress is not None:
            progress(done, None)
    if not done:
        if file is not None and file.first is not None:
            raise file.first
        raise ConfigurationError(f"{place}: no query in it, so that there is nothing to measure")
    if older == done:
        raise ConfigurationError(
            f"{place}: all {done:,} queries were recorded by detectors of other versions, and without texts to look at "
            "again; record new ones (with RetrievalTraces(FILE, texts=True) they can be measured by any version)"
        )
    told = f", {older:,} of them by older detectors and left out" if older else ""
    if file is not None and file.skipped:
        told += f", {file.skipped:,} damaged line{'s' if file.skipped > 1 else ''} left out"
    return tally.profile(error_rates() if errors is None else errors, f"{done:,} queries of {place}{told}", versions())


def from_index(
    source: Any,
    *,
    sample: int | None = SAMPLE,
    errors: Mapping[Kind, Errors] | None = None,
    progress: Progress | None = None,
) -> Profile:
    """Measure the chunks of an index: what its readers and its splitter have done to the documents.

    There is no question, so that nothing is off topic, badly ordered or without an answer. Passages are compared with
    those that share rare wording with them, so that copies and older versions are found wherever they are; in a sample
    they cannot be.

    Args:
        source: a `HybridMemoryIndex`, an index or store of LlamaIndex that keeps its nodes, or an iterable of nodes.
        sample: how many chunks are looked at, those with the smallest hashes of their ids; None: all, in memory.
        errors: how reliable each kind's detectors are; None: as measured for this package; {}: do not correct.
        progress: told how many chunks were looked at so far, and of how many.

    Raises:
        ConfigurationError: there are no chunks, the source keeps none, or ``sample`` is below 1.
    """
    if sample is not None and sample < 1:
        raise ConfigurationError(f"sample is how many chunks are looked at: 1 or more, not {sample}")
    passages, total = _sampled(nodes_of(source), sample)
    if not total:
        raise ConfigurationError("the index holds no chunks, so that there is nothing to measure")
    is_whole = len(passages) == total
    tally = Tally(without=() if is_whole else PAIRS)
    for group in _alike(passages) if is_whole else ([each] for each in passages):
        tally.look(Scene("", tuple(group)), listed=False)
        if progress is not None:
            progress(tally.passages, len(passages))
    told = f"all {total:,}" if is_whole else f"{len(passages):,} of {total:,}"
    return tally.profile(error_rates() if errors is None else errors, f"{told} chunks of an index", versions())


def save(profile: Profile, path: str | Path) -> None:
    """Write a profile as JSON, whole or not at all; its folder is made.

    Raises:
        StoreError: it cannot be written.
    """
    place = Path(path)
    make_folder(place.parent)
    atomic_write_text(place, json.dumps(profile.to_json(), indent=2) + "\n")


def load(path: str | Path) -> Profile:
    """Read what `save` wrote.

    Raises:
        ConfigurationError: no such file, or it is no profile, or names operators that there are not.
        StoreError: it cannot be read.
    """
    place = Path(path)
    if not place.is_file():
        raise ConfigurationError(f"{place}: no such file; hybridmem noise profile STORE -o {place.name} makes one")
    with on_disk(place):
        content = place.read_bytes()
    try:
        row = json.loads(content)
    except (ValueError, RecursionError) as error:
        raise ConfigurationError(f"{place}: no noise profile, for it is no JSON: {error}") from error
    found = Profile.from_json(row, str(place))
    try:
        Mix.of(found)
    except ConfigurationError as error:
        raise ConfigurationError(f"{place}: {error}") from error
    return found


def nodes_of(source: Any) -> Iterator[BaseNode]:
    """Walk over the nodes of an index, page by page where it can be.

    Args:
        source: a `HybridMemoryIndex`; an index, a docstore or a vector store of LlamaIndex that keeps its nodes; an
            iterable of nodes, with or without scores.

    Raises:
        ConfigurationError: it keeps no nodes that can be walked over.
    """
    graph: Any = getattr(source, "graph_store", None)
    vectors: Any = getattr(source, "vector_store", source)
    docs: Any = getattr(getattr(source, "docstore", source), "docs", None)
    if hasattr(graph, "document_node_ids") and hasattr(vectors, "get_nodes"):
        ids = (id_ for doc_id in list(graph.documents()) for id_ in graph.document_node_ids(doc_id))
        while page := list(islice(ids, _PAGE)):
            yield from _read(vectors, page)
    elif docs:
        yield from docs.values()
    elif hasattr(vectors, "get_nodes"):
        yield from _read(vectors, None)
    elif isinstance(source, Iterable):
        for each in source:
            yield _node(each)
    else:
        raise _no_nodes(source)


def _read(vectors: Any, ids: list[str] | None) -> Sequence[BaseNode]:
    try:
        nodes: Sequence[BaseNode] = vectors.get_nodes(ids)
    except NotImplementedError as error:
        raise _no_nodes(vectors) from error
    return nodes


def _no_nodes(source: Any) -> ConfigurationError:
    return ConfigurationError(f"{type(source).__name__} keeps no nodes that can be walked over; give the nodes")


def _node(item: Any) -> BaseNode:
    node = item.node if isinstance(item, NodeWithScore) else item
    if not isinstance(node, BaseNode):
        raise ConfigurationError(f"a node of LlamaIndex is needed, not {type(node).__name__}")
    return node


def _counted(tally: Tally, item: Any, today: frozenset[Kind], number: int) -> bool:
    """Count one query; False for one that today's detectors have not seen, and cannot see any more."""
    if not isinstance(item, Retrieval):
        tally.look(_scene(item, number))
        return True
    looked_for = item.looked_for()
    if looked_for != today and (scene := item.scene) is not None:
        tally.look(scene)
        return True
    if looked_for:
        tally.add([each.findings for each in item.passages], item.whole, looked_for)
    return bool(looked_for)


def _scene(item: Any, number: int) -> Scene:
    if isinstance(item, Scene):
        return item
    question, found = item if isinstance(item, tuple) and len(item) == 2 else ("", item)
    nodes = getattr(found, "source_nodes", found)
    if not isinstance(question, str) or not isinstance(nodes, list | tuple):
        raise ConfigurationError(
            f"query {number}: a response, a pair of a question and its nodes, or a Retrieval is needed, not "
            f"{type(item).__name__}"
        )
    return Scene(question, to_passages(_checked(nodes)))


def _checked(nodes: Iterable[Any]) -> Iterator[BaseNode | NodeWithScore]:
    for each in nodes:
        yield each if isinstance(each, NodeWithScore) else _node(each)


def _sampled(nodes: Iterable[BaseNode], most: int | None) -> tuple[Sequence[Passage], int]:
    """The passages with the smallest hashes of their ids, in that order, and how many there were."""
    if most is None:
        everything = to_passages(nodes)
        return everything, len(everything)
    kept: list[tuple[int, int, BaseNode]] = []  # a heap, the largest hash first
    total = 0
    for total, node in enumerate(nodes, start=1):
        digest = hashlib.blake2b(node.node_id.encode("utf-8", "surrogatepass"), digest_size=8).digest()
        item = (-int.from_bytes(digest, "big"), -total, node)
        if len(kept) < most:
            heapq.heappush(kept, item)
        elif item > kept[0]:
            heapq.heapreplace(kept, item)
    return to_passages(node for _, _, node in sorted(kept, reverse=True)), total


def _alike(passages: Iterable[Passage]) -> list[list[Passage]]:
    """Passages in groups of those that may say the same; every passage is in one group.

    Each is known by its shingles of the smallest hashes: two texts that share most of their wording share one of these
    (Broder 1997, "On the resemblance and containment of documents").
    """
    groups: list[list[Passage]] = []
    home: dict[int, int] = {}
    for each in passages:
        marks = _marks(each.text)
        near = Counter(home[mark] for mark in marks if mark in home and len(groups[home[mark]]) < _GROUP)
        group = near.most_common(1)[0][0] if near else len(groups)
        if group == len(groups):
            groups.append([])
        groups[group].append(each)
        home.update((mark, group) for mark in marks)
    return groups


def _marks(text: str) -> list[int]:
    words = _WORD.findall(text.lower())
    starts = range(max(1, len(words) - _SHINGLE + 1))
    shingles = {" ".join(words[at : at + _SHINGLE]) for at in starts} - {""}
    return heapq.nsmallest(_MARKS, (zlib.crc32(each.encode("utf-8", "surrogatepass")) for each in shingles))
