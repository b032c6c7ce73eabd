"""How good an answer is, and many of them; pure, knows no model and asks none.

Words are compared as SQuAD does it (arXiv 1606.05250): lower case, without punctuation and articles. What it does not
say: Unicode is folded (NFKC), a decimal point stays, and scripts without blanks are compared sign by sign, as CMRC
(arXiv 1810.07366) and KorQuAD (arXiv 1909.07005) do.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.export.targets import BEGIN, END, parse_target
from llama_index_hybridmem.export.wording import Wording
from llama_index_hybridmem.statistics import Interval, bootstrap_interval, paired_difference, wilson
from llama_index_hybridmem.training.abstaining import abstains

_PARTS = re.compile(r"[\s#*]{0,9}(?:quotes|reason|answer|final answer)[*]{0,2}:", re.IGNORECASE)
_ANSWER = re.compile(
    r"^[ #*]{0,9}(?:final )?answer[*]{0,2}:[ *]{0,3}|##answer:|</?answer>:?", re.IGNORECASE | re.MULTILINE
)
_NUMBERED = Wording(citation="numbers")
_ARTICLES = frozenset({"a", "an", "the"})
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uac00-\ud7af\U00020000-\U0003ffff"
"""Thai, Lao, Burmese, Khmer, Japanese, Chinese, Korean: a token is a sign."""
_TOKEN = re.compile(rf"[{_UNSPACED}]|[^\s{_UNSPACED}]+")
_POINT = re.compile(r"(?<=[0-9])\.(?=[0-9])")


@dataclass(frozen=True)
class Score:
    """How good one answer is; all from 0 to 1.

    Attributes:
        f1: of the answer's tokens against those expected.
        exact: whether the tokens are the same.
        contained: whether the expected tokens stand in the answer, in a row.
        abstained: whether the answer says that there is none.
        right: where the sources hold the answer, f1, or 0 for an abstention; where they do not, 1 for an abstention,
            else 0; where there are no sources, f1.
    """

    f1: float
    exact: bool
    contained: bool
    abstained: bool
    right: float


@dataclass(frozen=True)
class Summary:
    """How good many answers are; what was measured on no row is None.

    Attributes:
        n: rows.
        answerable: rows whose sources hold the answer.
        unanswerable: rows whose sources do not.
        right: mean with its bootstrap interval, over all rows.
        f1: mean over the rows that are not unanswerable.
        exact: share of those.
        contained: share of those.
        abstained: share of the unanswerable rows, with its Wilson interval: higher is better.
        falsely_abstained: share of the answerable rows, with its Wilson interval: lower is better.
    """

    n: int
    answerable: int
    unanswerable: int
    right: Interval | None
    f1: float | None
    exact: float | None
    contained: float | None
    abstained: Interval | None
    falsely_abstained: Interval | None

    def to_json(self) -> dict[str, Any]:
        """Give plain JSON types."""
        return asdict(self)


def score(answer: str, example: Example, abstain: Sequence[str] = ("Not in the sources.",)) -> Score:
    """Compare an answer with what an example expects.

    Args:
        answer: what a model said; citations like [1] and a wrapping of quotes and reasons are taken off.
        example: its ``answer`` is expected, its ``answerable`` says what an abstention is worth.
        abstain: wordings of abstention; English paraphrases are recognised, too.
    """
    said, expected = bare(answer), bare(example.answer)
    got, wanted = tokens(said), tokens(expected)
    same = got == wanted
    # "unknown" can be what a source says: an answer that is expected word by word abstains from nothing
    silent = abstains(said, abstain) and not (same and example.answerable is not False)
    f1 = token_f1(got, wanted)
    right = float(silent) if example.answerable is False else 0.0 if silent and example.answerable else f1
    return Score(f1, same, _has(got, wanted), silent, right)


def summarise(scores: Sequence[Score], examples: Sequence[Example], seed: int = 0) -> Summary:
    """Sum up the scores of one arm.

    Args:
        scores: one for each example.
        examples: in the same order.
        seed: of the bootstrap; 0 or more.

    Raises:
        ConfigurationError: unequal lengths, or a negative seed.
    """
    if len(scores) != len(examples):
        raise ConfigurationError(f"a score for every example is needed: {len(scores)} against {len(examples)}")
    pairs = list(zip(scores, examples, strict=True))
    told = [each for each, example in pairs if example.answerable is not False]
    held = [each.abstained for each, example in pairs if example.answerable]
    missing = [each.abstained for each, example in pairs if example.answerable is False]
    return Summary(
        n=len(scores),
        answerable=len(held),
        unanswerable=len(missing),
        right=bootstrap_interval([each.right for each in scores], seed) if scores else None,
        f1=_mean([each.f1 for each in told]),
        exact=_mean([each.exact for each in told]),
        contained=_mean([each.contained for each in told]),
        abstained=share(missing),
        falsely_abstained=share(held),
    )


def compared(a: Sequence[Score], b: Sequence[Score], seed: int = 0) -> Interval:
    """Give how much more right ``a`` is than ``b``, row by row, with its interval.

    Args:
        a: one score per row.
        b: of the same rows, in the same order.
        seed: of the bootstrap; 0 or more.

    Raises:
        ConfigurationError: unequal lengths, or no rows.
    """
    return paired_difference([each.right for each in a], [each.right for each in b], seed)


def share(flags: Sequence[bool]) -> Interval | None:
    """Give the share of those that are true with its Wilson interval; None of none."""
    if not flags:
        return None
    return Interval(sum(flags) / len(flags), *wilson(sum(flags), len(flags)))


def bare(answer: str) -> str:
    """Give an answer without citations, quotes, reasons and labels; what is left of it when it has nothing else."""
    said = _ANSWER.split(answer, maxsplit=1)[-1] if _PARTS.match(answer) or _is_raft(answer) else answer
    said = said.split(BEGIN, 1)[0].strip() or said.replace(BEGIN, " ").replace(END, " ")
    return parse_target(said, _NUMBERED).answer or said.strip()


def tokens(text: str) -> list[str]:
    """Split a text as SQuAD compares it; one of signs or articles alone keeps them."""
    folded = unicodedata.normalize("NFKC", text).lower()
    whole = _TOKEN.findall(folded)
    words = _TOKEN.findall(_POINT.sub("\ue000", folded).translate(_Plain()).replace("\ue000", "."))
    return [word for word in words if word not in _ARTICLES] or words or whole


def token_f1(got: Sequence[str], wanted: Sequence[str]) -> float:
    """Give the harmonic mean of precision and recall of tokens; 1 when both are empty."""
    if not got or not wanted:
        return float(not got and not wanted)
    common = sum((Counter(got) & Counter(wanted)).values())
    return 2 * common / (len(got) + len(wanted))


class _Plain(dict[int, str | None]):
    """Of each sign what is left: nothing of punctuation and what is not seen, a blank of control characters."""

    def __missing__(self, code: int) -> str | None:
        kind = unicodedata.category(chr(code))
        return None if kind[0] in "PS" or kind == "Cf" else " " if kind == "Cc" else chr(code)


def _is_raft(answer: str) -> bool:
    return BEGIN in answer or "<answer>" in answer.lower()


def _has(got: Sequence[str], wanted: Sequence[str]) -> bool:
    size = len(wanted)
    return size > 0 and any(got[start : start + size] == wanted for start in range(len(got) - size + 1))


def _mean(values: Sequence[float]) -> float | None:
    return math.fsum(values) / len(values) if values else None
