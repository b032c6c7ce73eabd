"""Cuts, layout, OCR, encodings and HTML: what each leaves behind, and how much of it."""

from __future__ import annotations

import re
from random import Random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from noise_zoo import BREAD, CHESS, GULLS, MANUAL, NEWS, RIVER

from llama_index_hybridmem.noise.edits import Edit, edited
from llama_index_hybridmem.noise.operators import cuts, encoding, html, layout
from llama_index_hybridmem.noise.operators.ocr import CONFUSIONS, WORST_CER, ocr
from llama_index_hybridmem.noise.operators.places import every, hits, scattered

TEXTS = (MANUAL, NEWS, RIVER, GULLS, CHESS)
UNSPACED = "北京は中国の首都です。人口は二千万人を超えます。古い都であり、多くの宮殿があります。" * 3
CUTS = (cuts.truncate_head, cuts.truncate_tail, cuts.truncate_tokens, cuts.truncate_chunk)


def damaged(operator: object, text: str, severity: float, seed: object) -> str:
    """The text after an operator."""
    return edited(text, operator(text, severity, Random(f"{seed}")))[0]  # type: ignore[operator]


def test_hits_come_at_the_rate_asked_for_and_at_least_once() -> None:
    """A fifth of 1,000 places, over 50 draws; all at a share of 1; one of three however small the share."""
    counts = [len(hits(1_000, 0.2, Random(n))) for n in range(50)]
    assert sum(counts) / 50 == pytest.approx(200, rel=0.05)
    assert hits(4, 1.0, Random(1)) == [0, 1, 2, 3]
    assert {n for seed in range(40) for n in hits(3, 5e-324, Random(seed))} == {0, 1, 2}
    assert hits(0, 0.5, Random(1)) == []


def test_scattered_matches_come_at_the_rate_asked_for_and_at_least_once() -> None:
    """One blank in five is found in a long text; in a short one at least one; none where there is none."""
    text, blank = "seven letters " * 500, re.compile(r"(?<!\s)\s+")
    counts = [len(scattered(text, blank, every(0.2, 1_000, text), Random(n))) for n in range(30)]
    assert sum(counts) / 30 == pytest.approx(200, rel=0.05)
    assert len(scattered("a b", blank, every(5e-324, 1, "a b"), Random(1))) == 1
    assert scattered("ab", blank, 3.0, Random(1)) == []


@pytest.mark.parametrize("cut", CUTS)
@pytest.mark.parametrize("text", [*TEXTS, UNSPACED], ids=range(6))
def test_cuts_lose_the_share_that_severity_says(cut: object, text: str) -> None:
    """80 to 100 % of severity times the worst share is lost, give or take a word at each end, in any script."""
    worst = cuts.WORST_WINDOW if cut is cuts.truncate_tokens else cuts.WORST
    for severity in (0.25, 0.5, 1.0):
        asked = worst * severity * len(text.strip())
        for seed in range(20):
            left = damaged(cut, text, severity, seed).strip()
            assert left
            assert 0.8 * asked - 50 <= len(text.strip()) - len(left) <= asked + 50


def test_each_cut_loses_the_end_that_it_is_named_for() -> None:
    """A head cut keeps the end, a tail cut the beginning, a window both, a chunk neither."""
    for seed in range(30):
        assert NEWS.endswith(damaged(cuts.truncate_head, NEWS, 0.5, seed))
        assert NEWS.startswith(damaged(cuts.truncate_tail, NEWS, 0.5, seed))
        middle = damaged(cuts.truncate_tokens, NEWS, 0.5, seed)
        assert (middle[:1], middle[-8:]) == (NEWS[:1], NEWS[-8:])
        chunk = damaged(cuts.truncate_chunk, NEWS, 0.5, seed)
        assert chunk in NEWS
        assert not NEWS.startswith(chunk)
        assert not NEWS.endswith(chunk)


def test_most_cuts_keep_words_whole_and_some_do_not() -> None:
    """About one tail cut in four goes through a word."""
    words = set(NEWS.split())
    whole = [damaged(cuts.truncate_tail, NEWS, 0.6, seed).split()[-1] in words for seed in range(200)]
    assert 0.65 < sum(whole) / 200 < 0.9


@pytest.mark.parametrize("text", [NEWS, RIVER, GULLS, CHESS, UNSPACED], ids=range(5))
def test_a_cut_sentence_has_no_end(text: str) -> None:
    """No text that was cut in its last sentences ends as a sentence does; about half end with an ellipsis."""
    ends = [damaged(cuts.truncate_sentence, text, severity, seed) for severity in (0.01, 0.5, 1) for seed in range(40)]
    stems = [re.sub(r" ?(\.\.\.|…)$", "", end) for end in ends]
    assert all(text.startswith(stem) and re.search(r"[^\s.!?。…]$", stem) for stem in stems)
    assert 0.35 < sum(end != stem for end, stem in zip(ends, stems, strict=True)) / len(ends) < 0.65
    assert min(map(len, stems)) < len(text) * 0.9 < max(map(len, stems))


def test_a_severe_sentence_cut_loses_no_more_than_three_sentences() -> None:
    """What stands before the last three sentences stays."""
    text = "First one here. Second one here. Third one here. Fourth one here."
    assert {damaged(cuts.truncate_sentence, text, 1, seed)[:15] for seed in range(40)} == {text[:15]}


@pytest.mark.parametrize(
    ("cut", "text"), [(cut, text) for cut in (*CUTS, cuts.truncate_sentence) for text in ("", " ", "a", " é\n")]
)
def test_what_is_too_short_is_not_cut(cut: object, text: str) -> None:
    """Nothing is cut off where nothing would be left."""
    assert damaged(cut, text, 1, 1) == text


def test_whitespace_changes_only_blanks_and_a_third_of_them_at_most() -> None:
    """Words stay in order, joined or torn apart from others but not within; 30 % of the blanks at severity 1."""
    shares = []
    for seed in range(30):
        edits = layout.whitespace(NEWS, 1, Random(seed))
        assert "".join(edited(NEWS, edits)[0].split()) == "".join(NEWS.split())
        assert all(
            not NEWS[edit.start : edit.end].strip() and edit.put != NEWS[edit.start : edit.end] for edit in edits
        )
        shares.append(len(edits) / len(NEWS.split()))
    assert sum(shares) / 30 == pytest.approx(layout.WORST_BLANKS, rel=0.2)
    joined = damaged(layout.whitespace, NEWS, 1, "joined")
    assert len(joined.split()) < len(NEWS.split())
    assert "  " in joined


def test_hyphenation_breaks_long_words_in_one_style() -> None:
    """Taking the hyphens away gives the text; each stands inside of a word, two letters from either end."""
    styles = set()
    for seed in range(30):
        edits = layout.hyphenation(GULLS, 1, Random(seed))
        (style,) = {edit.put for edit in edits}
        styles.add(style)
        assert all(re.search(r"[a-zA-Z]{2}$", GULLS[: edit.start]) for edit in edits)
        assert all(re.match(r"[a-zA-Z]{2}", GULLS[edit.start :]) for edit in edits)
    assert styles == {"-\n", "\u00ad", "- "}
    assert layout.hyphenation(UNSPACED, 1, Random(1)) == []


def test_page_furniture_is_lines_that_speak_of_the_passage() -> None:
    """Up to five whole lines come between the text's own; running titles are its own first line."""
    seen = set()
    for seed in range(60):
        edits = layout.page_furniture(MANUAL, 1, Random(seed))
        assert 1 <= len(edits) <= layout.WORST_FURNITURE
        assert all(
            edit.put.startswith("\n") and edit.put.strip() and not MANUAL[edit.start : edit.end].strip()
            for edit in edits
        )
        seen |= {edit.put.strip() for edit in edits}
        own = set(MANUAL.split("\n"))
        kept = [line for line in edited(MANUAL, edits)[0].split("\n") if line in own]
        assert len(kept) >= len(MANUAL.split("\n")) - len(edits)
    assert any("Installing the Heron pump controller" in line for line in seen)
    assert {line for line in seen if line.isdigit()}
    assert any("cookies" in line for line in seen)
    assert len(layout.page_furniture(MANUAL, 0.1, Random(1))) == 1
    assert layout.page_furniture(" \n ", 1, Random(1)) == []


def test_furniture_in_a_text_of_one_line_stands_where_a_word_ends() -> None:
    """As at a page's end: no word is torn."""
    text = " ".join(NEWS.split())
    for seed in range(20):
        assert set(text.split()) <= set(damaged(layout.page_furniture, text, 1, seed).split())


LONG = " ".join([NEWS, CHESS, GULLS, BREAD, MANUAL])


@settings(max_examples=6)
@given(severity=st.floats(0.2, 1), seed=st.integers(0, 1_000))
def test_the_character_error_rate_is_the_one_asked_for(severity: float, seed: int) -> None:
    """Levenshtein's distance over the text's length is within a fifth of severity times 0.15, in long texts."""
    noisy = damaged(ocr, LONG, severity, seed)
    assert levenshtein(LONG, noisy) / len(LONG) == pytest.approx(WORST_CER * severity, rel=0.2)


def test_confusions_are_many_and_counted_right() -> None:
    """More than sixty signs are mistaken, none for itself, each costing its distance; well-known pairs are there."""
    assert len(CONFUSIONS) > 200
    for was, puts in CONFUSIONS.items():
        for put, cost in puts:
            assert cost == levenshtein(was, put) > 0
    known = {(was, put) for was, puts in CONFUSIONS.items() for put, _ in puts}
    assert {
        ("rn", "m"),
        ("l", "1"),
        ("O", "0"),
        ("cl", "d"),
        ("fi", "ﬁ"),
        ("e", "c"),
        (".", ""),
        (" ", ""),
        ("é", "e"),
    } <= known


def test_what_cannot_be_misread_is_left_and_owes_nothing() -> None:
    """Signs outside of the table stay, and text behind a long stretch of them gets no more errors than elsewhere."""
    assert ocr("ಠ" * 50, 1, Random(1)) == []
    text = "ಠ" * 2_000 + LONG
    assert levenshtein(LONG, damaged(ocr, text, 0.5, 1)[2_000:]) < 1.3 * 0.5 * WORST_CER * len(LONG)
    assert len(ocr("l", 5e-324, Random(1))) == 1


def levenshtein(one: str, other: str) -> int:
    """The number of signs to put in, leave out or replace; both texts run at an even pace, give or take fifty signs."""
    band = 50
    far = len(one) + len(other)
    row = {j: j for j in range(band + 1)}
    for i, sign in enumerate(one, 1):
        centre = i * len(other) // len(one)
        before, row = row, {}
        last = far
        for j in range(max(0, centre - band), min(len(other), centre + band) + 1):
            cost = min(before.get(j, far) + 1, last + 1)
            if j:
                cost = min(cost, before.get(j - 1, far) + (sign != other[j - 1]))
            row[j] = last = cost
    return row[len(other)]


ENGLISH = "The café's “naïve” owner – Zoë Brontë – paid 30 € at 20 °C for crème brûlée and a piñata … twice"
GERMAN = "Die Größe der Öfen überrascht „Müller“ in Köln – fünf Maß für 3 € pro Tag außerhalb"
RUSSIAN = "Москва является столицей России и крупнейшим городом страны"
SPANISH = "¿Dónde está el niño? El año 2019 fue difícil según José Ángel Peña ¡sí!"
ASCII = 'The owner\'s dog said "no" - twice - and it\'s ("maybe") the council\'s fault'
PIECES = st.sampled_from(
    [
        *f"{ENGLISH} {GERMAN} {RUSSIAN} {SPANISH} {ASCII}".split(),
        "日本語の文章です",
        "中華人民共和國",
        "한국어입니다",
        "ελληνικά",
        "😀",
        "हिन्दी",
    ]
)


@settings(max_examples=150)
@given(words=st.lists(PIECES, min_size=3, max_size=30), severity=st.floats(0.1, 1), seed=st.integers(0, 99))
def test_mojibake_can_be_undone(words: list[str], severity: float, seed: int) -> None:
    """What was garbled is restored by ftfy, wholly or in places, with the typographic signs that were put in."""
    ftfy = pytest.importorskip("ftfy")
    text = " ".join(words)
    edits = encoding.mojibake(text, severity, Random(seed))
    meant = [Edit(edit.start, edit.end, ungarbled(edit.put)) for edit in edits]
    garbled = edited(text, edits)[0]
    assert edited(text, [edit for edit in meant if text[edit.start : edit.end].isascii()])[0] == edited(text, meant)[0]
    assert ftfy.fix_encoding(garbled) == edited(text, meant)[0]


def test_every_telling_sign_is_restored_even_alone() -> None:
    """Each sign that mojibake takes alone comes back by ftfy from a text that has others, in either encoding."""
    ftfy = pytest.importorskip("ftfy")
    codes = (*range(0x80, 0x3100), *range(0x1F600, 0x1F700))
    signs = [chr(code) for code in codes if encoding._TELLING.match(chr(code))]
    assert len(signs) > 400
    for sign in signs:
        for western in (True, False):
            garbled = encoding._misread(sign, western)
            assert ftfy.fix_encoding(f"日 x{garbled} y") == f"日 x{sign} y"


def test_mojibake_takes_typographic_signs_where_others_are_few() -> None:
    """ASCII quotes and dashes come garbled as the typographic ones; with five other stretches they stay."""
    assert ungarbled(damaged(encoding.mojibake, ASCII, 1, 3)) == (
        "The owner’s dog said “no” – twice – and it’s (“maybe”) the council’s fault"
    )
    assert "'" in damaged(encoding.mojibake, f"{GERMAN} it's", 1, 3)
    assert encoding.mojibake("plain words only, a-b", 1, Random(1)) == []
    assert encoding.mojibake("x \ud800 y", 1, Random(1)) == []


def test_mojibake_severity_is_the_share_of_places() -> None:
    """At 1 every stretch of signs beyond ASCII is garbled, at 0.3 about three of ten."""
    text = " ".join([SPANISH, ENGLISH] * 10)
    places = len(re.findall(r"[^\x00-\x7f]+(?: [^\x00-\x7f]+)*", text))
    assert len(encoding.mojibake(text, 1, Random(1))) == places
    mean = sum(len(encoding.mojibake(text, 0.3, Random(seed))) for seed in range(20)) / 20
    assert mean == pytest.approx(0.3 * places, rel=0.15)


def test_lost_signs_become_a_mark_or_nothing() -> None:
    """At 1 no sign beyond ASCII is left but U+FFFD; one style in a text; nothing to lose in plain words."""
    ends = {damaged(encoding.lost_encoding, GERMAN, 1, seed) for seed in range(20)}
    bare = re.sub(r"[^\x00-\x7f]", "*", GERMAN)
    assert ends == {bare.replace("*", instead) for instead in ("\ufffd", "?", "")}
    assert "owner" in damaged(encoding.lost_encoding, ASCII, 1, 1)
    assert damaged(encoding.lost_encoding, ASCII, 1, 1) != ASCII
    assert encoding.lost_encoding("plain words only, a-b", 1, Random(1)) == []
    assert damaged(encoding.lost_encoding, RUSSIAN, 1, 1).strip()


def ungarbled(text: str) -> str:
    """UTF-8 that was read as Windows-1252, or as Latin-1, read rightly; `ftfy` brings the browsers' Windows-1252."""
    pytest.importorskip("ftfy.bad_codecs")
    for codec in ("latin-1", "sloppy-windows-1252"):
        try:
            return text.encode(codec).decode("utf-8")
        except UnicodeError:
            continue
    raise AssertionError(text)


def test_html_residue_adds_tags_entities_and_crumbs_around_the_words() -> None:
    """Taking tags, crumbs and entities away gives the words back; severity 1 has them at 15 % of the words."""
    places, all_puts = [], ""
    for seed in range(40):
        edits = html.html_residue(GULLS, 1, Random(seed))
        all_puts += "".join(edit.put for edit in edits)
        assert all(not GULLS[edit.start : edit.end].strip() for edit in edits)
        places.append(len({edit.start for edit in edits}))
    assert 0.12 <= sum(places) / 40 / len(GULLS.split()) <= 0.22  # a tag around a word counts twice
    for crumb in ("<div", "</p>", "&nbsp;", "<script", "<style", "class=", "<br"):
        assert crumb in all_puts
    assert all_puts.count("<div") > all_puts.count("</div>")


def test_special_signs_come_as_entities() -> None:
    """At severity 1 all of & < > and quotes do."""
    left = damaged(html.html_residue, 'R&D: a < b > c "d"', 1, 5)
    assert not re.search(r"&(?!#?\w+;)| < | > |\"d\"", left)
