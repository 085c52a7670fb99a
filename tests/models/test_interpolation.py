"""A model taken back towards the one it was trained from: exact weights, tied heads, and what cannot be mixed."""

from __future__ import annotations

import pytest
import torch
from conftest import make_gemma, make_llama
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM

from align_ko.errors import UserError
from align_ko.models.load import load_interpolated
from align_ko.models.merge import interpolate
from align_ko.recipe import ExportRecipe, load_recipe


def weights_of(folder) -> dict[str, torch.Tensor]:
    return dict(AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).named_parameters())


@pytest.mark.parametrize("make", [make_llama, make_gemma])  # Gemma's head is its embedding
def test_every_weight_lies_on_the_line(make, tmp_path):
    tiny = make(tmp_path / "start")
    start, end = tiny.model().float(), tiny.model().float()
    with torch.no_grad():
        for weight in end.parameters():
            weight.add_(1.0)
    before = {name: weight.clone() for name, weight in start.named_parameters()}
    interpolate(end, start, 0.8)
    for name, weight in end.named_parameters():
        torch.testing.assert_close(weight, before[name] + 0.8, atol=1e-6, rtol=0)


def test_a_step_below_bfloat16_is_cut_short_too(llama):
    """Both ends in bfloat16 and next to each other: in bfloat16 the way from one to the other could only be gone whole."""
    start, end = llama.model().float(), llama.model().float()
    with torch.no_grad():
        start.lm_head.weight.fill_(1.0)
        end.lm_head.weight.fill_(1.0078125)
    interpolate(end, start, 0.25)
    assert end.lm_head.weight[0, 0].item() == 1.001953125


def test_other_shapes_are_refused(llama, gemma):
    with pytest.raises(
        UserError, match=r"interpolate_from: the two models differ in shape, .*: nothing and \d+ × 64; .* of the same base"
    ):
        interpolate(llama.model(), gemma.model(), 0.5)


def test_adapters_are_merged_first(tmp_path):
    tiny = make_llama(tmp_path / "base")
    folders = []
    for seed, name in enumerate(("sft", "dpo")):
        torch.manual_seed(seed)
        adapted = get_peft_model(tiny.model(), LoraConfig(r=4, task_type="CAUSAL_LM", init_lora_weights=False))
        adapted.save_pretrained(tmp_path / name)
        tiny.tokenizer().save_pretrained(tmp_path / name)
        merged = adapted.merge_and_unload()
        merged.save_pretrained(tmp_path / f"{name}-whole")
        folders.append(weights_of(tmp_path / f"{name}-whole"))
    model, tokenizer = load_interpolated(str(tmp_path / "dpo"), str(tmp_path / "sft"), 0.8, "float32")
    for name, weight in model.named_parameters():
        torch.testing.assert_close(weight, folders[0][name] * 0.2 + folders[1][name] * 0.8, atol=1e-6, rtol=0)
    assert not model.generation_config.do_sample and tokenizer.chat_template


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--interpolation", "0.8"], "0.8 does nothing without a checkpoint to go back to"),
        (["--interpolation", "0"], "interpolation: 0 cannot work"),
        (["--interpolation", "1.5", "--interpolate_from", "sft"], "1.5 cannot work"),
    ],
)
def test_a_share_that_cannot_work_is_told(tmp_path, words, said):
    (tmp_path / "export.yaml").write_text("model_name_or_path: dpo\noutput_dir: out\n")
    with pytest.raises(UserError, match=said):
        load_recipe(ExportRecipe, [str(tmp_path / "export.yaml"), *words])
