"""An adapter merged module by module: the old result bit for bit, base + adapter in logits, and foreign adapters."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, PeftModel, PromptTuningConfig, get_peft_model
from peft.tuners.lora.layer import Linear as LoraLinear
from transformers import AutoModelForCausalLM

from align_ko.errors import UserError
from align_ko.models import merge as merge_module
from align_ko.models.export import save_model
from align_ko.models.load import load_for_inference, load_weights
from align_ko.models.source import model_source

KINDS = {
    "lora": {},
    "rslora": {"use_rslora": True},
    "dora": {"use_dora": True},
    "embedding": {"target_modules": ["q_proj", "embed_tokens"]},
    "head": {"target_modules": ["v_proj", "lm_head"]},
    "both ends": {"target_modules": ["embed_tokens", "lm_head"]},
    "saved embedding": {"target_modules": ["q_proj"], "modules_to_save": ["embed_tokens", "lm_head"]},
    "bias": {"target_modules": ["q_proj", "down_proj"], "lora_bias": False, "rank_pattern": {"q_proj": 8}},
}
IDS = torch.tensor([[3, 4, 5, 300, 301, 302]])


def make_adapter(tiny, folder: Path, dtype=torch.float32, vocabulary: int = 0, **config) -> torch.Tensor:
    """An adapter with all of its weights random on the tiny model; returns the logits of the model that was saved."""
    model = AutoModelForCausalLM.from_pretrained(tiny.folder, dtype=dtype)
    if vocabulary:
        model.resize_token_embeddings(vocabulary, mean_resizing=False)
    torch.manual_seed(1)
    values = {"r": 4, "lora_alpha": 8, "target_modules": ["q_proj", "v_proj", "down_proj"], **config}
    adapted = get_peft_model(model, LoraConfig(task_type="CAUSAL_LM", **values)).eval()
    with torch.no_grad():
        for weight in adapted.parameters():
            if weight.requires_grad:
                weight.add_(torch.randn_like(weight) * 0.02)
        adapted.save_pretrained(folder)
        tiny.tokenizer().save_pretrained(folder)
        return adapted(IDS).logits.float()


def bfloat16_base(tiny, folder: Path) -> None:
    tiny.model().to(torch.bfloat16).save_pretrained(folder)
    tiny.tokenizer().save_pretrained(folder)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(IDS).logits.float()


@pytest.mark.parametrize("kind", KINDS)
def test_merged_logits_are_those_of_base_and_adapter(tiny, kind, tmp_path):
    beside = make_adapter(tiny, tmp_path / "adapter", **KINDS[kind])
    merged = load_weights(str(tmp_path / "adapter"), torch.float32)
    torch.testing.assert_close(logits(merged), beside, atol=2e-4, rtol=1e-4)
    assert not any("lora" in name or "modules_to_save" in name for name, _ in merged.named_parameters())
    assert (beside - logits(tiny.model())).abs().max() > 0.01


@pytest.mark.parametrize("kind", ["lora", "rslora", "dora", "saved embedding"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_every_bit_is_that_of_a_merge_in_float32_rounded_once(llama, kind, dtype, tmp_path):
    bfloat16_base(llama, tmp_path / "base")
    tiny = type(llama)(tmp_path / "base")
    make_adapter(tiny, tmp_path / "adapter", **KINDS[kind])
    whole = AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=torch.float32)
    expected = PeftModel.from_pretrained(whole, tmp_path / "adapter").merge_and_unload().to(dtype).state_dict()
    merged = load_weights(str(tmp_path / "adapter"), dtype)
    assert {weight.dtype for weight in merged.parameters()} == {dtype}
    assert {name: bool(torch.equal(weight, expected[name])) for name, weight in merged.state_dict().items()} == dict.fromkeys(
        expected, True
    )


def test_the_base_is_never_loaded_in_float32(llama, tmp_path, monkeypatch):
    """One module at a time is: 43 GB for a 10.7 B base, in every process, is what the whole of it would take."""
    make_adapter(llama, tmp_path / "adapter")
    seen = []

    def merge(module, *args, _merge=LoraLinear.merge, **options):
        whole = [weight.dtype for weight in adapted[0].parameters() if weight.dtype == torch.float32]
        seen.append((module.get_base_layer().weight.dtype, len(whole)))
        return _merge(module, *args, **options)

    adapted = []
    attach = merge_module.attach_adapter
    monkeypatch.setattr(merge_module, "attach_adapter", lambda *given: adapted.append(given[0]) or attach(*given))
    monkeypatch.setattr(LoraLinear, "merge", merge)
    load_weights(str(tmp_path / "adapter"), torch.bfloat16)
    adapters = 2 * 6  # lora_A and lora_B of three modules in two layers, in float32 throughout
    first, others = seen[:6], seen[6:]
    assert first == [(torch.float32, adapters + 1)] * 6
    assert {dtype for dtype, _ in others} <= {torch.bfloat16}  # PEFT's own pass over what is merged already


def test_a_small_delta_survives_bfloat16(llama, tmp_path):
    """PEFT's own merge in bfloat16 rounds the delta first; ours is nearer to the exact weight, and never further."""
    bfloat16_base(llama, tmp_path / "base")
    make_adapter(type(llama)(tmp_path / "base"), tmp_path / "adapter", torch.bfloat16)

    def base(dtype):
        return AutoModelForCausalLM.from_pretrained(tmp_path / "base", dtype=dtype)

    exact = PeftModel.from_pretrained(base(torch.float32), tmp_path / "adapter").merge_and_unload()
    peft = PeftModel.from_pretrained(base(torch.bfloat16), tmp_path / "adapter").merge_and_unload()
    name = "model.layers.0.self_attn.q_proj.weight"
    ours = load_weights(str(tmp_path / "adapter"), torch.bfloat16).get_parameter(name)
    target = exact.get_parameter(name)
    assert torch.equal(ours, target.to(torch.bfloat16))
    assert (peft.get_parameter(name).float() - target).abs().mean() >= (ours.float() - target).abs().mean()


def test_a_tied_head_that_was_adapted_alone_is_saved_as_its_own(gemma, tmp_path):
    beside = make_adapter(gemma, tmp_path / "adapter", **KINDS["head"])
    model, tokenizer = load_for_inference(str(tmp_path / "adapter"), "float32")
    save_model(tmp_path / "whole", model, tokenizer, model_source(str(tmp_path / "adapter")))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    torch.testing.assert_close(logits(again), beside, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("config", [KINDS["saved embedding"], {"target_modules": ["q_proj"]}])
def test_an_adapter_with_new_tokens_brings_its_vocabulary(tiny, config, tmp_path):
    size = tiny.model().config.vocab_size + 2
    beside = make_adapter(tiny, tmp_path / "adapter", vocabulary=size, **config)
    model, tokenizer = load_for_inference(str(tmp_path / "adapter"), "float32")
    torch.testing.assert_close(logits(model).cpu(), beside, atol=2e-4, rtol=1e-4)
    save_model(tmp_path / "whole", model, tokenizer, model_source(str(tmp_path / "adapter")))
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "whole", dtype=torch.float32)
    torch.testing.assert_close(logits(again), beside, atol=2e-4, rtol=1e-4)
    kept, _ = load_for_inference(str(tmp_path / "adapter"), "float32", merge=False)
    torch.testing.assert_close(logits(kept), beside, atol=2e-4, rtol=1e-4)


def test_an_adapter_of_another_base_is_one_line(llama, gemma, tmp_path):
    make_adapter(llama, tmp_path / "adapter")
    file = tmp_path / "adapter" / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(gemma.folder)}))
    with pytest.raises(UserError, match=r"adapter_config.json: base_model_name_or_path: the adapter does not fit its base"):
        load_weights(str(tmp_path / "adapter"), torch.float32)


def test_what_is_no_change_of_weights_is_one_line(llama, tmp_path):
    config = PromptTuningConfig(task_type="CAUSAL_LM", num_virtual_tokens=2)
    get_peft_model(llama.model(), config).save_pretrained(tmp_path)
    with pytest.raises(UserError, match="a PROMPT_TUNING adapter cannot be merged into weights"):
        load_weights(str(tmp_path), torch.float32)
