"""Questions read, asked of a retriever, taken from traces or generated; which passages answer, and what is left out."""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_llm import ScriptedLLM
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.schema import NodeRelationship, NodeWithScore, QueryBundle, RelatedNodeInfo, TextNode

from llama_index_hybridmem.errors import ConfigurationError, IngestError
from llama_index_hybridmem.export import drafting, making
from llama_index_hybridmem.export.asking import Asked, read_asked
from llama_index_hybridmem.export.collecting import collect, collect_traces, contents_of
from llama_index_hybridmem.export.drafting import Gathering, draft_of, draft_of_trace
from llama_index_hybridmem.export.generating import generate
from llama_index_hybridmem.export.making import LeftOut
from llama_index_hybridmem.export.options import ExportOptions
from llama_index_hybridmem.export.record import Draft
from llama_index_hybridmem.noise.retrievals import Found, Retrieval
from llama_index_hybridmem.noise.scene import Passage

TWO = ExportOptions(top_k=2, shard_rows=3)
QUESTION = "When was the Forth Bridge opened?"
OPENED = "The Forth Bridge was opened in 1890."


def node(id_: str, text: str, document: str, **metadata: Any) -> NodeWithScore:
    """A node of a document."""
    made = TextNode(id_=id_, text=text, metadata=metadata)
    made.relationships[NodeRelationship.SOURCE] = RelatedNodeInfo(node_id=document, hash=f"hash of {document}")
    return NodeWithScore(node=made, score=0.5)


BRIDGES = [
    node("tay", "The Tay Bridge fell in 1879.", "notes/tay.md", title="Tay"),
    node("forth", OPENED, "notes/forth.md", title="Forth"),
    node("steel", "Steel was 1890 times dearer then.", "steel.md", title="Steel"),
]


class Scripted(BaseRetriever):
    """Finds the same for every question, the later ones faster; counts how often it was asked."""

    def __init__(self, nodes: Sequence[NodeWithScore] = BRIDGES, fails_at: int | None = None) -> None:
        super().__init__()
        self.nodes, self.asked, self.fails_at = nodes, 0, fails_at

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        self.asked += 1
        if self.asked == self.fails_at:
            raise RuntimeError("the store is down")
        time.sleep(0.004 / self.asked)
        return list(self.nodes)


def drafted(asked: Asked, nodes: Sequence[NodeWithScore] = BRIDGES, **how: Any) -> Draft:
    """A draft that there must be."""
    made = draft_of(asked, nodes, 2, Gathering(**how))
    assert isinstance(made, Draft)
    return made


# -- which passages answer --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["notes/forth.md", "forth.md", "forth", "Forth"])
def test_gold_is_what_is_named_and_holds_the_answer(name: str) -> None:
    """By document id, file name with or without ending, or title; what lies beyond the prompt's passages is near."""
    made = drafted(Asked("q", QUESTION, "1890", frozenset([name])))
    assert made.scene.gold == {"forth"}
    assert [each.id for each in made.scene.passages] == ["tay", "forth"]
    assert [each.id for each in made.scene.near] == ["steel"]
    assert made.versions["notes/forth.md"] == "hash of notes/forth.md"


def test_a_named_passage_without_the_answer_is_no_gold() -> None:
    """The right document was found, and the wrong part of it: the retriever's failure, kept as such."""
    nodes = [BRIDGES[0], node("toll", "A toll is due at the Forth Bridge.", "forth.md")]
    made = drafted(Asked("q", QUESTION, "1890", frozenset(["forth"])), nodes)
    assert made.scene.gold == frozenset()
    assert made.scene.answer == "1890"


def test_without_names_gold_speaks_of_what_was_asked() -> None:
    """The answer's words alone, by chance in another passage, make none."""
    assert drafted(Asked("q", QUESTION, "1890")).scene.gold == {"forth"}
    nodes = [BRIDGES[0], BRIDGES[2]]
    assert drafted(Asked("q", QUESTION, "1890"), nodes).scene.gold == frozenset()


def test_a_long_answer_may_be_in_other_words() -> None:
    """With nearly all of them, and every number, in the named source; without, it is not supported."""
    held, wrong = "It was in 1890 that the bridge opened", "It was in 1891 that the bridge opened"
    assert drafted(Asked("q", QUESTION, held, frozenset(["forth"]))).scene.gold == {"forth"}
    assert drafted(Asked("q", QUESTION, wrong, frozenset(["forth"]))).scene.gold == frozenset()
    quotes = ("the forth  bridge WAS opened",)
    assert drafted(Asked("q", QUESTION, wrong, frozenset(["forth"]), quotes)).scene.gold == {"forth"}


@pytest.mark.parametrize(
    ("asked", "reason"),
    [
        pytest.param(Asked("q", QUESTION), drafting.UNKNOWN, id="nothing-known"),
        pytest.param(Asked("q", "Hello!", kind="no_retrieval"), drafting.UNNEEDED, id="no-retrieval"),
        pytest.param(Asked("q", QUESTION, "1890", frozenset(["elsewhere"])), making.TOLD_ELSEWHERE, id="other-source"),
        pytest.param(Asked("q", QUESTION, "late in the last century but one"), drafting.NOT_VERBATIM, id="long"),
    ],
)
def test_what_cannot_be_told_is_left_out(asked: Asked, reason: str) -> None:
    """With the reason, rather than labelled by chance."""
    assert draft_of(asked, BRIDGES, 2) == LeftOut(reason)


def test_a_question_that_nothing_answers_has_no_gold() -> None:
    """Even where its words are found."""
    made = drafted(Asked("q", QUESTION, answerable=False))
    assert (made.scene.gold, made.scene.answer) == (frozenset(), None)


def test_known_sources_of_an_unknown_answer_are_gold() -> None:
    """Without them, nobody can answer."""
    assert drafted(Asked("q", QUESTION, None, frozenset(["forth"]))).scene.gold == {"forth"}


def test_gold_is_added_only_on_demand() -> None:
    """In the place of a passage, always the same one, and looked up by the question's names."""
    asked = Asked("q", QUESTION, "1890", frozenset(["forth"]))
    nodes = [BRIDGES[0], node("rain", "It rains.", "rain.md"), node("more", "And rains.", "rain.md")]
    names: list[frozenset[str]] = []

    def lookup(wanted: frozenset[str]) -> list[Any]:
        names.append(wanted)
        return [node("toll", "A toll is due.", "notes/forth.md").node, BRIDGES[1].node]

    assert drafted(asked, nodes).scene.gold == frozenset()
    made = drafted(asked, nodes, add_gold=lookup)
    assert made == drafted(asked, nodes, add_gold=lookup)
    assert made.scene.gold == {"forth"}
    assert "forth" in [each.id for each in made.scene.passages]
    assert len(made.scene.passages) == 2
    assert len(made.scene.near) == 2
    assert made.versions["notes/forth.md"] == "hash of notes/forth.md"
    assert names == [asked.gold] * 2
    assert drafted(asked, BRIDGES, add_gold=lookup).scene == drafted(asked, BRIDGES).scene


# -- collecting -------------------------------------------------------------------------------------------------------


def questions(count: int) -> list[Asked]:
    """Questions with ids in order."""
    return [Asked(f"q{number:02d}", QUESTION, "1890") for number in range(count)]


def read(folder: Path) -> list[dict[str, Any]]:
    """All drafts of a folder."""
    parts = sorted((folder / "drafts").glob("*.jsonl"))
    return [json.loads(text) for path in parts for text in path.read_text("utf-8").splitlines()]


def test_several_are_asked_at_once_and_stay_in_order(tmp_path: Path) -> None:
    """Answers that come early wait for their turn; parts have as many drafts as a shard has rows."""
    told: list[tuple[int, int]] = []
    found = collect(questions(8), Scripted(), tmp_path, TWO, progress=lambda *step: told.append(step))
    assert [row["id"] for row in read(tmp_path)] == [each.id for each in questions(8)]
    assert [rows for rows, _ in found.parts] == [3, 3, 2]
    assert (found.answered, found.unanswered) == (8, 0)
    assert told == [(3, 8), (6, 8), (8, 8)]


def test_what_fails_goes_on_with_the_first_missing_part(tmp_path: Path) -> None:
    """The retriever's error comes out; what was asked before it is not asked again, and the bytes are the same."""
    with pytest.raises(RuntimeError, match="down"):
        collect(questions(8), Scripted(fails_at=5), tmp_path / "broken", TWO)
    again = Scripted()
    collect(questions(8), again, tmp_path / "broken", TWO)
    assert again.asked == 5
    collect(questions(8), again, tmp_path / "broken", TWO)
    assert again.asked == 5
    collect(questions(8), Scripted(), tmp_path / "whole", TWO)
    for name in ("drafts.json", "pool.jsonl", "drafts/part-00002.jsonl"):
        assert (tmp_path / "broken" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_left_out_questions_are_counted_and_named(tmp_path: Path) -> None:
    """Also after a resumption; one that needs no retrieval is not asked."""
    some = [*questions(2), Asked("hello", "Hello!", kind="no_retrieval"), Asked("what", "What?")]
    retriever = Scripted()
    found = collect(some, retriever, tmp_path, TWO)
    assert found.left_out == {drafting.UNNEEDED: 1, drafting.UNKNOWN: 1}
    assert retriever.asked == 2
    assert json.loads((tmp_path / "drafts" / "part-00000.json").read_text()) == {drafting.UNNEEDED: ["hello"]}


def test_other_questions_or_options_are_refused(tmp_path: Path) -> None:
    """What differs is named."""
    collect(questions(2), Scripted(), tmp_path, TWO)
    for asked, options, how, told in (
        (questions(3), TWO, None, "count was 2, is 3"),
        (questions(2), replace(TWO, top_k=3), None, "top_k was 2, is 3"),
        (questions(2), TWO, Gathering(near=1), "near was 5, is 1"),
        (questions(2), TWO, Gathering(store="b"), 'hash of the store\'s documents was "", is "b"'),
    ):
        with pytest.raises(ConfigurationError, match=told):
            collect(asked, Scripted(), tmp_path, options, how)
    shorter = Scripted()
    shorter.similarity_top_k = 1  # type: ignore[attr-defined]
    with pytest.raises(ConfigurationError, match="similarity_top_k was null, is 1"):
        collect(questions(2), shorter, tmp_path, TWO)


def test_a_store_is_named_by_its_documents_and_their_versions() -> None:
    """In whatever order it tells them."""

    def store(**documents: str) -> Any:
        return SimpleNamespace(graph_store=SimpleNamespace(documents=lambda: documents))

    assert contents_of(store(a="1", b="2")) == contents_of(store(b="2", a="1"))
    assert len({contents_of(store(**each)) for each in ({}, {"a": "1"}, {"a": "2"}, {"b": "1"})}) == 4


# -- traces -----------------------------------------------------------------------------------------------------------

FORTH = Found(source="forth.md", passage=Passage("forth", OPENED, {}, "forth.md"))
TRACED = Retrieval("t1", 5.0, (FORTH,), question=QUESTION, answer="It opened in 1890 [1].")


def test_a_traced_answer_counts_where_a_passage_supports_it(tmp_path: Path) -> None:
    """It is marked as a model's, loses its citations, and the passage that holds it is gold."""
    made = draft_of_trace(replace(TRACED, answer="The Forth Bridge was  opened in 1890 [1]."))
    assert isinstance(made, Draft)
    assert (made.origin, made.asked, made.scene.answer, made.scene.gold) == ("traces", 5.0, OPENED, {"forth"})


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        pytest.param({"answer": "1891"}, drafting.UNSUPPORTED, id="unsupported"),
        pytest.param({"answer": "1890", "abstained": True}, drafting.ABSTAINED, id="abstained"),
        pytest.param({"answer": None, "abstained": True}, drafting.ABSTAINED, id="abstained-wordless"),
        pytest.param({"answer": "1890", "status": "cancelled"}, drafting.FAILED, id="cancelled"),
        pytest.param({"answer": None, "status": "error"}, drafting.FAILED, id="failed"),
        pytest.param({"answer": None}, drafting.NO_TEXTS, id="no-answer"),
        pytest.param({"answer": "1890", "good": False}, drafting.DISLIKED, id="disliked"),
        pytest.param({"question": None}, drafting.NO_TEXTS, id="no-texts"),
        pytest.param({"answer": " [1] "}, drafting.UNSUPPORTED, id="blank"),
    ],
)
def test_other_traced_answers_are_left_out(change: dict[str, Any], reason: str) -> None:
    """With the reason."""
    assert draft_of_trace(replace(TRACED, **change)) == LeftOut(reason)


def test_traces_are_collected_and_known_again(tmp_path: Path) -> None:
    """From the file that the app wrote; a file that has grown since is refused."""
    file = tmp_path / "traces.jsonl"
    rows = [replace(TRACED, id=f"t{number}", answer="1890" if number % 2 else "never") for number in range(4)]
    file.write_text("".join(json.dumps(each.to_json()) + "\n" for each in rows))
    found = collect_traces(file, tmp_path / "out", TWO)
    assert (found.answered, found.left_out) == (2, {drafting.UNSUPPORTED: 2})
    assert collect_traces(file, tmp_path / "out", TWO) == found
    with file.open("a") as more:
        more.write(json.dumps(replace(TRACED, id="t9").to_json()) + "\n")
    with pytest.raises(ConfigurationError, match="count was 4, is 5"):
        collect_traces(file, tmp_path / "out", TWO)


# -- reading questions ------------------------------------------------------------------------------------------------


def test_json_lines_and_tables_say_the_same(tmp_path: Path) -> None:
    """With a mark of byte order, either line end, blank lines; lists in cells between bars, or as JSON."""
    lines, table = tmp_path / "q.jsonl", tmp_path / "q.csv"
    lines.write_bytes(
        b'\xef\xbb\xbf{"id": 7, "question": " Who? ", "answer": "Ann", "gold": ["a.md", "b.md"], '
        b'"quotes": ["By Ann."], "domain": "art", "date": "2026-01-02"}\r\n\r\n'
        b'{"question": "What?", "answer": null}\n{"question": "Why?", "expected_sources": ["c"], "kind": "hard"}'
    )
    table.write_bytes(
        b"\xef\xbb\xbfid,question,answer,gold,quotes,domain,date,answerable,kind\r\n"
        b'7,Who?,Ann,a.md | b.md,"[""By Ann.""]",art,1767312000,,\r\n\r\n'
        b",What?,,,,,,false,\r\n,Why?,,c,,,,,hard\r\n"
    )
    first, second, third = read_asked(lines)
    assert [first, second, third] == read_asked(table)
    assert first == Asked(
        "7", "Who?", "Ann", frozenset(["a.md", "b.md"]), ("By Ann.",), None, "art", 1767312000.0, "user", None
    )
    assert (second.answerable, third.answerable, third.gold) == (False, None, {"c"})
    assert second.id != third.id


@pytest.mark.parametrize(
    ("name", "content", "told"),
    [
        pytest.param("q.txt", b"", "are read from .jsonl or .csv", id="suffix"),
        pytest.param("q.jsonl", b"\n", "no question in it", id="empty"),
        pytest.param("q.jsonl", b'{"question": "a"}\n{"question": ', "line 2: not JSON", id="torn"),
        pytest.param("q.jsonl", b'{"question": "\xe9"}', "line 1: not JSON in UTF-8", id="latin"),
        pytest.param("q.jsonl", b'["a"]', "line 1: expected an object", id="list"),
        pytest.param("q.jsonl", b'{"question": " "}', "line 1: field question: a text", id="blank"),
        pytest.param("q.jsonl", b'{"question": "a", "answer": 3}', "line 1: field answer: a text", id="answer"),
        pytest.param("q.jsonl", b'{"question": "a", "gold": {"b": 1}}', "field gold: a list", id="gold"),
        pytest.param("q.jsonl", b'{"question": "a", "date": "May"}', "field date: ISO 8601", id="date"),
        pytest.param("q.jsonl", b'{"question": "a", "id": "\\ud800"}', "field id: .* half a character", id="half"),
        pytest.param(
            "q.jsonl",
            b'{"question": "a", "id": 1}\n{"question": "b", "id": "1"}',
            "line 2: field id: '1' is taken by .*line 1",
            id="twice",
        ),
        pytest.param("q.jsonl", b'{"question": "a"}\n{"question": "a"}', "same question twice", id="same"),
        pytest.param("q.jsonl", b'{"question": "a", "answerable": false, "answer": "b"}', "yet there is", id="both"),
        pytest.param("q.csv", b"query\nWho?\n", "line 1: no column question; there are query", id="column"),
        pytest.param("q.csv", b"question,answer\nWho?\n", "line 2: more or fewer cells", id="cells"),
        pytest.param("q.csv", b'question\n"Who?\n', "no CSV", id="quote"),
        pytest.param("q.csv", b"question,answerable\nWho?,maybe\n", "line 2: field answerable", id="truth"),
    ],
)  # fmt: skip
def test_a_bad_line_is_named(tmp_path: Path, name: str, content: bytes, told: str) -> None:
    """File, line, field and what is wrong."""
    (tmp_path / name).write_bytes(content)
    with pytest.raises(IngestError, match=f"{name}.*{told}"):
        read_asked(tmp_path / name)


def test_a_missing_file_is_said(tmp_path: Path) -> None:
    """As what it is."""
    with pytest.raises(IngestError, match="cannot be read: No such file"):
        read_asked(tmp_path / "none.csv")


# -- generated questions ----------------------------------------------------------------------------------------------

TEXT = f"{OPENED} It is of steel, and spans the firth in three great arms that were built out from their piers."
GOOD = {"question": QUESTION, "answer": "1890", "quote": "the Forth Bridge was opened in 1890."}


def replies(*rows: Any) -> ScriptedLLM:
    """A model that gives these one after the other, and the last one ever after."""
    left = list(rows)
    return ScriptedLLM(reply=lambda prompt: left.pop(0) if len(left) > 1 else left[0])


def test_a_question_is_kept_with_its_quote(tmp_path: Path) -> None:
    """Found in whatever the model says around it; answer and quote stand as in the passage."""
    llm = replies(f"Sure!\n```json\n{json.dumps(GOOD)}\n```\nHope that helps {{}}")
    made = generate([Passage("p", TEXT, {"title": "Forth"}), Passage("short", "Too short.")], llm, tmp_path / "j.jsonl")
    (asked,) = made.questions
    assert (asked.question, asked.answer, asked.quotes) == (QUESTION, "1890", (OPENED,))
    assert (asked.gold, asked.origin, asked.answerable) == ({"p"}, "generated", True)
    assert "Its title: Forth" in llm.prompts[0]


@pytest.mark.parametrize(
    ("reply", "reason"),
    [
        pytest.param("I cannot { do } that.", "no JSON object", id="no-json"),
        pytest.param(json.dumps({**GOOD, "answer": ["1890"]}), "is missing", id="no-answer"),
        pytest.param(json.dumps({**GOOD, "quote": "Opened 1890."}), "quote does not stand in the passage", id="quote"),
        pytest.param(json.dumps({**GOOD, "answer": "189"}), "answer does not stand in the quote", id="answer"),
        pytest.param(json.dumps({**GOOD, "question": "Is it 1890?"}), "holds the answer", id="given-away"),
        pytest.param(json.dumps({**GOOD, "question": "When, says the text?"}), "passage itself", id="pointing"),
    ],
)
def test_a_useless_reply_is_refused_and_asked_again(tmp_path: Path, reply: str, reason: str) -> None:
    """The next prompt says why; tries end; each refusal is counted."""
    llm = replies(reply, reply, json.dumps(GOOD))
    made = generate([Passage("p", TEXT)], llm, tmp_path / "j.jsonl")
    assert len(made.questions) == 1
    assert [(reason in why, times) for why, times in made.rejected.items()] == [(True, 2)]
    assert reason in llm.prompts[1]
    never = generate([Passage("p", TEXT)], replies(reply), tmp_path / "k.jsonl")
    assert (never.questions, sum(never.rejected.values()), never.asked) == ((), 3, 3)


def test_no_reply_is_paid_twice(tmp_path: Path) -> None:
    """After a failure, and in a second run, only what is missing is asked; the questions stay in order."""
    passages = [Passage(f"p{number}", f"Bridge {number}. {TEXT}") for number in range(6)]

    def reply(prompt: str) -> str:
        number = prompt.split("Bridge ")[1][0]
        if number == "4" and failing:
            raise RuntimeError("the model is down")
        return json.dumps({**GOOD, "question": f"{QUESTION} ({number})"})

    failing = True
    with pytest.raises(RuntimeError, match="down"):
        generate(passages, ScriptedLLM(reply=reply), tmp_path / "j.jsonl", at_once=1)
    failing = False
    made = generate(passages, ScriptedLLM(reply=reply), tmp_path / "j.jsonl")
    assert 1 <= made.asked <= 2
    assert [each.question[-2] for each in made.questions] == list("012345")
    again = generate(passages, ScriptedLLM(reply=reply), tmp_path / "j.jsonl")
    assert (again.questions, again.asked) == (made.questions, 0)


def test_the_same_question_is_kept_once(tmp_path: Path) -> None:
    """And the second is counted."""
    made = generate([Passage("p", TEXT), Passage("q", TEXT)], replies(json.dumps(GOOD)), tmp_path / "j.jsonl")
    assert len(made.questions) == 1
    assert made.rejected == {"the question was asked before": 1}


HOPS = [
    node("bicycle", "Ada Quill built the Marl Bicycle in a shed.", "bicycle.md", title="Marl Bicycle"),
    node("quill", "Ada Quill was born in Lund.", "quill.md", title="Ada Quill"),
]
BORN = Asked("q", "In which town was the builder of the Marl Bicycle born?", "Lund", frozenset({"bicycle", "quill"}))


def test_an_answer_over_two_hops_needs_both() -> None:
    """The passage with the answer does not speak of the bicycle: the other's closest sentence is evidence, too."""
    made = drafted(BORN, HOPS)
    assert made.scene.gold == {"bicycle", "quill"}
    assert made.scene.quotes == ("Ada Quill built the Marl Bicycle in a shed.",)


def test_half_of_two_hops_is_left_out() -> None:
    """Nobody can say whether the one passage is enough."""
    assert draft_of(BORN, HOPS[1:], 2) == LeftOut(drafting.INCOMPLETE)


def test_of_two_sources_one_that_answers_alone_is_enough() -> None:
    """It speaks of what is asked."""
    whole = node("both", "The builder of the Marl Bicycle was born in the town of Lund.", "quill.md")
    made = drafted(BORN, [whole])
    assert (made.scene.gold, made.scene.quotes) == ({"both"}, ())


DAYS = ("February 17th", "April 18th")


def test_another_day_is_another_answer() -> None:
    """All figures of the question stand in a passage that is taken for gold, months by their names."""
    asked = Asked("q", "What time did Nora attend the Choir on 2022/02/17?", "7:00 PM")
    right, wrong = (node("n", f"Nora will attend the Choir on {day}, 2022 at 7:00 PM.", "n") for day in DAYS)
    assert drafted(asked, [right]).scene.gold == {"n"}
    assert draft_of(asked, [wrong], 2) == LeftOut(making.TOLD_ELSEWHERE)


@pytest.mark.parametrize("gold", [frozenset[str](), frozenset({"hay"})])
def test_an_answer_whose_words_stand_apart_is_no_reason_to_abstain(gold: frozenset[str]) -> None:
    """A reader may find it there, in the named source or in another."""
    asked = Asked("q", "What did workers hang under the old bridge?", "A straw bale", gold)
    nodes = [node("n", "Workers hang a bale of straw under the old bridge.", "hay")]
    assert draft_of(asked, nodes, 2) == LeftOut(making.TOLD_ELSEWHERE)
