"""Configurations, layouts and records as plain values: what is refused, what is computed, and nothing else happens."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llama_index_hybridmem.errors import AdapterRefusedError
from llama_index_hybridmem.llms.adapters.compatibility import BaseRecord, check_base
from llama_index_hybridmem.llms.adapters.config import AdapterConfig, read_config
from llama_index_hybridmem.llms.adapters.fingerprints import (
    sample_places,
    template_sha256,
    vocabulary_of,
    vocabulary_sha256,
)
from llama_index_hybridmem.llms.adapters.layout import Layout, ModuleShape, lay_out

PLAIN = {"peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 8, "lora_alpha": 16, "target_modules": ["q_proj"]}
# What PEFT 0.21.2 writes for LoraConfig(r=8): every key with its default.
WRITTEN_BY_PEFT = {
    **PLAIN,
    "alora_invocation_tokens": None,
    "alpha_pattern": {},
    "arrow_config": None,
    "auto_mapping": None,
    "base_model_name_or_path": "org/base",
    "bias": "none",
    "corda_config": None,
    "ensure_weight_tying": False,
    "eva_config": None,
    "exclude_modules": None,
    "fan_in_fan_out": False,
    "inference_mode": True,
    "init_lora_weights": True,
    "kasa_config": None,
    "layer_replication": None,
    "layers_pattern": None,
    "layers_to_transform": None,
    "loftq_config": {},
    "lora_bias": False,
    "lora_dropout": 0.05,
    "lora_ga_config": None,
    "megatron_config": None,
    "megatron_core": "megatron.core",
    "modules_to_save": None,
    "monteclora_config": None,
    "peft_version": "0.21.2",
    "qalora_group_size": 16,
    "rank_pattern": {},
    "revision": None,
    "target_parameters": None,
    "trainable_token_indices": None,
    "use_bdlora": None,
    "use_dora": False,
    "use_qalora": False,
    "use_rslora": False,
    "velora_config": None,
}
MODULES = {
    "model.embed_tokens": ModuleShape(50, 8, "embedding"),
    **{
        f"model.layers.{layer}.{name}": ModuleShape(8, out)
        for layer in range(3)
        for name, out in {"self_attn.q_proj": 8, "self_attn.v_proj": 4, "mlp.up_proj": 16}.items()
    },
    "lm_head": ModuleShape(8, 50),
}
PARAMETERS = {
    f"{name}.weight": (shape.in_features, shape.out_features)
    if shape.kind == "embedding"
    else (shape.out_features, shape.in_features)
    for name, shape in MODULES.items()
} | {"model.norm.weight": (8,)}
RECORD = BaseRecord(
    name="/models/Base-1B",
    revision="abc",
    model_type="llama",
    sizes={"hidden_size": 8, "vocab_size": 50},
    dtype="bfloat16",
    quantization=None,
    samples={"model.norm.weight": (1.0, -0.5, 0.0), "q_proj.weight": (0.25, 3.0, -7.0)},
    samples_sha256="aa",
    tokenizer_sha256="bb",
    chat_template_sha256="cc",
    special_tokens={"bos": 1, "eos": 2, "pad": None},
)
CONFIG = AdapterConfig(8, 16.0)

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4),
    max_leaves=8,
)


def tensors_of(config: AdapterConfig, adapted: list[str]) -> dict[str, tuple[int, ...]]:
    """The keys and shapes that an adapter of these modules has."""
    found: dict[str, tuple[int, ...]] = {}
    for name in adapted:
        shape, rank = MODULES[name], config.rank(name)
        a, b = (".lora_A.weight", ".lora_B.weight")
        if shape.kind == "embedding":
            a, b = ".lora_embedding_A", ".lora_embedding_B"
        found[f"base_model.model.{name}{a}"] = (rank, shape.in_features)
        found[f"base_model.model.{name}{b}"] = (shape.out_features, rank)
        if config.use_dora:
            found[f"base_model.model.{name}.lora_magnitude_vector"] = (shape.out_features,)
    return found


def laid_out(config: AdapterConfig, tensors: dict[str, tuple[int, ...]]) -> Layout:
    """`lay_out` on the base of these tests."""
    return lay_out(config, tensors, MODULES, PARAMETERS, "adapter_model.safetensors")


def refusal_of(call: Callable[[], object]) -> AdapterRefusedError | None:
    """The refusal that a call ends with, None where it succeeds; any other error goes on."""
    try:
        call()
    except AdapterRefusedError as refused:
        return refused
    return None


def test_what_peft_writes_is_read() -> None:
    """Every key of a plain adapter is known, and those that compute are in the result."""
    config = read_config(WRITTEN_BY_PEFT, "adapter_config.json")
    assert (config.r, config.alpha, config.scaling("x"), config.exclusive) == (8, 16.0, 2.0, False)
    assert (config.target_modules, config.base_name, config.peft_version) == (("q_proj",), "org/base", "0.21.2")


@pytest.mark.parametrize("initialiser", [True, False, None, "gaussian", "eva", "orthogonal", "mica"])
def test_initialisers_that_leave_the_base_alone_are_served(initialiser: Any) -> None:
    """They differ in where training began only."""
    assert read_config(PLAIN | {"init_lora_weights": initialiser}, "f").r == 8


@pytest.mark.parametrize("empty", [None, False, "", [], {}, 0])
def test_an_unknown_key_without_a_value_is_served(empty: Any) -> None:
    """A later PEFT writes its new settings as off."""
    assert read_config(PLAIN | {"of_a_later_peft": empty}, "f").r == 8


@given(st.text(min_size=1, max_size=20), json_values)
def test_an_unknown_key_with_a_value_is_refused_by_name(key: str, value: Any) -> None:
    """What is not known may change the answer."""
    if key in WRITTEN_BY_PEFT or value in (None, False, "", [], {}):
        return
    with pytest.raises(AdapterRefusedError) as refused:
        read_config(PLAIN | {f"_{key}": value}, "adapter_config.json")
    assert refused.value.key == f"_{key}"


@given(json_values)
def test_any_json_is_read_or_refused(value: Any) -> None:
    """Whatever a file holds, the only error is the one that says so."""
    with pytest.raises(AdapterRefusedError) as refused:
        read_config(value, "adapter_config.json")
    assert refused.value.place == "adapter_config.json"
    assert refused.value.advice


@given(st.dictionaries(st.sampled_from(sorted(WRITTEN_BY_PEFT)), json_values, max_size=5))
def test_any_values_under_known_keys_are_read_or_refused(changes: dict[str, Any]) -> None:
    """Nor does a value of another type than PEFT's raise anything else, now or when it is used."""

    def read_and_lay_out() -> None:
        config = read_config(WRITTEN_BY_PEFT | changes, "f")
        laid_out(config, tensors_of(replace(config, rank_pattern={}), ["model.layers.0.self_attn.q_proj"]))

    refused = refusal_of(read_and_lay_out)
    assert refused is None or refused.advice


@pytest.mark.parametrize(
    "pattern",
    [
        "(a+)+b",
        "(a|a)*b",
        "(.*)*x",
        "(a{1,9}){1,9}",
        r"(q)\1",
        "(?=q)q",
        "(?i)q",
        ".*.*.*.*.*.*x",
        "q" * 2000,
        "(",
        "[",
    ],
)
@pytest.mark.parametrize(
    "key", ["target_modules", "exclude_modules", "rank_pattern", "alpha_pattern", "layers_pattern"]
)
def test_patterns_that_never_end_are_refused(pattern: str, key: str) -> None:
    """A stranger's regular expression cannot occupy the server, whichever key it stands in."""
    value: Any = {pattern: 8} if key.endswith("k_pattern") or key == "alpha_pattern" else pattern
    with pytest.raises(AdapterRefusedError) as refused:
        read_config(PLAIN | {key: value}, "f")
    assert refused.value.key == key


def test_the_patterns_that_people_write_are_served() -> None:
    """Names, alternatives, numbers of layers."""
    for pattern in (r".*layers\.(1|2)\..*(q|v)_proj", r"model\.layers\.\d+\.mlp\.(?:up|down)_proj", "all-linear"):
        assert read_config(PLAIN | {"target_modules": pattern}, "f").target_modules == pattern


@pytest.mark.parametrize(
    ("alpha", "rank", "rslora", "served"),
    [
        (16, 8, False, True),
        (512, 8, False, True),
        (1600, 8, False, False),
        (512, 256, True, True),
        (9000, 64, True, False),
    ],
)
def test_a_scaling_that_drowns_the_base_is_refused(alpha: int, rank: int, rslora: bool, served: bool) -> None:
    """Up to 64 is what people train with; a hundred times alpha is a mistake."""
    value = PLAIN | {"lora_alpha": alpha, "r": rank, "use_rslora": rslora}
    if served:
        assert read_config(value, "f").alpha == alpha
        return
    with pytest.raises(AdapterRefusedError, match=r"lora_alpha: .*Restore the lora_alpha"):
        read_config(value, "f")


def test_a_pattern_of_alpha_can_drown_the_base_too() -> None:
    """The refusal names the key that holds it."""
    with pytest.raises(AdapterRefusedError, match="alpha_pattern: "):
        read_config(PLAIN | {"alpha_pattern": {"q_proj": 4000}}, "f")


configs = st.builds(
    AdapterConfig,
    r=st.integers(1, 9),
    alpha=st.sampled_from([1.0, 8.0]),
    use_rslora=st.booleans(),
    use_dora=st.booleans(),
    rank_pattern=st.dictionaries(st.sampled_from(["q_proj", "layers.1.mlp.up_proj", r".*\.2\..*"]), st.integers(1, 9)),
)


@given(configs, st.lists(st.sampled_from(sorted(MODULES)), min_size=1, unique=True))
def test_every_tensor_is_used_exactly_once(config: AdapterConfig, adapted: list[str]) -> None:
    """Each key of the file stands in one place of the layout, and each adapted module in one part."""
    tensors = tensors_of(config, adapted)
    layout = laid_out(config, tensors)
    used = [key for part in layout.parts for key in (part.a, part.b, part.magnitude) if key is not None]
    assert sorted(used) == sorted(tensors)
    assert [part.module for part in layout.parts] == [name for name in MODULES if name in adapted]
    for part in layout.parts:
        divisor = math.sqrt(part.rank) if config.use_rslora else part.rank
        assert part.scaling == config.alpha / divisor


@given(configs, st.lists(st.sampled_from(sorted(MODULES)), min_size=1, unique=True), st.data())
def test_one_tensor_less_or_more_or_otherwise_is_refused(
    config: AdapterConfig, adapted: list[str], data: st.DataObject
) -> None:
    """A file that differs in one tensor from what the configuration says is refused, and the message names a key."""
    config = replace(config, target_modules=tuple(adapted))
    tensors = tensors_of(config, adapted)
    key = data.draw(st.sampled_from(sorted(tensors)))
    less = {name: shape for name, shape in tensors.items() if name != key}
    more = tensors | {data.draw(st.sampled_from(["x", key + ".x", key.replace("model.", "model.9.", 1)])): (3, 3)}
    other = tensors | {key: (*tensors[key][:-1], tensors[key][-1] + 1)}
    for changed in (less, more, other):
        with pytest.raises(AdapterRefusedError) as refused:
            laid_out(config, changed)
        assert refused.value.place == "adapter_model.safetensors"
        assert refused.value.advice


@given(st.dictionaries(st.text(max_size=30), st.lists(st.integers(0, 9), max_size=3).map(tuple), max_size=3))
def test_any_file_is_laid_out_or_refused(tensors: dict[str, tuple[int, ...]]) -> None:
    """Keys of any form raise nothing else; none of these is an adapter."""
    with pytest.raises(AdapterRefusedError):
        laid_out(CONFIG, tensors)


def test_all_linear_is_every_linear_module_of_the_layers() -> None:
    """As PEFT means it: without the embeddings and without the head."""
    adapted = [name for name in MODULES if ".layers." in name]
    config = AdapterConfig(4, 8.0, target_modules="all-linear")
    assert len(laid_out(config, tensors_of(config, adapted)).parts) == 9
    with pytest.raises(AdapterRefusedError, match="missing, though target_modules"):
        laid_out(config, tensors_of(config, adapted[1:]))
    with pytest.raises(AdapterRefusedError, match=r"lm_head: target_modules does not name it"):
        laid_out(config, tensors_of(config, [*adapted, "lm_head"]))


def test_a_name_in_target_modules_that_this_base_lacks_is_no_fault() -> None:
    """People list the names of many families."""
    config = AdapterConfig(4, 8.0, target_modules=("q_proj", "query_key_value"))
    assert len(laid_out(config, tensors_of(config, [name for name in MODULES if "q_proj" in name])).parts) == 3


def test_a_module_that_is_saved_as_a_whole_takes_no_lora() -> None:
    """PEFT puts no LoRA into what it replaces."""
    config = AdapterConfig(4, 8.0, target_modules=("q_proj", "up_proj"), modules_to_save=("mlp",))
    tensors = tensors_of(config, [name for name in MODULES if "q_proj" in name])
    tensors |= {f"base_model.model.model.layers.{layer}.mlp.up_proj.weight": (16, 8) for layer in range(3)}
    layout = laid_out(config, tensors)
    assert (len(layout.parts), len(layout.saved), config.exclusive) == (3, 3, True)


def test_a_record_survives_a_file() -> None:
    """As JSON and back it is the same."""
    assert BaseRecord.from_json(json.loads(json.dumps(RECORD.to_json())), "f") == RECORD


@given(json_values | st.dictionaries(st.sampled_from(sorted(RECORD.to_json())), json_values))
def test_a_damaged_record_is_refused(value: Any) -> None:
    """A field that is missing or of another type is named; nothing else is raised."""
    whole = RECORD.to_json() | value if isinstance(value, dict) else value
    refused = refusal_of(lambda: BaseRecord.from_json(whole, "hybridmem.json"))
    assert refused is None or str(refused.key).startswith("base")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model_type": "qwen2"}, "model_type: made for a qwen2, the base is a llama"),
        ({"sizes": {"hidden_size": 16, "vocab_size": 50}}, "hidden_size: made for 16, the base has 8"),
        ({"sizes": {"hidden_size": 8}}, "vocab_size: made for None, the base has 50"),
        ({"samples_sha256": "zz"}, "samples_sha256: made for a base with other weights"),
        ({"samples": {**RECORD.samples, "q_proj.weight": (0.25, 3.0, 7.0)}}, r"q_proj\.weight: .*other weights here"),
        ({"samples": {"other.weight": (1.0,)}}, "samples_sha256: made for a base with other weights"),
        ({"tokenizer_sha256": "zz"}, "tokenizer: made with another vocabulary"),
        ({"chat_template_sha256": "zz"}, "chat_template: made with another chat template"),
        ({"special_tokens": {"bos": 1, "eos": 3, "pad": None}}, "eos_token: made with id 3, the base has 2"),
        ({"special_tokens": {"bos": None, "eos": 2, "pad": None}}, "bos_token: made with id None, the base has 1"),
    ],
)
def test_a_record_of_another_base_is_refused(change: dict[str, Any], message: str) -> None:
    """Each part of the record counts by itself, and the message says what differs."""
    with pytest.raises(AdapterRefusedError, match=message):
        check_base(replace(RECORD, **change), RECORD, CONFIG, "hybridmem.json")


@pytest.mark.parametrize(
    "change",
    [
        {},
        {"name": "org/elsewhere", "revision": None},
        {"special_tokens": {"bos": 1, "eos": 2, "pad": 2}},
        {"chat_template_sha256": None},
        {"dtype": "float32", "samples_sha256": "zz", "samples": {"model.norm.weight": (1.003, -0.4985, 0.0)}},
        {"quantization": "4bit", "samples_sha256": "zz", "samples": {"model.norm.weight": (1.0, -0.5, 0.0)}},
    ],
)
def test_the_same_base_under_other_circumstances_is_served(change: dict[str, Any]) -> None:
    """Another path, a pad token, another dtype, quantisation: the adapter still fits."""
    check_base(replace(RECORD, **change), RECORD, AdapterConfig(8, 16.0, base_name="org/elsewhere"), "f")


@pytest.mark.parametrize("name", ["org/base-1b", "/models/other/BASE-1B/", "C:\\models\\Base-1B", "hub/alias", None])
def test_without_a_record_the_ends_of_names_are_compared(name: str | None) -> None:
    """A base that lies in another folder, or is known by another name, is the same base; no name is no reason."""
    check_base(None, RECORD, replace(CONFIG, base_name=name), "f", also_known_as=("org/alias",))


def test_without_a_record_another_name_is_refused() -> None:
    """The refusal says how to declare that both are one model."""
    with pytest.raises(AdapterRefusedError, match=r"base_model_name_or_path: .*also_known_as=\['org/base-7b'\]"):
        check_base(None, RECORD, replace(CONFIG, base_name="org/base-7b"), "f")
    check_base(None, replace(RECORD, name=""), replace(CONFIG, base_name="org/base-7b"), "f")


def test_a_vocabulary_hashes_alike_however_it_is_listed() -> None:
    """As a mapping, as a Unigram list, with an added token listed twice, in any order."""
    mapping = {"model": {"vocab": {"b": 1, "a": 0}}, "added_tokens": [{"content": "<s>", "id": 2}]}
    unigram = {
        "model": {"vocab": [["a", -1.0], ["b", -2.0], ["<s>", 0.0]]},
        "added_tokens": [{"content": "<s>", "id": 2}],
    }
    expected = vocabulary_sha256({"a": 0, "b": 1, "<s>": 2}.items())
    assert vocabulary_sha256(vocabulary_of(mapping)) == vocabulary_sha256(vocabulary_of(unigram)) == expected
    assert vocabulary_sha256({"a": 1, "b": 0, "<s>": 2}.items()) != expected


def test_a_template_hashes_alike_with_and_without_the_marks_of_training() -> None:
    """TRL wants them around the answer; they write nothing."""
    assert template_sha256("{% generation %}{{ m }}{% endgeneration %}\n") == template_sha256("{{ m }}")
    assert template_sha256("{{ m }}!") != template_sha256("{{ m }}")


@given(st.integers(1, 10**12))
def test_samples_lie_within_a_weight(size: int) -> None:
    """The first and the last value among them, in order."""
    places = sample_places(size)
    assert (places[0], places[-1]) == (0, size - 1)
    assert places == sorted(places)
