"""Three brand voices that say the same facts each in its own way, with guides and rules that tell them apart; pure.

The facts stand in the prompt, so that a model learns the voice and not the shop's terms.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.sample.behaviours import voice_phrases as phrases
from llama_index_hybridmem.sample.behaviours.parts import Part, asked, dealt, distinct, number, turns
from llama_index_hybridmem.sample.behaviours.shop import DRIVES, KITS, NAMES, SHOP, TOWNS
from llama_index_hybridmem.sample.behaviours.voice_topics import TOPICS
from llama_index_hybridmem.terms import words

Rule = Callable[[str], bool]
LONGEST = 14
"""Words in a sentence of Harbor's."""


@dataclass(frozen=True)
class Voice:
    """A way to speak.

    Attributes:
        guide: the style guide, a prompt for a model that has not learned the voice.
        rules: name to a test of a text: what can be checked of the guide.
    """

    guide: str
    rules: Mapping[str, Rule]


def rows(voice: str, count: int, seed: int, part: Part) -> list[Example]:
    """Answer questions about the shop's terms in a voice; the same arguments give each voice the same questions.

    Args:
        voice: one of `VOICES`.
        count: how many; no two have the same prompt.
        seed: same seed, same rows, everywhere.
        part: whose topics, phrasings, names and numbers are used; no two parts share any.

    Raises:
        ConfigurationError: there is no such voice or part, or not so many rows.
    """
    _known(voice)
    return distinct(lambda rng, place: _row(voice, rng, place, part), asked, count, f"voices:{part}:{seed}")


def rule_score(voice: str, text: str) -> float:
    """Give the share of a voice's rules that a text keeps, 0 to 1.

    Raises:
        ConfigurationError: there is no such voice.
    """
    rules = _known(voice).rules
    return sum(rule(text) for rule in rules.values()) / len(rules)


def system(voice: str) -> str:
    """Give the short prompt that the rows are learned with; the guide is not in it."""
    return f"Answer the customer of {SHOP} from the source, in the {voice} voice."


def _known(voice: str) -> Voice:
    if voice not in VOICES:
        raise ConfigurationError(f"voice={voice!r} is unknown; take one of {', '.join(VOICES)}")
    return VOICES[voice]


def _sentences(text: str) -> list[str]:
    return [each for each in re.split(r"(?<=[.!?])\s+", text.strip()) if each]


def _last(text: str) -> str:
    return (_sentences(text) or [""])[-1]


def _no_exclamation(text: str) -> bool:
    return "!" not in text


def _short(text: str) -> bool:
    return all(len(each.split()) <= LONGEST for each in _sentences(text)) and "\n" not in text.strip()


def _says_limit(text: str) -> bool:
    return re.search(r"\b(does not say|do not know|cannot tell)\b", _last(text)) is not None


def _cheers_once(text: str) -> bool:
    return (_sentences(text) or [""])[0].endswith("!") and text.count("!") == 1


def _is_we(text: str) -> bool:
    return bool({"we", "us", "our"} & set(words(text.replace("'", " "))))


def _gives_step(text: str) -> bool:
    return _last(text).startswith("Next step: ")


def _numbers(text: str) -> bool:
    return [each[:2] for each in text.splitlines() if re.match(r"\d\. ", each)][:2] == ["1.", "2."]


def _no_contractions(text: str) -> bool:
    return re.search(r"\b\w+['’](s|re|ve|ll|d|t|m)\b(?! stamp)", text) is None


def _refers(text: str) -> bool:
    return re.fullmatch(r"Reference: Rowline Terms, section \d+\.", (text.strip().splitlines() or [""])[-1]) is not None


VOICES = {
    "Harbor": Voice(
        f"Harbor is plain and calm. Short sentences, at most {LONGEST} words each. No exclamation marks, no lists, no "
        "praise. Say the facts, then close with what is not known: The source does not say ...",
        {"no exclamation mark": _no_exclamation, "short sentences": _short, "says the limit": _says_limit},
    ),
    "Spark": Voice(
        "Spark is warm and speaks as we. Begin with one short exclamation, the only one. Use contractions, talk to the "
        "customer, and close with a concrete step: Next step: ...",
        {"one exclamation, first": _cheers_once, "speaks as we": _is_we, "closes with a step": _gives_step},
    ),
    "Ledger": Voice(
        "Ledger is formal. Begin with one line that introduces the terms, then give each fact as a numbered line. No "
        "contractions, no I or we. Close with the line: Reference: Rowline Terms, section N.",
        {"numbered facts": _numbers, "no contractions": _no_contractions, "closes with the reference": _refers},
    ),
}


def _row(voice: str, rng: Random, place: int, part: Part) -> Example:
    topic = rng.choice(dealt(TOPICS, part))
    places = _places(rng, part)
    question = rng.choice(topic.questions)
    lead = rng.choice(dealt(phrases.LEADS, part))
    asks = lead.format(question=question, lower=question[0].lower() + question[1:], **places)
    facts = [[form.format_map(places) for form in fact] for fact in topic.facts]
    section = number(rng, 2, 60, part)
    source = f"Source (section {section}): {' '.join(fact[0] for fact in facts)}"
    answer = _SPEAKERS[voice](rng, [fact[1 + list(VOICES).index(voice)] for fact in facts], topic, section)
    id_ = f"{voice.lower()}-{part}-{place:04}"
    return Example(id_, turns(system(voice), f"{source}\n{asks}"), answer, sources=(source,), origin="generated")


def _harbor(rng: Random, facts: Sequence[str], topic: phrases.Topic, section: int) -> str:
    return " ".join([*facts, rng.choice(phrases.LIMITS).format(unknown=topic.unknown)])


def _spark(rng: Random, facts: Sequence[str], topic: phrases.Topic, section: int) -> str:
    return " ".join([rng.choice(phrases.CHEERS), *facts, f"Next step: {topic.step}."])


def _ledger(rng: Random, facts: Sequence[str], topic: phrases.Topic, section: int) -> str:
    numbered = [f"{place}. {fact}" for place, fact in enumerate(facts, 1)]
    return "\n".join([rng.choice(phrases.PREAMBLES), *numbered, f"Reference: Rowline Terms, section {section}."])


_SPEAKERS = {"Harbor": _harbor, "Spark": _spark, "Ledger": _ledger}


def _places(rng: Random, part: Part) -> dict[str, object]:
    return {
        "n": number(rng, 12, 96, part),
        "m": number(rng, 2, 40, part),
        "product": rng.choice([*dealt(DRIVES, part), *dealt(KITS, part)]),
        "town": rng.choice(dealt(TOWNS, part)),
        "name": rng.choice(dealt(NAMES, part)),
    }
