"""The second round on a tiny model: its reference is the first round's result, and the adapter is merged once."""

from __future__ import annotations

import math

import pytest
import torch
from conftest import rows, turns
from peft import PeftModel
from test_training import dpo_trainer, first_loss, model_args, sft  # noqa: F401  (a fixture)
from training_place import make_place, run_here

from align_ko.chat_format import prompt_ids
from align_ko.models.load import load_for_inference, load_policy
from align_ko.models.source import ModelSource, base_of, is_adapter
from align_ko.records import write_jsonl
from align_ko.training.audit import AuditError
from align_ko.training.faults import answer_loss, check_start
from align_ko.training.finish import save_stage
from align_ko.training.prepare import tokenize_conversations


@pytest.fixture(scope="module")
def first_round(sft, tmp_path_factory):  # noqa: F811
    folder = tmp_path_factory.mktemp("round-1") / "dpo"
    trainer, tokenizer = dpo_trainer(sft, folder)
    trainer.train()
    save_stage(trainer, tokenizer, True, torch.float32)
    return folder


def logits(model, tokenizer) -> torch.Tensor:
    ids = torch.tensor([prompt_ids(tokenizer, turns("한국의 수도는?", "")[:1])])
    with torch.no_grad():
        return model.eval()(ids).logits


def test_its_policy_is_the_first_rounds_result_and_merged_once(first_round, sft):  # noqa: F811
    policy, tokenizer, new_adapter = load_policy(str(first_round / "adapter"), model_args(sft.base))
    assert isinstance(policy, PeftModel) and new_adapter is None
    assert base_of(str(first_round / "adapter")).path == str(sft.base.folder)  # not the merged model
    shipped, _ = load_for_inference(str(first_round), "float32")
    before, _ = load_for_inference(str(sft.folder), "float32")
    ours = logits(policy, tokenizer)
    assert (ours - logits(shipped, tokenizer)).abs().max() < 1e-3 < (ours - logits(before, tokenizer)).abs().max()


def test_its_reference_is_the_first_rounds_result(first_round, sft, tmp_path):  # noqa: F811
    from types import SimpleNamespace

    start = SimpleNamespace(folder=first_round / "adapter", base=sft.base)
    trainer, _ = dpo_trainer(start, tmp_path / "dpo", precompute_ref_log_probs=True)
    assert abs(first_loss(trainer) - math.log(2)) < 1e-4
    # held against the reference of the round before, the same policy would be elsewhere
    policy = torch.cat([p.flatten() for n, p in trainer.model.named_parameters() if ".default." in n])
    reference = torch.cat([p.flatten() for n, p in trainer.model.named_parameters() if ".ref." in n])
    old, _, _ = load_policy(str(sft.folder), model_args(sft.base))
    round_0 = torch.cat([p.flatten() for n, p in old.named_parameters() if ".default." in n])
    assert torch.equal(policy, reference) and not torch.equal(policy, round_0)


# An adapter as the start of SFT ------------------------------------------------------------------------------------------

MODES = {"trained on": (), "merged": ("--merge_start", "true"), "distilled": ("--distill.repetition_penalty", "1.05")}


@pytest.mark.parametrize("mode", MODES)
def test_sft_from_an_adapter_begins_where_that_ended(mode, sft, tmp_path, monkeypatch):  # noqa: F811
    """The adapter was thrown away and the base trained: a loss of 3.90 became 7.66."""
    monkeypatch.chdir(make_place(tmp_path, sft.base))
    write_jsonl(tmp_path / "train.jsonl", rows()[:8])
    few = ["--training.max_steps", "1", "--training.eval_strategy", "no", "--training.save_strategy", "no"]
    start = ["--model.model_name_or_path", str(sft.folder), "--training.learning_rate", "1e-5"]
    run_here(monkeypatch, "run_sft", "sft.yaml", *start, *few, *MODES[mode])
    model, tokenizer = load_for_inference("sft", "float32")
    data, _ = tokenize_conversations(tokenizer, rows()[:8], None)
    assert answer_loss(model, data) < 1 < 4 < answer_loss(sft.base.model(), data)
    base = base_of("sft").path
    assert is_adapter("sft") and base == (str(sft.base.folder) if mode == "trained on" else "sft/start")


def test_another_model_than_the_start_is_told_before_the_first_step(sft):  # noqa: F811
    data, _ = tokenize_conversations(sft.base.tokenizer(), rows()[:8], None)
    start = ModelSource(str(sft.folder))
    check_start(load_policy(start, model_args(sft.base))[0], start, data, torch.float32)
    with pytest.raises(AuditError, match=r"not the start: before the first step its loss is \d\.\d\d, that of .* 0\.0\d"):
        check_start(sft.base.model(), start, data, torch.float32)
