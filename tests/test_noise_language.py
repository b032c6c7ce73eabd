"""Tests of text in another language than the question's, and of what finds it."""

from __future__ import annotations

from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.noise.detectors.language import other_language
from llama_index_hybridmem.noise.edits import edited
from llama_index_hybridmem.noise.operators.language import LANGUAGES, wrong_language
from llama_index_hybridmem.noise.operators.registry import damage_passage, operator
from llama_index_hybridmem.noise.scene import Passage, Scene, World

TEXT = (
    "The first memory was built in 1949 by a group at the university. It was small, and it had to be read twice. "
    "Later it was sold by three companies with their own names. In the end there was no market for it.\n\n"
    "Robert Dennard worked for IBM when he had the idea, and the price of it went down for many years."
)
GERMAN = "Die erste Anlage wurde an der Universität gebaut, und sie war nicht groß. Später wurde sie dort verkauft."
OTHERS = {
    "de": GERMAN,
    "fr": "La première machine a été construite dans une université, et elle était petite. Elle est dans un musée.",
    "es": "La primera máquina fue construida en una universidad, y no era muy grande. Desde entonces está en un museo.",
    "it": "La prima macchina è stata costruita in una università, e non era molto grande. Ora è nella sua sede.",
    "pt": "A primeira máquina foi construída em uma universidade, e não era muito grande. Depois foi para um museu.",
    "nl": "De eerste machine werd gebouwd aan een universiteit, en zij was niet groot. Zij is nog in het museum.",
    "pl": "Pierwsza maszyna była zbudowana na uniwersytecie i nie była duża. Po latach została oddana do muzeum.",
    "ru": "Первая машина была построена в университете. Она была небольшой.",
    "zh": "第一台机器是在一所大学里制造的。它并不大。",
    "ja": "最初の機械は大学で作られた。それは大きくなかった。",
    "ko": "첫 번째 기계는 대학에서 만들어졌다. 크지 않았다.",
    "ar": "بنيت الآلة الأولى في الجامعة. لم تكن كبيرة.",
}


def damaged(text: str, severity: float = 1.0, seed: str = "s", world: World | None = None) -> Passage:
    """A text after the operator."""
    return damage_passage(Passage("a", text), operator("wrong_language"), severity, seed, world or World())


def found(text: str, question: str = "Who built the first memory?", *others: str) -> float | None:
    """The severity that is found; None for nothing."""
    passages = [Passage(str(n), each) for n, each in enumerate((text, *others))]
    finding = other_language(passages[0], Scene(question, tuple(passages)))
    assert finding is None or (finding.kind, finding.operator) == ("language", "wrong_language")
    return finding.severity if finding else None


@pytest.mark.parametrize("seed", "abcdef")
def test_a_gloss_keeps_names_and_numbers(seed: str) -> None:
    """Common words change, in German, French or Spanish; names, years and sentence ends stay."""
    after = damaged(TEXT, seed=seed)
    assert after.damage[0].note["by"] == "gloss"
    assert after.damage[0].note["language"] in LANGUAGES
    assert all(each in after.text for each in ("Robert Dennard", "IBM", "1949", "\n\n"))
    assert after.text.count(".") == TEXT.count(".")
    assert not {"the", "and", "was", "university"} & set(after.text.replace(",", " ").split())
    assert after.text[0].isupper()


def test_code_and_addresses_are_not_glossed() -> None:
    """Code fences, code spans and links' targets stay."""
    code = "```py\nfor x in the_list and not all: print('the end of it')\n```"
    text = f"It is the first of the two.\n\n{code}\n\nSee `if it is` in [the book](the/and-of/it) or https://the.org/in?of=the.\n"
    after = damaged(text).text
    assert after != text
    assert code in after
    assert "`if it is`" in after
    assert "](the/and-of/it)" in after
    assert "https://the.org/in?of=the" in after


def test_severity_is_a_share_of_the_sentences() -> None:
    """Of ten sentences one is glossed at 0.01, three at 0.3, all at 1."""
    sentences = [f"It was the {n}th of the day." for n in range(10)]
    for severity, share in ((0.01, 1), (0.3, 3), (1.0, 10)):
        after = damaged(" ".join(sentences), severity).text
        assert sum(each not in after for each in sentences) == share


def test_a_translation_is_preferred() -> None:
    """The world's translator gets the sentences and one language; neighbours come together."""
    asked: list[tuple[str, str]] = []

    def translate(text: str, language: str) -> str:
        asked.append((text, language))
        return GERMAN

    after = damaged(TEXT, world=World(translate=translate))
    assert [text for text, _ in asked] == TEXT.split("\n\n")
    assert after.text == f"{GERMAN}\n\n{GERMAN}"
    assert after.damage[0].note == {"language": asked[0][1], "by": "translation"}
    damaged(GERMAN, world=World(translate=translate))
    assert asked[-1][1] == "en"


@pytest.mark.parametrize("text", [*OTHERS.values(), "", " \n", "1949", "DDR5 | 1.1 V", "```\nthe and of\n```"])
def test_what_is_not_english_has_no_gloss(text: str) -> None:
    """Without a translator, text in other languages, code and numbers stay as they are."""
    assert damaged(text).text == text


@given(
    st.text(max_size=80)
    | st.lists(st.sampled_from([*TEXT.split(" "), "\ud800", "`", "\n", "漢字。", "The"])).map(" ".join)
)
def test_any_text_will_do(text: str) -> None:
    """Edits are in order and the same for the same seed, and what could be encoded still can be."""
    change = wrong_language(Passage("a", text), 0.5, Random(1), World())
    assert repr(change) == repr(wrong_language(Passage("a", text), 0.5, Random(1), World()))
    after, _ = edited(text, change.edits if change else ())
    if "\ud800" not in text:
        after.encode()
    severity = found(after, text, text)
    assert severity is None or 0 < severity <= 1


@pytest.mark.parametrize("language", OTHERS)
def test_other_languages_are_found(language: str) -> None:
    """A passage that is not in the question's language is found whole; in its own language it is right."""
    assert found(OTHERS[language]) == 1.0
    assert found(OTHERS[language], OTHERS[language]) is None
    assert found(TEXT, OTHERS[language]) == 1.0
    assert found(TEXT) is None


def test_the_share_of_the_sentences_is_told() -> None:
    """One sentence of two is half."""
    assert found(f"It was the first of them. {GERMAN.split('.')[0]}.") == 0.5


def test_the_others_tell_when_the_question_does_not() -> None:
    """A question of names says nothing: then most of the other passages do, two at least."""
    assert found(GERMAN, "Dennard?", TEXT, TEXT) == 1.0
    assert found(GERMAN, "Dennard?", TEXT) is None
    assert found(GERMAN, "Dennard?", GERMAN, GERMAN) is None


@pytest.mark.parametrize(
    "text",
    [
        "Model Y Long Range AWD, Model Y Performance and Model Y Rear-Wheel Drive",
        "He wrote La casa de las flores and Der Tod in Venedig, which were sold in Spain and Germany.",
        "Iberia, legally Líneas Aéreas de España, is an airline. It is based in Madrid.",
        "| entity | value |\n|---|---|\n| DDR5 | 1.1 V |",
        "Die area and die size were small; the son of a king had an era of his own.",
        "The city (Москва) is the capital of the country.",
    ],
)
def test_names_from_other_languages_are_left_in_peace(text: str) -> None:
    """Titles, names and words that two languages share make no sentence of another language."""
    assert found(text) is None


@pytest.mark.parametrize("severity", [0.2, 1.0])
def test_what_the_operator_makes_is_found(severity: float) -> None:
    """A gloss, of one sentence or of all, is found whatever its language."""
    hits = [found(damaged(TEXT, severity, f"{seed}").text) for seed in range(20)]
    assert sum(each is not None for each in hits) >= 18
