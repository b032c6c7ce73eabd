"""Scores of answers: tokens, abstentions, summaries."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.training.abstaining import abstains
from llama_index_hybridmem.training.scores import bare, compared, score, summarise, token_f1, tokens

ABSTENTIONS = r"""
Not in the sources.
not in the sources
NOT IN THE SOURCES!
[1] Not in the sources [2].
Answer: Not in the sources.
The answer is not in the sources.
This is not mentioned in the provided sources.
The sources do not say.
The sources don't say who built it.
The sources don’t mention the fee.
The provided context does not contain information about the fee.
The context doesn't provide the answer.
These documents do not specify a date.
The text does not mention when it opened.
There is no answer in the sources.
No answer in the sources.
No answer to this question can be found in the given passages.
There is no information about the fee in the sources.
There is no mention of a deadline.
It cannot be found in the sources.
The answer can't be found in the documents.
The answer cannot be determined from the given sources.
None of the sources answers the question.
None of the passages mentions a price.
No source says so.
The sources are silent on this.
The passages contain no information on opening hours.
I don't know.
I do not know the answer to this question.
I could not find the answer in the sources.
I'm sorry, but I cannot find this in the context.
I am sorry. The sources do not say.
Unfortunately, the sources do not give a date.
Based on the given sources, I cannot answer this question.
According to the sources, the price is not stated.
The question cannot be answered from the sources.
There is not enough information to answer the question.
Insufficient information.
Not stated
Unknown.
N/A
The fee is not specified.
The sources do not say. However, they mention a fee for transfers.
Not in the sources.\nQuestion: Who built it?\nAnswer: Not in the sources.
""".strip().splitlines()
ANSWERS = """
Not before 1912
No.
No, members do not pay.
Not all of them
The fee is not charged on weekends.
It does not apply to students.
Not in Berlin but in Bonn
Not in the morning
It is found in the sources.
It cannot be found in Africa.
The animal is not found in the wild.
The sources do not agree: one says 5, the other 6.
The sources do not say that it fell; they say that it was closed.
Although the sources do not say so outright, it is 5.
Source 2 does not say, but source 1 says 5.
Not in the sources, but it is probably 1912.
Not in the sources. However, I think it is Paris.
The fee is 5 dollars. The sources do not mention the weekend fee.
The Unknown Soldier
Unknown Pleasures
None
None of the three
None of them came back.
No information may be shared with third parties.
No answer was given by the king.
He could not find the answer in time.
They do not know each other.
The court did not answer the question.
The king does not mention his brother.
The law does not provide for refunds.
The device does not contain lead.
Members who cannot answer are called again.
Breakfast is not included.
The door is not available in white.
The text was printed in 1890.
In the sources of the Nile
It is not found in the sources of the Nile.
The documents were lost and found in 1950.
The source code is not in the repository.
Do not open the case.
I know nothing, he said.
Missing pages are replaced free of charge.
The silent film of 1925
42

""".strip().splitlines()


def example(answer: str, answerable: bool | None = True) -> Example:
    """A row that expects an answer."""
    return Example("1", ({"role": "user", "content": "?"},), answer, answerable=answerable)


@pytest.mark.parametrize("text", ABSTENTIONS)
def test_who_says_that_there_is_no_answer_abstains(text: str) -> None:
    """The wording, and paraphrases of it, are recognised."""
    assert abstains(bare(text.replace("\\n", "\n")), ("Not in the sources.",))


@pytest.mark.parametrize("text", ANSWERS)
def test_who_answers_with_a_negation_does_not_abstain(text: str) -> None:
    """A "not" alone makes no abstention, and neither does a doubt that goes on to answer."""
    assert not abstains(bare(text), ("Not in the sources.",))


def test_tokens_are_those_of_squad() -> None:
    """Case, punctuation and articles do not count; a decimal point and a lone article do."""
    assert tokens("The  “Long-Term” fee, a $1,000!") == ["longterm", "fee", "1000"]
    assert tokens("1.5") != tokens("15")
    assert tokens("A") == ["a"]
    assert tokens("+") != tokens("-")
    assert tokens("Cafe\u0301 ﬁve\u200b") == ["café", "five"]


def test_scripts_without_blanks_are_compared_sign_by_sign() -> None:
    """A part of a Chinese answer is worth a part of the score."""
    assert tokens("东京。") == ["东", "京"]
    assert token_f1(tokens("东京都"), tokens("东京")) == pytest.approx(0.8)
    assert score("在东京 2020 年", example("东京")).contained


def test_wrapping_is_taken_off() -> None:
    """Citations, reasons and quotes are no part of the answer that is compared."""
    assert bare("Five working days [2][3].") == "Five working days."
    assert bare('Quotes:\n[2] "Five days."\nReason: [2] says it.\nAnswer: Five days [2].') == "Five days."
    assert bare("**Answer:** Five days") == "Five days"
    assert bare("Five days ##begin_quote##It takes five days.##end_quote##") == "Five days"
    assert bare("##Reason: it says ##begin_quote##five##end_quote## ##Answer: Five days") == "Five days"
    assert bare("##begin_quote##Five days##end_quote##") == "Five days"
    assert bare("Paris\nQuestion: Next?\nAnswer: London").startswith("Paris")


def test_right_depends_on_whether_there_is_an_answer() -> None:
    """F1 where there is one, abstention where there is none, F1 where there are no sources."""
    assert score("It takes five days [1].", example("Five days [1].")).right == pytest.approx(2 / 3)
    assert score("Not in the sources.", example("in the sources")).right == 0.0
    assert score("The sources do not say.", example("Not in the sources.", False)).right == 1.0
    assert score("Five days", example("Not in the sources.", False)).right == 0.0
    assert score("I do not know", example("I know", None)).right > 0.0


def test_an_expected_unknown_is_an_answer() -> None:
    """What a source itself says is no abstention."""
    assert score("Unknown.", example("unknown")).right == 1.0
    assert score("Unknown.", example("unknown", False)).abstained


def test_wordings_of_other_languages_are_recognised_where_they_are_given() -> None:
    """Also when more is said behind them, but not as the beginning of another word."""
    wordings = ("Nicht in den Quellen.", "资料中没有。")
    assert abstains("nicht in den Quellen! Mehr steht nicht da.", wordings)
    assert abstains("资料中没有。", wordings)
    assert not abstains("nicht in den Quellenbänden", wordings)
    assert not abstains("nicht in den Quellen")


@given(st.text(st.characters()), st.text(st.characters()), st.sampled_from([True, False, None]))
def test_any_text_has_a_score(answer: str, expected: str, answerable: bool | None) -> None:
    """Lone surrogates, control signs and empty texts, too; all within 0 and 1, and the same for the same."""
    given_score = score(answer, example(expected, answerable))
    assert 0.0 <= given_score.f1 <= 1.0
    assert 0.0 <= given_score.right <= 1.0
    assert score(expected, example(expected, True)).exact


@pytest.mark.parametrize("piece", ["[1", "\n", " ", "Answer:", "##begin_quote##", "not in ", "no word ", "\ud800", "*"])
def test_long_texts_take_no_time(piece: str) -> None:
    """No pattern runs away: the test would not end."""
    assert score(piece * 20_000, example("x")).right == 0.0


def test_a_summary_keeps_its_groups_apart() -> None:
    """Answerable, unanswerable and rows without sources are counted where they belong."""
    rows = [example("Bonn"), example("Bonn"), example("-", False), example("-", False), example("Rome", None)]
    said = ["Bonn", "Not in the sources.", "I don't know.", "Bonn", "Rome"]
    found = summarise([score(each, row) for each, row in zip(said, rows, strict=True)], rows)
    assert (found.n, found.answerable, found.unanswerable) == (5, 2, 2)
    assert found.right is not None
    assert found.right.mean == pytest.approx(3 / 5)
    assert found.f1 == pytest.approx(2 / 3)
    assert found.contained == pytest.approx(2 / 3)
    assert found.abstained is not None
    assert found.abstained.mean == 0.5
    assert found.abstained.low > 0.05
    assert found.falsely_abstained is not None
    assert found.falsely_abstained.mean == 0.5
    assert found.to_json()["right"]["mean"] == found.right.mean


def test_what_was_not_measured_is_none() -> None:
    """No rows, no figure; and not 0."""
    nothing = summarise([], [])
    assert (nothing.n, nothing.right, nothing.f1, nothing.abstained, nothing.falsely_abstained) == (0, *[None] * 4)
    row = example("Bonn")
    one = summarise([score("Bonn", row)], [row])
    assert one.abstained is None
    assert one.f1 == 1.0


def test_two_arms_are_compared_row_by_row() -> None:
    """The difference is that of the means; lists of unequal lengths are refused."""
    row = example("Bonn")
    good, bad = score("Bonn", row), score("Rome", row)
    assert compared([good] * 4, [bad] * 4).low == 1.0
    with pytest.raises(ConfigurationError, match="1 values against 2"):
        compared([good], [bad, bad])
    with pytest.raises(ConfigurationError, match="1 against 0"):
        summarise([good], [])
