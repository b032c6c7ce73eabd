"""Which rows a model may be trained on: enough, and few that teach it to make things up; pure, reads no file."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.example import Example
from llama_index_hybridmem.export.checks import FEWEST, LIMITED

MAX_FACT_SHARE = 0.3
"""Share of answers with facts that their passages do not have, above which training is refused. A choice: detectors of
such facts err, so a few are no proof, while a third of all answers teaches a model to answer from nowhere."""
MAX_MODEL_SHARE = 0.5
"""Share of rows that a model wrote, above which training is refused: generation upon generation a model that learns
from models loses the rare cases (Shumailov et al. 2024, doi 10.1038/s41586-024-07566-y). The figure is a choice."""


def admit(
    rows: int,
    fact_share: float | None,
    *,
    few_rows_allowed: bool = False,
    max_fact_share: float = MAX_FACT_SHARE,
    facts_allowed: bool = False,
    model_share: float | None = None,
    max_model_share: float = MAX_MODEL_SHARE,
) -> list[str]:
    """Say what to beware of in a set of rows, or refuse to train on it.

    Args:
        rows: to train on, without those replayed from elsewhere.
        fact_share: of the answers that state a price, date, quantity, name or quotation that their passages do not
            have: ``facts.share`` in an export's report.json; None: unknown.
        few_rows_allowed: fewer than 100 rows are warned of instead of refused.
        max_fact_share: share from which on, itself excluded, the answers are refused.
        facts_allowed: more of them are warned of instead of refused.
        model_share: of the rows that a model wrote, see `model_written`; None: unknown.
        max_model_share: share from which on, itself excluded, the rows are refused.

    Returns:
        warnings, the gravest first.

    Raises:
        ConfigurationError: these rows are not to be trained on; says what to do, and how to go on anyway.
    """
    for name, share in (("max_fact_share", max_fact_share), ("max_model_share", max_model_share)):
        _check(name, share)
    for name, known in (("fact_share", fact_share), ("model_share", model_share)):
        if known is not None:
            _check(name, known)
    return [
        *_written(model_share, max_model_share),
        *_facts(fact_share, max_fact_share, facts_allowed),
        *_enough(rows, few_rows_allowed),
    ]


def model_written(examples: Iterable[Example]) -> float | None:
    """Give the share of rows whose completion a model wrote (origin ``model``); replayed rows do not count.

    Returns:
        0 to 1; None without rows.
    """
    origins = [each.origin for each in examples if each.origin != "general"]
    return origins.count("model") / len(origins) if origins else None


def _enough(rows: int, allowed: bool) -> Iterator[str]:
    if rows >= LIMITED:
        return
    told = f"{rows:,} row{'' if rows == 1 else 's'} to train on"
    if rows >= FEWEST:
        yield f"{told}: below {LIMITED} a model learns the form of the answers and little else."
    elif rows > 0 and allowed:
        yield f"{told}: below {FEWEST} retrieval with a few examples in the prompt does better."
    elif rows > 0:
        raise ConfigurationError(
            f"{told}: below {FEWEST} retrieval with a few examples in the prompt does better, and costs nothing to "
            "change. Collect more reviewed failures, or train all the same with few_rows=True (--few-rows)"
        )
    else:
        raise ConfigurationError("no rows to train on")


def _facts(share: float | None, most: float, allowed: bool) -> Iterator[str]:
    if not share:
        return
    told = f"{_percent(share)} of the answers have facts that their passages do not have"
    if share > most and not allowed:
        raise ConfigurationError(
            f"{told}; at most {_percent(most)} may: a model that is trained on them learns to make things up. The "
            "export's report.json names the first of them (facts, examples): correct or drop those rows, or raise "
            "max_fact_share"
        )
    yield f"{told}: what a model is trained to say without having read it, it learns to make up."


def _written(share: float | None, most: float) -> Iterator[str]:
    if not share:
        return
    told = f"A model wrote {_percent(share)} of the rows"
    if share > most:
        raise ConfigurationError(
            f"{told}; at most {_percent(most)} may be: a model that learns from models repeats their errors. Review "
            "and correct some of them, add rows that people wrote, or raise max_model_share"
        )
    if share > most / 2:
        yield f"{told}; beyond {_percent(most)} they are refused."


def _check(name: str, share: float) -> None:
    if not (math.isfinite(share) and 0 <= share <= 1):
        raise ConfigurationError(f"{name}: a share of 0 to 1, not {share!r:.40}")


def _percent(share: float) -> str:
    return f"{100 * share:.3g} %"
