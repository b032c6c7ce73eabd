"""Tests of the detectors of texts and of their fit to the question: what they see, and what they let stand."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import MissingExtraError
from llama_index_hybridmem.noise.detectors import encoding
from llama_index_hybridmem.noise.detectors.cuts import cut
from llama_index_hybridmem.noise.detectors.encoding import lost_signs, mojibake
from llama_index_hybridmem.noise.detectors.html import markup
from llama_index_hybridmem.noise.detectors.layout import blanks, hyphens, page_furniture
from llama_index_hybridmem.noise.detectors.ocr import misread
from llama_index_hybridmem.noise.detectors.relevance import foreign, out_of_order, unanswerable
from llama_index_hybridmem.noise.findings import Finding, OfPassage
from llama_index_hybridmem.noise.scene import Passage, Scene

NOWHERE = Scene("", ())
OF_PASSAGE = (cut, blanks, hyphens, page_furniture, misread, mojibake, lost_signs, markup)

PROSE = (
    "DRAM keeps each bit as a charge on a capacitor, and that charge leaks away. A row must therefore be read and "
    "written back before too little of it is left, which the standards say is every 64 ms up to 85 °C, and twice as "
    "often above. The JEDEC standard JESD79-5C, published in April 2024, added per-row activation counting. LPDDR4X "
    "and HBM2e do the same; so do x86_64 servers with 8-bit ECC, an iPhone 15 and the GPT-4o mini cluster at 10Gbit/s. "
    "Robert Dennard (1932–2024) patented the cell in 1968: “one transistor, one capacitor”. See the paper [12]."
)
TABLE = (
    "| entity | attribute | value | unit |\n|---|---|---|---|\n| DDR4 | period | 64 | ms |\n| DDR5 | year | 2020 | |"
)
LIST = (
    "Use a longer line when\n\n- the bus is wide and the load is light\n- the clock is slow, as it is in most sensors"
)
CODE = (
    'Read it back:\n\n```python\nfor row in rows:\n    if row.a < 3 and row.b?.c:\n        print(f"<b>{row}</b>")\n```'
)
CLEAN = (
    PROSE,
    TABLE,
    LIST,
    CODE,
    "# How refresh works in a chip of today",
    "Figure 3: A cell and its neighbours in the array",
)


def found(detector: OfPassage, text: str) -> Finding | None:
    """What a detector finds in a passage that stands alone."""
    return detector(Passage("p", text), NOWHERE)


def pieces(detector: OfPassage, text: str) -> list[str]:
    """The places of a finding, as they stand in the text."""
    finding = found(detector, text)
    return [text[start:end] for start, end in finding.spans] if finding else []


@pytest.mark.parametrize("detector", OF_PASSAGE, ids=lambda each: each.__name__)
@pytest.mark.parametrize("text", CLEAN, ids=("prose", "table", "list", "code", "heading", "caption"))
def test_clean_text_is_let_stand(detector: OfPassage, text: str) -> None:
    """Part numbers, ordinals, dashes, quotes, code, tables and captions are no damage."""
    assert found(detector, text) is None


@pytest.mark.parametrize(
    ("text", "operator", "severity"),
    [
        ("must be read before too little of it is left. Rows are refreshed every 64 ms.", "truncate_head", 0.5),
        (", which is why rows are refreshed every 64 ms. The standard says so.", "truncate_head", 0.5),
        ("... rows are refreshed every 64 ms. The standard says so.", "truncate_head", 0.5),
        ("Rows are refreshed every 64 ms, since the charge on the", "truncate_tail", 0.5),
        ("Rows are refreshed every 64 ms. The charge leaks away and therefo", "truncate_tail", 0.5),
        ("Rows are refreshed every 64 ms, since the charge ...", "truncate_sentence", 0.5),
        ("of it is left, so that rows are refreshed. The charge on the capaci", "truncate_chunk", 1.0),
        (
            "存储单元中的电荷会逐渐泄漏，因此必须定期刷新。标准规定每六十四毫秒刷新一次，温度较高时",
            "truncate_tail",
            0.5,
        ),
        ("Заряд утекает, поэтому строки обновляют каждые 64 мс. Стандарт требует, чтобы", "truncate_tail", 0.5),
        (TABLE.removesuffix("020 | |"), "truncate_tail", 0.5),
        (TABLE.removeprefix("| entity | attr"), "truncate_head", 0.5),
    ],
)
def test_a_cut_is_seen_at_either_end(text: str, operator: str, severity: float) -> None:
    """Small letters, commas and dots at the start; no full stop or small words at the end; rows that lost cells."""
    finding = found(cut, text)
    assert finding is not None
    assert (finding.operator, finding.severity) == (operator, severity)
    assert all(start == end for start, end in finding.spans)


@pytest.mark.parametrize(
    "text",
    [
        "The charge leaks away. Hence it is refreshed.[citation needed]",
        "Everything rests on one claim:212–219".replace("claim:", "claim.:"),
        "Rows are refreshed every 64 ms (see chapter 3 of the standard.)",
        "It comes in three sorts, which the next table lists:",
        "iPhone storage comes in three sizes, of which the smallest is the cheapest.",
        "von Neumann described a machine that keeps program and numbers in one memory.",
        "max_tokens sets how many tokens are written at most before the model stops.",
        "hi, does anyone know why my dimm shows up as 2133 instead of 3200? xmp is on",
        "電荷は漏れるので、行は定期的にリフレッシュされる。標準では六十四ミリ秒である。",
        "आवेश रिसता है, इसलिए पंक्तियों को बार-बार ताज़ा किया जाता है।",
        "ประจุรั่วไหลออกไปดังนั้นจึงต้องรีเฟรชแถวเป็นระยะ",
        "الشحنة تتسرب، فهل يجب تحديث الصفوف كل أربع وستين ميلي ثانية؟",
        "...And Justice for All is an album by Metallica.",
        "Contents",
        "   ",
    ],
)
def test_whole_passages_are_not_cut(text: str) -> None:
    """Notes behind the full stop, names that start small, chats, other scripts and titles."""
    assert found(cut, text) is None


def test_blanks_lost_and_doubled() -> None:
    """Doubled blanks, glued words and blank lines in sentences, but no Markdown line breaks, lists or table padding."""
    text = "The charge  leaks away, ofthe cell at least.\nIt is\n\nread in\ttime and then written back."
    assert pieces(blanks, text) == ["  ", "ofthe", "\n\n", "\t"]
    assert found(blanks, "| name    | value  |\n|---------|--------|\n| period  | 64 ms  |") is None
    wrapped = "The charge of a cell leaks away within some ten milliseconds, and\nso it must be read in time."
    assert found(blanks, wrapped) is None
    assert found(blanks, "It was long.  Then it was short.  It is typed so.") is None


def test_blanks_are_the_worse_the_more_there_are() -> None:
    """Three blanks of ten are the worst that occurs."""
    few, many = ("The charge leaks away from it " * 10, "The  charge leaks  away from  it " * 10)
    one = found(blanks, few.replace("The charge", "The  charge", 4))
    all_ = found(blanks, many)
    assert one is not None
    assert all_ is not None
    assert one.severity < 0.3 < all_.severity <= 1


def test_hyphens_of_lines_are_told_from_those_of_words() -> None:
    """Over a line's end, soft, and where the line's end became a blank; not in "pre- and postwar" or at a list."""
    assert pieces(hyphens, "The capa-\ncitor of a tran\u00adsistor is re- freshed.") == ["-\n", "\u00ad", "- "]
    assert found(hyphens, "Both pre- and postwar chips, two- or three-level cells.\n- one\n- two") is None


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("The charge leaks away and\nPage 12 of 40\nmust be written back in time.", "Page 12 of 40"),
        ("History[ edit ]\nThe cell was patented in 1968.", "[ edit ]"),
        ("We use cookies to improve this site. The cell was patented in 1968.", "We use cookies"),
        ("Home > Memory > DRAM refresh\nThe cell was patented in 1968.", "Home > Memory > DRAM refresh"),
        (
            "The charge of a cell leaks away and so the\nREFRESHING DRAM\nrow must be written back in time.",
            "REFRESHING DRAM",
        ),
        ("The cell was patented in 1968. All rights reserved.", "All rights reserved"),
    ],
)
def test_page_furniture(text: str, piece: str) -> None:
    """Page numbers, banners, menus, and titles in the midst of a sentence."""
    assert piece in pieces(page_furniture, text)


def test_lines_that_come_again_are_furniture() -> None:
    """Running heads; a table's rows or a column of numbers are not."""
    text = "Handbook of memory\nThe charge leaks.\nIt is read.\nHandbook of memory\nIt is written."
    assert pieces(page_furniture, text) == ["Handbook of memory"] * 2
    assert found(page_furniture, "year\n2007\n2008\n2013\n2022\n2024") is None


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("The charge leaks from tbe cell and must be written back.", "tbe"),
        ("It was patented by R. Dennard, wbo worked at IBM.", "wbo"),
        ("A c0mputer reads the rows of it in turn.", "c0mputer"),
        ("It was patented in I968 and sold from 1970 on.", "I968"),
        ("The first chip of that sort came in 2O17 or so.", "2O17"),
    ],
)
def test_misread_signs(text: str, piece: str) -> None:
    """Misread common words, figures in words and letters in numbers, by the word that they stand in."""
    assert pieces(misread, text) == [piece]


@pytest.mark.parametrize(
    "text",
    [
        "DDR4, HBM2e, LPDDR4X, x86_64, 0xff1e, sha256:9f86d081884c7d65, v1.2, 10Gbit, 64KiB, H2O2, 5pm in the 1990s",
        "The word2vec, seq2seq and k8s projects of the 3rd group use utf8, int8 and fp16 with python3 on arm64.",
        "Der Mann, der an der Tür war, hat es nicht gesehen, und die anderen waren auch nur kurz da; das war alles, "
        "was er dazu sagte, bevor er mit seinem Hund wieder in die Stadt zurückging, um dort nachzusehen.",
        "Los nuevos hombres van con sus mis coches; una hora para ver el mar, y vamos a casa con la gente.",
    ],
)
def test_codes_and_other_languages_are_not_misread(text: str) -> None:
    """Letters and figures of codes stay, and so do words that English misreadings look like."""
    assert found(misread, text) is None


def test_misreading_is_the_worse_the_more_is_seen() -> None:
    """The severity is an estimated character error rate: 1 is 15 %."""
    slight, worse = (found(misread, PROSE.replace("the ", put, 3)) for put in ("tbe ", "tbc vvas "))
    assert slight is not None
    assert worse is not None
    assert 0 < slight.severity < worse.severity <= 1


def test_mojibake_is_told_from_other_scripts() -> None:
    """UTF-8 read as Windows-1252 or Latin-1; not accents, Greek, Cyrillic, Chinese or typographic quotes."""
    garbled = "the café’s “best” naïve cliché".encode().decode("cp1252", "replace")
    finding = found(mojibake, garbled)
    assert finding is not None
    assert finding.severity > 0.5
    assert found(mojibake, "the cafÃ\u0083Â©") is not None
    for text in (
        "the café’s “best” naïve cliché – 85 °C",
        "Ω и Я",
        "存储单元中的电荷",
        "ÅNGSTRÖM",
        "Ça, c’est déjà vu…",
    ):
        assert found(mojibake, text) is None


def test_ascii_costs_no_library(monkeypatch: pytest.MonkeyPatch) -> None:
    """Only a text that may be garbled needs ftfy, and then the message names the extra."""
    encoding._badness.cache_clear()
    monkeypatch.setitem(sys.modules, "ftfy", None)
    monkeypatch.setattr(encoding, "require", _missing)
    assert found(mojibake, "plain – and clean") is None
    with pytest.raises(MissingExtraError, match="noise"):
        found(mojibake, "cafÃ©")


def _missing(feature: str, extra: str, *modules: str) -> None:
    raise MissingExtraError(feature, extra)


def test_lost_signs() -> None:
    """U+FFFD and question marks for letters, quotes and dashes; questions, links and code keep theirs."""
    assert pieces(lost_signs, "a caf\ufffd, na?ve, the ?best? one ? they say") == ["\ufffd", "?", "?", "?"]
    clean = "Is it? Yes. See https://example.org/watch?v=abc and `a?b:c`. Why?! (Who?) ¿Qué? What’s new? nothing."
    assert found(lost_signs, clean) is None


@pytest.mark.parametrize(
    ("text", "piece"),
    [
        ("The cell<br /> leaks.", "<br />"),
        ("The <b>cell</b> leaks.", "<b>"),
        ("R&amp;D at AT&#39;s labs", "&amp;"),
        ('left class="row" of a tag', 'class="row"'),
        ("The cell leaks.\n.nav { display: none; }", "\n.nav { display: none; }"),
        ("The cell leaks. window.dataLayer = window.dataLayer || [];", "window.dataLayer ="),
        ('It was closed.<ref name="times" />', '<ref name="times" />'),
    ],
)
def test_markup(text: str, piece: str) -> None:
    """Tags, entities, attributes, styles, scripts, and the notes of wikis."""
    assert piece in pieces(markup, text)


@pytest.mark.parametrize(
    "text",
    [
        "if a < b and c > d, then a<b holds; x<y>z",
        "A List<String>, a vector<int> and Map<K, V>; std::vector<i>",
        "Write `<div>` around it, or:\n\n```html\n<p>text</p> &amp;\n```",
        "| a<br>b | H<sub>2</sub>O |",
        "AT&T; R&D; Q&A: set a = 1; b = 'x'",
        "Call f(x) = {y: y > 0} or {'a': 1}.",
    ],
)
def test_what_is_no_markup(text: str) -> None:
    """Inequalities, generic types, code, formulas, and what Markdown writes as tags."""
    assert found(markup, text) is None


def scene(question: str, *texts: str, scores: tuple[float | None, ...] = ()) -> Scene:
    """A question with passages that have titles."""
    given = scores or (None,) * len(texts)
    return Scene(question, tuple(Passage(str(n), text, score=given[n]) for n, text in enumerate(texts)))


RIGHT = "Robert Dennard patented the DRAM cell at IBM in 1968."
CLOSE = "Dennard also described how transistors scale, at IBM, too."
OTHER = "Norman knights settled in the south of Italy in the eleventh century."


def test_a_passage_about_something_else_is_seen_beside_one_that_is_not() -> None:
    """It has none of the words, while another has them; a good score speaks for it, a bad one does not."""
    question = "When did Dennard patent the DRAM cell?"
    assert [id_ for id_, _ in foreign(scene(question, RIGHT, CLOSE, OTHER))] == ["2"]
    assert [id_ for id_, _ in foreign(scene(question, RIGHT, CLOSE, OTHER, scores=(0.8, 0.7, 0.2)))] == ["2"]
    assert not list(foreign(scene(question, RIGHT, CLOSE, OTHER, scores=(0.8, 0.2, 0.79))))
    fused = foreign(scene(question, RIGHT, CLOSE, OTHER, scores=(1 / 61, 1 / 62, 1 / 63)))
    assert [id_ for id_, _ in fused] == ["2"]  # scores by ranks: good ones tell nothing


def test_nothing_is_irrelevant_where_no_passage_has_the_words() -> None:
    """Another language, or other words for the same: the list says nothing about single passages."""
    assert not list(foreign(scene("Wer hat die Speicherzelle erfunden?", RIGHT, CLOSE, OTHER)))
    assert not list(foreign(scene("Why is it so?", RIGHT, OTHER)))


def test_a_list_without_an_answer_is_seen() -> None:
    """None of the passages has enough of the question's words; one that has them is enough."""
    question = "How many bits did the Whirlwind core memory of MIT hold in 1953?"
    assert [id_ for id_, _ in unanswerable(scene(question, OTHER, CLOSE))] == [None]
    held = "The core memory of Whirlwind at MIT held 16,384 bits in 1953."
    assert not list(unanswerable(scene(question, OTHER, held)))
    assert not list(unanswerable(scene("Why is it so?", OTHER)))
    assert not list(unanswerable(scene(question)))


def test_words_are_found_by_their_beginnings() -> None:
    """Plurals and endings count; "ram" is no part of "program"."""
    assert not list(unanswerable(scene("Which memories need refreshing?", "A memory needs a refresh.")))
    assert list(unanswerable(scene("What is RAM?", "A program runs.")))
    assert not list(unanswerable(scene("电荷为什么泄漏", "存储单元中的电荷会逐渐泄漏")))


def test_order_is_by_score() -> None:
    """Severity is the share of neighbours that stand the wrong way round; passages without a score say nothing."""
    (id_, finding), *_ = out_of_order(scene("", "a", "b", "c", scores=(0.5, 0.9, 0.1)))
    assert (id_, finding.severity) == (None, 0.5)
    assert not list(out_of_order(scene("", "a", "b", "c", scores=(0.9, 0.9, 0.1))))
    assert not list(out_of_order(scene("", "a", "b", "c", scores=(0.1, None, None))))


WILD = st.text(st.characters() | st.sampled_from("\ud800\u00ad\u200b\r\n \t-|<&?…`#.…ا存é\u0301"), max_size=120)


@given(WILD)
def test_no_text_is_too_strange(text: str) -> None:
    """Lone surrogates, marks, controls: a finding's spans lie in the text in order, and its severity in 0 to 1."""
    for detector in OF_PASSAGE:
        finding = found(detector, text)
        if finding is not None:
            assert 0 <= finding.severity <= 1
            assert list(finding.spans) == sorted(finding.spans)
            assert all(0 <= start <= end <= len(text) for start, end in finding.spans)


@given(WILD, st.lists(WILD, max_size=3))
def test_no_question_is_too_strange(question: str, texts: list[str]) -> None:
    """What is found is about a passage that is there, or about the question."""
    asked = scene(question, *texts)
    for detector in (foreign, unanswerable, out_of_order):
        for id_, finding in detector(asked):
            assert id_ is None or id_ in {each.id for each in asked.passages}
            assert 0 < finding.severity <= 1


MORE = (
    "a?",
    "\n ",
    " \n",
    "\n|",
    'class="',
    "a (",
    "{function(",
    "tbe ",
    "tbe",
    "<p a ",
    "a\n\n",
    "\r\n",
    "...",
    "Â ",
    "a,b ",
)


@pytest.mark.parametrize(
    "sign", ["-", " ", "\n", "<", "`", "&", "?", "a", "A ", "é", "| ", "a-\n", "(", "{", "1 ", *MORE]
)
def test_long_texts_take_no_longer_than_they_are_long(sign: str) -> None:
    """A pattern that tries everything again at each sign would need minutes for these."""
    text = sign * (40_000 // len(sign))
    began = time.process_time()
    for detector in OF_PASSAGE:
        found(detector, text)
    assert time.process_time() - began < 1


def best(call: Callable[[], object], rounds: int = 30) -> float:
    """The least CPU seconds of a call, warm."""
    least = float("inf")
    for _ in range(rounds):
        began = time.process_time()
        call()
        least = min(least, time.process_time() - began)
    return least


def test_clean_passages_cost_little() -> None:
    """All together less than half a millisecond for 100 words, however busy the machine (about a tenth of one idle)."""
    assert best(lambda: [found(detector, PROSE) for detector in OF_PASSAGE]) < 500e-6
