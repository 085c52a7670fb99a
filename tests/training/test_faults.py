"""docs/faults.md, line by line: the fault is injected and the message seen. What batches show is in test_audit.py."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from conftest import turns
from datasets import Dataset
from safetensors.torch import load_file, save_file
from test_training import dpo_trainer, sft, train_sft  # noqa: F401  (sft is a fixture)
from training_place import make_place, run_here
from transformers import TrainerCallback

from align_ko.errors import UserError
from align_ko.training.audit import AuditError
from align_ko.training.faults import (
    check_saved,
    check_split,
    check_token_ids,
    check_trainable,
    warn_of_padding,
    warn_of_spelled_tokens,
)
from align_ko.training.finish import save_stage

ROOT = Path(__file__).parents[2]


def row(number: int, source: str = "koalpaca", answer: str = "답입니다.") -> dict:
    return {"messages": turns(f"질문 {number}?", answer), "source": source}


def pair(number: int, rejected: str) -> dict:
    question, chosen = turns(f"질문 {number}?", "답입니다.")
    return {"prompt": [question], "chosen": [chosen], "rejected": [{"role": "assistant", "content": rejected}]}


# Wrong reference ---------------------------------------------------------------------------------------------------------


def test_a_wrong_reference_stops_before_the_first_step(sft, tmp_path):  # noqa: F811
    trainer, _ = dpo_trainer(sft, tmp_path, bare_reference=True)
    before = [p.detach().clone() for p in trainer.model.parameters() if p.requires_grad]
    with pytest.raises(AuditError, match=r"the reference is not the model that training starts from: .* nats"):
        trainer.train()
    after = [p for p in trainer.model.parameters() if p.requires_grad]
    assert all(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_a_reference_computed_from_another_model_is_found_too(sft, tmp_path):  # noqa: F811
    trainer, _ = dpo_trainer(sft, tmp_path, precompute_ref_log_probs=True)
    worse = [value - 20 for value in trainer.train_dataset["ref_chosen_logps"]]
    trainer.train_dataset = trainer.train_dataset.remove_columns("ref_chosen_logps").add_column("ref_chosen_logps", worse)
    with pytest.raises(AuditError, match=r"differ by \+20\.0 nats"):
        trainer.train()


# Nothing trained, nothing saved ------------------------------------------------------------------------------------------


def test_a_frozen_adapter_is_told_before_the_first_step(sft, tmp_path):  # noqa: F811
    trainer, _ = dpo_trainer(sft, tmp_path)
    size = sum(p.numel() for name, p in trainer.model.named_parameters() if ".default." in name)
    assert check_trainable(trainer.model) == size > 0
    trainer.model.requires_grad_(False)
    with pytest.raises(AuditError, match="no weight would be trained: every parameter is frozen"):
        check_trainable(trainer.model)


def test_an_adapter_that_nothing_moved_is_not_saved_as_a_result(sft, tmp_path):  # noqa: F811
    trainer, tokenizer = dpo_trainer(sft, tmp_path / "dpo", learning_rate=0.0)
    trainer.train()
    folder = save_stage(trainer, tokenizer, False, torch.float32)
    check_saved(folder)
    with pytest.raises(AuditError, match=r"is the one that training started from .*: nothing was learnt"):
        check_saved(folder, sft.folder)


def test_what_training_saves_passes(sft, gemma, tmp_path):  # noqa: F811
    check_saved(sft.folder)
    full = gemma.model()
    full.save_pretrained(tmp_path / "full")
    check_saved(tmp_path / "full")


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (lambda tensors: {name: tensor[:0] for name, tensor in tensors.items()}, r"(\d+) of \1 weights are empty"),
        (lambda tensors: {}, "it holds no weights"),
        (lambda tensors: {n: t * 0 if "lora_B" in n else t for n, t in tensors.items()}, "every lora_B is zero"),
    ],
    ids=["empty tensors of ZeRO-3", "no tensors", "never trained"],
)
def test_an_adapter_without_weights_is_not_a_result(sft, tmp_path, spoil, told):  # noqa: F811
    tensors = load_file(sft.folder / "adapter_model.safetensors")
    save_file({name: t.contiguous() for name, t in spoil(tensors).items()}, tmp_path / "adapter_model.safetensors")
    with pytest.raises(AuditError, match=told):
        check_saved(tmp_path)


# Rows --------------------------------------------------------------------------------------------------------------------


def test_held_out_rows_that_are_trained_on_are_refused():
    train = [row(n) for n in range(40)]
    check_split(train, [row(n) for n in range(50, 60)])
    with pytest.raises(AuditError, match=r"2 of 3 held-out rows are trained on too, the first asks '질문 1\?'"):
        check_split(train, [row(1), row(50), row(2)])
    pairs = [pair(n, "답 답 답") for n in range(4)]
    with pytest.raises(AuditError, match="1 of 1 held-out rows"):
        check_split(pairs, [pair(3, "답 답 답")])


def test_the_same_prompt_with_another_answer_is_told(capsys):
    other = row(1, answer="다른 답입니다.")
    assert check_split([row(1)], [other]) == [other]
    told = "1 of 1 held-out prompts are trained on too, with other answers"
    assert f"warning: {told} (data.eval_file)" in capsys.readouterr().err
    with pytest.raises(AuditError, match=told):
        check_split([pair(1, "답 답 답")], [pair(1, "또 답")])


def test_the_pairs_of_a_prompt_are_on_one_side(capsys):
    kept = check_split([pair(1, "답 답 답"), pair(2, "답 답 답")], [pair(1, "또 답"), pair(3, "또 답")])
    assert kept == [pair(3, "또 답")]
    told = capsys.readouterr().err
    assert "1 of 2 held-out prompts are trained on too, with other answers: these pairs are left out" in told


def test_an_evaluation_split_off_the_end_of_a_sorted_file_is_told(capsys):
    file = [row(n, "koalpaca") for n in range(500)] + [row(n, "kowiki_qa") for n in range(500, 600)]
    check_split(file[:550], file[550:])
    told = capsys.readouterr().err
    assert "held-out rows are not drawn as the training rows are: kowiki_qa 100% of them, 9% of the training rows" in told
    check_split(file[::2], file[1::2])
    assert capsys.readouterr().err == ""


def test_special_tokens_in_texts_are_counted(tiny, capsys):
    rows = [row(1), row(2, answer="끝</s> 그리고 <pad>"), pair(3, "</s>아니요")]
    warn_of_spelled_tokens(rows[:1], tiny.tokenizer())
    assert capsys.readouterr().err == ""
    tokenizer = tiny.tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["</s>", "<pad>"]})
    warn_of_spelled_tokens(rows, tokenizer)
    assert "2 of 3 rows spell special tokens in their text (</s> 2×, <pad> 1×)" in capsys.readouterr().err


def test_batches_that_are_mostly_padding_are_told(capsys):
    warn_of_padding({"tokens": 60, "padding": 40})
    assert capsys.readouterr().err == ""
    warn_of_padding({"tokens": 236, "padding": 764})
    assert "warning: 76% of the computed positions are padding" in capsys.readouterr().err


# The scripts call them ---------------------------------------------------------------------------------------------------


class Asked(BaseException):
    """The check was called."""


@pytest.mark.parametrize(
    ("script", "check", "steps"),
    [
        ("run_sft", "faults.check_split", 0),
        ("run_sft", "faults.check_trainable", 0),
        ("run_sft", "faults.warn_of_padding", 0),
        ("run_sft", "finish.check_saved", 1),
        ("run_dpo", "faults.check_split", 0),
        ("run_dpo", "faults.check_trainable", 0),
        ("run_dpo", "finish.check_saved", 1),
        ("run_grpo", "faults.check_split", 0),
        ("run_grpo", "faults.check_trainable", 0),
        ("run_grpo", "finish.check_saved", 1),
    ],
)
def test_the_scripts_make_every_check(script, check, steps, sft, tmp_path, monkeypatch):  # noqa: F811
    seen = []

    def asked(*_: object) -> None:
        raise Asked

    monkeypatch.chdir(make_place(tmp_path, sft.base))
    monkeypatch.setattr(f"align_ko.training.{check}", asked)
    monkeypatch.setattr(TrainerCallback, "on_step_end", lambda *_, **__: seen.append(1))
    start = ["--model_name_or_path", str(sft.folder)] if script != "run_sft" else []
    few = ["--training.max_steps", "1", "--training.eval_strategy", "no", "--training.save_strategy", "no"]
    with pytest.raises(Asked):
        run_here(monkeypatch, script, f"{script[4:]}.yaml", *start, *few)
    assert bool(seen) == bool(steps) and not (tmp_path / script[4:] / "manifest.json").exists()


# The table ---------------------------------------------------------------------------------------------------------------


def test_every_line_of_the_table_names_a_test_that_exists_and_a_message_that_is_in_the_code():
    code = " ".join(file.read_text(encoding="utf-8") for file in (ROOT / "src").rglob("*.py"))
    code = re.sub(r'"\s*f?"', "", code)
    lines = [
        line
        for line in (ROOT / "docs/faults.md").read_text(encoding="utf-8").splitlines()
        if line.startswith("| ") and "| test |" not in line
    ]
    assert len(lines) >= 15
    for line in lines:
        _, fault, message, tests, _ = (cell.strip() for cell in line.split("|"))
        for part in re.findall(r"`([^`]+)`", message):
            for piece in part.split("…"):
                assert piece.strip() in code, (fault, piece)
        names = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", tests)
        assert names, fault
        for file, name in names:
            assert f"def {name}(" in (ROOT / file).read_text(encoding="utf-8"), (fault, name)


def test_a_token_without_a_row_in_the_embedding_is_told(llama):
    model, tokenizer = llama.model(), llama.tokenizer()
    count = model.get_input_embeddings().weight.shape[0]
    rows = Dataset.from_dict({"input_ids": [[1, 5], [1, count - 1]], "labels": [[-100, 5], [-100, 6]], "length": [2, 2]})
    check_token_ids(model, tokenizer, rows)
    tokenizer.add_tokens("<새 토큰>")
    new = tokenizer.convert_tokens_to_ids("<새 토큰>")
    check_token_ids(model, tokenizer, rows)  # spare tokens of a tokenizer, as Gemma's has, do no harm
    pairs = Dataset.from_dict({"prompt_ids": [[1, 5]], "chosen_ids": [[new]], "rejected_ids": [[3]]})
    with pytest.raises(UserError, match=rf"token '<새 토큰>' has the id {new}, and the embedding of .* has {count} rows"):
        check_token_ids(model, tokenizer, rows, pairs)
