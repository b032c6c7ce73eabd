"""What each family of servers is told, and how its lists and refusals are read."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import ConfigurationError, RemoteModelError
from llama_index_hybridmem.llms.remote.dialects import DIALECTS, Served, dialect_of, find_served, seen_by_server

BASE = "org/base-7b"


@pytest.mark.parametrize(
    ("dialect", "model", "body"),
    [
        ("vllm", "brand@1a2b3c4d", {}),
        ("sglang", "org/base-7b:brand@1a2b3c4d", {}),
        ("ray", "org/base-7b:brand@1a2b3c4d", {}),
        ("tgi", "brand@1a2b3c4d", {}),
        ("lorax", "/adapters/brand", {"adapter_source": "local"}),
        ("llama.cpp", "org/base-7b", {"lora": [{"id": 3, "scale": 1.0}]}),
    ],
)
def test_an_adapter_is_asked_for_in_the_server_s_words(dialect: str, model: str, body: dict[str, object]) -> None:
    """By the model's name, by base and name, by its place, or by its number in the body."""
    wording = dialect_of(dialect).wording(BASE, "brand@1a2b3c4d", "/adapters/brand", 3)
    assert (wording.model, wording.extra_body) == (model, body)


@pytest.mark.parametrize(
    ("dialect", "model"),
    [("vllm", BASE), ("sglang", BASE), ("ray", BASE), ("tgi", "tgi"), ("lorax", ""), ("llama.cpp", BASE)],
)
def test_the_base_is_asked_for_in_the_server_s_words(dialect: str, model: str) -> None:
    """TGI takes any other name for an adapter's, LoRAX nothing for the base."""
    assert dialect_of(dialect).wording(BASE, None).model == model


def test_llama_cpp_is_told_that_no_adapter_counts() -> None:
    """Its empty list means "all that were loaded at the start", so one scale of 0 is named."""
    assert dialect_of("llama.cpp").wording(BASE, None).extra_body == {"lora": [{"id": 0, "scale": 0.0}]}


def test_llama_cpp_needs_the_number() -> None:
    """Without it the request would go to the base, so there is none."""
    with pytest.raises(ConfigurationError, match=r"by number, and that of 'brand'"):
        dialect_of("llama.cpp").wording(BASE, "brand")


def test_lorax_takes_a_name_on_the_hub_where_there_is_no_place() -> None:
    """Then the server's own source of adapters counts."""
    wording = dialect_of("lorax").wording(BASE, "org/brand")
    assert (wording.model, dict(wording.extra_body)) == ("org/brand", {})


@pytest.mark.parametrize(("dialect", "prefix"), [("vllm", "/v1"), ("sglang", "")])
def test_loading_and_unloading(dialect: str, prefix: str) -> None:
    """The same bodies, at different places."""
    load = dialect_of(dialect).load("brand@1a2b3c4d", "/adapters/brand")
    assert load.path == f"{prefix}/load_lora_adapter"
    assert load.body == {"lora_name": "brand@1a2b3c4d", "lora_path": "/adapters/brand"}
    unload = dialect_of(dialect).unload("brand@1a2b3c4d")
    assert (unload.path, unload.body) == (f"{prefix}/unload_lora_adapter", {"lora_name": "brand@1a2b3c4d"})


@pytest.mark.parametrize(
    ("dialect", "advice"), [("tgi", "LORA_ADAPTERS=brand=/adapters/brand"), ("llama.cpp", "--lora brand.gguf")]
)
def test_who_cannot_load_says_how_to_start(dialect: str, advice: str) -> None:
    """A server whose adapters are fixed at its start: the message has the line that starts it with this one."""
    with pytest.raises(RemoteModelError, match="cannot load one while it runs: restart it with " + advice):
        dialect_of(dialect).load("brand", "/adapters/brand")
    with pytest.raises(RemoteModelError, match="cannot unload 'brand'"):
        dialect_of(dialect).unload("brand")


def test_vllm_s_list() -> None:
    """The base with its window, adapters with the base as parent and without a window."""
    listing = {
        "data": [
            {"id": BASE, "root": "/models/base", "parent": None, "max_model_len": 4096, "object": "model"},
            {"id": "brand", "root": "/adapters/brand", "parent": BASE, "max_model_len": None},
        ]
    }
    assert dialect_of("vllm").read(listing) == [
        Served(BASE, None, "/models/base", 4096),
        Served("brand", BASE, "/adapters/brand"),
    ]


def test_llama_cpp_s_list() -> None:
    """Adapters by number; they are found by their file's name."""
    served = dialect_of("llama.cpp").read(
        [{"id": 0, "path": "/a/legal.gguf", "scale": 1.0}, {"id": 1, "path": "b.gguf"}]
    )
    found = find_served(served, "legal@1a2b3c4d", "legal")
    assert found is not None
    assert found.number == 0
    assert find_served(served, "other") is None


@pytest.mark.parametrize("listing", [None, [], {"models": []}, {"data": [{"name": "x"}]}, {"data": 3}])
def test_something_else_is_no_list(listing: object) -> None:
    """A proxy's error page or another API is named, not mistaken for a server without adapters."""
    with pytest.raises(RemoteModelError, match="does not list its models as expected"):
        dialect_of("vllm").read(listing)


def test_refusals_are_told_apart() -> None:
    """Loaded twice is fine, unknown means load it again, anything else is an error."""
    vllm, sglang = DIALECTS["vllm"], DIALECTS["sglang"]
    assert vllm.is_duplicate(400, "The lora adapter 'x' has already been loaded. If you want to load in place …")
    assert not vllm.is_duplicate(400, "max_lora_rank is 16")
    assert not vllm.is_duplicate(500, "already been loaded")
    assert vllm.is_unknown(404, "The model `x` does not exist.")
    assert sglang.is_unknown(400, "The following requested LoRA adapters are not loaded: x")
    assert not vllm.is_unknown(400, "This model's maximum context length is 512 tokens")
    assert not vllm.is_unknown(503, "not loaded")


def test_an_unknown_dialect_is_refused() -> None:
    """With those that there are."""
    with pytest.raises(ConfigurationError, match=r"no dialect 'ollama'; known: vllm, sglang"):
        dialect_of("ollama")


def test_paths_are_told_as_the_server_sees_them() -> None:
    """The longest folder that fits counts; a folder's name is not a prefix of another's."""
    paths = {"/srv/adapters": "/models", "/srv/adapters/eu/": "/eu/"}
    assert seen_by_server("/srv/adapters/brand/1a", paths) == "/models/brand/1a"
    assert seen_by_server("/srv/adapters/eu/brand", paths) == "/eu/brand"
    assert seen_by_server("/srv/adapters", paths) == "/models"
    assert seen_by_server("/srv/adapters-old/brand", paths) == "/srv/adapters-old/brand"


@given(st.text(), st.text(), st.dictionaries(st.text(min_size=1), st.text()))
def test_no_name_or_path_breaks_the_wording(name: str, path: str, load_paths: dict[str, str]) -> None:
    """Whatever an adapter or a folder is called, it stands in the request as it is."""
    assert dialect_of("vllm").wording(BASE, name).model == name
    assert dialect_of("sglang").wording(BASE, name).model == f"{BASE}:{name}"
    assert seen_by_server(path, {}) == path
    assert isinstance(seen_by_server(path, load_paths), str)
