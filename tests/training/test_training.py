"""Training on a handful of rows: what is learned, what DPO compares with, and what the output folder holds."""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from conftest import SHORT_ROWS, rows, turns
from peft import PeftModel
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
from trl import DPOConfig, DPOTrainer, SFTConfig

from align_ko.chat_format import FORMAT_FILE, prompt_ids
from align_ko.errors import UserError
from align_ko.generation.local import stream_answer
from align_ko.models.load import load_base, load_for_inference, load_policy, lora_config
from align_ko.models.source import is_adapter
from align_ko.recipe import ModelArgs
from align_ko.training.finish import save_stage
from align_ko.training.prepare import tokenize_conversations, tokenize_pairs, training_config
from align_ko.training.seams import AlignDPOTrainer, AlignSFTTrainer

PLAIN = {"bf16": False, "fp16": False, "save_strategy": "no", "logging_steps": 1, "disable_tqdm": True}


def model_args(tiny):
    return ModelArgs(str(tiny.folder), dtype="float32", lora_r=32, lora_alpha=64, lora_dropout=0.0)


def train_sft(tiny, folder: Path, merge: bool = False, steps: int = 60):
    args, tokenizer = model_args(tiny), tiny.tokenizer()
    dataset, _ = tokenize_conversations(tokenizer, rows()[:8], 512)
    config = training_config(
        SFTConfig,
        {"output_dir": str(folder), "max_steps": steps, "per_device_train_batch_size": 8, "learning_rate": 1e-2,
         "lr_scheduler_type": "constant", "max_length": 512, "gradient_checkpointing": False, "seed": 1, **PLAIN},
        "float32",
    )  # fmt: skip
    model = load_base(args, tokenizer)
    trainer = AlignSFTTrainer(
        model=model, args=config, train_dataset=dataset, processing_class=tokenizer, peft_config=lora_config(args)
    )
    trainer.train()
    save_stage(trainer, tokenizer, merge, torch.float32)
    return SimpleNamespace(folder=folder, base=tiny, losses=[e["loss"] for e in trainer.state.log_history if "loss" in e])


@pytest.fixture(scope="module")
def sft(llama, tmp_path_factory):
    """An SFT adapter on the tiny Llama, the eight rows known by heart."""
    return train_sft(llama, tmp_path_factory.mktemp("sft") / "adapter")


def plain_generate(folder, question, **options):
    """What a user with nothing but transformers does."""
    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    inputs = tokenizer.apply_chat_template(
        [{"role": "user", "content": question}], add_generation_prompt=True, return_tensors="pt", return_dict=True
    )
    output = model.generate(**inputs, max_new_tokens=64, **options)[0, inputs["input_ids"].shape[1] :].tolist()
    return output, tokenizer


# SFT -------------------------------------------------------------------------------------------------------------------


def test_sft_learns_the_answers_and_their_end(sft):
    assert sft.losses[0] > 4 and sft.losses[-1] < 0.1
    for question, answer in SHORT_ROWS:
        ids, tokenizer = plain_generate(sft.folder, question)
        assert ids[-1] == tokenizer.eos_token_id and ids.count(tokenizer.eos_token_id) == 1
        assert tokenizer.decode(ids[:-1]) == answer


def test_the_base_did_not_know_how_to_end(llama):
    tokenizer = llama.tokenizer()
    ids = torch.tensor([prompt_ids(tokenizer, turns(*SHORT_ROWS[0])[:1])])
    output = llama.model().generate(input_ids=ids, attention_mask=torch.ones_like(ids), max_new_tokens=64, do_sample=False)
    assert tokenizer.eos_token_id not in output[0, ids.shape[1] :]


def test_the_sft_folder(sft):
    assert is_adapter(sft.folder)
    saved = json.loads((sft.folder / "generation_config.json").read_text())
    tokenizer = AutoTokenizer.from_pretrained(sft.folder)
    assert saved["do_sample"] is False and saved["eos_token_id"] == tokenizer.eos_token_id
    assert not {"temperature", "top_p", "top_k", "repetition_penalty"} & {k for k, v in saved.items() if v is not None}
    assert json.loads((sft.folder / FORMAT_FILE).read_text())["generation_eos_token_id"] == [tokenizer.eos_token_id]
    assert "### Assistant:" in tokenizer.chat_template
    assert tokenizer.pad_token_id != tokenizer.eos_token_id


def test_a_changed_template_is_refused_by_everything_that_loads(sft, tmp_path):
    import shutil

    copy = shutil.copytree(sft.folder, tmp_path / "copy")
    file = copy / "chat_template.jinja"
    file.write_text(file.read_text().replace("### User", "### Human"))
    for load in (lambda: load_for_inference(str(copy)), lambda: load_policy(str(copy), None)):
        with pytest.raises(UserError, match="chat_template was"):
            load()


@pytest.mark.parametrize("kind", ["llama", "gemma"])
def test_a_merged_folder_is_base_plus_adapter_and_loads_plainly(kind, request, tmp_path):
    base = request.getfixturevalue(kind)
    folder = train_sft(base, tmp_path / "merged", merge=True, steps=40).folder
    assert not is_adapter(folder) and is_adapter(folder / "adapter")
    for place in (folder, folder / "adapter"):
        assert {FORMAT_FILE, "generation_config.json", "tokenizer.json", "chat_template.jinja"} <= set(
            file.name for file in place.iterdir()
        )
    tokenizer = AutoTokenizer.from_pretrained(folder)
    ids = torch.tensor([prompt_ids(tokenizer, turns(*SHORT_ROWS[3])[:1])])
    with torch.no_grad():
        merged = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)(ids).logits
        beside = PeftModel.from_pretrained(base.model(), folder / "adapter")(ids).logits
        bare = base.model()(ids).logits
    assert (merged - beside).abs().max() < 1e-4 < 1 < (merged - bare).abs().max()
    generation = GenerationConfig.from_pretrained(folder)
    assert generation.do_sample is False and generation.eos_token_id == tokenizer.eos_token_id

    # plain generate, nothing else = what chat.py shows
    output, _ = plain_generate(folder, SHORT_ROWS[3][0])
    for path in (folder, folder / "adapter"):
        model, loaded = load_for_inference(str(path), "float32", merge=False)
        pieces = list(stream_answer(model, loaded, turns(*SHORT_ROWS[3])[:1], 64))
        assert "".join(pieces) == tokenizer.decode(output, skip_special_tokens=True) == SHORT_ROWS[3][1]
    sampled, _ = plain_generate(folder, SHORT_ROWS[3][0], do_sample=False, temperature=None, top_p=None, top_k=None)
    assert sampled == output


def test_merging_at_load_gives_the_adapters_logits(sft):
    merged, tokenizer = load_for_inference(str(sft.folder), "float32")
    beside, _ = load_for_inference(str(sft.folder), "float32", merge=False)
    ids = torch.tensor([prompt_ids(tokenizer, turns(*SHORT_ROWS[1])[:1])])
    with torch.no_grad():
        assert (merged(ids).logits - beside(ids).logits).abs().max() < 1e-4


def test_a_lost_base_is_told(sft, tmp_path):
    import shutil

    copy = shutil.copytree(sft.folder, tmp_path / "copy")
    file = copy / "adapter_config.json"
    file.write_text(json.dumps({**json.loads(file.read_text()), "base_model_name_or_path": "/nowhere/at/all"}))
    with pytest.raises(UserError, match="base_model_name_or_path: the adapter's base model /nowhere/at/all is not there"):
        load_for_inference(str(copy))


# DPO -------------------------------------------------------------------------------------------------------------------


def pair_rows():
    return [
        {
            "id": f"p{n}",
            "prompt": turns(question, answer)[:1],
            "chosen": [{"role": "assistant", "content": answer}],
            "rejected": [{"role": "assistant", "content": " ".join([answer] * 3)}],
            "rejected_finished": n % 2 == 0,
        }
        for n, (question, answer) in enumerate(SHORT_ROWS)
    ]


def dpo_trainer(sft, folder, bare_reference=False, **options):
    model, tokenizer, new_adapter = load_policy(str(sft.folder), model_args(sft.base))
    assert new_adapter is None
    train, too_long = tokenize_pairs(tokenizer, pair_rows(), 512)
    assert too_long == []
    config = training_config(
        DPOConfig,
        {"output_dir": str(folder), "max_steps": 4, "per_device_train_batch_size": 4, "learning_rate": 1e-3,
         "max_length": 512, "lr_scheduler_type": "constant", "gradient_checkpointing": False, **PLAIN, **options},
        "float32",
    )  # fmt: skip
    trainer = AlignDPOTrainer(
        model=model, args=config, train_dataset=train, processing_class=tokenizer,
        ref_model=sft.base.model() if bare_reference else None,
    )  # fmt: skip
    return trainer, tokenizer


def first_loss(trainer):
    batch = next(iter(trainer.get_train_dataloader()))
    with torch.no_grad():
        return trainer.compute_loss(trainer.model.eval(), batch).item()


@pytest.mark.parametrize("precomputed", [False, True])
def test_dpo_begins_at_ln_2(sft, tmp_path, precomputed):
    trainer, _ = dpo_trainer(sft, tmp_path, precompute_ref_log_probs=precomputed)
    assert abs(first_loss(trainer) - math.log(2)) < 1e-4


def test_against_the_bare_base_it_would_not(sft, tmp_path):
    trainer, _ = dpo_trainer(sft, tmp_path, bare_reference=True)
    assert abs(first_loss(trainer) - math.log(2)) > 0.05


def test_dpo_moves_the_adapter_and_nothing_else(sft, tmp_path):
    trainer, tokenizer = dpo_trainer(sft, tmp_path / "dpo")
    before = {name: p.detach().clone() for name, p in trainer.model.named_parameters()}
    trainer.train()
    losses = [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]
    assert abs(losses[0] - math.log(2)) < 1e-4 and losses[-1] < losses[0] - 0.01
    for name, parameter in trainer.model.named_parameters():
        moved = not torch.equal(before[name], parameter)
        assert moved == (".default." in name), name
    save_stage(trainer, tokenizer, False, torch.float32)
    saved, start = (load_file(folder / "adapter_model.safetensors") for folder in (tmp_path / "dpo", sft.folder))
    assert saved.keys() == start.keys() and all(saved[key].shape == start[key].shape for key in saved)
    assert not any("ref" in key.split(".") for key in saved)
    assert any(not torch.equal(saved[key], start[key]) for key in saved)
    assert not (tmp_path / "dpo" / "ref").exists()


def test_a_full_model_as_start_gets_a_new_adapter(gemma, tmp_path):
    model, tokenizer, adapter = load_policy(str(gemma.folder), model_args(gemma))
    assert not isinstance(model, PeftModel) and adapter is not None and adapter.r == 32
    tokenizer.chat_template = gemma.tokenizer().chat_template
    train, _ = tokenize_pairs(tokenizer, pair_rows(), 512)
    config = training_config(
        DPOConfig, {"output_dir": str(tmp_path), "per_device_train_batch_size": 4, "max_length": 512, **PLAIN}, "float32"
    )
    trainer = AlignDPOTrainer(model=model, args=config, train_dataset=train, processing_class=tokenizer, peft_config=adapter)
    assert isinstance(trainer, DPOTrainer) and abs(first_loss(trainer) - math.log(2)) < 1e-4


# Arguments and errors ----------------------------------------------------------------------------------------------------


def test_a_value_that_trl_refuses_is_a_users_mistake(tmp_path):
    with pytest.raises(UserError, match=r"training: SFTConfig refuses this: .*no_such_strategy"):
        training_config(SFTConfig, {"output_dir": str(tmp_path), "eval_strategy": "no_such_strategy"})


def test_what_the_recipe_states_wins(tmp_path):
    config = training_config(SFTConfig, {"output_dir": str(tmp_path), "bf16": False, "report_to": "tensorboard"}, "bfloat16")
    assert (config.bf16, config.report_to) == (False, ["tensorboard"])
    silent = training_config(SFTConfig, {"output_dir": str(tmp_path)}, "float32")
    assert (silent.bf16, silent.fp16) == (False, False)


@pytest.mark.skipif(torch.cuda.is_available(), reason="for machines without a GPU")
def test_under_deepspeed_the_cpu_has_a_backend(tmp_path, monkeypatch):
    # accelerate 1.15: use_cpu would switch DeepSpeed off, no backend would leave each process alone
    import trl

    seen = {}
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    monkeypatch.setattr(trl.SFTConfig, "__init__", lambda self, **values: seen.update(values))
    training_config(SFTConfig, {"output_dir": str(tmp_path)})
    assert (seen["use_cpu"], seen["ddp_backend"]) == (False, "gloo")
    monkeypatch.delenv("ACCELERATE_USE_DEEPSPEED")
    seen.clear()
    training_config(SFTConfig, {"output_dir": str(tmp_path)})
    assert seen["use_cpu"] is True and "ddp_backend" not in seen


@pytest.mark.parametrize(("variable", "value", "shown"), [("RANK", "0", True), ("RANK", "1", False),
                                                          ("LOCAL_RANK", "1", False), (None, None, True)])  # fmt: skip
def test_only_the_first_process_prints_an_error(monkeypatch, capsys, variable, value, shown):
    from align_ko.errors import run_script

    for name in ("RANK", "LOCAL_RANK"):
        monkeypatch.delenv(name, raising=False)
    if variable:
        monkeypatch.setenv(variable, value)
    for raised, code in ((UserError("wrong", file="a.yaml"), 2), (KeyboardInterrupt(), 130)):

        def main(raised=raised):
            raise raised

        with pytest.raises(SystemExit) as exit_:
            run_script(main)
        assert exit_.value.code == code
        assert bool(capsys.readouterr().err) is shown
