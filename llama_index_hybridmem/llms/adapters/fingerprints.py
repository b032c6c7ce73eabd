"""Hashes and samples by which two bases or tokenizers are told apart; knows no files and no torch."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Iterator
from typing import Any

# Values read per sampled weight, evenly spread: some kilobytes of a model.
SAMPLES = 32


def sample_places(values: int) -> list[int]:
    """Where a weight of so many values is sampled, the first and the last among them."""
    return [(values - 1) * number // (SAMPLES - 1) for number in range(SAMPLES)]


def vocabulary_of(tokenizer: Any) -> Iterator[tuple[str, int]]:
    """Tokens and ids of a parsed tokenizer.json, as a loaded tokenizer's ``get_vocab`` gives them.

    Raises:
        AttributeError, KeyError, TypeError, ValueError: it holds no vocabulary.
    """
    vocabulary = tokenizer["model"]["vocab"]
    if isinstance(vocabulary, dict):
        yield from vocabulary.items()
    else:  # Unigram: [token, score], the place is the id
        yield from ((token, number) for number, (token, _) in enumerate(vocabulary))
    yield from ((token["content"], token["id"]) for token in tokenizer.get("added_tokens") or [])


def vocabulary_sha256(tokens: Iterable[tuple[str, int]]) -> str:
    """A hash over tokens and their ids, whatever their order and however often one is listed."""
    lines = sorted(f"{number}\t{token}\n" for token, number in set(tokens))
    return hashlib.sha256("".join(lines).encode("utf-8", "surrogatepass")).hexdigest()


def template_sha256(template: str) -> str:
    """A hash over a chat template, without the marks that trainers set around an answer: they write no text."""
    unmarked = re.sub(r"\{%-?\s*(end)?generation\s*-?%\}", "", template)
    return hashlib.sha256(unmarked.strip().encode("utf-8", "surrogatepass")).hexdigest()
