"""How a token is chosen: draws follow the softmax, seeds hold in any batch, one row's trouble stays its own."""

from __future__ import annotations

import importlib.util
import math
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import GenerationError
from llama_index_hybridmem.llms.serving.request import Options, Token
from llama_index_hybridmem.llms.serving.sampling import Sampler, _nucleus, next_tokens

if TYPE_CHECKING:
    from torch import Tensor

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers")), reason="needs the extra 'lora'"
)


def some_logits(rows: int, words: int = 40, seed: int = 0) -> Tensor:
    """Random logits, (rows, words)."""
    import torch

    return 3 * torch.randn(rows, words, generator=torch.Generator().manual_seed(seed))


def chosen(logits: Tensor, samplers: Sequence[Sampler], written: Sequence[Sequence[int]] | None = None) -> list[Token]:
    """Every row's token; an error is raised."""
    found = next_tokens(logits, samplers, written or [[]] * len(samplers))
    for one in found:
        if isinstance(one, Exception):
            raise one
    return [one for one in found if isinstance(one, Token)]


def test_draws_follow_the_softmax() -> None:
    """4,000 draws of one seed have the model's frequencies: chi-square of 7 degrees stays below its 99.99 % point."""
    import torch

    logits = torch.tensor([[0.0, 1.0, 2.0, -1.0, 0.5, 1.5, -0.5, 0.2]])
    sampler, draws = Sampler(Options(temperature=0.8, seed=3)), 4000
    counts = Counter(chosen(logits, [sampler])[0].id for _ in range(draws))
    expected = (logits[0] / 0.8).softmax(0) * draws
    distance = sum((counts[word] - float(count)) ** 2 / float(count) for word, count in enumerate(expected))
    assert distance < 29.9  # scipy.stats.chi2.ppf(0.9999, 7)


def test_a_seed_gives_the_same_draws_in_any_batch() -> None:
    """What else is in the batch, where the row stands and torch's own generator change nothing."""
    import torch

    logits = some_logits(12)
    alone = Sampler(Options(temperature=1.0, seed=5))
    expected = [chosen(logits[step : step + 1], [alone])[0].id for step in range(12)]
    mine = Sampler(Options(temperature=1.0, seed=5))
    others = [Sampler(Options(temperature=1.0, seed=seed)) for seed in (6, 7)]
    again = []
    for step in range(12):
        torch.rand(step + 1)
        batch = torch.stack([logits[(step + 3) % 12], logits[step], logits[(step + 5) % 12]])
        again.append(chosen(batch, [others[0], mine, others[1]])[1].id)
    assert again == expected
    other = Sampler(Options(temperature=1.0, seed=6))
    assert [chosen(logits[step : step + 1], [other])[0].id for step in range(12)] != expected


@given(st.integers(0, 45), st.floats(0.05, 1.0), st.integers(0, 10))
def test_top_k_and_top_p_leave_what_transformers_leaves(top_k: int, top_p: float, seed: int) -> None:
    """The same tokens stay possible as behind transformers' own warpers, and their logits are untouched."""
    import torch
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    logits = some_logits(1, seed=seed)
    expected = logits
    ids: Any = torch.zeros(1, 1, dtype=torch.long)
    if top_k:
        expected = TopKLogitsWarper(top_k)(ids, expected)  # type: ignore[no-untyped-call]
    if top_p < 1:
        expected = TopPLogitsWarper(top_p)(ids, expected)  # type: ignore[no-untyped-call]
    assert torch.equal(_nucleus(logits[0], top_k, top_p), expected[0])


def test_the_repetition_penalty_is_that_of_transformers() -> None:
    """Tokens of prompt and answer become less likely by the same rule."""
    import torch
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = some_logits(1)
    expected = RepetitionPenaltyLogitsProcessor(1.7)(torch.tensor([[3, 5, 5, 9]]), logits.clone())
    sampler = Sampler(Options(repetition_penalty=1.7), [3, 5])
    assert torch.equal(sampler._penalised(logits[0], [5, 9]), expected[0])


def test_logprobs_are_the_models() -> None:
    """Log-probabilities are those of log_softmax before temperature, top-p and processors; best ones come first."""
    import torch

    logits = some_logits(3)
    seen = []

    def forbid(_: Sequence[int], row: Tensor) -> Tensor:
        seen.append(row.clone())
        row[int(row.argmax())] = -math.inf  # in place, as many do
        return row

    options = [
        Options(top_logprobs=3),
        Options(temperature=2.0, top_p=0.5, seed=1, top_logprobs=2),
        Options(processors=(forbid,)),
    ]
    tokens = chosen(logits.clone(), [Sampler(one) for one in options])
    expected = logits.log_softmax(-1)
    for row, token in enumerate(tokens):
        assert token.logprob == pytest.approx(float(expected[row, token.id]), abs=1e-5)
        best = expected[row].topk(3)
        assert token.margin == pytest.approx(float(best.values[0] - best.values[1]), abs=1e-5)
        assert [one for one, _ in token.top] == best.indices.tolist()[: options[row].top_logprobs]
        assert [value for _, value in token.top] == pytest.approx(best.values.tolist()[: len(token.top)], abs=1e-5)
    assert tokens[2].id == int(logits[2].topk(2).indices[1])
    assert torch.equal(seen[0], logits[2])


def test_of_tokens_alike_the_first_is_taken() -> None:
    """As transformers' generate does; low precision makes many logits equal."""
    import torch

    logits = torch.zeros(2, 5000, dtype=torch.bfloat16)
    logits[0, [4000, 77, 300]] = 9.0
    logits[1, [4999, 4000]] = 9.0
    assert [token.id for token in chosen(logits, [Sampler(Options())] * 2)] == [77, 4000]


def test_a_row_that_is_no_number_is_the_only_one_to_fail() -> None:
    """NaN or infinite logits of one row are its error, the other rows' tokens are what they were."""
    logits = some_logits(4)
    samplers = [Sampler(Options()) for _ in range(4)]
    expected = next_tokens(logits, samplers, [[]] * 4)
    logits[1, 7], logits[2, 0] = math.nan, math.inf
    found = next_tokens(logits, samplers, [[]] * 4)
    assert (found[0], found[3]) == (expected[0], expected[3])
    assert isinstance(found[1], GenerationError)
    assert isinstance(found[2], GenerationError)


def bad_index(_: Sequence[int], row: Tensor) -> Tensor:
    """Gives more words than there are."""
    import torch

    return torch.cat([row, row + 100])


@pytest.mark.parametrize(
    ("process", "error"),
    [
        (lambda _, row: row[1000], IndexError),
        (lambda _, row: None, AttributeError),
        (lambda _, row: row - math.inf, GenerationError),
        (lambda _, row: row * math.nan, GenerationError),
        (bad_index, IndexError),
    ],
)
def test_a_processor_that_fails_fails_its_own_row(process: Any, error: type[Exception]) -> None:
    """Whatever a caller's processor does, greedy or not, the rows beside it get their tokens."""
    for temperature in (0.0, 1.0):
        samplers = [Sampler(Options(temperature=temperature, processors=(each,))) for each in (process, lambda _, x: x)]
        found = next_tokens(some_logits(2), samplers, [[], []])
        assert isinstance(found[0], error)
        assert isinstance(found[1], Token)


def test_a_processor_of_transformers_is_called_as_there() -> None:
    """It gets rows, and the prompt in front of the answer: its penalty counts both."""
    from transformers import RepetitionPenaltyLogitsProcessor

    logits = some_logits(1)
    best = int(logits[0].argmax())
    options = Options(processors=(RepetitionPenaltyLogitsProcessor(1000.0),))
    ours = chosen(logits, [Sampler(options, prompt=[best])], [[]])
    second = int(logits[0].topk(2).indices[1])
    assert [token.id for token in ours] == [second]


def test_processors_see_what_is_written_and_cannot_change_it() -> None:
    """They get the answer so far, as ids that are theirs to keep."""
    seen: list[Sequence[int]] = []
    written = [4, 5]

    def note(ids: Sequence[int], row: Tensor) -> Tensor:
        seen.append(ids)
        return row

    chosen(some_logits(1), [Sampler(Options(processors=(note,)))], [written])
    written.append(6)
    assert seen == [(4, 5)]


def test_a_tiny_temperature_is_greedy() -> None:
    """A temperature so small that logits over it overflow takes the likeliest token, with and without top-p."""
    logits = some_logits(5)
    for top_p in (1.0, 0.5):
        samplers = [Sampler(Options(temperature=1e-42, top_p=top_p, seed=seed)) for seed in range(5)]
        assert [token.id for token in chosen(logits, samplers)] == logits.argmax(-1).tolist()
