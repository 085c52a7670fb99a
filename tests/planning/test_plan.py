"""The plan before a run: parameters, memory, tokens, operations and hours, against numbers worked out otherwise."""

from __future__ import annotations

import io
import json
import math
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import other_rows, rows, turns
from families import make_gemma3, make_qwen3
from rich.console import Console
from safetensors.torch import load_file
from training_place import make_place, run_here, weights

from align_ko import planning
from align_ko.chat_format import prompt_ids
from align_ko.errors import UserError
from align_ko.planning import devices
from align_ko.planning.devices import GPUS, find_gpu
from align_ko.planning.lengths import Batch, file_lengths, reference_rows, tokens_per_character
from align_ko.planning.memory import GIB, Setting, head_bytes, plan_disk, plan_memory, weight_bytes
from align_ko.planning.model_shape import (
    Activations,
    Parameters,
    _trace,
    build_model,
    count_parameters,
    layer_period,
    load_config,
    shallow,
    text_config,
    trace_activations,
)
from align_ko.planning.plan import make_plan
from align_ko.planning.settings import PlanFlags, run_settings, take_plan_flags
from align_ko.recipe import DpoRecipe, GrpoRecipe, ModelArgs, SftRecipe, load_recipe, recipe_from
from align_ko.records import write_jsonl

ROOT = Path(__file__).parents[2]
SOLAR = "upstage/SOLAR-10.7B-v1.0"


@pytest.fixture(autouse=True)
def in_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.fixture(scope="module")
def solar():
    return load_config(SOLAR, str(ROOT / "recipes/solar/sft.yaml"))


def lora(**changes) -> ModelArgs:
    return ModelArgs("any", **{"lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0, **changes})


# Parameters -------------------------------------------------------------------------------------------------------------


def test_solars_parameters_are_those_of_its_card(solar):
    counts = count_parameters(solar, replace(lora(), lora_r=64))
    attention = 2 * 4096 * 4096 + 2 * 4096 * 1024
    mlp = 3 * 4096 * 14336
    assert counts.linear == 48 * (attention + mlp) == 10_468_982_784
    assert counts.embedding == counts.head == 32_000 * 4096
    assert counts.base == 10_731_524_096  # "10.7B"
    ends = 2 * (4096 + 4096) + 2 * (4096 + 1024) + 3 * (4096 + 14336)  # in + out of q, o, k, v, gate, up, down
    assert counts.adapter == counts.trained == 48 * 64 * ends
    assert counts.largest_linear == 4096 * 14336
    assert round(counts.trained_share, 4) == 0.0229


@pytest.mark.parametrize("changes", [{}, {"use_peft": False}, {"use_dora": True}, {"lora_target_modules": ("q_proj",)}])
def test_counts_are_the_loaded_models(tiny, changes):
    from peft import get_peft_model

    from align_ko.models.load import lora_config

    model = lora(**changes)
    counts = count_parameters(load_config(str(tiny.folder), None), model)
    real = tiny.model()
    assert counts.base == sum(p.numel() for p in real.parameters())
    real = get_peft_model(real, lora_config(model)) if model.use_peft else real
    assert counts.trained == sum(p.numel() for p in real.parameters() if p.requires_grad)
    assert (counts.head == 0) == bool(real.config.tie_word_embeddings)


def test_deep_models_are_counted_from_two_repeats(gemma):
    config = load_config(str(gemma.folder), None)
    config.layer_types = ["sliding_attention", "full_attention"] * 4
    config.num_hidden_layers = 8
    assert layer_period(config) == 2 and shallow(config, 2).layer_types == ["sliding_attention", "full_attention"]
    whole = build_model(config, lora(), torch.bfloat16)
    assert count_parameters(config, lora()).trained == sum(p.numel() for p in whole.parameters() if p.requires_grad)


def test_a_vision_tower_is_held_but_text_does_not_pass_through_it(tmp_path):
    """Gemma 3's 4B nests the language model's config and has a tower beside it."""
    folder = make_gemma3(tmp_path / "gemma3").folder
    config = load_config(str(folder), None)
    model = lora(lora_target_modules=(r".*language_model.*\.(q|v)_proj",))
    counts = count_parameters(config, model)
    from transformers import AutoModelForCausalLM

    real = AutoModelForCausalLM.from_pretrained(folder)
    assert counts.base == sum(p.numel() for p in real.parameters())
    text = real.base_model.language_model
    assert counts.linear == sum(m.weight.numel() for m in text.modules() if isinstance(m, torch.nn.Linear))
    assert counts.tower > 0
    deep = shallow(config, 1)
    text_config(deep).num_hidden_layers, text_config(deep).layer_types = 6, ["full_attention"] * 6
    keys = {"dtype": "bfloat16", "mixed": True, "checkpointing": True}
    assert count_parameters(deep, model).linear == 3 * counts.linear
    assert trace_activations(deep, model, 2, 32, **keys) == _trace(deep, model, 2, 32, *keys.values())
    flags = ["--model.model_name_or_path", str(folder), "--training.max_steps", "3"]
    plan = make_plan(load_recipe(SftRecipe, ["recipes/gemma3_4b/sft.yaml", *flags]), PlanFlags())
    assert plan.costs.steps == 3 and plan.costs.operations["training"] > 0


TOTALS = {  # as the hub counts each model's parameters
    "eeve": ("yanolja/EEVE-Korean-Instruct-10.8B-v1.0", 10_804_924_416),
    "kullm3": ("nlpai-lab/KULLM3", 10_731_524_096),
    "qwen3_8b": ("Qwen/Qwen3-8B-Base", 8_190_735_360),
    "llama3_1_8b": ("meta-llama/Meta-Llama-3-8B-Instruct", 8_030_261_248),
    "gemma3_4b": ("google/gemma-3-4b-it", 4_300_079_472),
    "gemma3_12b": ("google/gemma-3-12b-pt", 12_187_325_040),
    "qwen2_5_1_5b": ("Qwen/Qwen2.5-1.5B-Instruct", 1_543_714_304),
    "solar": ("upstage/SOLAR-10.7B-Instruct-v1.0", 10_731_524_096),
}


def test_every_family_has_its_config():
    assert {path.parent.name for path in (ROOT / "recipes").glob("*/sft.yaml")} - {"quickstart"} == set(TOTALS)


@pytest.mark.parametrize("family", TOTALS)
def test_every_family_is_counted_out_of_the_box(family):
    """Without network or weights: the recipe's own model, and the variant of equal sizes that its page names."""
    recipe = load_recipe(SftRecipe, [f"recipes/{family}/sft.yaml"])
    name, total = TOTALS[family]
    config = load_config(name, f"recipes/{family}/sft.yaml")
    assert load_config(recipe.model.model_name_or_path, f"recipes/{family}/sft.yaml").to_dict() == config.to_dict()
    counts = count_parameters(config, recipe.model)
    assert counts.base == total
    assert counts.adapter > 1e7 and (counts.tower > 0) == family.startswith("gemma3")


@pytest.mark.slow
@pytest.mark.parametrize("family", TOTALS)
@pytest.mark.parametrize(("stage", "kind"), [("sft", SftRecipe), ("dpo", DpoRecipe)])
def test_every_family_plans_out_of_the_box(family, stage, kind):
    plan = make_plan(load_recipe(kind, [f"recipes/{family}/{stage}.yaml"]), PlanFlags())
    assert plan.memory[0].total_gib > 3 and (plan.costs is None) == (stage == "dpo")


def test_a_config_is_found_beside_the_recipe_or_its_neighbours(tmp_path):
    """A neighbour's folder `config` may hold anything else: no JSON, another program's, an array."""
    for name, text in (("a", "// no JSON"), ("b", '{"theme": "dark"}'), ("c", "[1]"), ("d", '{"_name_or_path": "x/y"}')):
        (tmp_path / name / "config").mkdir(parents=True)
        (tmp_path / name / "config/config.json").write_text(text)
    (tmp_path / "e/config").mkdir(parents=True)
    (tmp_path / "e/config/config.json").write_text('{"_name_or_path": "me/a", "same_shape": ["me/b"], "model_type": "llama"}')
    for recipe in ("a/sft.yaml", "e/sft.yaml"):
        assert load_config("me/b", str(tmp_path / recipe)).model_type == "llama"
    with pytest.raises(UserError, match=r"no config\.json of me/c"):
        load_config("me/c", str(tmp_path / "a/sft.yaml"))
    with pytest.raises(UserError, match=r"no config\.json of me/b"):
        load_config("me/b", "/sft.yaml")


def test_a_model_that_is_nowhere_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no config\.json of nobody/nothing is at hand.*config"):
        load_config("nobody/nothing", str(tmp_path / "sft.yaml"))


# Activations ------------------------------------------------------------------------------------------------------------


def test_what_is_traced_is_what_autograd_saves(tiny):
    """The same layers with real tensors: bytes that autograd packs, each storage once."""
    from peft import get_peft_model

    from align_ko.models.load import lora_config

    config = load_config(str(tiny.folder), None)
    keys = {"dtype": "float32", "mixed": False}
    traced = trace_activations(config, lora(), 3, 40, checkpointing=False, **keys)
    model = get_peft_model(tiny.model(), lora_config(lora())).train()
    weights = {p.untyped_storage().data_ptr() for p in [*model.parameters(), *model.buffers()]}
    saved: dict[int, int] = {}

    def pack(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            saved[storage.data_ptr()] = storage.nbytes()
        return tensor

    ids = torch.randint(5, 100, (3, 40))
    mask = torch.ones_like(ids)
    mask[0, 30:] = 0  # without padding transformers leaves the mask out, which takes less
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        out = model.get_base_model().base_model(input_ids=ids, attention_mask=mask, use_cache=False)
    hidden = out.last_hidden_state.untyped_storage()
    assert traced.saved == pytest.approx(sum((saved | {hidden.data_ptr(): hidden.nbytes()}).values()), rel=0.05)
    assert traced.peak >= traced.saved
    layer_inputs = config.num_hidden_layers * 3 * 40 * config.hidden_size * 4
    assert layer_inputs <= trace_activations(config, lora(), 3, 40, checkpointing=True, **keys).saved < traced.saved / 3


def test_depth_is_extrapolated_exactly(llama):
    config = shallow(load_config(str(llama.folder), None), 1)
    config.num_hidden_layers = 6
    for checkpointing in (False, True):
        keys = {"dtype": "bfloat16", "mixed": True, "checkpointing": checkpointing}
        quick = trace_activations(config, lora(), 2, 32, **keys)
        whole = _trace(config, lora(), 2, 32, *keys.values())
        assert quick == whole


def test_checkpointing_and_shorter_batches_take_less(llama):
    config = load_config(str(llama.folder), None)
    config.num_hidden_layers = 8

    def saved(rows, tokens, checkpointing):
        return trace_activations(config, lora(), rows, tokens, dtype="float32", mixed=False, checkpointing=checkpointing)

    assert saved(2, 64, True).peak < saved(2, 64, False).peak / 3
    assert saved(1, 64, False).saved == pytest.approx(saved(2, 64, False).saved / 2, rel=0.05)


# Memory -----------------------------------------------------------------------------------------------------------------

PARTS = Parameters(linear=1000, largest_linear=100, embedding=200, head=200, rest=10, trained=50, adapter=50)


class Shape:
    hidden_size, vocab_size, num_hidden_layers, num_attention_heads, head_dim = 8, 32, 2, 2, 4

    @classmethod
    def get_text_config(cls):
        return cls


def memory(setting, sharding="one GPU", gpus=1, parts=PARTS):
    return plan_memory(parts, Shape, setting, Activations(10_000, 20_000), sharding, gpus)


def test_parts_of_lora_on_half_precision():
    made = memory(Setting(2, 16, 0.5))
    assert (made.weights, made.adapter, made.gradients, made.optimizer) == (1410 * 2, 50 * 4, 50 * 4, 50 * 8)


def test_four_bits_reach_the_linear_layers_only():
    assert weight_bytes(PARTS, Setting(2, 16, 0.5, four_bit=True, nested=False)) == 1000 * 0.5625 + 410 * 2
    assert weight_bytes(PARTS, Setting(2, 16, 0.5, four_bit=True)) == pytest.approx(1000 * 0.515869 + 410 * 2, rel=1e-6)
    made = memory(Setting(2, 16, 0.5, four_bit=True))
    assert (made.adapter, made.gradients, made.optimizer) == (50 * 2, 50 * 2, 50 * 4)  # TRL makes its adapter bfloat16


def test_zero_splits_what_it_splits():
    one, two, three = (memory(Setting(2, 16, 0.5), stage, 4) for stage in ("one GPU", "ZeRO-2", "ZeRO-3"))
    assert two.weights == one.weights and three.weights == one.weights / 4
    assert two.gradients + two.optimizer == 50 * 16 / 4 == three.gradients + three.optimizer
    assert one.communication == 0 < two.communication < three.communication


def test_references_and_optimisers():
    assert memory(Setting(2, 16, 0.5)).reference == 0
    assert memory(Setting(2, 16, 0.5, reference="adapter")).reference == 200
    assert memory(Setting(2, 16, 0.5, reference="model")).reference == 2820
    assert memory(Setting(2, 16, 0.5, optimizer="paged_adamw_8bit")).optimizer == 100
    full = replace(PARTS, adapter=0, trained=1410)
    assert memory(Setting(2, 16, 0.5), parts=full).gradients == 2820


def test_distillation_holds_whole_distributions():
    """Of 16 scored positions in two rows: bfloat16 logits and gradients four times, float32 twice, a row's gradient in both."""
    made = head_bytes(PARTS, Setting(2, 16, 0.5, distilled=True), hidden=8, vocabulary=32)
    assert made == 32 * (16 * (4 * 2 + 2 * 4) + 8 * (4 + 2))


def test_solar_fits_where_people_train_it(solar):
    """QLoRA with checkpointing, 8 × 512 tokens: a 24 GB card holds it; without checkpointing or in bfloat16 it does not."""
    model = replace(lora(), lora_r=64)
    counts = count_parameters(solar, model)
    keys = {"dtype": "bfloat16", "mixed": True}
    with_, without = (trace_activations(solar, model, 8, 512, checkpointing=c, **keys) for c in (True, False))
    four_bit, half = Setting(8, 512, 0.8, four_bit=True), Setting(8, 512, 0.8)
    assert 9 < sum(plan_memory(counts, solar, four_bit, with_)) / GIB < GPUS["RTX4090"].gib
    assert sum(plan_memory(counts, solar, four_bit, without)) / GIB > GPUS["A100-40"].gib
    assert sum(plan_memory(counts, solar, half, with_)) / GIB > GPUS["RTX4090"].gib


# Operations and hours ---------------------------------------------------------------------------------------------------


def test_operations_of_one_batch():
    batch = Batch(sequences=2, width=16, real=30, trained=20)
    plain = devices.train_work([batch], Shape, PARTS, devices.Method(checkpointing=False))
    weights, adapter, attention = 2 * 32 * 1000, 2 * 32 * 50, 2 * 4 * 2 * 4 * 16 * 16 * 2
    head = 2 * 20 * 8 * 32
    assert plain == weights * 2 + adapter * 3 + attention * 3 + head * 3
    again = devices.train_work([batch], Shape, PARTS, devices.Method(checkpointing=True))
    assert again - plain == weights + adapter + attention
    full = devices.train_work([batch], Shape, replace(PARTS, adapter=0), devices.Method(checkpointing=False))
    assert full == weights * 3 + attention * 3 + head * 4  # the classic 6 operations a parameter and token
    scored = devices.forward_work([batch], Shape, PARTS, devices.Method(checkpointing=True, reference_passes=1))
    assert scored == 2 * (weights + adapter + attention + head)
    flash = devices.forward_work([batch], Shape, PARTS, devices.Method(checkpointing=True, flash=True))
    assert flash == weights + adapter + attention / 2 + head


def test_four_bits_and_what_the_user_measured_decide_the_rate():
    gpu = find_gpu("a100 80")
    assert gpu is GPUS["A100-80"] and devices.share_of_peak(gpu, four_bit=False) == 0.5
    assert 0.5 / devices.share_of_peak(gpu, four_bit=True) == pytest.approx(1.4)
    assert devices.share_of_peak(gpu, True, 0.4) == devices.share_of_peak(gpu, False, 0.4) == 0.4
    rates = [GPUS[name].flops * GPUS[name].reached for name in ("H100-80", "A100-80")]
    assert rates[0] / rates[1] == pytest.approx(1.8, rel=0.02)
    with pytest.raises(UserError, match=r"no GPU L40 in the table; .*did you mean 'L40S'"):
        find_gpu("L40")


QWEN = {  # layers, hidden size, MLP, vocabulary → seconds of eight rows with LoRA, and in 4 bits
    "7B": ((32, 4096, 11008, 151_936), 5.2, 7.0),
    "14B": ((40, 5120, 13696, 152_064), 8.4, 11.8),
}


@pytest.mark.parametrize("size", QWEN)
def test_published_speeds_are_planned(size):
    """Qwen's table (README of QwenLM/Qwen): one A100-80, one row of 2,048 tokens, accumulated eight times, FlashAttention."""
    (layers, hidden, mlp, vocabulary), *published = QWEN[size]
    linear, adapter = layers * (4 * hidden**2 + 3 * hidden * mlp), layers * 64 * (8 * hidden + 3 * (hidden + mlp))
    parts = replace(PARTS, linear=linear, adapter=adapter)
    config = SimpleNamespace(
        num_hidden_layers=layers, hidden_size=hidden, num_attention_heads=hidden // 128, vocab_size=vocabulary
    )
    config.get_text_config = lambda: config
    method = devices.Method(checkpointing=True, flash=True)
    work = devices.train_work([Batch(1, 2048, 2048, 2048)] * 8, config, parts, method)
    for four_bit, seconds in enumerate(published):
        gpu = GPUS["A100-80"]
        assert work / (gpu.flops * devices.share_of_peak(gpu, bool(four_bit))) == pytest.approx(seconds, rel=0.1)


# Lengths ----------------------------------------------------------------------------------------------------------------


def test_lengths_are_the_trainers(tiny, tmp_path, monkeypatch):
    from align_ko.training.prepare import tokenize_conversations

    write_jsonl(tmp_path / "train.jsonl", rows())
    tokenizer = tiny.tokenizer()
    found = file_lengths("sft", str(tmp_path / "train.jsonl"), tokenizer, 60)
    dataset, too_long = tokenize_conversations(tokenizer, rows(), 60)
    assert [row.real for row in found.rows] == dataset["length"] and found.too_long == len(too_long)
    trained = sum(label != -100 for labels in dataset["labels"] for label in labels)
    assert found.trained_share == trained / sum(dataset["length"])
    # beyond the counted rows the rest is estimated, to within the spread of a few rows
    monkeypatch.setattr("align_ko.planning.lengths.COUNTED_ROWS", 5)
    rough = file_lengths("sft", str(tmp_path / "train.jsonl"), tokenizer, None)
    exact, _ = tokenize_conversations(tokenizer, rows(), None)
    assert [row.real for row in rough.rows[:5]] == exact["length"][:5]
    assert sum(row.real for row in rough.rows) == pytest.approx(sum(exact["length"]), rel=0.15)
    assert "estimated" in rough.method


def test_lengths_of_pairs_are_the_trainers(tiny, tmp_path):
    from align_ko.training.prepare import tokenize_pairs

    pairs = [
        {"id": "a", "prompt": turns("한국의 수도는?", "")[:1], "chosen": turns("", "서울입니다.")[1:],
         "rejected": turns("", "네 네 네 네 네 네 네 네")[1:]},
    ]  # fmt: skip
    write_jsonl(tmp_path / "train.jsonl", pairs)
    [row] = file_lengths("dpo", str(tmp_path / "train.jsonl"), tiny.tokenizer(), None).rows
    dataset, _ = tokenize_pairs(tiny.tokenizer(), pairs, None)
    prompt, chosen, rejected = (len(dataset[key][0]) for key in ("prompt_ids", "chosen_ids", "rejected_ids"))
    assert (row.longest, row.real, row.sequences) == (dataset["length"][0], 2 * prompt + chosen + rejected, 2)
    assert row.trained == chosen + rejected


def test_without_a_tokenizer_the_ratio_is_said(tmp_path):
    write_jsonl(tmp_path / "train.jsonl", [{"messages": turns("가" * 100, "나" * 200)}])
    found = file_lengths("sft", str(tmp_path / "train.jsonl"), None, None)
    assert [(row.real, row.trained) for row in found.rows] == [(239 + 119 + 12 + 1, 239)]
    assert "1.19 tokens a character" in found.method
    found = file_lengths("sft", str(tmp_path / "train.jsonl"), None, None, vocabulary=262_144)
    assert [row.trained for row in found.rows] == [round(200 * 0.61) + 1] and "0.61 tokens" in found.method
    with pytest.raises(UserError, match="rows cannot be trained on"):
        file_lengths("dpo", str(tmp_path / "train.jsonl"), None, None)


@pytest.mark.parametrize(
    ("family", "share"), [("solar", 1.0), ("kullm3", 1.0), ("qwen3_8b", 0.64), ("gemma3_4b", 0.52), ("llama3_1_8b", 0.57)]
)
def test_every_family_has_its_own_tokens(family, share):
    config = text_config(load_config(TOTALS[family][0], f"recipes/{family}/sft.yaml"))
    ratio, told = tokens_per_character(config.vocab_size)
    assert ratio / 1.19 == pytest.approx(share, abs=0.01) and told == f"{ratio} tokens a character"
    rows = reference_rows(2000, ratio=ratio)
    assert sum(row.real for row in rows) / sum(row.real for row in reference_rows(2000)) == pytest.approx(share, abs=0.05)


def test_an_unknown_vocabulary_is_said():
    assert tokens_per_character(40_960) == (1.19, "1.19 tokens a character as SOLAR's: a vocabulary of 40,960 was not measured")


def test_a_template_that_rewrites_history_makes_a_row_of_each_answer(tmp_path):
    """Qwen3 drops the think block of earlier answers: training has a row for each answer, and so has the plan."""
    from align_ko.models.load import load_tokenizer
    from align_ko.training.prepare import tokenize_conversations

    tokenizer = load_tokenizer(str(make_qwen3(tmp_path / "qwen3").folder), "qwen3")
    write_jsonl(tmp_path / "train.jsonl", rows())
    longest = max(tokenize_conversations(tokenizer, rows(), None)[0]["length"])
    dataset, too_long = tokenize_conversations(tokenizer, rows(), longest - 1)
    lengths = file_lengths("sft", str(tmp_path / "train.jsonl"), tokenizer, longest - 1)
    assert len(dataset) + len(too_long) == 10  # nine conversations, one of them with two answers
    assert sorted(row.real for row in lengths.rows) == sorted(dataset["length"]) and lengths.too_long == len(too_long) == 1


# The whole --------------------------------------------------------------------------------------------------------------


@pytest.fixture
def small(llama, tmp_path):
    """Flags that make a recipe small: the tiny model, nine rows."""
    write_jsonl(tmp_path / "train.jsonl", rows())
    write_jsonl(tmp_path / "eval.jsonl", rows()[:3])
    flags = ["--model.model_name_or_path", str(llama.folder), "--data.train_file", str(tmp_path / "train.jsonl")]
    return [*flags, "--data.eval_file", str(tmp_path / "eval.jsonl"), "--training.per_device_train_batch_size", "2"]


def test_a_plan_counts_steps_as_the_trainer_does(small):
    recipe = load_recipe(SftRecipe, ["recipes/solar/sft.yaml", *small, "--training.eval_steps", "2"])
    plan = make_plan(recipe, PlanFlags("L40S", 0.5))
    assert plan.costs.steps == math.ceil(math.ceil(9 / 2) / 2) * 2 == 6 and plan.costs.evaluations == 3
    assert [row.way for row in plan.costs.batching if row.recipe] == ["group_by_length"]
    shares = {row.way: row.real_share for row in plan.costs.batching}
    assert shares["max_length"] < shares["random"] <= shares["group_by_length"] <= 1
    assert {(row.sharding, row.gpus) for row in plan.memory} == {
        ("one GPU", 1), *((stage, n) for stage in ("ZeRO-2", "ZeRO-3") for n in (1, 2, 4, 8)),
    }  # fmt: skip
    assert [row.gpu for row in plan.costs.hours if row.chosen] == ["L40S"]
    assert json.loads(json.dumps(plan.to_json())) == plan.to_json() and plan.data.too_long == 0
    assert plan.to_json()["steps"] == 6 and "costs" not in plan.to_json()
    more = make_plan(load_recipe(SftRecipe, ["recipes/solar/sft.yaml", *small, "--training.max_steps", "30"]), PlanFlags())
    assert more.costs.steps == 30 and more.costs.operations["training"] == pytest.approx(5 * plan.costs.operations["training"])


def test_the_teacher_of_a_distillation_is_one_more_forward_pass_in_training_alone(small):
    flags = [*small, "--training.gradient_checkpointing", "false", "--training.eval_steps", "2"]
    plain, distilled = (
        make_plan(
            load_recipe(SftRecipe, ["recipes/solar/sft.yaml", *flags, "--distill.repetition_penalty", penalty]), PlanFlags()
        )
        for penalty in ("1.0", "1.05")
    )
    assert distilled.costs.operations["evaluation"] == plain.costs.operations["evaluation"] > 0
    ratio = distilled.costs.operations["training"] / plain.costs.operations["training"]
    assert 1.2 < ratio < 1.4  # forward and backward: 3 before
    heads = [next(row.gib["head"] for row in plan.memory if not row.checkpointing) for plan in (plain, distilled)]
    assert heads[1] != heads[0]  # of a vocabulary this small the tiles would be larger


def test_padding_to_a_multiple_and_the_gate_are_not_forgotten(small):
    wide = ["--training.eval_steps", "2", "--training.pad_to_multiple_of", "64", "--gate.prompts", "7"]
    plain, padded = (
        make_plan(load_recipe(SftRecipe, ["recipes/solar/sft.yaml", *small, *more]), PlanFlags()) for more in ((), wide)
    )
    shares = [next(row.real_share for row in plan.costs.batching if row.recipe) for plan in (plain, padded)]
    assert shares[1] < shares[0] and padded.costs.operations["training"] > plain.costs.operations["training"]
    auto = load_recipe(SftRecipe, ["recipes/solar/sft.yaml", *small, "--training.pad_to_multiple_of", "auto"])
    assert make_plan(auto, PlanFlags()).costs.operations == plain.costs.operations
    assert "not in the hours: the greedy gate's 7 prompts 4 times, at most 120 s each" in padded.notes


@pytest.fixture
def drawing(llama, tmp_path):
    """A GRPO recipe: nine prompts of which one is too long, two answered at once and three times each, twice trained on."""
    write_jsonl(tmp_path / "train.jsonl", rows())
    write_jsonl(tmp_path / "eval.jsonl", other_rows(3))
    lengths = sorted(len(prompt_ids(llama.tokenizer(), row["messages"][:-1])) for row in rows())
    flags = {
        "model_name_or_path": llama.folder, "model.lora_r": 4, "data.train_file": tmp_path / "train.jsonl",
        "data.eval_file": tmp_path / "eval.jsonl", "max_prompt_length": lengths[-2], "training.max_steps": -1,
        "training.num_train_epochs": 1, "training.per_device_train_batch_size": 3, "training.num_generations": 3,
        "training.gradient_accumulation_steps": 2, "training.num_iterations": 2, "training.max_completion_length": 9,
        "training.save_steps": 2, "training.eval_strategy": "steps", "training.eval_steps": 4,
        "training.num_generations_eval": 1,
    }  # fmt: skip
    words = [word for key, value in flags.items() for word in (f"--{key}", str(value))]
    return lambda *more: load_recipe(GrpoRecipe, ["recipes/quickstart/grpo.yaml", *words, *more])


def test_a_plan_of_grpo_counts_answers_as_its_sampler_does(drawing):
    plan = make_plan(drawing(), PlanFlags())
    assert (plan.stage, plan.data.rows, plan.data.too_long, plan.costs.evaluations) == ("grpo", 8, 1, 2)
    assert plan.costs.steps == 8 * 3 * 2 / 3 / 2 == 8  # eight prompts, three answers, twice, three in a batch, two batches
    assert plan.memory[0].tokens == drawing().max_prompt_length + 9 and plan.memory[0].rows == 3
    free = make_plan(drawing("--training.beta", "0", "--training.num_iterations", "1"), PlanFlags())
    assert free.costs.steps == 4
    # forward and backward are 2 passes and a little; the reference is one more, and so are the log-probabilities of before the
    # last step
    per_step = [each.costs.operations["training"] / each.costs.steps for each in (plan, free)]
    assert 1.7 < per_step[0] / per_step[1] < 2
    chosen = next(row for row in plan.costs.hours if row.chosen)
    twice = make_plan(drawing("--training.num_train_epochs", "2"), PlanFlags()).costs.hours
    assert next(row for row in twice if row.chosen).generation == pytest.approx(2 * chosen.generation) and chosen.generation > 0


def test_generation_is_timed_on_this_machine(drawing, capsys):
    plan = make_plan(drawing(), PlanFlags("this"))
    [hours] = plan.costs.hours
    assert hours.generation > 0 and hours.pace
    planning._show_plan(plan, Console(width=118))
    assert "evaluation 0.0 minutes, generation" in capsys.readouterr().out


def disk_of(recipe: str, *flags: str, steps: int | None = 1000):
    loaded = load_recipe(SftRecipe if "sft" in recipe else DpoRecipe, [recipe, *flags])
    run = run_settings(loaded)
    setting = Setting(
        2, 16, 0.5, "bfloat16", run.model.load_in_4bit, optimizer=str(run.value("optim")), reference=run.reference
    )
    full = replace(PARTS, adapter=0, trained=PARTS.base)
    return plan_disk(run, PARTS if run.model.use_peft else full, setting, loaded.merge_adapter, steps)


@pytest.mark.parametrize(
    ("flags", "steps", "checkpoint", "count", "total"),
    [  # PARTS: a base of 1,410 weights and an adapter of 50
        # QLoRA's adapter and both moments in bfloat16; save_total_limit 3 and one being written
        ("", 1000, 50 * 2 + 50 * 4, 4, 4 * 300),
        ("", 199, 300, 2, 2 * 300 + 100),  # one at step 100, one at the end
        ("", None, 300, 4, 1200),
        ("--merge_adapter true", 1000, 300, 4, 3 * 300 + 100 + 1410 * 2),
        ("--model.load_in_4bit false", 1000, 50 * 4 + 50 * 8, 4, 2400),
        ("--model.load_in_4bit false --training.optim adamw_bnb_8bit", 1000, 50 * 4 + 50 * 2, 4, 1200),
        ("--training.save_only_model true", 1000, 100, 4, 400),
        ("--training.save_total_limit 1", 1000, 300, 3, 900),  # the best one stays too
        ("--training.save_total_limit 1 --training.load_best_model_at_end false", 1000, 300, 2, 600),
        ("--training.save_total_limit null", 1000, 300, 10, 10 * 300 + 100),
        ("--training.save_total_limit null", None, 300, None, 100),
        ("--training.save_steps 0.3 --training.eval_steps 0.3", 1000, 300, 4, 1200),
        ("--training.save_strategy no --training.load_best_model_at_end false", 1000, 300, 0, 100),
        ("--training.save_strategy epoch --training.eval_strategy epoch --training.num_train_epochs 1.5", 1000, 300, 2, 700),
        ("--model.use_peft false --model.load_in_4bit false", 1000, 1410 * 2 * 3, 4, 4 * 8460),
    ],
)
def test_the_disk_of_a_run(flags, steps, checkpoint, count, total):
    disk = disk_of("recipes/solar/sft.yaml", *flags.split(), steps=steps)
    assert (disk.checkpoint, disk.count, disk.total) == (checkpoint, count, total)


def test_the_disk_of_a_dpo_run_has_its_reference_adapter_in_every_checkpoint():
    assert disk_of("recipes/solar/dpo.yaml").checkpoint == 2 * 100 + 200


def test_a_disk_that_is_too_small_is_told(small, monkeypatch):
    recipe = load_recipe(SftRecipe, ["recipes/solar/sft.yaml", *small])
    written = io.StringIO()
    for free, fits in ((2**50, True), (100, False)):
        monkeypatch.setattr("shutil.disk_usage", lambda place, free=free: SimpleNamespace(free=free))
        plan = make_plan(recipe, PlanFlags())
        assert plan.to_json()["disk"]["free"] == free
        planning._show_plan(plan, Console(file=written, width=118))
        assert ("the run does not fit on that disk" not in written.getvalue()) == fits


def test_a_real_run_takes_the_disk_that_was_planned(llama, tmp_path, monkeypatch):
    place = make_place(tmp_path, llama)
    monkeypatch.chdir(place)
    argv = ["sft.yaml", "--merge_adapter", "true", "--training.max_steps", "9", "--training.save_total_limit", "2",
            "--training.load_best_model_at_end", "false"]  # fmt: skip
    disk = make_plan(load_recipe(SftRecipe, argv), PlanFlags("this")).disk
    run_here(monkeypatch, "run_sft", *argv)
    adapter = sum(len(weight) for weight in weights("sft/adapter").values())
    merged = sum(tensor.nbytes for tensor in load_file("sft/model.safetensors").values())
    moments = torch.load("sft/checkpoint-9/optimizer.pt")["state"].values()
    optimizer = sum(state[name].nbytes for state in moments for name in ("exp_avg", "exp_avg_sq"))
    assert sorted(path.name for path in Path("sft").glob("checkpoint-*")) == ["checkpoint-6", "checkpoint-9"]
    assert (disk.result, disk.merged, disk.checkpoint) == (adapter, merged, adapter + optimizer)
    assert disk.total == max(3 * disk.checkpoint, 2 * disk.checkpoint + adapter + merged)


def test_steps_are_timed_on_this_machine(small):
    flags = [*small, "--training.use_cpu", "true", "--training.eval_steps", "2", "--training.pad_to_multiple_of", "64"]
    costs = make_plan(load_recipe(SftRecipe, ["recipes/solar/sft.yaml", *flags]), PlanFlags("this")).costs
    [row] = costs.hours
    assert row.gpu == "this" and row.training > 0 and row.evaluation > 0 and row.pace.forward > 0
    assert row.pace.seconds([Batch(2, 64, 128, 64)] * 2) == pytest.approx(2 * row.pace.seconds([Batch(2, 64, 128, 64)]))


def test_dpo_before_its_sft_is_planned_as_the_recipe_beside_it_says():
    plan = make_plan(load_recipe(DpoRecipe, ["recipes/solar/dpo.yaml"]), PlanFlags())
    assert plan.parameters["adapter"] == 251_658_240 and "LoRA r 64 on 4-bit weights" in plan.method
    assert plan.memory[0].rows == 4 and plan.memory[0].tokens == 2048  # two pairs
    assert plan.memory[0].gib["reference"] == pytest.approx(251_658_240 * 2 / GIB)
    assert plan.costs is None
    assert any("outputs/solar/sft is not there yet" in note for note in plan.notes)
    assert any("data/solar/preferences/train.jsonl is not there" in note for note in plan.notes)
    before = load_recipe(DpoRecipe, ["recipes/solar/dpo.yaml", "--training.precompute_ref_log_probs", "true"])
    assert (run_settings(before).reference, run_settings(before).reference_passes) == ("none", 0)


def test_a_dpo_recipe_needs_no_model_key(llama, tmp_path):
    (tmp_path / "dpo.yaml").write_text(
        f"model_name_or_path: {llama.folder}\ndata: {{train_file: a.jsonl, eval_file: b.jsonl}}\ntraining: {{output_dir: o}}\n"
    )
    run = run_settings(load_recipe(DpoRecipe, [str(tmp_path / "dpo.yaml")]))
    assert (run.model.model_name_or_path, run.reference) == (str(llama.folder), "none")  # a new adapter: off, it is the start
    run = run_settings(load_recipe(DpoRecipe, [str(tmp_path / "dpo.yaml"), "--model_name_or_path", str(tmp_path / "later")]))
    assert "planned as an adapter with the recipe's own LoRA keys" in run.notes[0] and run.reference == "adapter"


def test_flags_are_taken_out():
    words = [
        "r.yaml",
        "--plan",
        "--training.seed",
        "1",
        "--plan_gpu=L40S",
        "--plan-utilisation",
        "0.5",
        "--plan_json",
        "a.json",
    ]
    assert take_plan_flags(words) == (PlanFlags("L40S", 0.5, "a.json"), ["r.yaml", "--training.seed", "1"])
    for bad, message in [
        ("--plan_gpus", "did you mean '--plan_gpu'"),
        ("--plan_utilisation=2", "a share above 0"),
        ("--plan_gpu", "missing"),
    ]:
        with pytest.raises(UserError, match=message):
            take_plan_flags(["r.yaml", bad])


def run_script(*words):
    return subprocess.run([sys.executable, *words], capture_output=True, text=True, cwd=ROOT, check=False)


def test_the_switch_prints_a_plan_and_starts_nothing(small, tmp_path):
    out = tmp_path / "plan.json"
    command = ["scripts/run_sft.py", "recipes/solar/sft.yaml", *small, "--plan", "--plan_json", str(out)]
    done = run_script(*command, "--training.output_dir", str(tmp_path / "out"))
    assert done.returncode == 0, done.stderr
    assert "nothing was downloaded or started" in done.stdout and "ZeRO-3" in done.stdout and not (tmp_path / "out").exists()
    assert json.loads(out.read_text())["steps"] == 6


def test_a_mistake_in_a_plan_is_one_line(tmp_path):
    done = run_script("scripts/run_dpo.py", "recipes/solar/dpo.yaml", "--plan", "--plan_gpu", "H1000")
    assert done.returncode == 2 and "error: --plan_gpu: no GPU H1000" in done.stderr and "Traceback" not in done.stderr


def test_a_dpo_recipe_without_model_keys_is_planned(tmp_path):
    def settings(start):
        data = {"train_file": "a", "eval_file": "b"}
        return run_settings(recipe_from(DpoRecipe, model_name_or_path=start, data=data, training={"output_dir": "o"}))

    assert settings("owner/name").model.model_name_or_path == "owner/name"
    saved = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "base_model_name_or_path": "owner/base"}
    (tmp_path / "adapter_config.json").write_text(json.dumps(saved))
    model = settings(str(tmp_path)).model
    assert (model.model_name_or_path, model.lora_r, model.lora_target_modules) == ("owner/base", 4, ("q_proj",))


def test_a_models_name_is_no_markup_in_the_plan(monkeypatch):
    for part in ("_show_memory", "_show_disk"):
        monkeypatch.setattr(planning, part, lambda *told: None)
    counts = {"base": 1, "linear": 1, "trained": 1, "trained_share": 1.0}
    plan = SimpleNamespace(
        recipe="[/b].yaml",
        model="[/red]\x1b[2J",
        method="LoRA",
        parameters=counts,
        data=None,
        costs=None,
        memory=[],
        notes=[],
        disk=None,
    )
    out = io.StringIO()
    planning._show_plan(plan, Console(file=out, width=120))
    assert out.getvalue().startswith("plan of [/b].yaml: [/red][U+001B][2J, LoRA\n")
