"""Recipes of further models: what differs from SOLAR's and nothing else, TRL's real configs, and ways of LoRA by one key."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from conftest import rows
from peft import get_peft_model
from trl import DPOConfig, SFTConfig

from align_ko import recipe as recipes
from align_ko.models.load import load_base, load_tokenizer, lora_config, quantization
from align_ko.recipe import ModelArgs, load_recipe
from align_ko.training.finish import save_stage
from align_ko.training.prepare import tokenize_conversations, training_config
from align_ko.training.seams import AlignSFTTrainer

ROOT = Path(__file__).parents[2] / "recipes"
MODELS = {  # folder: hub id, chat template, 4-bit
    "eeve": ("yanolja/EEVE-Korean-Instruct-10.8B-v1.0", "eeve", True),
    "kullm3": ("nlpai-lab/KULLM3", "tokenizer", True),
    "qwen3_8b": ("Qwen/Qwen3-8B", "qwen3", True),
    "llama3_1_8b": ("meta-llama/Llama-3.1-8B-Instruct", "llama3_1", True),
    "gemma3_4b": ("google/gemma-3-4b-it", "gemma3", False),
    "gemma3_12b": ("google/gemma-3-12b-it", "gemma3", True),
}
STAGES = {"sft": "SftRecipe", "preferences": "PreferencesRecipe", "dpo": "DpoRecipe", "evaluate": "EvaluateRecipe",
          "export": "ExportRecipe", "align": "AlignRecipe", "distill": "SftRecipe",
          "own_answers": "EvaluateRecipe"}  # fmt: skip


def load(model, stage):
    return load_recipe(getattr(recipes, STAGES[stage]), [str(ROOT / model / f"{stage}.yaml")])


def leaves(value, path=""):
    """Dotted key → value of a recipe."""
    if isinstance(value, dict):
        return {key: leaf for name, item in value.items() for key, leaf in leaves(item, f"{path}.{name}").items()}
    return {path.removeprefix("."): value}


def different(model, stage):
    ours, solars = (leaves(dataclasses.asdict(load(name, stage))) for name in (model, "solar"))
    assert ours.keys() == solars.keys()
    return {key for key in ours if ours[key] != solars[key]}


def test_these_are_the_models():
    others = {"solar", "quickstart", "qwen2_5_1_5b"}
    assert {path.parent.name for path in ROOT.glob("*/sft.yaml")} - others == set(MODELS)


@pytest.mark.parametrize("model", MODELS)
def test_the_stages_are_wired_by_path(model):
    tune, pairs, dpo, judged, export, align, distil, own = (load(model, stage) for stage in STAGES)
    hub, template, four_bit = MODELS[model]
    assert tune.model.model_name_or_path == judged.models["base"] == hub and not dpo.model.model_name_or_path
    assert tune.data.chat_template == template and tune.model.load_in_4bit == dpo.model.load_in_4bit == four_bit
    assert judged.chat_template == template  # the base is asked as the tuned models are
    assert tune.training["output_dir"] == pairs.model_name_or_path == dpo.model_name_or_path == judged.models["sft"]
    assert tune.training["output_dir"] == f"outputs/{model}/sft"
    assert dpo.data.train_file == f"{pairs.output_dir}/train.jsonl" and dpo.data.eval_file == f"{pairs.output_dir}/eval.jsonl"
    assert dpo.training["output_dir"] == judged.models["dpo"] == export.model_name_or_path == f"outputs/{model}/dpo"
    assert align.start == tune.training["output_dir"] and align.output_dir == f"outputs/{model}/align"
    named = [getattr(align, stage).recipe for stage in ("preferences", "dpo", "distill", "evaluate")]
    assert named == [f"recipes/{model}/{stage}.yaml" for stage in ("preferences", "dpo", "distill", "evaluate")]
    assert distil.model.model_name_or_path == own.models["own"] == export.output_dir
    assert distil.data.train_file == f"{own.output_dir}/responses.jsonl" and distil.data.chat_template == template
    same = (distil.model.load_in_4bit, distil.model.lora_target_modules, distil.data.eval_file, distil.gate)
    assert same == (four_bit, tune.model.lora_target_modules, tune.data.eval_file, tune.gate)
    solar = load("solar", "sft")
    assert tune.data.train_file == solar.data.train_file  # one curated set for all models


def test_a_tuned_start_is_trained_on_its_own_answers_alone():
    """Curated answers take its sense away (docs/preferences.md), and no set of prompts has two uses."""
    folder = "qwen2_5_1_5b"
    tune, pairs, dpo, judged, export, align, distil, own = (load(folder, stage) for stage in STAGES)
    data = load_recipe(recipes.DataRecipe, [str(ROOT / folder / "data.yaml")])
    assert tune.model.model_name_or_path == pairs.model_name_or_path == judged.models["base"]
    assert tune.data.train_file == f"{pairs.output_dir}/best.jsonl" and dpo.data.train_file == f"{pairs.output_dir}/train.jsonl"
    assert tune.data.chat_template == distil.data.chat_template == judged.chat_template == "qwen2_5"
    assert (pairs.pairing.chosen, pairs.pairing.reference_share) == ("candidate", 0.0)
    assert all(setting.system for setting in pairs.candidates.values())
    assert (pairs.prompts_file, own.prompts_file) == (f"{data.output_dir}/preferences.jsonl", f"{data.output_dir}/train.jsonl")
    assert distil.data.train_file == f"{own.output_dir}/responses.jsonl" and distil.distill.forbid_faults
    assert own.models["own"] == distil.model.model_name_or_path == dpo.model_name_or_path == align.start == judged.models["sft"]
    assert export.model_name_or_path == judged.models["distilled"] == distil.training["output_dir"]
    assert align.gate.prompts_file == f"{data.output_dir}/eval.jsonl" and judged.generation.max_new_tokens == 512
    assert {judged.prompts_file, *judged.suites} <= {*data.evaluation_files} == {*pairs.evaluation_files}


@pytest.mark.parametrize("model", MODELS)
def test_only_what_differs_differs(model):
    size = {"model.load_in_4bit"} if model == "gemma3_4b" else set()
    modules = {"model.lora_target_modules"} if model.startswith("gemma3") else set()
    assert different(model, "sft") == {"model.model_name_or_path", "training.output_dir", "data.chat_template"} | size | modules
    assert different(model, "dpo") == {"model_name_or_path", "training.output_dir", "data.train_file", "data.eval_file"} | size
    assert different(model, "preferences") == {"model_name_or_path", "output_dir"}
    assert different(model, "evaluate") == {"models.base", "models.sft", "models.dpo", "output_dir", "chat_template"}
    assert different(model, "export") == {"model_name_or_path", "output_dir"}
    changed = {"model.model_name_or_path", "data.train_file", "data.chat_template", "training.output_dir"}
    assert different(model, "distill") == changed | size | modules
    recipes_of = {f"{stage}.recipe" for stage in ("preferences", "dpo", "distill", "evaluate")}
    assert different(model, "align") == {"start", "output_dir"} | recipes_of
    assert different(model, "own_answers") == {"models.own", "output_dir"}


@pytest.mark.parametrize("model", MODELS)
def test_trls_real_configs_are_built(model, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    tune, dpo = load(model, "sft"), load(model, "dpo")
    # bf16 as stated needs hardware that has it; everything else as the recipe says
    config = training_config(SFTConfig, {**tune.training, "bf16": False}, "float32")
    assert (config.max_length, config.per_device_train_batch_size, config.gradient_accumulation_steps) == (2048, 8, 2)
    assert config.learning_rate == 1e-4 and config.output_dir == f"outputs/{model}/sft" and config.gradient_checkpointing
    config = training_config(DPOConfig, {**dpo.training, "bf16": False}, "float32")
    assert config.loss_type == ["sigmoid_norm", "sft"] and config.beta == 5.0 and config.learning_rate == 5e-6
    lora = lora_config(tune.model)
    assert lora.r == 64 and lora.lora_alpha == 128
    four_bit = quantization(tune.model)
    assert (four_bit is not None) == MODELS[model][2]
    if four_bit:
        assert four_bit.bnb_4bit_quant_type == "nf4" and four_bit.bnb_4bit_compute_dtype == torch.bfloat16


def test_target_modules_are_names_or_one_expression():
    def targets(*names):
        return lora_config(ModelArgs("x", lora_target_modules=names)).target_modules

    assert targets("q_proj") == {"q_proj"} and targets("q_proj", "v_proj") == {"q_proj", "v_proj"}
    assert targets("all-linear") == "all-linear" and targets(r".*language_model.*\.q_proj") == r".*language_model.*\.q_proj"


# Ways of LoRA ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("key", "extra"), [("", 0), ("use_rslora", 0), ("use_dora", 1)])
def test_two_steps_move_every_matrix(llama, tmp_path, key, extra):
    from safetensors.torch import load_file

    args = ModelArgs(str(llama.folder), dtype="float32", lora_r=16, lora_alpha=32, **({key: True} if key else {}))
    tokenizer = load_tokenizer(str(llama.folder), "default")
    model = load_base(args, tokenizer)
    built = get_peft_model(load_base(args, tokenizer), lora_config(args))
    scaling = {module.scaling["default"] for module in built.modules() if hasattr(module, "lora_A")}
    assert scaling == {32 / 16**0.5 if key == "use_rslora" else 2.0}  # α / √r keeps its strength at large r, α / r does not
    training = {"output_dir": str(tmp_path), "max_steps": 2, "per_device_train_batch_size": 4, "learning_rate": 1e-2,
                "save_strategy": "no", "logging_steps": 1, "bf16": False, "max_length": 512, "disable_tqdm": True}  # fmt: skip
    data, _ = tokenize_conversations(tokenizer, rows(), 512)
    trainer = AlignSFTTrainer(
        model=model, args=training_config(SFTConfig, training, "float32"), train_dataset=data, processing_class=tokenizer,
        peft_config=lora_config(args),
    )  # fmt: skip
    trainer.train()
    save_stage(trainer, tokenizer, False, torch.float32)
    weights = load_file(tmp_path / "adapter_model.safetensors")
    assert len(weights) == 2 * 7 * (2 + extra)
    assert all(weight.isfinite().all() and weight.abs().max() > 0 for weight in weights.values())  # B starts at zero
    assert sum("magnitude" in name for name in weights) == 14 * extra


def test_qlora_builds_on_4_bit_weights(llama):
    args = ModelArgs(str(llama.folder), dtype="float32", load_in_4bit=True, use_dora=False, lora_r=4)
    model = get_peft_model(load_base(args, load_tokenizer(str(llama.folder), "default")), lora_config(args))
    layer = model.base_model.model.model.layers[0].self_attn.q_proj
    assert type(layer.base_layer).__name__ == "Linear4bit" and layer.base_layer.weight.quant_type == "nf4"
    assert layer.base_layer.weight.dtype == torch.uint8 and layer.base_layer.weight.quant_state.nested
    logits = model(torch.tensor([[1, 5, 9]])).logits
    assert logits.isfinite().all()
    logits.sum().backward()
    assert layer.lora_B["default"].weight.grad is not None and layer.base_layer.weight.grad is None
