"""Answers copied from their sources: what may be written, with real tokenizers, a small model and random logits."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.prompts import PromptTemplate
from llama_index.core.response_synthesizers import get_response_synthesizer
from models import QWEN_TEMPLATE, _tokenizer

from llama_index_hybridmem.citations import check_citations
from llama_index_hybridmem.errors import ConfigurationError
from llama_index_hybridmem.llms.copy_paths import CopyPaths, Spellings
from llama_index_hybridmem.llms.copy_text import QuotedText, sources_in
from llama_index_hybridmem.llms.copying import ABSTAIN, CopyConstraint, spellings
from llama_index_hybridmem.llms.local import LoraHuggingFaceLLM
from llama_index_hybridmem.llms.remote.requests import request_options
from llama_index_hybridmem.prompts import TEXT_QA

needs_lora = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "tokenizers")),
    reason="needs the extra 'lora'",
)
SOURCES = ["Kasparov lost to Deep Blue in 1997, on May 11.", "The fee is $1,200.50 a year (paid at once)."]
BYTES = Spellings({byte: bytes([byte]) for byte in range(256)})
"""A vocabulary of single bytes: what is allowed shows letter by letter."""


def spelled(paths: CopyPaths, text: str) -> bool | None:
    """Whether a text may be written and end there; None where it may not be written at all."""
    ways = paths.start
    for byte in text.encode():
        if byte not in paths.allowed(ways)[0]:
            return None
        ways = paths.after(ways, byte)
    return paths.allowed(ways)[1]


# --- texts and paths -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "ends"),
    [
        ("Deep Blue", True),
        (" Deep Blue", True),
        ("deep Blue", True),
        ("lost to Deep Blue in 1997, on", True),
        ("1997,", True),
        ("(paid at once).", True),
        ("$1,200.50", True),
        ("Deep Blue [1]", True),
        ("Deep Blue[1] [2].", True),
        ("Deep Blue.", True),
        ("Not in the sources.", True),
        ("not in the sources.", True),
        ("Deep Bl", False),
        ("199", False),
        ("$1,200", False),
        ("Deep Blue [", False),
        ("(", False),
        (" ", False),
        ("", False),
        ("Not in", False),
        ("DEEP", None),
        ("eep", None),
        ("200.50", None),
        ("Deep  Blue", None),
        ("Deep Blue [3]", None),
        ("Deep Blue [2][1]", None),
        ("at once)..", None),
        ("Not in the sources. [1]", None),
        ("11. The", None),
        ("Kasparov fee", None),
    ],
)
def test_a_span_is_written_whole(text: str, ends: bool | None) -> None:
    """A stretch of one source from word to word, then rising marks and a full stop, or a further text: no more."""
    assert spelled(CopyPaths(BYTES, SOURCES, [ABSTAIN], "span", 2), text) is ends


def test_words_in_any_order() -> None:
    """With unit="word" every word is a whole word of a source, whichever stands before it."""
    paths = CopyPaths(BYTES, SOURCES, [], "word", 0)
    assert spelled(paths, "Blue fee paid Kasparov") is True
    assert spelled(paths, "Blue fe") is False
    assert spelled(paths, "Blue red") is None
    assert spelled(paths, ABSTAIN) is None


def test_other_scripts_are_cut_between_signs_only() -> None:
    """Accents stay on their letters, Chinese may be quoted from any sign, a torn character never ends an answer."""
    paths = CopyPaths(BYTES, ["नमस्ते दुनिया", "退款需要五个工作日", "E\u0301mile Zola"], [], "span", 0)
    assert spelled(paths, "五个") is True
    assert spelled(paths, "नमस्ते") is True
    assert spelled(paths, "नमस") is False
    assert spelled(paths, "E") is False
    torn = paths.after(paths.start, "五".encode()[0])
    assert not paths.allowed(torn)[1]
    assert paths.allowed(paths.after(torn, ord("x"))) == (set(), False)


@given(st.lists(st.text(max_size=30), max_size=3))
def test_places_stand_between_words(sources: list[str]) -> None:
    """Every start and end is a place between characters, and the text is the sources' with single blanks."""
    text = QuotedText(sources)
    wanted = [" ".join(each.encode("utf-8", "replace").decode().split()) for each in sources]
    assert text.text.split(b"\xff") == [*(each.encode() for each in wanted if each), b""]
    for at in [*(start for start, _ in text.starts), *text.ends]:
        text.text[at:].split(b"\xff")[0].decode()


@pytest.mark.parametrize(
    ("prompt", "found"),
    [
        ("Paris is big.\nQuestion: how big?\nAnswer: ", (["Paris is big.\n"], 0)),
        ("A\nQuestion: in it?\nB\nQuestion: how?", (["A\nQuestion: in it?\nB\n"], 0)),
        ("just this", (["just this"], 0)),
        ("Read:\n[1] one\n[7] seven\n[2] two\nQuestion: x", (["one\n[7] seven\n", "two\n", "Read:\n"], 2)),
        ("Do:\n------\nall of it\n------\nAnswer.\nQuery: q", (["\nall of it\n"], 0)),
        (TEXT_QA.format(context_str="[1] one", query_str="q"), (["one\n", "\n"], 1)),
        ("", ([""], 0)),
    ],
)
def test_sources_of_a_prompt(prompt: str, found: tuple[list[str], int]) -> None:
    """Between ruled lines, else before the last question, else all; numbered ones are told apart."""
    assert sources_in(prompt) == found


# --- tokenizers ------------------------------------------------------------------------------------------------------


@cache
def tiny() -> Any:
    """A byte-level tokenizer with a few merges."""
    return _tokenizer(("<|endoftext|>", "<|im_end|>"), QWEN_TEMPLATE, eos_token="<|im_end|>")


def drawn(constraint: CopyConstraint, tokenizer: Any, seed: int, most: int = 24) -> tuple[str, bool]:
    """What greedy decoding of random logits writes, and whether it ended by itself."""
    import torch

    chance, written, size = torch.Generator().manual_seed(seed), list[int](), len(tokenizer)
    while len(written) < most:
        logits = torch.randn(size, generator=chance)
        masked = constraint(written, logits)
        token = int(masked.argmax())
        assert masked[token] == logits[token]
        if token == tokenizer.eos_token_id:
            return tokenizer.decode(written), True
        written.append(token)
    return tokenizer.decode(written), False


def check_drawn(tokenizer: Any, sources: list[str], seed: int) -> None:
    """A finished answer is a stretch of a source, whole words of it, or the further text."""
    answer, ended = drawn(CopyConstraint(tokenizer, sources), tokenizer, seed)
    folded = [" ".join(each.encode("utf-8", "replace").decode().split()).casefold() for each in sources]
    words = answer.strip().casefold()
    if ended and words != ABSTAIN.casefold():
        while words.endswith("]"):
            words = words[: words.rindex("[")].rstrip()
        bare = words.removesuffix(".").rstrip()
        while bare.endswith("]") and bare not in " ".join(folded):
            bare = bare[: bare.rindex("[")].rstrip()
        assert bare == "" or any(bare in each for each in folded), (answer, sources)


sources_drawn = st.lists(
    st.one_of(st.text(max_size=30), st.lists(st.from_regex(r"[a-zA-Z0-9.,$é記]{1,6}", fullmatch=True)).map(" ".join)),
    max_size=3,
)


@needs_lora
@given(sources_drawn, st.integers(0, 1000))
@settings(max_examples=60)
def test_random_logits_write_copies(sources: list[str], seed: int) -> None:
    """Whatever the model thinks, with a byte-level tokenizer of a few merges."""
    check_drawn(tiny(), sources, seed)


def check_natural(tokenizer: Any) -> None:
    """A tokenizer's own tokens of an answer, with and without a blank in front, are let through to the end."""
    import torch

    for text in (" Deep Blue in 1997", "Deep Blue [1]", "the fee is $1,200.50 a year", "Not in the sources."):
        constraint, written = CopyConstraint(tokenizer, SOURCES), list[int]()
        for token in tokenizer(text, add_special_tokens=False)["input_ids"]:
            assert constraint(written, torch.zeros(len(tokenizer)))[token] == 0, (text, written)
            written.append(token)
        assert constraint(written, torch.zeros(len(tokenizer)))[tokenizer.eos_token_id] == 0


@needs_lora
def test_natural_tokens_are_allowed() -> None:
    """An answer may be written as the tokenizer cuts it."""
    check_natural(tiny())


@needs_lora
def test_nothing_dies() -> None:
    """No source, a token that was not allowed, an answer that is over: the end token stays; only masks are set."""
    import torch

    tokenizer, logits = tiny(), torch.arange(len(tiny()), dtype=torch.float32)
    end = tokenizer.eos_token_id
    for constraint, written in (
        (CopyConstraint(tokenizer, [], also=[]), []),
        (CopyConstraint(tokenizer, SOURCES), [tokenizer("#")["input_ids"][0]]),
        (CopyConstraint(tokenizer, SOURCES), [end, end]),
    ):
        masked = constraint(written, logits)
        assert masked.isfinite().nonzero().flatten().tolist() == [end]
        assert masked[end] == logits[end]
    other = CopyConstraint(tokenizer, SOURCES, ends=[1])
    assert other([end], logits).argmax() == 1


@needs_lora
def test_one_constraint_follows_any_answer() -> None:
    """What it remembers of one answer does not leak into another that asks in between."""
    import torch

    constraint, logits = CopyConstraint(tiny(), SOURCES), torch.zeros(len(tiny()))
    one, two = (tiny()(text, add_special_tokens=False)["input_ids"] for text in ("Deep Blue in", "Kasparov lost"))
    for length in range(max(len(one), len(two))):
        for ids in (one, two):
            fresh = CopyConstraint(tiny(), SOURCES)
            assert torch.equal(constraint(ids[:length], logits), fresh(ids[:length], logits))


class Pieces:
    """A SentencePiece tokenizer by hand: "▁" for blanks, bytes for what has no token."""

    eos_token_id: int | None = 0
    all_special_ids = (0,)
    added_tokens_decoder: dict[int, Any] = {}
    vocabulary = ["</s>", "▁a", "▁b", "▁", "a", "b", "▁ab", "<0xE8>", "<0xA8>", "<0x98>"]

    def __len__(self) -> int:
        return len(self.vocabulary)

    def get_vocab(self) -> dict[str, int]:
        """Ids by token."""
        return {token: place for place, token in enumerate(self.vocabulary)}

    def __call__(self, text: str, add_special_tokens: bool = True) -> dict[str, list[int]]:
        """Knows one text."""
        return {"input_ids": [1, 2] if text == "a b" else []}

    def convert_ids_to_tokens(self, ids: list[int]) -> list[str]:
        """Their names."""
        return [self.vocabulary[each] for each in ids]


def test_tokenizers_are_read_or_refused() -> None:
    """SentencePiece's blanks and bytes are read; another spelling, or none that ends, is an error that says so."""
    assert spellings(Pieces()).spelled[7] == b"\xe8"
    paths = CopyPaths(spellings(Pieces()), ["ab 記"], [], "span", 0)
    assert paths.allowed(paths.start)[0] == {1, 3, 4, 6, 7}
    strange = Pieces()
    strange.vocabulary = ["</s>", "a_", "b_"]
    with pytest.raises(ConfigurationError, match="Pieces spells 'a b' as"):
        CopyConstraint(strange, [])
    endless = Pieces()
    endless.eos_token_id = None
    with pytest.raises(ConfigurationError, match="which tokens end an answer"):
        CopyConstraint(endless, [])


# --- the LLM ---------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def served(llama_folder: Path) -> Iterator[LoraHuggingFaceLLM]:
    """The tiny Llama; its engine ends with the tests."""
    llm = LoraHuggingFaceLLM.from_pretrained(str(llama_folder), max_new_tokens=40, model_name="tiny")
    yield llm
    llm.close()


@needs_lora
async def test_every_way_of_asking_copies(served: LoraHuggingFaceLLM) -> None:
    """Whole, streamed, awaited and as a chat, an answer is the same copy; the log-probabilities are the model's."""
    call: dict[str, Any] = {"copy_from": ["The sun, or the moon?"], "logprobs": True}
    whole = served.complete("What is the colour of the sky?", **call)
    assert whole.text.strip().lower() in ("the sun", "sun", "the moon", "moon", ABSTAIN.lower()) or (
        check_citations(f"{whole.text} [1]", call["copy_from"]).verbatim
    )
    assert [*served.stream_complete("What is the colour of the sky?", **call)][-1].text == whole.text
    assert (await served.acomplete("What is the colour of the sky?", **call)).text == whole.text
    chat = [ChatMessage(role="user", content="What is the colour of the sky?")]
    assert served.chat(chat, **call).message.content == whole.text
    assert [piece async for piece in await served.astream_chat(chat, **call)][-1].message.content == whole.text
    least = min(step[0].logprob for step in whole.logprobs or [])
    assert least < -1.0  # it would have said something else
    assert served.complete("What is the colour of the sky?").text == "The sky is blue."


@needs_lora
def test_rows_of_a_batch_are_held_apart(served: LoraHuggingFaceLLM) -> None:
    """Free and constrained requests that run together give what they give alone."""
    calls: list[dict[str, Any]] = [{}, {"copy_from": ["A dog has legs."]}, {"copy_from": ["A cat."], "copy_also": []}]
    alone = [served.complete("What do cats eat?", **call).text for call in calls]
    asked = [served._ask("What do cats eat?", False, False, dict(call)) for call in calls * 2]
    steps = served.stats().steps
    assert [each.text for each in together(asked)] == alone * 2
    assert served.stats().steps - steps < 40 * 3
    assert len(set(alone)) == 3


def together(asked: Sequence[Any]) -> list[Any]:
    """The results of several requests that are under way at the same time."""
    from llama_index_hybridmem.bells import ThreadBell
    from llama_index_hybridmem.llms.serving.request import blocking

    for each in asked:
        blocking(each.engine.admit(each.request, ThreadBell()))
    return [blocking(each.request.ticket.last()) for each in asked]


@needs_lora
def test_a_whole_llm_copies_from_its_prompts(served: LoraHuggingFaceLLM) -> None:
    """copy_from="prompt" holds for whoever asks, LlamaIndex's engines too; a call may be free of it."""
    llm = served.model_copy(update={"copy_from": "prompt"})
    prompt = "-----\n[1] The fish is small.\n-----\nQuestion: What do cats eat?\nAnswer: "
    answer = llm.complete(prompt).text
    assert answer.lower() == ABSTAIN.lower() or check_citations(answer, ["The fish is small."]).verbatim in (True, None)
    assert answer.removesuffix(" [1]").strip(" .").lower() in "the fish is small. not in the sources."
    assert llm.complete("What do cats eat?", copy_from="off").text == "Cats eat fish and mice."
    assert llm.complete(prompt, copy_also=["Cats."], copy_from=[]).text.lower().strip() == "cats."
    roomy = llm.model_copy(update={"context_window": 2048})  # room that LlamaIndex reckons with for its own prompts
    worded = get_response_synthesizer(
        llm=roomy, text_qa_template=PromptTemplate("{context_str}\nQuestion: {query_str}")
    )
    said = str(worded.get_response("What do cats eat?", ["The fish is small."])).strip(" .").lower()
    assert said in "the fish is small. not in the sources."


@needs_lora
@pytest.mark.parametrize(
    ("call", "words"),
    [
        ({"copy_from": "this text"}, 'copy_from=\'this text\' should be texts, "prompt" or "off"'),
        ({"copy_from": [1]}, "copy_from=.* should be texts"),
        ({"copy_from": True}, "copy_from=True should be"),
        ({"copy_form": ["x"]}, "did you mean 'copy_from'"),
        ({"copy_from": ["x"], "copy_unit": "letter"}, "copy_unit='letter' should be"),
        ({"copy_from": ["x"], "copy_also": [""]}, "texts that are not empty"),
    ],
)
def test_what_cannot_be_copied_is_refused(served: LoraHuggingFaceLLM, call: dict[str, Any], words: str) -> None:
    """Wrong values, before the engine is asked."""
    with pytest.raises(ConfigurationError, match=words):
        served.complete("Hello!", **call)


def test_servers_are_not_asked_to_copy() -> None:
    """A model server masks nothing: the option is refused, wherever it comes from; what says "off" is left out."""
    asked: list[list[dict[str, Any]]] = [[{"copy_from": ["x"]}], [{"copy_from": "prompt"}, {"copy_from": None}]]
    for layers in asked:
        with pytest.raises(ConfigurationError, match="use LoraHuggingFaceLLM"):
            request_options(layers, True)
    off: list[dict[str, Any]] = [{"copy_from": "prompt", "copy_unit": "span"}, {"copy_from": "off", "top_p": 0.5}]
    assert request_options(off, True) == {"top_p": 0.5}


def test_an_adapter_may_be_made_to_copy() -> None:
    """Its defaults say so, in words that a call may use; anything else is refused when it is added."""
    from llama_index_hybridmem.llms.adapters.version import _default

    assert [_default("copy_from", "prompt"), _default("copy_unit", "word")] == ["prompt", "word"]
    assert _default("copy_also", ("None.",)) == ["None."]
    for option, value in (("copy_from", "context"), ("copy_from", ["x"]), ("copy_unit", 1)):
        with pytest.raises(ConfigurationError, match=f"the default {option}=.* should be (prompt or off|span or word)"):
            _default(option, value)
