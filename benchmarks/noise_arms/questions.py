"""Questions with three short passages each, one of which answers; knows no damage and no model.

Passages are pieces of about 50 words: `StructureSplitter` cuts them. Half of those of the encyclopedia, whose texts are
bare, are written as Markdown (heading, list or table), or no operator could break any. Sources and dates are made up:
a reader of real files would have both, and without them nobody could tell an old version or a forum post.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from pathlib import Path
from random import Random
from typing import Any

from llama_index.core.schema import Document

from llama_index_hybridmem import sample
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.noise.scene import Passage, Scene, World
from llama_index_hybridmem.noise.support import quoted
from llama_index_hybridmem.splitter import StructureSplitter
from llama_index_hybridmem.terms import content_stems, sentences

TOP_K = 3
TOKENS = 85
"""Of a passage at most, title included, as the splitter estimates them: about 60 words."""
WORLD = 300
NEAR = 4
LONGEST_ANSWER = 8
"""Words; a longer one is no short phrase, and 24 new tokens might not hold it."""
SOURCES = ("encyclopedia", "textbook", "yearbook", "handbook", "museum catalogue", "annual report")
GENERATED = "generated.jsonl"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Questions:
    """One source's questions.

    Attributes:
        name: of the source.
        train: to train and to choose a prompt on.
        test: on documents that train has nothing of.
        worlds: what operators may draw from, "train" and "test".
    """

    name: str
    train: tuple[Draft, ...]
    test: tuple[Draft, ...]
    worlds: Mapping[str, World]


@dataclass(frozen=True)
class Row:
    """A question as its file has it.

    Attributes:
        id: its own.
        question: as asked.
        answer: a short phrase.
        documents: that answer it.
        quotes: what says so, verbatim; () when nobody said.
    """

    id: str
    question: str
    answer: str
    documents: tuple[str, ...]
    quotes: tuple[str, ...] = ()


def encyclopedia(folder: Path) -> Questions:
    """Give `xquad_en`: paragraphs of Wikipedia with questions that people wrote (SQuAD, by way of XQuAD).

    Args:
        folder: with ``train.jsonl`` and ``dev.jsonl``, split by document.
    """
    found = {"train": _xquad(folder / "train.jsonl"), "test": _xquad(folder / "dev.jsonl")}
    return _questions("xquad_en", {split: (passages, rows) for split, (passages, rows) in found.items()})


def own() -> Questions | None:
    """Give our own questions on the sample documents; None where the package has none that were generated.

    Of them those that one passage answers; comparisons and two hops need several, and three passages have no room.
    """
    path = sample.questions_path().with_name(GENERATED)
    if not path.exists():
        return None
    passages = _passages(
        Document(doc_id=each.stem, text=each.read_text(encoding="utf-8"), metadata={"title": _heading(each)})
        for each in sorted(sample.documents_folder().glob("*.md"))
    )
    rows: dict[str, list[Row]] = {"train": [], "dev": [], "test": []}
    for row in _read(path):
        if row["kind"] == "single" and row["answer"]:
            known = tuple(row["expected_sources"])
            rows[row["split"]].append(Row(row["id"], row["question"], row["answer"], known, tuple(row["quotes"])))
    tested = {gold.source for row in rows["test"] if (gold := _gold(row, passages)) is not None}
    # A fact can stand in several documents: what a test question may be answered from is not trained on.
    kept = [row for row in rows["train"] if tested.isdisjoint(row.documents)]
    return _questions("sample documents", {"train": (passages, kept), "test": (passages, rows["test"])})


def _questions(name: str, parts: Mapping[str, tuple[Sequence[Passage], Sequence[Row]]]) -> Questions:
    drafts = {split: tuple(_drafts(passages, rows)) for split, (passages, rows) in parts.items()}
    for split, (_, rows) in parts.items():
        logger.info("%s, %s: %d of %d questions", name, split, len(drafts[split]), len(rows))
    worlds = {
        split: World(tuple(Random(f"{name}:{split}").sample(list(passages), min(WORLD, len(passages)))))
        for split, (passages, _) in parts.items()
    }
    return Questions(name, drafts["train"], drafts["test"], worlds)


def _read(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def _heading(path: Path) -> str:
    return path.read_text(encoding="utf-8").partition("\n")[0].lstrip("# ")


def _xquad(path: Path) -> tuple[list[Passage], list[Row]]:
    """Passages and questions of one split; a question's document is its paragraph, where its answer stands."""
    rows = _read(path)
    articles = {f"{row['document']}-{row['paragraph']}": str(row["document"]) for row in rows}
    texts = {f"{row['document']}-{row['paragraph']}": row for row in rows}
    documents = (
        Document(doc_id=id_, text=row["context"], metadata={"title": row["title"].replace("_", " ")})
        for id_, row in texts.items()
    )
    passages = _passages(documents, articles, is_bare=True)
    asked = [
        Row(row["id"], row["question"], row["answer"], (f"{row['document']}-{row['paragraph']}",), (_around(row),))
        for row in rows
    ]
    return passages, asked


def _around(row: Mapping[str, Any]) -> str:
    """The answer with the two words on each side, which tells the place that is meant from others."""
    text, start = row["context"], row["answer_start"]
    end = start + len(row["answer"])
    before = text[:start].split(" ")[-3:]
    behind = text[end:].split(" ")[:3]
    return f"{' '.join(before)}{text[start:end]}{' '.join(behind)}".strip()


def _passages(
    documents: Iterable[Document], articles: Mapping[str, str] | None = None, *, is_bare: bool = False
) -> list[Passage]:
    found: list[Passage] = []
    for node in StructureSplitter(max_tokens=TOKENS).get_nodes_from_documents(list(documents)):
        of = str(node.ref_doc_id)
        article, text = (articles or {}).get(of, of), node.get_content()
        id_ = f"{of}/{len(found)}"
        fields = {"title": str(node.metadata["title"]), **_made_up(article)}
        found.append(Passage(id_, _marked_up(id_, fields["title"], text) if is_bare else text, fields, of))
    return found


def _made_up(article: str) -> dict[str, str]:
    draw = Random(f"about:{article}")
    day = date(2024, 6, 1) + timedelta(days=draw.randrange(500))
    return {"source": draw.choice(SOURCES), "date": day.isoformat()}


def _marked_up(id_: str, title: str, text: str) -> str:
    """Half of the passages as they are, the others under a heading, as a list or as a table of their sentences."""
    lot = int(hashlib.sha256(id_.encode()).hexdigest()[:8], 16) % 4
    parts = sentences(text)
    if lot < 2 or len(parts) < 2 or " ".join(parts) != text:
        return text if lot < 2 else f"## {title}\n\n{text}"
    if lot == 2:
        return f"## {title}\n\n" + "\n".join(f"- {each}" for each in parts)
    cells = (f"| {title} | {each.replace('|', '/')} |" for each in parts)
    return "\n".join(["| about | statement |", "|---|---|", *cells])


def _drafts(passages: Sequence[Passage], rows: Sequence[Row]) -> Iterator[Draft]:
    stems = {each.id: frozenset(content_stems(f"{each.title} {each.text}")) for each in passages}
    for row in rows:
        gold = _gold(row, passages)
        if gold is None or len(row.answer.split()) > LONGEST_ANSWER:
            continue
        asked = frozenset(content_stems(row.question))
        others = [each for each in passages if each.id != gold.id and quoted(row.answer, each.text) is None]
        others.sort(key=lambda each: (-len(asked & stems[each.id]), each.id))  # noqa: B023 - used at once
        same = [each for each in others if each.title == gold.title]
        foreign = [each for each in others if each.title != gold.title]
        if not same or len(foreign) < 2:
            continue
        draw = Random(f"places:{row.id}")
        shown = [gold, same[0], foreign[0]]
        draw.shuffle(shown)
        near = (*same[1 : 1 + NEAR - 1], foreign[1])
        scene = Scene(row.question, tuple(shown), near, frozenset([gold.id]), row.answer)
        yield Draft(row.id, scene)


def _gold(row: Row, passages: Sequence[Passage]) -> Passage | None:
    """The passage that answers: it has the answer, and the quote, or else most of the question's words."""
    mine = [each for each in passages if each.source in row.documents and quoted(row.answer, each.text)]
    asked = set(content_stems(row.question))

    def fit(passage: Passage) -> tuple[int, int]:
        shared = len(asked & set(content_stems(f"{passage.title} {passage.text}")))
        return sum(quoted(each, passage.text) is not None for each in row.quotes), shared

    return max(mine, key=fit, default=None)
