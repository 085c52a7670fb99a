"""A decoding knob spent once, at training time: greedy decoding learns what it would say under `repetition_penalty`.

The teacher is the model that training starts from (the adapter switched off), with the score of every token that the answer
already contains lowered as transformers does (Keskar et al. 2019, CTRL, section 4.1: above 0 divided by the penalty, below
multiplied by it). The loss is the KL divergence of the student's distribution from the teacher's, in nats a token, over the
answers' positions. transformers penalises the prompt's tokens as well; a model that learns this stops naming what it was asked
about (docs/experiments.md)."""

from __future__ import annotations

import torch
import torch.nn.functional as functional

from align_ko.recipe import DistillArgs
from align_ko.training.seams import AlignSFTTrainer


class KnobDistillationTrainer(AlignSFTTrainer):
    """AlignSFTTrainer with the loss above, on a model with an adapter. Evaluation is the usual loss on the rows' answers."""

    def __init__(self, *args: object, repetition_penalty: float, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.repetition_penalty = repetition_penalty
        self.model_accepts_loss_kwargs = False  # a mean over this batch: the Trainer divides by the accumulated batches

    def compute_loss(
        self,
        model: torch.nn.Module,
        inputs: dict[str, torch.Tensor],
        return_outputs: bool = False,
        num_items_in_batch: torch.Tensor | int | None = None,
    ) -> object:
        if not model.training:
            return super().compute_loss(model, inputs, return_outputs, num_items_in_batch)
        answers = answer_numbers(inputs["labels"])
        columns = (answers[:, 1:] > 0).any(0).nonzero().squeeze(1)  # position t predicts token t + 1
        read = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
        with torch.no_grad(), self.accelerator.unwrap_model(model).disable_adapter():
            teacher = model(**read, use_cache=False, logits_to_keep=columns).logits
        outputs = model(**read, use_cache=False, logits_to_keep=columns)
        loss = distillation_loss(outputs.logits, teacher, inputs["input_ids"], answers, columns, self.repetition_penalty)
        return (loss, outputs) if return_outputs else loss


def sft_trainer(distill: DistillArgs, **kwargs: object) -> AlignSFTTrainer:
    if not distill.wanted:
        return AlignSFTTrainer(**kwargs)
    return KnobDistillationTrainer(repetition_penalty=distill.repetition_penalty, **kwargs)


def answer_numbers(labels: torch.Tensor) -> torch.Tensor:
    """(rows, length) labels → which answer each trained token belongs to, 0: none. `[-100, 5, 6, -100, 7]` → `[0, 1, 1, 0,
    2]`"""
    trained = labels != -100
    begins = trained & ~functional.pad(trained, (1, 0))[:, :-1]
    return begins.cumsum(1) * trained


def distillation_loss(
    student: torch.Tensor,
    teacher: torch.Tensor,
    input_ids: torch.Tensor,
    answers: torch.Tensor,
    columns: torch.Tensor,
    penalty: float,
) -> torch.Tensor:
    """Mean KL(teacher under the penalty ‖ student) of the trained tokens, in nats. `student`, `teacher`: (rows, columns,
    vocabulary) logits at positions `columns`; `input_ids`, `answers`: (rows, length)."""
    total = student.new_zeros((), dtype=torch.float32)
    count = 0
    for row in range(len(input_ids)):
        following = answers[row, columns + 1]  # the answer that each position continues
        trained = following > 0
        if not trained.any():
            continue
        earlier = tokens_before(input_ids[row], answers[row], columns[trained], following[trained])
        target = penalised(teacher[row, trained].float(), input_ids[row], earlier, penalty).log_softmax(-1)
        output = student[row, trained].float().log_softmax(-1)
        total = total + functional.kl_div(output, target, log_target=True, reduction="sum")
        count += int(trained.sum())
    return total / max(count, 1)


def tokens_before(ids: torch.Tensor, answers: torch.Tensor, positions: torch.Tensor, following: torch.Tensor) -> torch.Tensor:
    """(positions, length): which tokens the answer continued at each position has up to there."""
    places = torch.arange(len(ids), device=ids.device)
    return (answers[None] == following[:, None]) & (places[None] <= positions[:, None])


def penalised(logits: torch.Tensor, ids: torch.Tensor, earlier: torch.Tensor, penalty: float) -> torch.Tensor:
    """`logits` (positions, vocabulary), the tokens that `earlier` (positions, length) marks among `ids` made less likely."""
    mask = torch.zeros_like(logits, dtype=torch.uint8)
    mask.scatter_reduce_(1, ids.expand(len(logits), -1), earlier.to(torch.uint8), reduce="amax")
    lowered = torch.where(logits > 0, logits / penalty, logits * penalty)
    return torch.where(mask.bool(), lowered, logits)
