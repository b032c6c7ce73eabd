"""Which questions need no documents; every wrong "no" here costs a user an answer."""

from __future__ import annotations

import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llama_index_hybridmem.routing.need import retrieval_need


@pytest.mark.parametrize(
    ("question", "reason"),
    [
        ("Hi", "greeting or thanks"),
        ("hello there!", "greeting or thanks"),
        ("Hey, how are you doing today?", "greeting or thanks"),
        ("Good morning", "greeting or thanks"),
        ("Thanks a lot for your help!", "greeting or thanks"),
        ("ok great, thank you. bye", "greeting or thanks"),
        ("Thanks a lot, that was very helpful!", "greeting or thanks"),
        ("who are you?", "small talk with the assistant"),
        ("What can you do for me?", "small talk with the assistant"),
        ("what is 2+2?", "arithmetic"),
        ("What's 12 * (3 + 4)", "arithmetic"),
        ("calculate 9/11", "arithmetic"),
        ("5-3=", "arithmetic"),
        ("what is 15% of 80", "arithmetic"),
        ("What is the square root of 144?", "arithmetic"),
        ("two plus two", "arithmetic"),
        ("please multiply 7 and 42", "arithmetic"),
        ("Translate 'bonjour' to English", "rewriting given text"),
        ("Rewrite this more formally: the server is down", "rewriting given text"),
        ("Correct the following sentence: he go home", "rewriting given text"),
        ("How do you say thank you in French?", "rewriting given text"),
        ("make it shorter", "rewriting given text"),
        ("Please translate it to French", "rewriting given text"),
        ("Explain that in simpler words", "rewriting given text"),
        ("Summarize: " + "The cell loses its charge and must be refreshed. " * 3, "rewriting given text"),
    ],
)
def test_what_needs_no_documents(question: str, reason: str) -> None:
    """Greetings, thanks, small talk, arithmetic and work on given text are answered without retrieval."""
    need = retrieval_need(question)
    assert (need.needed, need.reason) == (False, reason)


@pytest.mark.parametrize(
    "question",
    [
        "What is DRAM?",
        "Hi, what is DRAM?",
        "Thanks! And what about flash?",
        "Hey Jude lyrics author",
        "Hello Kitty creator",
        "OK computer release year",
        "Great Wall of China length",
        "Good night sleep tips",
        "What is 9/11?",
        "What is 24/7 support?",
        "What is 4x4?",
        "what is one",
        "What is 802.11 ac",
        "Calculate the energy of DRAM",
        "What is the average of the latency?",
        "Translate the contract into German",
        'Translate the section "Warranty" of the contract into German',
        "Rewrite the introduction of the HBM report: make it formal",
        "Summarize: HBM against GDDR",
        "Summarize this document",
        "Explain this paper",
        'Make a list of "NVM" vendors',
        'Fix the "timeout" error in the deployment',
        "How do we spell out safety requirements in the contract?",
        "What can HBM do?",
        "yes",
    ],
)
def test_what_only_looks_like_it(question: str) -> None:
    """Questions that merely start like a greeting, hold numbers or speak of rewriting still retrieve."""
    assert retrieval_need(question).needed


@settings(max_examples=60, deadline=None)
@given(st.text(max_size=400))
def test_any_text_gets_an_answer(text: str) -> None:
    """No input makes the rules fail, and the reason is never empty."""
    assert retrieval_need(text).reason


@pytest.mark.parametrize("piece", ["hi ", "thanks for the ", "1 + ", "translate this in in ", "'", "add 1 and ", "[ "])
def test_long_pasted_text_is_read_in_linear_time(piece: str) -> None:
    """A pasted text of 200,000 characters does not make a pattern backtrack."""
    start = time.process_time()
    retrieval_need("rewrite " + piece * (200_000 // len(piece)))
    retrieval_need(piece * (200_000 // len(piece)))
    assert time.process_time() - start < 2
