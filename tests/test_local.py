"""A local model as a LlamaIndex LLM, on a tiny random Llama: every path of LlamaIndex, failures, threads."""

from __future__ import annotations

import asyncio
import copy
import importlib.util
import json
import logging
import pickle
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from llama_index.core.base.llms.types import ChatMessage
from llama_index.core.callbacks import CallbackManager, TokenCountingHandler
from llama_index.core.prompts import PromptTemplate

from llama_index_hybridmem.errors import ConfigurationError, MissingExtraError
from llama_index_hybridmem.llms import generation
from llama_index_hybridmem.llms.local import TransformersLLM

pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "safetensors")),
    reason="needs the extra 'lora'",
)
TEMPLATE = (
    "<s>{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
CHAT = [ChatMessage(role="system", content="Be brief."), ChatMessage(role="user", content="Hi")]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Llama of two layers over bytes, whose tokenizer puts <s> in front as Llama's does."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

    folder = tmp_path_factory.mktemp("tiny")
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({letter: number for number, letter in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<s>", "</s>"])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 256)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<s>", eos_token="</s>", chat_template=TEMPLATE
    )
    fast.save_pretrained(folder)
    sizes = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4}
    random_state = torch.random.get_rng_state()
    torch.manual_seed(7)
    config = LlamaConfig(vocab_size=258, max_position_embeddings=256, bos_token_id=256, eos_token_id=257, **sizes)
    LlamaForCausalLM(config).save_pretrained(folder)
    torch.random.set_rng_state(random_state)
    return folder


@pytest.fixture
def llm(folder: Path) -> TransformersLLM:
    """The tiny model; every object of it shares the weights."""
    return TransformersLLM(path=str(folder), model_name="tiny", max_new_tokens=12)


def loaded(llm: TransformersLLM) -> generation.Loaded:
    """The weights behind an LLM."""
    return generation.load(llm.path, llm.dtype, llm.device)


def replace_generate(llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch, generate: Callable[..., Any]) -> None:
    """Puts another `generate` into the shared model."""
    monkeypatch.setattr(loaded(llm).model, "generate", generate)


def test_every_way_gives_the_same_text(llm: TransformersLLM) -> None:
    """Complete, chat and their streams and async twins agree, and a stream's deltas join to its text."""
    expected = llm.complete("Hi").text
    assert expected
    pieces = list(llm.stream_complete("Hi"))
    assert "".join(piece.delta or "" for piece in pieces) == pieces[-1].text == expected
    user = [ChatMessage(role="user", content="Hi")]
    assert llm.chat(user).message.content == expected
    chats = list(llm.stream_chat(user))
    assert "".join(piece.delta or "" for piece in chats) == chats[-1].message.content == expected


async def test_every_async_way_gives_the_same_text(llm: TransformersLLM) -> None:
    """The async twins give what the sync calls give."""
    expected = llm.complete("Hi").text
    user = [ChatMessage(role="user", content="Hi")]
    assert (await llm.acomplete("Hi")).text == expected
    assert (await llm.achat(user)).message.content == expected
    assert "".join([piece.delta or "" async for piece in await llm.astream_complete("Hi")]) == expected
    assert "".join([piece.delta or "" async for piece in await llm.astream_chat(user)]) == expected


def test_template_is_rendered_once(llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A chat has one start token, a formatted prompt is taken verbatim, a plain one is a user's message."""
    prompts: list[str] = []

    def generate(ids: Any, **_: Any) -> None:
        prompts.append(loaded(llm).tokenizer.decode(ids[0]))

    replace_generate(llm, monkeypatch, generate)
    llm.chat(CHAT)
    llm.complete("Hi")
    llm.complete("Hi", formatted=True)
    chat = "<s>[system]Be brief.</s>[user]Hi</s>[assistant]"
    assert prompts == [chat, "<s>[user]Hi</s>[assistant]", "<s>Hi"]


def test_without_template_roles_are_lines(llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A base model without a chat template still answers a chat."""
    monkeypatch.setattr(loaded(llm).tokenizer, "chat_template", None)
    ids = loaded(llm).render([{"role": "user", "content": "Hi"}])
    assert loaded(llm).tokenizer.decode(ids) == "<s>user: Hi\nassistant:"
    assert llm.metadata.is_chat_model is False


def test_usage_is_counted_once_and_in_streams(llm: TransformersLLM) -> None:
    """Token counts stand in raw, on a stream's last piece too, and LlamaIndex's counter finds them."""
    usage = llm.complete("Hi").raw["usage"]
    assert usage == {"prompt_tokens": 21, "completion_tokens": 12, "total_tokens": 33}
    assert [piece.raw for piece in llm.stream_complete("Hi")][-1] == {"usage": usage}
    counter = TokenCountingHandler()
    counted = llm.model_copy(update={"callback_manager": CallbackManager([counter])})
    counted.chat([ChatMessage(role="user", content="Hi")])
    assert counter.total_llm_token_count == 33
    list(counted.stream_chat([ChatMessage(role="user", content="Hi")]))
    assert counter.total_llm_token_count == 66


def test_options_of_a_call_are_heeded(llm: TransformersLLM) -> None:
    """max_new_tokens and max_tokens hold for the call; sampling is off unless asked for; nonsense is refused."""
    assert llm.complete("Hi", max_new_tokens=3).raw["usage"]["completion_tokens"] == 3
    assert llm.complete("Hi", max_tokens=4).raw["usage"]["completion_tokens"] == 4
    assert llm.complete("Hi").text == llm.complete("Hi").text
    assert len({llm.complete("Hi", temperature=5.0).text for _ in range(5)}) > 1
    with pytest.raises(ValueError, match="no_such_option"):
        llm.complete("Hi", no_such_option=1)


def test_generation_ends_at_the_end_token(llm: TransformersLLM) -> None:
    """The end token stops the answer before max_new_tokens."""
    written = llm._begin(generation.Generation, "Hi", False, {})
    written.run()
    assert written.ids is not None
    third = written.ids[2]
    answer = llm.complete("Hi", eos_token_id=third)
    assert answer.raw["usage"]["completion_tokens"] == written.ids.index(third) + 1


def test_failing_generation_raises_in_the_consumer(llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """An error in the generating thread ends the stream with that error, and the model stays usable."""
    real = loaded(llm).model.generate

    def generate(ids: Any, streamer: Any, **options: Any) -> None:
        real(ids, streamer=streamer, **{**options, "max_new_tokens": 2})
        raise RuntimeError("out of memory")

    with monkeypatch.context() as patch:
        replace_generate(llm, patch, generate)
        stream = llm.stream_complete("Hi")
        with pytest.raises(RuntimeError, match="out of memory"):
            list(stream)
    assert llm.complete("Hi").text


async def test_failing_async_stream_raises(llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """The same in an async stream."""

    def generate(*_: Any, **__: Any) -> None:
        raise RuntimeError("out of memory")

    replace_generate(llm, monkeypatch, generate)
    with pytest.raises(RuntimeError, match="out of memory"):
        async for _ in await llm.astream_chat(CHAT):
            pass


def test_abandoned_stream_frees_the_model(llm: TransformersLLM) -> None:
    """A consumer that leaves early does not keep the model busy until max_new_tokens."""
    stream = llm.stream_complete("Hi", max_new_tokens=200)
    next(stream)
    del stream
    with loaded(llm).lock:
        names = [thread.name for thread in threading.enumerate()]
    assert names.count("hybridmem-generation") <= 1
    assert llm.complete("Hi").raw["usage"]["completion_tokens"] == 12


async def test_event_loop_stays_free(llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """While the model is busy the loop runs on, for whole answers and for streams."""
    release = threading.Event()

    def generate(*_: Any, **__: Any) -> None:
        assert release.wait(10)

    replace_generate(llm, monkeypatch, generate)

    async def drain() -> None:
        async for _ in await llm.astream_complete("Hi"):
            pass

    busy = [asyncio.ensure_future(work) for work in (llm.acomplete("Hi"), llm.achat(CHAT), drain())]
    await asyncio.sleep(0.05)
    assert not any(task.done() for task in busy)
    release.set()  # only reached because the loop was free
    await asyncio.gather(*busy)


def test_threads_share_one_model(llm: TransformersLLM) -> None:
    """Concurrent calls wait for one another and get the answers they get alone."""
    prompts = [f"question {number}" for number in range(6)]
    alone = [llm.complete(prompt).text for prompt in prompts]
    found: dict[int, str] = {}

    def ask(number: int) -> None:
        found[number] = llm.complete(prompts[number]).text

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [found[number] for number in range(6)] == alone


def test_long_prompt_loses_its_middle_loudly(llm: TransformersLLM, caplog: pytest.LogCaptureFixture) -> None:
    """A prompt beyond the window keeps head and tail, with a warning that says how much went."""
    with caplog.at_level(logging.WARNING):
        usage = llm.complete("START" + "x" * 500 + "END?").raw["usage"]
    assert usage["prompt_tokens"] == 256 - 12
    assert "was cut to 244 and lost its middle: tiny reads 256, of which 12 are kept" in caplog.text
    kept = llm._shortened(list(range(1000)), 12)
    assert kept == [*range(61), *range(1000 - 183, 1000)]
    with pytest.raises(ConfigurationError, match="leaves no room"):
        llm.complete("Hi", max_new_tokens=256)


def test_metadata_names_this_model(llm: TransformersLLM, folder: Path) -> None:
    """Name, window and answer length are the model's own; without a name the path stands for it."""
    assert (llm.metadata.model_name, llm.metadata.context_window, llm.metadata.num_output) == ("tiny", 256, 12)
    assert llm.metadata.is_chat_model is True
    assert TransformersLLM(path=str(folder)).metadata.model_name == str(folder)


def test_given_metadata_loads_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """With window and template given, an engine can be built before the weights are read."""
    monkeypatch.setattr(generation, "_load", lambda *_: pytest.fail("loaded"))
    llm = TransformersLLM(path="somewhere", context_window=64, is_chat_model=True)
    assert llm.metadata.context_window == 64


def test_copies_carry_no_weights(llm: TransformersLLM) -> None:
    """Repr, pickle, deepcopy and the dict round trip work and give the same answers."""
    expected = llm.complete("Hi").text
    assert "tiny" in repr(llm)
    pickled = pickle.dumps(llm)
    assert len(pickled) < 5000
    plain = {key: value for key, value in llm.to_dict().items() if not callable(value)}
    assert json.loads(json.dumps(plain, default=str))["path"] == llm.path
    for twin in (pickle.loads(pickled), copy.deepcopy(llm)):
        assert twin.complete("Hi").text == expected


def test_predict_uses_the_chat_template(llm: TransformersLLM) -> None:
    """LlamaIndex's predict and stream, which its synthesizers call, work."""
    prompt = PromptTemplate("Hi")
    assert llm.predict(prompt) == llm.complete("Hi").text
    assert "".join(llm.stream(prompt)) == llm.complete("Hi").text


def test_half_a_character_waits(llm: TransformersLLM, monkeypatch: pytest.MonkeyPatch) -> None:
    """A character of several tokens is handed over whole, and a torn one at the end is not lost."""
    import torch

    def generate(ids: Any, streamer: Any, **_: Any) -> None:
        streamer.put(ids)
        for token in [*loaded(llm).encode("a記")[1:], loaded(llm).encode("憶")[1]]:
            streamer.put(torch.tensor([token]))

    replace_generate(llm, monkeypatch, generate)
    assert [piece.delta for piece in llm.stream_complete("Hi")] == ["a", "記", "\ufffd"]


def test_missing_library_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without transformers the first call gives the exact pip line."""
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(MissingExtraError, match=r'pip install "llama-index-hybridmem\[lora\]"'):
        TransformersLLM(path="not loaded yet").complete("Hi")


@pytest.fixture
def damaged(folder: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the tiny model with half its weights file."""
    for file in folder.iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    return tmp_path


def test_unusable_model_is_named(damaged: Path, tmp_path: Path) -> None:
    """A folder that is not there, damaged weights and an unknown dtype give one clear error each."""
    for fields in ({"path": str(tmp_path / "none")}, {"path": str(damaged)}, {"path": str(damaged), "dtype": "float3"}):
        with pytest.raises(ConfigurationError, match="could not be loaded"):
            TransformersLLM(**fields).complete("Hi")
