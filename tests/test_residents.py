"""Loading an adapter: what is refused leaves no trace, what is in use stays, what changed on disk is noticed."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest
from adapter_zoo import CONFIG, WEIGHTS, ZOO
from models import Voice
from test_engine import Base, answer, asked, engine_on, exotic, llama, plain, said, settled, together, version

from llama_index_hybridmem.errors import AdapterRefusedError, told
from llama_index_hybridmem.llms.adapters.files import open_adapter
from llama_index_hybridmem.llms.adapters.version import AdapterVersion, version_of
from llama_index_hybridmem.llms.serving.engine import Engine
from llama_index_hybridmem.llms.serving.request import Request, Result

__all__ = ["exotic", "llama", "plain"]  # fixtures
pytestmark = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in ("torch", "transformers", "peft")),
    reason="needs the extra 'lora', and PEFT to train adapters",
)


def as_offered(name: str, folder: Path) -> AdapterVersion:
    """A version of a folder, whatever lies in it: what cannot be opened is left for the engine to find."""
    try:
        files = open_adapter(folder)
    except AdapterRefusedError:
        return AdapterVersion(name, f"unread {name}", folder, weights_sha256="unread")
    return version_of(files, name, made_for=files.made_for)


def test_the_whole_zoo_is_refused(
    llama: Base, plain: Mapping[str, AdapterVersion], llama_voices: Mapping[str, Voice], tmp_path: Path
) -> None:
    """Every malformed adapter is refused by name while a good one answers; the base stays the same to the bit."""
    import torch

    ids = torch.tensor([llama.ids("Hello!")])
    with torch.inference_mode():
        before = llama.model(ids).logits
    with engine_on(llama, slots=2) as engine:
        for adapter in (plain["acme"], plain["bravo"]):
            answer(engine, asked(llama, "x", adapter))
        for name, kind in ZOO.items():
            bad = as_offered(name, kind.made_from(llama_voices["bravo"].folder, tmp_path / name))
            refused, good = together(engine, [asked(llama, "x", bad), asked(llama, "x", plain["acme"])])
            assert isinstance(refused, AdapterRefusedError), name
            assert isinstance(good, Result)
            assert good.text == said(plain["acme"])
            if kind.found_by != "probe":
                assert {"acme", "bravo"} == set(engine.stats().loaded), name
        assert settled(lambda: engine.stats().leases == 0)
        assert len(engine.stats().loaded) <= 2
        with torch.inference_mode():
            assert torch.equal(llama.model(ids).logits, before)
        assert answer(engine, asked(llama, "x", plain["cairn"])).text == said(plain["cairn"])
    with torch.inference_mode():
        assert torch.equal(llama.model(ids).logits, before)


def test_other_claims_with_the_same_weights_are_checked(
    llama: Base, plain: Mapping[str, AdapterVersion], llama_voices: Mapping[str, Voice], tmp_path: Path
) -> None:
    """A version that says it is of another base, or of another tokenizer, is refused though its weights are loaded."""
    with engine_on(llama) as engine:
        assert answer(engine, asked(llama, "x", plain["bravo"])).text == said(plain["bravo"])
        for name in ("record-of-another-base", "other-tokenizer", "other-template"):
            bad = as_offered("bravo", ZOO[name].made_from(llama_voices["bravo"].folder, tmp_path / name))
            assert bad.weights_sha256 == plain["bravo"].weights_sha256
            assert isinstance(outcome_of(asked(llama, "x", bad), engine), AdapterRefusedError)
        claimed = replace(plain["bravo"], sha256="another", tokenizer_sha256="another")
        assert isinstance(outcome_of(asked(llama, "x", claimed), engine), AdapterRefusedError)


def outcome_of(request: Request, engine: Engine) -> object:
    """What becomes of a lone request."""
    return together(engine, [request])[0]


def test_a_file_broken_after_loading(
    llama: Base, plain: Mapping[str, AdapterVersion], llama_voices: Mapping[str, Voice], tmp_path: Path
) -> None:
    """What is in memory goes on answering; once it has left its slot, the damage is told, and nothing else answers."""
    shutil.copytree(llama_voices["acme"].folder, tmp_path / "acme")
    mine = version("acme", tmp_path / "acme")
    with engine_on(llama, slots=1) as engine:
        assert answer(engine, asked(llama, "x", mine)).text == said(mine)
        content = (tmp_path / "acme" / WEIGHTS).read_bytes()
        os.replace(write(tmp_path / "new", content[:-1] + b"\x01"), tmp_path / "acme" / WEIGHTS)
        assert answer(engine, asked(llama, "x", mine)).text == said(mine)
        assert answer(engine, asked(llama, "x", plain["bravo"])).text == said(plain["bravo"])
        assert "changed since" in told(refusal(outcome_of(asked(llama, "x", mine), engine)))
        os.truncate(tmp_path / "acme" / WEIGHTS, 1000)
        refusal(outcome_of(asked(llama, "x", mine), engine))
        shutil.rmtree(tmp_path / "acme")
        assert "no folder" in told(refusal(outcome_of(asked(llama, "x", mine), engine)))
        assert engine.stats().loaded == ("bravo",)


def write(path: Path, content: bytes) -> Path:
    """A file."""
    path.write_bytes(content)
    return path


def refusal(found: object) -> AdapterRefusedError:
    """The refusal that a request ended with."""
    assert isinstance(found, AdapterRefusedError)
    return found


def test_the_base_answers_only_where_that_was_asked_for(
    llama: Base, llama_voices: Mapping[str, Voice], tmp_path: Path
) -> None:
    """A refused adapter is an error; by `on_refused` the base answers, and the result says why."""
    bad = as_offered("bad", ZOO["nan"].made_from(llama_voices["bravo"].folder, tmp_path / "nan"))
    with engine_on(llama) as engine:
        base = answer(engine, asked(llama, "x"))
        request = replace(asked(llama, "x", bad), on_refused="base")
        found = answer(engine, request)
        assert found.text == base.text
        assert "NaN" in (found.fallback or "")
        refusal(outcome_of(asked(llama, "x", bad), engine))


def test_a_leased_adapter_stays(llama: Base, plain: Mapping[str, AdapterVersion]) -> None:
    """It is neither evicted nor counted as free while a row uses it; afterwards it can go."""
    with engine_on(llama, slots=1) as engine:
        residents = engine.residents
        weights = plain["acme"].weights_sha256

        def lend() -> tuple[bool, object]:
            resident = residents.lease(plain["acme"])
            assert resident is not None
            found = residents.evict(weights), residents.lease(plain["bravo"])
            residents.release(resident)
            return found

        assert engine.call(lend).result() == (False, None)
        assert engine.call(lambda: residents.evict(weights)).result()
        assert engine.stats().loaded == ()
        assert answer(engine, asked(llama, "x", plain["acme"])).text == said(plain["acme"])


def test_the_least_recently_used_leaves_first(llama: Base, plain: Mapping[str, AdapterVersion]) -> None:
    """Two slots, three adapters: who was asked for longest ago makes room, unless it is pinned."""
    with engine_on(llama, slots=2) as engine:
        for name in ("acme", "bravo", "acme", "cairn"):
            answer(engine, asked(llama, "x", plain[name]))
        assert engine.stats().loaded == ("acme", "cairn")
        engine.call(lambda: engine.residents.hold(plain["acme"], True)).result()
        for name in ("bravo", "delta"):
            answer(engine, asked(llama, "x", plain[name]))
        assert engine.stats().loaded == ("acme", "delta")


def test_an_adapter_of_few_words_is_none_without_effect(llama: Base, tmp_path: Path) -> None:
    """One that changes the embedding of a single token is served, whatever ids the probe looks at."""
    import torch
    from safetensors.torch import save_file

    words, size = llama.model.get_input_embeddings().weight.shape
    for token in (7, 301):
        folder = tmp_path / str(token)
        folder.mkdir()
        a = torch.zeros(2, words)
        a[:, token] = 1.0
        key = "base_model.model.model.embed_tokens.lora_embedding_"
        save_file({f"{key}A": a, f"{key}B": torch.ones(size, 2)}, str(folder / WEIGHTS))
        config = {"peft_type": "LORA", "r": 2, "lora_alpha": 2, "target_modules": ["embed_tokens"]}
        (folder / CONFIG).write_text(json.dumps(config))
        with engine_on(llama) as engine:
            assert answer(engine, asked(llama, "x", version("few", folder))).tokens
