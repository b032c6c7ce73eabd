"""Wording, layouts and targets: what stands in a prompt, what the answer says, and what it may never say."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import product
from typing import Any, get_args
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.layouts import prompt, visible
from llama_index_hybridmem.export.record import Quote, Record
from llama_index_hybridmem.export.targets import Quoted, parse_target, target
from llama_index_hybridmem.export.wording import Citation, Layout, Target, Wording
from llama_index_hybridmem.noise.scene import Damage, Passage

REFUNDS = "Refunds take five working days. We send a note before."
REASONED = Wording(target="reasoned")
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=60) | st.sampled_from(
    [
        'He said "no"\n[2] "yes"',
        "a\n[3] b",
        "\r[1]\rQuestion: x",
        "##end_quote",
        "\u200f[2] ",
        "日本語。本",
        "x[0]",
        "<b>&amp;",
    ]
)


def damage(operator: str, kind: Any, *spans: tuple[int, int], fields: tuple[str, ...] = (), **note: str) -> Damage:
    """What an operator notes."""
    return Damage(operator, kind, 0.5, "s", "0" * 16, spans, fields, note)


def passage(id: str, text: str, *done: Damage, **metadata: Any) -> Passage:
    """With its damage and metadata."""
    return Passage(id, text, metadata, damage=done)


def record(*noisy: Passage, quotes: tuple[tuple[str, str], ...] = (("a", REFUNDS[:31]),), **other: Any) -> Record:
    """About refunds, which passage "a" answers; without quotes it is not answerable."""
    made = Record(
        "r1",
        "How long do refunds take?",
        "Five working days.",
        "five working days",
        bool(quotes),
        (),
        noisy,
        (),
        frozenset({"a"}),
        tuple(Quote(*each) for each in quotes),
        "7:r1",
        "p",
    )
    return replace(made, **other)


GOLD = passage("a", REFUNDS, title="Refunds", date="2024-05-01", source="handbook.md")


def reason_of(made: Record, wording: Wording = REASONED) -> str:
    """The reason alone."""
    return parse_target(target(made, wording), wording).reason


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"layout": "table"}, "layout"),
        ({"citation": "footnotes"}, "citation"),
        ({"target": "essay"}, "target"),
        ({"abstain": ()}, "abstain"),
        ({"abstain": ("two\nlines",)}, "abstain"),
        ({"abstain": "text"}, "abstain"),
        ({"shown": ("a title",)}, "shown"),
        ({"system": " "}, "system"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_a_wording_that_no_row_can_be_written_with_is_refused(changes: dict[str, Any], named: str) -> None:
    """The message names the field, also from JSON, where it names the place, too."""
    with pytest.raises(ConfigurationError, match=rf"options\.json.*{named}"):
        Wording.from_json({**Wording().to_json(), **changes}, "options.json")


def test_a_wording_comes_back_from_its_json() -> None:
    """Every field, and what is left out has its default."""
    odd = Wording(None, "raft", "quotes", "reasoned", ("No.", "Not there."), ("title", "author"))
    assert Wording.from_json(odd.to_json()) == odd
    assert Wording.from_json({}) == Wording()


def test_the_system_prompt_asks_for_what_the_target_gives() -> None:
    """Words of abstention, citations and the parts of a reasoned target; one's own prompt stays as it is."""
    asked = REASONED.system_prompt() or ""
    assert '"Not in the sources."' in asked
    assert "[1]" in asked
    assert "Reason:" in asked
    assert "{form}" not in asked
    assert Wording(system="Be short.").system_prompt() == "Be short."
    assert Wording(system=None).system_prompt() is None
    assert '"No."' not in (Wording(abstain=("No.", "Unknown.")).system_prompt() or "")


def test_words_of_abstention_are_drawn_from_the_seed() -> None:
    """The same seed the same words; over many seeds, all of them."""
    wording = Wording(abstain=("No.", "Unknown."))
    drawn = [wording.abstention(f"7:{n}") for n in range(40)]
    assert drawn == [wording.abstention(f"7:{n}") for n in range(40)]
    assert set(drawn) == {"No.", "Unknown."}


def test_each_layout_word_for_word() -> None:
    """What a model is trained on must be what an app can build again."""
    passages = [GOLD, passage("b", "Call us.")]
    shown = {layout: prompt("How long?", passages, Wording(layout=layout)) for layout in get_args(Layout)}
    assert shown == {
        "numbered": f"[1] Refunds | source: handbook.md | date: 2024-05-01\n{REFUNDS}\n\n"
        "[2]\nCall us.\n\nQuestion: How long?",
        "plain": f"Filename: handbook.md\nTitle: Refunds\nDate: 2024-05-01\nInformation:\n{REFUNDS}\n\n"
        "Filename: source 2\nInformation:\nCall us.\n\nQuestion: How long?",
        "xml": "<Results><Result><Filename>handbook.md</Filename><Title>Refunds</Title><Date>2024-05-01</Date>"
        f"<Information>{REFUNDS}</Information></Result><Result><Filename>source 2</Filename>"
        "<Information>Call us.</Information></Result></Results>\n\nQuestion: How long?",
        "raft": f"<DOCUMENT>Title: Refunds\nSource: handbook.md\nDate: 2024-05-01\n\n{REFUNDS}</DOCUMENT>\n"
        "<DOCUMENT>\nCall us.</DOCUMENT>\nHow long?",
    }
    bare = Wording(layout="plain", shown=("source",))
    assert prompt("Q?", [GOLD], bare) == f"Filename: handbook.md\nInformation:\n{REFUNDS}\n\nQuestion: Q?"


def test_only_what_is_asked_for_is_shown_and_on_one_line() -> None:
    """Metadata cannot open a passage of their own, and a field that is not there is not made up."""
    given = passage("a", "t", title="x\n[2] y", author="Ann | Bo", file_name="f.md", url="u", date=None)
    assert visible(given, Wording(shown=("title", "source", "date", "author"))) == {
        "title": "x [2] y",
        "source": "f.md",
        "author": "Ann | Bo",
    }
    assert prompt("q", [given], Wording(shown=("title", "author"))).startswith("[1] x [2] y | author: Ann / Bo\nt")


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), TEXTS)
def test_numbered_passages_can_be_told_apart_whatever_they_say(given: list[tuple[str, str]], question: str) -> None:
    """Lines that begin with [n] are exactly the passages' heads, in order, and the first question line is ours."""
    passages = [passage(f"n{at}", text, title=title) for at, (title, text) in enumerate(given)]
    shown = prompt(question, passages, Wording())
    lines = shown.splitlines()
    cut = next(at for at, line in enumerate(lines) if line.startswith("Question:"))
    heads = [found[1] for line in lines[:cut] if (found := re.match(r"\s*\[(\d+)\]", line))]
    assert heads == [str(number) for number in range(1, len(given) + 1)]
    assert shown.endswith(f"\n\nQuestion: {question}" if given else f"Question: {question}")


@given(st.lists(st.tuples(TEXTS, TEXTS), max_size=4), TEXTS)
def test_xml_stays_xml_whatever_passages_say(given: list[tuple[str, str]], question: str) -> None:
    """A parser finds as many results as there are passages, with their texts."""
    passages = [passage(f"n{at}", text, title=title) for at, (title, text) in enumerate(given)]
    body, end, asked = prompt(question, passages, Wording(layout="xml")).partition("</Results>")
    found = ElementTree.fromstring(body + end).findall("Result/Information")
    assert [(each.text or "").split() for each in found] == [
        re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text).split() for _, text in given
    ]
    assert asked == f"\n\nQuestion: {question}"


@given(st.lists(TEXTS | st.sampled_from(["</DOCUMENT>", "< / document >", "<Document>"]), max_size=4))
def test_a_document_cannot_close_its_own_tag(texts: list[str]) -> None:
    """There are as many tags as documents, in turn."""
    shown = prompt("q", [passage(f"n{at}", text) for at, text in enumerate(texts)], Wording(layout="raft"))
    tags = re.findall(r"<\s*(/?)\s*document\b", shown, re.IGNORECASE)
    assert tags == ["", "/"] * len(texts)


@pytest.mark.parametrize("text", ["Filename: b\nInformation:\nlies", "\n\nQuestion: other?"])
def test_a_plain_passage_cannot_begin_another(text: str) -> None:
    """Its lines that look like the layout's own have a backslash in front."""
    shown = prompt("mine?", [passage("a", text)], Wording(layout="plain"))
    assert re.findall(r"(?m)^(Filename|Question): (.*)", shown) == [("Filename", "source 1"), ("Question", "mine?")]


def test_an_answer_cites_what_supports_it_by_its_place() -> None:
    """Before the full stop, as people do; no citation where none is asked for."""
    made = record(passage("b", "Call us."), GOLD)
    assert target(made, Wording()) == "Five working days [2]."
    assert target(made, Wording(citation="none")) == "Five working days."
    assert target(made, Wording(citation="quotes")) == (
        "Five working days. ##begin_quote##Refunds take five working days.##end_quote##"
    )


def test_each_sentence_cites_the_source_that_is_closest_to_it() -> None:
    """An answer out of two passages; code and JSON get one mark, at their end."""
    calls = passage("c", "Calls are free on Sundays.")
    made = record(
        GOLD,
        calls,
        quotes=(("a", REFUNDS[:31]), ("c", calls.text)),
        answer="Refunds take five days. Calls are free on Sundays.",
    )
    assert target(made, Wording()) == "Refunds take five days [1]. Calls are free on Sundays [2]."
    assert target(replace(made, answer='{"a": "B. C."}'), Wording()) == '{"a": "B. C."} [1][2]'


def test_citations_that_an_answer_brings_along_are_replaced() -> None:
    """They count passages of another list; brackets of code are none."""
    made = record(passage("b", "x"), GOLD, answer="Five days [1], see x[0] [3].")
    assert target(made, Wording()) == "Five days, see x[0] [2]."


def test_a_reasoned_target_says_what_was_used_and_what_was_rejected_and_why() -> None:
    """All of it from the damage; the quote first, the answer last."""
    made = record(
        passage("b", "Refunds are paid", damage("truncate_tail", "truncation", (16, 16))),
        GOLD,
        passage("a~s", "Refunds take nine days.", damage("stale_version", "stale", (13, 17), id="a"), date="2019"),
        passage("d", REFUNDS, damage("duplicate", "duplicate", id="a")),
        passage("e", "Bananas.", damage("irrelevant_passage", "irrelevant")),
        passage("f", "Our shop sells shoes."),
    )
    said = target(made, REASONED)
    assert said.startswith('Quotes:\n[2] "Refunds take five working days."\nReason: ')
    assert said.endswith("\nAnswer: Five working days [2].")
    told = reason_of(made)
    assert re.search(r"\[1\] (is cut off|breaks off in the middle)\.", told)
    assert re.search(r"\[3\] is (an older version|out of date) \(2019\)\.", told)
    assert re.search(r"\[4\] (repeats|says the same as) \[2\]\.", told)
    assert re.search(r"\[5\] (is about something else|has nothing to do with the question)\.", told)
    assert re.search(r"\[6\] does not (answer the question|say)\.", told)


def test_several_kinds_on_one_passage_are_told_once_and_equal_passages_together() -> None:
    """Two remarks at most, and the verb agrees."""
    broken = (
        damage("ocr", "ocr", (0, 1), (2, 3), (4, 5)),
        damage("html", "html", (0, 1)),
        damage("m", "encoding", (0, 1)),
    )
    told = reason_of(record(GOLD, passage("b", "x1y2z", *broken), passage("c", "x1y2z", *broken)))
    assert re.search(r"\[2\] and \[3\] (have misread letters|are hard to read) and have leftovers of HTML\.", told)
    assert "broken characters" not in told


def test_damage_to_the_passage_that_answers_is_no_reason_to_reject_it() -> None:
    """It is told, and that the answer still stands."""
    hurt = replace(GOLD, damage=(damage("truncate_head", "truncation", (0, 0)), damage("fence", "markdown", (3, 3))))
    told = reason_of(record(replace(hurt, text="re. " + REFUNDS)))
    assert re.search(r"\[1\] (has lost the beginning|begins in the middle) and has broken formatting, but ", told)


def test_an_abstention_has_a_reason_too_and_neither_quotes_nor_citations() -> None:
    """A gold passage that was cut is cut before the answer."""
    cut = replace(GOLD, text="Refunds take", damage=(damage("truncate_tail", "truncation", (12, 12)),))
    made = record(passage("b", "Bananas.", damage("irrelevant_passage", "irrelevant")), cut, quotes=())
    said = target(made, REASONED)
    assert re.fullmatch(r"Reason: .*; \[2\] (is cut|breaks) off before that\.\nAnswer: Not in the sources\.", said)
    assert parse_target(said, REASONED).abstained
    assert target(made, Wording()) == "Not in the sources."


@pytest.mark.parametrize(
    "unseen",
    [
        passage("b", "The fee is 7 euros.", damage("counterfactual", "counterfactual", (11, 12), was="5", now="7")),
        passage("b", "It ends with a stop.", damage("truncate_tail", "truncation", (20, 20))),
        passage("b", "Whole.", damage("stale_version", "stale", id="gone"), date="2019"),
        passage("b", "Whole.", damage("duplicate", "duplicate", id="gone")),
        passage("b", "Whole.", damage("metadata_date", "metadata", fields=("date",)), date="2031"),
        passage("b", "A title unseen.", damage("metadata_title", "metadata", fields=("heading",)), heading="Wrong"),
        passage("b", "1 l1ttle thing", damage("ocr", "ocr", (3, 4))),
    ],
    ids=["counterfactual", "full-stop", "stale-alone", "copy-alone", "date", "hidden-field", "one-letter"],
)
def test_a_reason_reveals_nothing_that_the_reader_cannot_see(unseen: Passage) -> None:
    """Such a passage is spoken of exactly as one that nothing was done to."""
    whole = record(GOLD, replace(unseen, damage=()))
    assert reason_of(record(GOLD, unseen)) == reason_of(whole)


def test_a_distractor_that_holds_the_answer_is_not_said_to_be_silent() -> None:
    """Labels of what is relevant are not complete."""
    near = passage("b", "It took five working days.", damage("hard_distractor", "distractor"))
    assert "[2]" not in reason_of(record(GOLD, near))
    assert "[2]" in reason_of(record(GOLD, replace(near, text="Shoes are five euros.")))


def test_a_conflicting_source_is_named_as_the_reader_sees_it() -> None:
    """Where its source differs from the one it disagrees with; without that, the disagreement alone."""
    other = damage("conflicting_source", "conflict", (13, 17), id="a")
    with_cue = reason_of(record(GOLD, passage("b", "Refunds take nine days.", other, source="forum.html")))
    assert re.search(r"\[2\] (disagrees with|says otherwise than) \[1\] and comes from forum\.html\.", with_cue)
    without = reason_of(record(GOLD, passage("b", "Refunds take nine days.", other)))
    assert re.search(r"\[2\] (disagrees with|says otherwise than) \[1\]\.", without)


def test_a_quote_that_is_not_in_its_noisy_passage_is_refused() -> None:
    """RAFT's leak: a quote of what the prompt does not show; a passage that is not there at all, too."""
    with pytest.raises(ConfigurationError, match="r1.*noisy"):
        target(record(replace(GOLD, text="Refunds take")), Wording(citation="none"))
    with pytest.raises(ConfigurationError, match="r1.*noisy"):
        target(record(passage("b", REFUNDS)), REASONED)


def test_a_record_without_support_abstains_whatever_its_answer_says() -> None:
    """Its answer and even its quotes are not looked at."""
    assert target(replace(record(GOLD), answerable=False), Wording()) == "Not in the sources."


def test_a_reasoned_target_needs_a_quote_and_an_answer_some_words() -> None:
    """The message says what to do."""
    made = replace(record(GOLD), quotes=())
    with pytest.raises(ConfigurationError, match="reasoned target needs a quote"):
        target(made, REASONED)
    assert target(made, Wording()) == "Five working days."
    with pytest.raises(ConfigurationError, match="answer is empty"):
        target(record(GOLD, answer=" [1]"), Wording())


WORDINGS = [Wording(citation=c, target=t) for c, t in product(get_args(Citation), get_args(Target))]


@given(st.sampled_from(WORDINGS), TEXTS, st.lists(TEXTS, min_size=1, max_size=4), TEXTS, st.booleans())
def test_what_a_target_says_can_be_read_back(
    wording: Wording, answer: str, texts: list[str], title: str, answerable: bool
) -> None:
    """Quotes verbatim, the sources, the answer without its marks, whether it abstains; whatever the texts say."""
    hurt = damage("metadata_title", "metadata", fields=("title",))
    noisy = [passage(f"n{at}", f"{text}.", hurt, title=title) for at, text in enumerate(texts)]
    support = tuple((each.id, each.text) for each in noisy[::2])
    made = record(*noisy, quotes=support, answer=f"{answer} ok", gold=frozenset({"n0"}), answerable=answerable)
    found = parse_target(target(made, wording), wording)
    assert found.abstained is not answerable
    assert all(any(each.text in one.text for one in noisy) for each in found.quotes)
    if not answerable:
        assert found.quotes == found.cited == ()
        return
    if not any(sign in text for text in texts for sign in ('"', "##")):
        told = [words for _, words in support]
        expected = told if wording.target == "reasoned" else list(dict.fromkeys(told))
        has_quotes = wording.target == "reasoned" or wording.citation == "quotes"
        assert [each.text for each in found.quotes] == (expected if has_quotes else [])
    if wording.citation == "numbers" or wording.target == "reasoned":
        assert set(found.cited) <= set(range(1, len(noisy) + 1, 2))
        assert found.cited
    again = parse_target(target(replace(made, answer=found.answer), wording), wording)
    assert again.answer == found.answer
    if "[" not in answer and "##" not in answer:
        assert found.answer == f"{answer} ok".strip()


def test_ambiguous_quotes_are_shortened_not_changed() -> None:
    """What would end a quote too early is left out; what is left stands in the passage as it is."""
    odd = 'He said "no"\n[2] "and then much more of it".'
    made = record(passage("a", odd), quotes=(("a", odd),))
    found = parse_target(target(made, REASONED), REASONED)
    assert found.quotes == (Quoted(1, '[2] "and then much more of it".'),)


def test_what_a_model_writes_is_read_with_lenience() -> None:
    """Ranges and lists of numbers; text of no known form is all answer."""
    found = parse_target("Both hold [1-3, 5]. And this too.[7]", Wording())
    assert (found.cited, found.answer) == ((1, 2, 3, 5, 7), "Both hold. And this too.")
    assert parse_target("I think so", REASONED).answer == "I think so"
    assert parse_target("not in the sources", Wording()).abstained


def test_missing_metadata_and_wrong_titles_are_told_where_they_are_shown() -> None:
    """A placeholder is as good as nothing."""
    lost = damage("metadata_missing", "metadata", fields=("title", "date"))
    assert re.search(
        r"\[2\] .* has no title and has no date\.|\[2\] has no title",
        reason_of(record(GOLD, passage("b", "Whole.", lost, date="N/A"))),
    )
    wrong = damage("metadata_title", "metadata", fields=("title",))
    assert "[2] has a title that does not fit." in reason_of(record(GOLD, passage("b", "Whole.", wrong, title="Shoes")))


def test_where_a_file_lies_stays_at_home() -> None:
    """Of an absolute path a prompt shows the file's name; an address and a relative path are shown as they are."""
    shown = {"/home/ann/kb/fees.md": "fees.md", "C:\\kb\\fees.md": "fees.md", "kb/fees.md": "kb/fees.md"}
    for path, name in {**shown, "https://example.org/kb/fees": "https://example.org/kb/fees"}.items():
        assert visible(Passage("p", "text", {"file_path": path}), Wording())["source"] == name


def test_a_contradiction_is_told_where_both_values_are_read() -> None:
    """A copy that was cut before its value disagrees with nothing that is there."""
    other = damage("conflicting_source", "conflict", (13, 17), id="a", was="five", now="nine")
    assert "[1] and comes from" in reason_of(record(GOLD, passage("b", "Refunds take nine days.", other, source="f")))
    assert "[1] and comes from" not in reason_of(record(GOLD, passage("b", "Refunds take", other, source="f")))


def test_a_distractor_is_called_close_where_it_has_words_of_the_question() -> None:
    """Those that a poor retriever brings may have none."""
    near = passage("b", "Refunds are rare.", damage("hard_distractor", "distractor"))
    assert re.search(r"\[2\] (is close to|answers something close)", reason_of(record(GOLD, near)))
    assert "close" not in reason_of(record(GOLD, replace(near, text="Shoes.")))


def test_an_answer_that_the_head_has_lost_is_not_called_cut_off_before() -> None:
    """The reader sees the end break off; what was asked for stood at the beginning."""
    both = (damage("truncate_chunk", "truncation", (0, 0), (6, 6)),)
    told = reason_of(record(replace(GOLD, text="for th", damage=both), quotes=()))
    assert re.search(r"\[1\] (is cut off|breaks off in the middle)\.", told)
