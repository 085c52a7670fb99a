"""Greedy decoding trained to do without a repetition penalty: the teacher's scores, the loss, what a model learns by it."""

from __future__ import annotations

import math
import re

import pytest
import torch
from conftest import SHORT_ROWS, turns
from transformers import RepetitionPenaltyLogitsProcessor
from trl import SFTConfig

from align_ko.chat_format import FormatError, answer_ids, prompt_ids
from align_ko.errors import UserError
from align_ko.models.load import lora_config
from align_ko.recipe import DistillArgs, ModelArgs, SftRecipe, TrainData, check_values
from align_ko.records import read_conversations, write_jsonl
from align_ko.training.distillation import (
    KnobDistillationTrainer,
    answer_numbers,
    distillation_loss,
    forbid_faults,
    guided_rows,
    marked,
    match_lengths,
    match_penalties,
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
    teacher = [torch.tensor([[0.0, 0.0], [2.0, 0.0]])]
    columns, wrong = torch.tensor([0, 1]), torch.zeros_like(ids, dtype=torch.bool)
    sure = torch.tensor([2.0 / PENALTY, 0.0]).softmax(0)
    wanted = (0.0 + (sure * (sure / 0.5).log()).sum()) / 2
    knobs = DistillArgs(PENALTY), wrong
    assert distillation_loss(student, teacher, ids, answers, columns, *knobs).item() == pytest.approx(wanted.item(), abs=1e-6)
    # nothing to learn where the student says what the teacher does; padding and prompts cost nothing
    same = torch.tensor([[[0.0, 0.0], [2.0 / PENALTY, 0.0]]])
    assert distillation_loss(same, teacher, ids, answers, columns, *knobs).item() == pytest.approx(0, abs=1e-6)
    assert distillation_loss(same, teacher, ids, torch.zeros_like(ids), columns, *knobs).item() == 0
    # the answer's last token, 1, is forbidden: the teacher is sure of 0, the student half as sure
    wrong[0, 2] = True
    alone = distillation_loss(student, teacher, ids, answers, columns, DistillArgs(forbid_faults=True), wrong)
    assert alone.item() == pytest.approx(math.log(2) / 2, abs=1e-6)


def test_a_match_is_as_long_as_the_stretch_that_comes_back_within_one_answer():
    ids, one = torch.tensor([7, 8, 7, 8, 7]), torch.ones(5, dtype=torch.long)
    assert match_lengths(ids, one).tolist() == [
        [0, 0, 0, 0, 0],
        [0, 0, 0, 0, 0],
        [1, 0, 0, 0, 0],
        [0, 2, 0, 0, 0],
        [1, 0, 3, 0, 0],
    ]
    # the question's tokens and those of another answer do not count, and no stretch goes on through a border
    assert match_lengths(ids, torch.tensor([0, 0, 1, 1, 1])).tolist()[4] == [0, 0, 1, 0, 0]
    assert match_lengths(ids, torch.tensor([1, 1, 0, 2, 2])).any() == torch.tensor(False)


def test_only_what_goes_on_a_stretch_said_before_is_lowered_and_longer_ones_more():
    #                    question | answer
    ids = torch.tensor([1, 2, 3, 1, 2, 3, 9, 1, 2, 3, 9, 1])
    answers = torch.tensor([0] * 3 + [1] * 9)
    places = torch.tensor([2, 5, 7, 8, 9, 10])
    logits = torch.zeros(len(places), 12)
    found = match_penalties(logits, ids, answers, places, DistillArgs(match_penalty=0.8, match_length=2))
    wanted = torch.zeros(len(places), 12)
    wanted[3, 3] = 0.8  # after 1 2, which 3 followed; the question's 1 2 3 lowers nothing (place 5)
    wanted[4, 9] = 0.8 * 1.75  # after 1 2 3
    wanted[5, 1] = 0.8 * 1.75**2  # after 1 2 3 9
    assert torch.allclose(found, wanted)
    shorter = match_penalties(logits, ids, answers, places, DistillArgs(match_penalty=0.8, match_length=1))
    assert shorter[2].nonzero().tolist() == [[2]] and shorter[2, 2].item() == pytest.approx(0.8)


def test_a_long_loop_costs_no_more_than_a_finite_sum_and_the_longest_stretch_counts():
    loop = torch.tensor([4, 5] * 200)
    found = match_penalties(torch.zeros(1, 6), loop, torch.ones_like(loop), torch.tensor([398]), DistillArgs(match_penalty=0.8))
    assert found.tolist() == [[0, 0, 0, 0, 0, 20.0]]
    # 3 followed 1 2 once and 9 1 2 once
    ids = torch.tensor([1, 2, 3, 9, 1, 2, 3, 9, 1, 2])
    found = match_penalties(torch.zeros(1, 12), ids, torch.ones_like(ids), torch.tensor([9]), DistillArgs(match_penalty=1.0))
    assert found.nonzero().tolist() == [[0, 3]] and found[0, 3].item() == pytest.approx(1.75**4)


def test_forbidden_places_are_found_again_in_a_padded_batch():
    ids = torch.tensor([[0, 5, 6, 7], [8, 9, 0, 0]])
    mask = torch.tensor([[0, 1, 1, 1], [1, 1, 0, 0]])
    found = marked(ids, mask, {(5, 6, 7): [1, 2], (8, 9): [0], (8, 9, 0): [2]})
    assert found.tolist() == [[False, False, True, True], [True, False, False, False]]


def test_the_tokens_that_open_a_fault_are_forbidden(llama, capsys):
    tokenizer = llama.tokenizer()
    faulty, cut = "안녕하세요! 반갑습니다. 근데 이건 아니야.", "사과는 빨갛고 맛있는 과일로서 사람들이 좋아하는"
    rows = [
        {"id": "1", "messages": [*turns("안녕?", faulty), *turns("고마워요", "네, 좋습니다.")]},
        {"id": "2", "messages": [*turns("더 말해 줘", "네, 그렇습니다."), *turns("사과가 뭐예요?", cut)]},
        {"id": "3", "messages": turns("안녕?", "안녕하세요!")},
    ]
    data, _ = tokenize_conversations(tokenizer, rows, None)
    found = forbid_faults(tokenizer, data, rows)
    assert "2 of 3 rows have faults, 2 tokens of them are forbidden" in capsys.readouterr().out
    [(first, [place]), (second, [end])] = [(ids, list(places)) for ids, places in found.items()]
    assert list(first) == data["input_ids"][0] and list(second) == data["input_ids"][1]
    # the token, for the tiny tokenizer the first byte, that 야 opens with; and an eos that came too soon
    upto, after = (tokenizer.decode(first[:count]) for count in (place, place + 1))
    assert upto.endswith("이건 아니") and len(after) == len(upto) + 1
    assert second[end] == tokenizer.eos_token_id and end == max(n for n, label in enumerate(data["labels"][1]) if label != -100)


LOOPS = [("나무를 심자", "가자 나무 가자 나무 가자 나무 가자 나무"), ("더 말해 줘", "네 네 네 네 네 네 네 네")]


def trainer_for(tiny, folder, penalty=PENALTY, model=None, rows=SHORT_ROWS, distill=None, **options):
    tokenizer = tiny.tokenizer()
    rows = [{"messages": turns(*row)} for row in rows]
    data, _ = tokenize_conversations(tokenizer, rows, None)
    local = {"use_cpu": True, "bf16": False, "report_to": "none", "save_strategy": "no", "dataloader_pin_memory": False}
    values = {"per_device_train_batch_size": 4, "max_length": None, "logging_steps": 1, "seed": 0, **local, **options}
    return sft_trainer(
        distill or DistillArgs(penalty),
        {},
        guided_rows(tokenizer, data, rows, distill.system) if distill else {},
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
    knobs = DistillArgs(PENALTY), torch.zeros_like(answers, dtype=torch.bool)
    start, itself = ([one[row[1:] > 0] for one, row in zip(logits, answers, strict=True)] for logits in (start, moved))
    wanted = distillation_loss(moved, start, batch["input_ids"], answers, columns, *knobs).item()
    alone = distillation_loss(moved, itself, batch["input_ids"], answers, columns, *knobs).item()
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


def test_the_teacher_alone_reads_the_system_message(llama, tmp_path):
    system = "짧게 존댓말로 답하세요."
    trainer = trainer_for(llama, tmp_path, distill=DistillArgs(system=system), per_device_train_batch_size=len(SHORT_ROWS))
    tokenizer, model, each = llama.tokenizer(), trainer.model.get_base_model(), []
    for question, said in SHORT_ROWS:
        asked = turns(question, said)[:1]
        plain, shown = prompt_ids(tokenizer, asked), prompt_ids(tokenizer, [{"role": "system", "content": system}, *asked])
        answer = answer_ids(tokenizer, asked, said)
        with torch.no_grad(), trainer.model.disable_adapter():
            scores = [
                model.eval()(input_ids=torch.tensor([before + answer])).logits[0, len(before) - 1 : -1].log_softmax(-1)
                for before in (shown, plain)
            ]
        assert shown != plain and len(scores[0]) == len(scores[1])
        each += (scores[0].exp() * (scores[0] - scores[1])).sum(-1).tolist()
    batch = next(iter(trainer.get_train_dataloader()))
    found = trainer.compute_loss(trainer.model.train(), dict(batch)).item()
    assert found == pytest.approx(sum(each) / len(each), rel=1e-3) and found > 1e-6


def test_a_template_that_hides_the_system_message_is_refused(llama):
    tokenizer, rows = llama.tokenizer(), [{"messages": turns("안녕?", "안녕하세요.")}]
    tokenizer.chat_template = (
        "{% for m in messages if m.role != 'system' %}<{{ m.role }}>{{ m.content }}{% if m.role == 'assistant' %}"
        "{{ eos_token }}{% endif %}{% endfor %}{% if add_generation_prompt %}<assistant>{% endif %}"
    )
    data, _ = tokenize_conversations(tokenizer, rows, None)
    with pytest.raises(FormatError, match="does not show the system message"):
        guided_rows(tokenizer, data, rows, "짧게 답하세요.")


def test_a_penalty_of_one_is_plain_sft(llama, tmp_path):
    trainer = trainer_for(llama, tmp_path, penalty=1.0)
    assert type(trainer) is AlignSFTTrainer
    assert (
        DistillArgs(match_penalty=0.8).wanted
        and DistillArgs(forbid_faults=True).wanted
        and not DistillArgs(match_length=3).wanted
    )


@pytest.mark.parametrize(
    ("penalty", "use_peft", "training", "message"),
    [
        (0.9, True, {}, "distill.repetition_penalty: 0.9 would teach the model to repeat itself"),
        (1.1, False, {}, "distill: the teacher is the model without its adapter, and here there is none"),
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
