"""What a subject of the voices is made of, and the phrases around it: how one asks, begins and ends; pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """A subject that customers ask about.

    Attributes:
        questions: ways to ask.
        facts: each as the source has it, then as Harbor, Spark and Ledger say it.
        unknown: what the source leaves open, as the end of "The source does not say ...".
        step: what the customer can do, as an order.
    """

    questions: tuple[str, ...]
    facts: tuple[tuple[str, str, str, str], ...]
    unknown: str
    step: str


LEADS = (
    "{question}",
    "Hello, {lower}",
    "I am {name}. {question}",
    "Quick one: {lower}",
    "My colleague {name} wants to know: {lower}",
    "{question} I could not find it.",
    "I am new here. {question}",
    "Just asking: {lower}",
    "Hi there! {question}",
    "{question} Best, {name}",
    "I live in {town}. {question}",
    "Before I order: {lower}",
    "Somebody told me to ask you. {question}",
    "{question} Thanks, {name}",
    "A question from {town}: {lower}",
    "Could you tell me this? {question}",
)
CHEERS = (
    "Great that you ask!",
    "Lovely question!",
    "Hello and welcome!",
    "We've got you!",
    "Thanks for asking!",
    "So glad you asked!",
    "Happy to help!",
    "That's an easy one!",
    "Hi there, friend of the birds!",
    "Yes, let's sort this out!",
)
LIMITS = (
    "The source does not say {unknown}.",
    "I do not know {unknown}.",
    "I cannot tell {unknown}.",
    "What I have does not say {unknown}.",
)
PREAMBLES = (
    "In reply to your enquiry, the following applies:",
    "With regard to your enquiry, the following terms are in force:",
    "The following provisions apply:",
    "Your enquiry is governed by the following terms:",
    "The applicable terms are as follows:",
)
