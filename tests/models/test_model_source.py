"""Revision, permission to run code and base: recorded beside a checkpoint and read by every loader."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from conftest import Tiny, make_llama, rows, turns
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM
from trl import SFTConfig

from align_ko.chat_format import prompt_ids
from align_ko.errors import UserError
from align_ko.models.hardware import parameter_count
from align_ko.models.load import (
    load_base,
    load_for_inference,
    load_policy,
    load_tokenizer,
    load_weights,
    lora_config,
    training_source,
)
from align_ko.models.source import (
    SOURCE_FILE,
    ModelSource,
    base_of,
    model_source,
    origin_of,
    start_source,
    weights_hash,
    write_source,
)
from align_ko.planning.model_shape import load_config
from align_ko.planning.settings import run_settings
from align_ko.recipe import DpoRecipe, ExportRecipe, ModelArgs, check_inputs, load_recipe, recipe_from
from align_ko.training.finish import save_stage
from align_ko.training.prepare import tokenize_conversations, training_config
from align_ko.training.seams import AlignSFTTrainer

HUB_ID = "someone/korean-llama"
COMMITS = {"main": "a" * 40, "v1": "b" * 40}

CODE = """
from transformers import LlamaConfig, LlamaForCausalLM


class OwnConfig(LlamaConfig):
    model_type = "own_llama"


class OwnModel(LlamaForCausalLM):
    config_class = OwnConfig

    def forward(self, *args, **kwargs):
        output = super().forward(*args, **kwargs)
        output.logits = output.logits * 2
        return output
"""


@pytest.fixture
def hub(tmp_path, monkeypatch) -> Path:
    """A hub cache with two revisions of one model: `v1`, and `main` whose weights and tokenizer differ."""
    cache = tmp_path / "hub"
    place = cache / f"models--{HUB_ID.replace('/', '--')}"
    (place / "refs").mkdir(parents=True)
    for name, commit in COMMITS.items():
        (place / "refs" / name).write_text(commit)
        make_llama(place / "snapshots" / commit)
    folder = place / "snapshots" / COMMITS["main"]
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        model.lm_head.weight.mul_(-1)
    model.config.max_position_embeddings = 1024
    model.save_pretrained(folder)
    file = folder / "tokenizer_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_max_length": 77}))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(cache))
    return place / "snapshots" / COMMITS["v1"]


def train(args: ModelArgs, folder: Path, merge: bool = False) -> Path:
    """One SFT step, saved as run_sft.py saves it."""
    base = training_source(args)
    tokenizer = load_tokenizer(base, "default")
    dataset, _ = tokenize_conversations(tokenizer, rows()[:4], 512)
    values = {"output_dir": str(folder), "max_steps": 1, "max_length": 512, "save_strategy": "no", "disable_tqdm": True}
    config = training_config(SFTConfig, {**values, "learning_rate": 1e-2, "bf16": False, "fp16": False}, "float32")
    trainer = AlignSFTTrainer(
        model=load_base(args, tokenizer, base), args=config, train_dataset=dataset, processing_class=tokenizer,
        peft_config=lora_config(args, base),
    )  # fmt: skip
    trainer.train()
    return save_stage(trainer, tokenizer, merge, torch.float32, base)


def logits(model) -> torch.Tensor:
    with torch.no_grad():
        return model.eval()(torch.tensor([[1, 300, 301, 302]])).logits


def args_of(name: str, **values) -> ModelArgs:
    return ModelArgs(name, **{"dtype": "float32", "lora_r": 4, "lora_alpha": 8, "lora_dropout": 0.0, **values})


# revision --------------------------------------------------------------------------------------------------------------


def test_a_revision_reaches_tokenizer_base_merge_and_config(hub, tmp_path):
    folder = train(args_of(HUB_ID, model_revision="v1"), tmp_path / "sft")
    assert load_tokenizer(model_source(HUB_ID, "v1")).model_max_length == 2048
    assert load_tokenizer(HUB_ID).model_max_length == 77
    assert base_of(str(folder)) == ModelSource(HUB_ID, COMMITS["v1"], False, "v1")
    base = AutoModelForCausalLM.from_pretrained(hub, dtype=torch.float32)
    merged = load_weights(str(folder), torch.float32)
    torch.testing.assert_close(merged.lm_head.weight, base.lm_head.weight)  # not main's, which is its negative
    beside = load_for_inference(str(folder), "float32", merge=False)[0]
    torch.testing.assert_close(logits(beside), logits(merged), atol=1e-4, rtol=0)
    policy, _, _ = load_policy(str(folder), args_of("any"))
    torch.testing.assert_close(logits(policy), logits(merged), atol=1e-4, rtol=0)
    assert load_config(HUB_ID, None, "v1").max_position_embeddings == 2048
    assert load_config(HUB_ID, None).max_position_embeddings == 1024
    assert json.loads((folder / "adapter_config.json").read_text())["revision"] == COMMITS["v1"]  # for plain PEFT


def test_a_branch_that_moved_on_does_not_move_the_base_of_an_adapter(hub, tmp_path):
    folder = train(args_of(HUB_ID, model_revision="v1"), tmp_path / "sft", merge=True)
    (hub.parents[1] / "refs" / "v1").write_text(COMMITS["main"])
    base = AutoModelForCausalLM.from_pretrained(hub, dtype=torch.float32)
    torch.testing.assert_close(load_weights(str(folder / "adapter"), torch.float32).lm_head.weight, base.lm_head.weight)
    assert origin_of(str(folder)) == ModelSource(HUB_ID, COMMITS["v1"], False, "v1")


def test_a_model_in_a_list_of_checkpoints_may_name_its_revision(hub):
    base = AutoModelForCausalLM.from_pretrained(hub, dtype=torch.float32)
    model, _ = load_for_inference(f"{HUB_ID}@v1", "float32")
    torch.testing.assert_close(model.lm_head.weight.cpu(), base.lm_head.weight)
    assert weights_hash(f"{HUB_ID}@v1") == weights_hash(f"{HUB_ID}@{COMMITS['v1']}") != weights_hash(HUB_ID)
    with pytest.raises(UserError, match=r"model_revision: .*@v1 and revision main contradict"):
        model_source(f"{HUB_ID}@v1", "main")
    with pytest.raises(UserError, match=r"model_revision: .* is a folder and has no revision v1"):
        model_source(str(hub), "v1")


# remote code -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def own_code(tmp_path, monkeypatch) -> Tiny:
    monkeypatch.setenv("ALIGN_KO_CACHE", str(tmp_path / "cache"))
    tiny = make_llama(tmp_path / "own")
    (tiny.folder / "modeling_own.py").write_text(CODE)
    file = tiny.folder / "config.json"
    auto_map = {"AutoConfig": "modeling_own.OwnConfig", "AutoModelForCausalLM": "modeling_own.OwnModel"}
    file.write_text(json.dumps({**json.loads(file.read_text()), "model_type": "own_llama", "auto_map": auto_map}))
    return tiny


@pytest.mark.parametrize("merge", [False, True])
def test_what_was_trained_with_permission_is_loaded_with_it(own_code, tmp_path, merge):
    folder = train(args_of(str(own_code.folder), trust_remote_code=True), tmp_path / "sft", merge)
    model, tokenizer = load_for_inference(str(folder), "float32")
    policy, _, _ = load_policy(str(folder), args_of("any"))
    assert type(model).__name__ == "OwnModel"
    ids = torch.tensor([prompt_ids(tokenizer, turns("한국의 수도는?", "")[:1])])
    with torch.no_grad():
        assert (model(ids).logits - policy.eval()(ids).logits).abs().max() < 1e-3
    assert load_config(str(folder if merge else own_code.folder), None, None, True).model_type == "own_llama"


def test_code_of_a_foreign_checkpoint_is_not_run_and_the_key_is_named(own_code, monkeypatch):
    monkeypatch.setattr("builtins.input", lambda *_: pytest.fail("asked on the console"))
    own = str(own_code.folder)
    for load in (lambda: load_for_inference(own), lambda: load_policy(own, None), lambda: parameter_count(own),
                 lambda: load_config(own, None)):  # fmt: skip
        with pytest.raises(UserError, match=r"trust_remote_code: .* expected 'trust_remote_code: true'"):
            load()
    model, _ = load_for_inference(model_source(own, trust_remote_code=True), "float32")
    assert type(model).__name__ == "OwnModel"


@pytest.mark.parametrize("merge", [False, True])
def test_a_permission_is_for_the_code_that_it_was_given_for(own_code, tmp_path, monkeypatch, merge):
    folder = train(args_of(str(own_code.folder), trust_remote_code=True), tmp_path / "sft", merge)
    copy = shutil.copytree(folder, tmp_path / "copy")
    assert type(load_weights(str(copy), torch.float32)).__name__ == "OwnModel"  # the same code on the same machine
    file = (folder if merge else own_code.folder) / "modeling_own.py"
    file.write_text(f"{CODE}print('changed')\n")
    with pytest.raises(UserError, match=r"trust_remote_code: .* expected 'trust_remote_code: true'"):
        load_weights(str(folder), torch.float32)
    file.write_text(CODE)
    monkeypatch.setenv("ALIGN_KO_CACHE", str(tmp_path / "another user"))  # who gave no permission, whatever the folder records
    with pytest.raises(UserError, match=r"trust_remote_code: .* expected 'trust_remote_code: true'"):
        load_weights(str(folder), torch.float32)


# the base of a start ---------------------------------------------------------------------------------------------------


@pytest.fixture
def start(llama, tmp_path, monkeypatch) -> Path:
    """An adapter folder on the tiny Llama."""
    monkeypatch.setenv("ALIGN_KO_CACHE", str(tmp_path / "cache"))
    folder = tmp_path / "sft"
    get_peft_model(llama.model(), LoraConfig(r=4, task_type="CAUSAL_LM")).save_pretrained(folder)
    llama.tokenizer().save_pretrained(folder)
    return folder


def test_dpo_takes_the_base_of_its_start_and_refuses_another(llama, gemma, start, tmp_path):
    file = tmp_path / "dpo.yaml"
    data = "data: {train_file: t.jsonl, eval_file: e.jsonl}\ntraining: {output_dir: out}\n"

    def recipe(model: str) -> DpoRecipe:
        file.write_text(f"model_name_or_path: {start}\n{data}model: {{{model}}}\n")
        return load_recipe(DpoRecipe, [str(file)])

    assert run_settings(recipe("dtype: float32")).model.model_name_or_path == str(llama.folder)
    assert run_settings(recipe(f"model_name_or_path: {llama.folder}")).model.model_name_or_path == str(llama.folder)
    with pytest.raises(UserError, match=r"model.model_name_or_path: .* is not the base of .*sft, which was made from .*llama"):
        run_settings(recipe(f"model_name_or_path: {gemma.folder}"))
    with pytest.raises(UserError, match="is not the base of"):
        start_source(str(start), "upstage/SOLAR-10.7B-v1.0")
    with pytest.raises(UserError, match=r"model.model_revision: .* was made from revision main of .*llama"):
        start_source(str(start), revision="v2")


def test_the_record_is_only_believed_about_the_base_that_the_adapter_names(llama, start):
    write_source(start, ModelSource("someone/else", "c" * 40, True))
    base = base_of(str(start))
    assert base == ModelSource(str(llama.folder)) and not base.may_run_code


def test_a_base_folder_that_is_gone_is_named(start):
    file = start / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "/nowhere/llama"}))
    with pytest.raises(UserError, match=r"base_model_name_or_path: the adapter's base model /nowhere/llama is not there"):
        base_of(str(start))


# weights_hash ----------------------------------------------------------------------------------------------------------


def test_an_adapters_key_changes_with_its_base_its_scaling_and_its_weights(start, tmp_path):
    base = make_llama(tmp_path / "base")
    file = start / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": str(base.folder)}))
    keys = [weights_hash(str(start))]
    assert weights_hash(str(start)) == keys[0]
    model = base.model()
    with torch.no_grad():
        model.lm_head.weight[0, 0] += 1
    model.save_pretrained(base.folder)
    keys.append(weights_hash(str(start)))
    file.write_text(file.read_text().replace('"lora_alpha": 8', '"lora_alpha": 16'))
    keys.append(weights_hash(str(start)))
    shutil.copy(base.folder / "model.safetensors", start / "adapter_model.safetensors")
    keys.append(weights_hash(str(start)))
    assert len(set(keys)) == 4


def test_the_record_is_not_pushed():
    from huggingface_hub.utils import filter_repo_objects

    from align_ko.training.finish import NOT_PUSHED

    assert list(filter_repo_objects([SOURCE_FILE, "config.json"], ignore_patterns=list(NOT_PUSHED))) == ["config.json"]


def change(file: str, **values):
    def do(folder: Path) -> None:
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return do


def replace_with(file: str, content: bytes):
    return lambda folder: (folder / file).write_bytes(content)


POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:1\nsize 5\n"


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (replace_with("config.json", b"{"), "config.json is not valid JSON"),
        (replace_with("config.json", '{"이름": 1}'.encode("cp949")), "config.json is not valid JSON"),
        (replace_with("generation_config.json", b"[]"), "generation_config.json is not a JSON object"),
        (replace_with("tokenizer.json", POINTER), "tokenizer.json is a Git LFS pointer"),
        (replace_with("manifest.json", b""), "manifest.json is not valid JSON"),
        (replace_with("model.safetensors", POINTER), "model.safetensors is a Git LFS pointer"),
        (replace_with("model.safetensors", b""), "model.safetensors is cut"),
        (replace_with("model.safetensors", b"\xff" * 99), "model.safetensors is cut"),
        (lambda folder: os.truncate(folder / "model.safetensors", 5000), "model.safetensors is cut"),
        (change("config.json", hidden_size=32), "its weights have other shapes than its config.json says"),
        (change("config.json", hidden_size="64"), "Field 'hidden_size' expected int"),
        (change("config.json", model_type="newer"), "cannot be loaded: The checkpoint .* model type `newer`"),
        (change("config.json", num_attention_heads=7), "not a multiple of the number of attention heads"),
        (lambda folder: [(folder / name).unlink() for name in ("tokenizer.json", "tokenizer_config.json")], "cannot be loaded"),
    ],
)
def test_a_broken_model_folder_is_one_line(llama, tmp_path, spoil, told):
    folder = Path(shutil.copytree(llama.folder, tmp_path / "model"))
    spoil(folder)
    with pytest.raises(UserError, match=told):
        check_inputs(recipe_from(ExportRecipe, model_name_or_path=str(folder), output_dir=str(tmp_path / "out")))
        load_for_inference(str(folder), "float32")


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"base_model_name_or_path": None}, "the adapter names no base model"),
        ({"r": "x"}, "the adapter does not fit its base"),
        ({"peft_type": "NEWER"}, "the adapter does not fit its base"),
        ({"target_modules": ["nope"]}, "the adapter does not fit its base"),
    ],
)
def test_a_foreign_adapter_with_a_wrong_config_is_one_line(llama, tmp_path, values, told):
    get_peft_model(llama.model(), LoraConfig(task_type="CAUSAL_LM", target_modules=["q_proj"])).save_pretrained(tmp_path)
    llama.tokenizer().save_pretrained(tmp_path)
    change("adapter_config.json", **{"base_model_name_or_path": str(llama.folder)} | values)(tmp_path)
    with pytest.raises(UserError, match=told):
        load_for_inference(str(tmp_path), "float32")


def test_an_adapter_that_is_its_own_base_is_one_line(tmp_path):
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": str(tmp_path)}))
    with pytest.raises(UserError, match="the adapter's base model is the adapter itself"):
        base_of(str(tmp_path))
