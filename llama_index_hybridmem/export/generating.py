"""Questions that a language model asks about passages, kept where the passage bears them out; knows no retriever."""

from __future__ import annotations

import hashlib
import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from llama_index.core.llms import LLM

from llama_index_hybridmem.disk import Journal, make_folder
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.export.asking import Asked
from llama_index_hybridmem.export.record import encodable
from llama_index_hybridmem.noise.scene import Passage
from llama_index_hybridmem.noise.support import quoted

PROMPT = (
    "Read this passage.\n\n{about}<passage>\n{text}\n</passage>\n\n"
    "Write one question that a user who has not seen the passage may ask, and that the passage answers. Name what it "
    "is about; do not say 'the passage' or 'the text'. Reply with one JSON object and nothing else:\n"
    '{{"question": "...", "answer": "a few words, copied from the passage", "quote": "the sentence of the passage with '
    'the answer, copied word for word"}}'
)
"""What the model is asked; ``about`` is the passage's title."""
AGAIN = "\n\nReply {number} could not be used: {reason}. Reply with the JSON object alone."
"""What is added after a reply that was refused; the number makes it another prompt each time."""
RETRIES = 2
LEAST_WORDS = 20
"""Shorter passages are not asked about: a heading, a lone row."""
_POINTING = re.compile(
    r"\b(?:the|this|given|above) (?:passage|text|document|excerpt|paragraph|article)\b", re.IGNORECASE
)
_STEPS = 64  # passages asked about between two reports of progress

Progress = Callable[[int, int], None]
"""(passages done, passages in all)."""


@dataclass(frozen=True)
class Generated:
    """What a language model asked.

    Attributes:
        questions: each with answer, quote and the passage that holds both.
        rejected: reason to how many replies could not be used; a passage may be asked about several times.
        asked: calls that were made now; replies of an earlier run are not paid again.
    """

    questions: tuple[Asked, ...]
    rejected: Mapping[str, int]
    asked: int


class Refused(ValueError):
    """A reply that cannot be used; the message is the reason."""


def generate(
    passages: Iterable[Passage],
    llm: LLM,
    journal: str | Path,
    *,
    at_once: int = 4,
    retries: int = RETRIES,
    progress: Progress | None = None,
) -> Generated:
    """Let a language model ask a question about each passage.

    A question is kept when its quote stands in the passage and its answer in the quote, word by word.

    Args:
        passages: in the order in which the questions come; those under `LEAST_WORDS` words are passed over.
        llm: any of LlamaIndex's.
        journal: file of its replies: called again, only what it has not replied to is asked.
        at_once: calls at a time, each on a thread.
        retries: further tries where a reply cannot be used.
        progress: told now and then.

    Raises:
        ConfigurationError: a number out of range.
        StoreError: the journal cannot be written; or whatever the model raises. Replies so far are kept.
    """
    if at_once < 1 or retries < 0:
        raise ConfigurationError("at_once is 1 or more, and retries 0 or more")
    make_folder(Path(journal).parent)
    replies = _Replies(Journal(Path(journal)), llm)
    wanted = [each for each in passages if len(each.text.split()) >= LEAST_WORDS]
    rejected: Counter[str] = Counter()
    kept: dict[str, Asked] = {}
    with ThreadPoolExecutor(at_once) as threads:
        tried = partial(_ask, replies, retries)
        for done, (question, reasons) in enumerate(_in_steps(threads, tried, wanted), start=1):
            rejected.update(reasons)
            if question is not None and question.question.casefold() in kept:
                rejected["the question was asked before"] += 1
            elif question is not None:
                kept[question.question.casefold()] = question
            if progress is not None:
                progress(done, len(wanted))
    return Generated(tuple(kept.values()), dict(rejected), replies.asked)


def accepted(reply: str, passage: Passage) -> Asked:
    """Read a reply.

    Args:
        reply: with a JSON object somewhere in it, fenced or not.
        passage: that was asked about.

    Raises:
        Refused: it cannot be used; says why.
    """
    row = _object(reply)
    texts = [row.get(name) for name in ("question", "answer", "quote")]
    question, answer, quote = (each.strip() if isinstance(each, str) else "" for each in texts)
    if not (question and answer and quote):
        raise Refused("question, answer or quote is missing")
    verbatim = quoted(quote, passage.text)
    if verbatim is None:
        raise Refused("the quote does not stand in the passage")
    words = quoted(answer, verbatim)
    if words is None:
        raise Refused("the answer does not stand in the quote")
    if quoted(answer, question) is not None:
        raise Refused("the question holds the answer")
    if _POINTING.search(question):
        raise Refused("the question speaks of the passage itself")
    name = hashlib.sha256(f"{passage.id}\0{question}".encode("utf-8", "surrogatepass")).hexdigest()[:16]
    return Asked(f"g-{name}", question, words, frozenset([passage.id]), (verbatim,), True, origin="generated")


class _Replies:
    """Asks the model, and never twice the same."""

    def __init__(self, journal: Journal, llm: LLM) -> None:
        self._journal, self._llm, self._model = journal, llm, llm.metadata.model_name
        self._known = {(row["prompt"], row["model"]): str(row["reply"]) for row in journal.entries()}
        self.asked = 0

    def to(self, prompt: str) -> str:
        key = (hashlib.sha256(prompt.encode("utf-8", "surrogatepass")).hexdigest(), self._model)
        if key not in self._known:
            reply = self._llm.complete(encodable(prompt)).text
            reply = encodable(reply)
            self._journal.append({"prompt": key[0], "model": key[1], "reply": reply})
            self._known[key] = reply
            self.asked += 1
        return self._known[key]


def _ask(replies: _Replies, retries: int, passage: Passage) -> tuple[Asked | None, list[str]]:
    about = f"Its title: {passage.title}\n" if passage.title else ""
    prompt, reasons = PROMPT.format(about=about, text=passage.text), list[str]()
    for number in range(retries + 1):
        again = AGAIN.format(number=number, reason=reasons[-1]) if number else ""
        try:
            return accepted(replies.to(prompt + again), passage), reasons
        except Refused as error:
            reasons.append(str(error))
    return None, reasons


def _in_steps(
    threads: ThreadPoolExecutor, tried: Callable[[Passage], Any], passages: Sequence[Passage]
) -> Iterator[tuple[Asked | None, list[str]]]:
    """In order, and no more calls under way than a step: after a failure, few are paid in vain."""
    for start in range(0, len(passages), _STEPS):
        yield from threads.map(tried, passages[start : start + _STEPS])


def _object(reply: str) -> Mapping[str, Any]:
    """The first JSON object in a reply."""
    decoder = json.JSONDecoder()
    for at in (match.start() for match in re.finditer(r"\{", reply)):
        try:
            found, _ = decoder.raw_decode(reply, at)
        except (ValueError, RecursionError):
            continue
        if isinstance(found, Mapping):
            return found
    raise Refused("it holds no JSON object")
