"""What a property graph says, in our terms: names, passages, links and facts; knows no database and no vectors.

Entities of one folded name are one name. Chunks are passages. A relation whose chunk has no text to be found becomes a
small passage of its own, so that every fact is found, and held back by filters, like any passage.
"""

from __future__ import annotations

import json
import unicodedata
import uuid
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from llama_index.core.graph_stores.types import TRIPLET_SOURCE_KEY
from llama_index.core.schema import TextNode

from ..cypher_rows import readable
from ..entities import normalise
from .base import Fact, Passage
from .property_graph_chunks import ChunkTexts, plain_metadata, serialised
from .property_graph_reading import Entity, Reader, Statement

SOURCE = "property graph"
"""The source of every fact."""
FACTS = "property graph facts"
"""The document of those passages that are one fact without a chunk."""

_NAMESPACE = uuid.UUID("6f1c2f62-3ac4-5d0b-9f0e-5f6f2a1d7c11")
_ACCENTS = dict.fromkeys(range(0x0300, 0x0370))


@dataclass(frozen=True)
class Contents:
    """All that a reading of a graph brought.

    Attributes:
        names: folded name to how the graph writes it.
        aliases: other spellings of names, folded, to the name they stand for; none of them is a name itself.
        passages: chunks with a text, and facts without one, by node id; each with the facts read from it.
        links: node id to the names in it.
        left_out: chunks that the graph names and nothing has a text for.
    """

    names: Mapping[str, str]
    aliases: Mapping[str, str]
    passages: Mapping[str, Passage]
    links: Mapping[str, Sequence[str]]
    left_out: int


def read(reader: Reader, texts: ChunkTexts) -> Contents:
    """Read a whole graph."""
    entities = {entity.id: entity for entity in reader.entities()}
    keys = {entity.id: name_key(entity.name) for entity in entities.values()}
    names = {keys[entity.id]: entity.name for entity in sorted(entities.values(), key=lambda e: e.id, reverse=True)}
    statements = [one for one in reader.statements() if one.source in entities and one.target in entities]
    linked = _linked(entities, statements, reader.mentions())
    found = texts.find(reader.chunks(), linked)
    passages, links = dict(found.passages), {chunk: sorted({keys[e] for e in ends}) for chunk, ends in linked.items()}
    facts: dict[str, list[Fact]] = defaultdict(list)
    for one in statements:
        fact = Fact(entities[one.source].name, readable(one.label), entities[one.target].name, source=SOURCE)
        known = [chunk for chunk in one.chunks if chunk in found.passages]
        for chunk in known:
            facts[chunk].append(replace(fact, node_id=chunk))
        for chunk in () if known else one.chunks or ("",):
            alone = _alone(fact, one, chunk, found.metadata.get(chunk, {}))
            passages[alone.node_id] = alone
            links[alone.node_id] = sorted({keys[one.source], keys[one.target]})
    for chunk, read_there in facts.items():
        passages[chunk] = replace(passages[chunk], facts=tuple(read_there))
    uses = Counter(name for node_id, ends in links.items() if node_id in passages for name in ends)
    aliases = _aliases(entities.values(), keys, uses)
    return Contents(names, aliases, passages, links, sum(chunk not in found.passages for chunk in linked))


def name_key(name: str) -> str:
    """Fold a name as the graph keys it; a name without any letter or digit stays as it is."""
    return normalise(name) or name.strip().casefold()


def folded(name: str) -> str:
    """Write a folded name without accents, in plain width: what is typed for it on another keyboard."""
    bare = unicodedata.normalize("NFKD", name).translate(_ACCENTS)
    return unicodedata.normalize("NFC", bare).lower()


def _linked(
    entities: Mapping[str, Entity], statements: Iterable[Statement], mentions: Iterable[tuple[str, str]]
) -> dict[str, set[str]]:
    """Gather which chunk has which entities: by mentions, by the entities' own properties, by relations."""
    linked: dict[str, set[str]] = defaultdict(set)
    for chunk, entity in mentions:
        if entity in entities:
            linked[chunk].add(entity)
    for one in entities.values():
        for chunk in one.chunks:
            linked[chunk].add(one.id)
    for statement in statements:
        for chunk in statement.chunks:
            linked[chunk].update((statement.source, statement.target))
    return dict(linked)


def _alone(fact: Fact, statement: Statement, chunk: str, chunk_metadata: Mapping[str, object]) -> Passage:
    """Make a fact a passage. Its metadata are the relation's, over those of its chunk where that has no text."""
    named = {TRIPLET_SOURCE_KEY: chunk} if chunk else {}
    metadata = {**chunk_metadata, **plain_metadata(statement.properties), **named}
    told = json.dumps([statement.source, statement.label, statement.target, metadata], sort_keys=True)
    node_id = str(uuid.uuid5(_NAMESPACE, told))
    node = serialised(TextNode(id_=node_id, metadata=metadata))
    facts = (replace(fact, node_id=node_id),)
    return Passage(node_id, FACTS, "", str(fact), metadata=metadata, facts=facts, node=node)


def _aliases(entities: Iterable[Entity], keys: Mapping[str, str], uses: Mapping[str, int]) -> dict[str, str]:
    """Give each further spelling its name; where several names share one, that with most passages has it."""
    found: dict[str, str] = {}
    names = set(keys.values())
    for spell in (_given_spellings, _bare_spellings):  # what the graph states goes before what we derive
        pairs = ((spelling, keys[entity.id]) for entity in entities for spelling in spell(entity, keys[entity.id]))
        best: dict[str, str] = {}
        for spelling, name in sorted(set(pairs), key=lambda pair: (uses.get(pair[1], 0), pair)):
            best[spelling] = name  # the last, with most passages, stays
        found.update((s, name) for s, name in best.items() if s and s not in names and s not in found)
    return found


def _given_spellings(entity: Entity, key: str) -> Iterator[str]:
    return (normalise(alias) for alias in entity.aliases)


def _bare_spellings(entity: Entity, key: str) -> Iterator[str]:
    return (folded(spelling) for spelling in (key, *map(normalise, entity.aliases)))
