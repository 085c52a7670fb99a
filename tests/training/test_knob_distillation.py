"""Greedy decoding trained to do without a repetition penalty: the teacher's scores, the loss, what a model learns by it."""

from __future__ import annotations

import re

import pytest
import torch
from conftest import SHORT_ROWS, turns
from transformers import RepetitionPenaltyLogitsProcessor
from trl import SFTConfig

from align_ko.errors import UserError
from align_ko.models.load import lora_config
from align_ko.recipe import DistillArgs, ModelArgs, SftRecipe, TrainData, check_values
from align_ko.records import read_conversations, write_jsonl
from align_ko.training.distillation import (
    KnobDistillationTrainer,
    answer_numbers,
    distillation_loss,
    penalised,
    sft_trainer,
    tokens_before,
)
from align_ko.training.prepare import tokenize_conversations
from align_ko.training.seams import AlignSFTTrainer

PENALTY = 1.3


def test_answers_are_numbered():
    labels = torch.tensor([[-100, 5, 6, -100, 7], [3, -100, -100, -100, 4]])
    assert answer_numbers(labels).tolist() == [[0, 1, 1, 0, 2], [1, 0, 0, 0, 2]]


def test_the_penalty_is_that_of_transformers_over_the_answer_alone():
    torch.manual_seed(0)
    ids, answers = torch.tensor([9, 3, 3, 4, 9, 5]), torch.tensor([0, 1, 1, 1, 0, 2])
    logits = torch.randn(3, 12)
    # at 0 the first answer is yet to begin, at 2 it has said 3 and 3, at 4 the second one is yet to begin
    said = tokens_before(ids, answers, torch.tensor([0, 2, 4]), torch.tensor([1, 1, 2]))
    assert said.tolist() == [[False] * 6, [False, True, True, False, False, False], [False] * 6]
    wanted = RepetitionPenaltyLogitsProcessor(PENALTY)(ids[None, 1:3], logits[1:2].clone())
    found = penalised(logits, ids, said, PENALTY)
    assert torch.equal(found[1:2], wanted) and not torch.equal(found[1], logits[1])
    assert torch.equal(found[0], logits[0]) and torch.equal(found[2], logits[2])


def test_the_loss_by_hand():
    # two tokens in the vocabulary; the answer is `0 1`: its first token is foreseen without a penalty, its second after a 0
    ids, answers = torch.tensor([[1, 0, 1]]), torch.tensor([[0, 1, 1]])
    student = torch.zeros(1, 2, 2)
    teacher = torch.tensor([[[0.0, 0.0], [2.0, 0.0]]])
    columns = torch.tensor([0, 1])
    sure = torch.tensor([2.0 / PENALTY, 0.0]).softmax(0)
    wanted = (0.0 + (sure * (sure / 0.5).log()).sum()) / 2
    assert distillation_loss(student, teacher, ids, answers, columns, PENALTY).item() == pytest.approx(wanted.item(), abs=1e-6)
    # nothing to learn where the student says what the teacher does; padding and prompts cost nothing
    teacher[0, 1] = torch.tensor([2.0, 0.0])
    same = torch.tensor([[[0.0, 0.0], [2.0 / PENALTY, 0.0]]])
    assert distillation_loss(same, teacher, ids, answers, columns, PENALTY).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(same, teacher, ids, torch.zeros_like(ids), columns, PENALTY).item() == 0


LOOPS = [("나무를 심자", "가자 나무 가자 나무 가자 나무 가자 나무"), ("더 말해 줘", "네 네 네 네 네 네 네 네")]


def trainer_for(tiny, folder, penalty=PENALTY, model=None, rows=SHORT_ROWS, **options):
    tokenizer = tiny.tokenizer()
    data, _ = tokenize_conversations(tokenizer, [{"messages": turns(*row)} for row in rows], None)
    local = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "dataloader_pin_memory": False}
    values = {"per_device_train_batch_size": 4, "max_length": None, "logging_steps": 1, "seed": 0, **local, **options}
    return sft_trainer(
        DistillArgs(penalty),
        model=model or tiny.model(),
        args=SFTConfig(output_dir=str(folder), **values),
        train_dataset=data,
        eval_dataset=data,
        processing_class=tokenizer,
        peft_config=lora_config(ModelArgs("tiny", lora_r=32, lora_alpha=64, lora_dropout=0.0)),
    )


def losses(trainer):
    return [entry["loss"] for entry in trainer.state.log_history if "loss" in entry]


def test_a_fresh_adapter_is_as_far_off_as_the_penalty_makes_it(llama, tmp_path):
    trainer = trainer_for(llama, tmp_path, gradient_accumulation_steps=2, max_steps=1)
    assert isinstance(trainer, KnobDistillationTrainer)
    model, total = trainer.model.get_base_model(), []
    for batch in trainer.get_train_dataloader():
        labels, ids = batch["labels"], batch["input_ids"]
        with torch.no_grad(), trainer.model.disable_adapter():
            logits = model.eval()(input_ids=ids, attention_mask=batch["attention_mask"]).logits.float()
        each = []
        for row in range(len(ids)):
            places = (labels[row, 1:] != -100).nonzero().flatten().tolist()
            for place in places:
                said = ids[row, places[0] + 1 : place + 1]
                plain = logits[row, place]
                wanted = RepetitionPenaltyLogitsProcessor(PENALTY)(said[None], plain[None].clone())[0] if len(said) else plain
                wanted, plain = wanted.log_softmax(-1), plain.log_softmax(-1)
                each.append((wanted.exp() * (wanted - plain)).sum().item())
        total.append(sum(each) / len(each))
    trainer.train()
    assert len(total) == 2 and losses(trainer) == [pytest.approx(sum(total) / 2, rel=1e-3, abs=1e-6)]


def test_the_teacher_stays_the_start_while_the_adapter_moves(llama, tmp_path):
    trainer = trainer_for(llama, tmp_path)
    batch = next(iter(trainer.get_train_dataloader()))
    answers = answer_numbers(batch["labels"])
    columns = torch.arange(answers.shape[1] - 1)
    read = {key: batch[key] for key in ("input_ids", "attention_mask")}
    model = trainer.model.train()
    with torch.no_grad():
        start = model(**read).logits[:, :-1]
        for name, weights in model.named_parameters():
            if "lora_B" in name:
                weights.normal_(std=0.1)
        moved = model(**read).logits[:, :-1]
        found = trainer.compute_loss(model, dict(batch)).item()
    wanted = distillation_loss(moved, start, batch["input_ids"], answers, columns, PENALTY).item()
    alone = distillation_loss(moved, moved, batch["input_ids"], answers, columns, PENALTY).item()
    assert found == pytest.approx(wanted, rel=1e-4) and wanted > 2 * alone


def test_the_knob_goes_into_the_weights(llama, tmp_path):
    """A model that is sure of its loops becomes less sure, from the penalty alone: nobody shows it another answer."""
    options = {"max_steps": 60, "learning_rate": 1e-2, "rows": LOOPS}
    taught = trainer_for(llama, tmp_path, penalty=1.0, **options)
    taught.train()
    trainer = trainer_for(llama, tmp_path, penalty=3.0, model=taught.model.merge_and_unload(), **options)
    before = trainer.evaluate()["eval_loss"]
    trainer.train()
    found = losses(trainer)
    assert before < 0.05 and found[0] > 0.1 and found[-1] < found[0] / 3
    # evaluation is the usual loss on the rows' answers; to say 네 after 네 has become a surprise
    assert trainer.evaluate()["eval_loss"] > before + 0.1
    with trainer.model.disable_adapter():  # the teacher has stayed what it was
        assert trainer.evaluate()["eval_loss"] == pytest.approx(before, abs=1e-4)


def test_a_penalty_of_one_is_plain_sft(llama, tmp_path):
    trainer = trainer_for(llama, tmp_path, penalty=1.0)
    assert type(trainer) is AlignSFTTrainer


@pytest.mark.parametrize(
    ("penalty", "use_peft", "training", "message"),
    [
        (0.9, True, {}, "distill.repetition_penalty: 0.9 would teach the model to repeat itself"),
        (1.1, False, {}, "distill.repetition_penalty: the teacher is the model without its adapter, and here there is none"),
        (1.1, True, {"loss_type": "dft"}, "training.loss_type: distillation has a loss of its own"),
    ],
)
def test_what_cannot_work_is_said_first(penalty, use_peft, training, message):
    recipe = SftRecipe(
        ModelArgs("tiny", use_peft=use_peft),
        TrainData("train.jsonl", "eval.jsonl"),
        {"output_dir": "out", **training},
        distill=DistillArgs(penalty),
    )
    with pytest.raises(UserError, match=re.escape(message)):
        check_values(recipe)
    check_values(SftRecipe(recipe.model, recipe.data, recipe.training))


def test_the_answers_that_evaluate_keeps_are_rows(tmp_path):
    asked = [{"role": "user", "content": "안녕?"}]
    kept = {"prompt_id": "9f2c", "prompt": asked, "response": "안녕하세요! ", "finished": True}
    plain = {"id": "1", "messages": turns("안녕?", "네.")}
    write_jsonl(tmp_path / "rows.jsonl", [kept, {**kept, "response": " …"}, plain])
    assert list(read_conversations(tmp_path / "rows.jsonl")) == [
        {"id": "9f2c", "messages": turns("안녕?", "안녕하세요!")},
        plain,
    ]
