"""Decoding knobs spent once, at training time: greedy decoding learns what it would say under them.

The teacher is the model that training starts from (the adapter switched off), its scores changed by the knobs of DistillArgs:

- `repetition_penalty`: every token that the answer already contains is lowered as transformers does (Keskar et al. 2019, CTRL,
  section 4.1: above 0 divided by the penalty, below multiplied by it). transformers penalises the prompt's tokens as well; a
  model that learns this stops naming what it was asked about (docs/experiments.md).
- `match_penalty`: only a token that says again what followed an equal stretch of the answer is lowered, the more the longer
  that stretch is (DRY sampling, oobabooga/text-generation-webui pull 5677).
- `forbid_faults`: a token that opens a fault in the row's answer is impossible (Targeted Negative Training, arXiv 2406.13660).
- `system`: the teacher reads a system message that the student does not (context distillation, arXiv 2112.00861).

The loss is the KL divergence of the student's distribution from the teacher's, in nats a token, over the answers' positions."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as functional
from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import IGNORE, FormatError, conversation_ids
from align_ko.korean import assess
from align_ko.korean.wrong_turns import wrong_turns
from align_ko.recipe import DistillArgs
from align_ko.records import ConversationRow, Message, last_user_text
from align_ko.training.seams import AlignSFTTrainer
from align_ko.turns import is_trained, with_system

if TYPE_CHECKING:
    from datasets import Dataset

Forbidden = Mapping[tuple[int, ...], Sequence[int]]
"""Token ids of a row → the positions in it whose token the teacher forbids."""
Guided = Mapping[tuple[int, ...], tuple[Sequence[int], Sequence[int]]]
"""Token ids of a row → token ids and labels of the same row as the teacher reads it, its system message in front."""
MATCH_BASE = 1.75
"""DRY's: how much more each further token of a stretch costs."""
MOST_LOWERED = 20.0
"""Nats, so that long loops stay finite: a token at e^-20 is never said."""
IMPOSSIBLE = -1e4
"""A score whose probability is 0 while its logarithm is finite, as the divergence needs it."""


class KnobDistillationTrainer(AlignSFTTrainer):
    """AlignSFTTrainer with the loss above, on a model with an adapter. Evaluation is the usual loss on the rows' answers."""

    def __init__(self, *args: object, distill: DistillArgs, forbidden: Forbidden, guided: Guided, **kwargs: object) -> None:
        super().__init__(*args, **kwargs)
        self.distill, self.forbidden, self.guided = distill, forbidden, guided
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
        read = {"input_ids": inputs["input_ids"], "attention_mask": inputs["attention_mask"]}
        teacher = self.teacher_scores(model, read, answers)
        columns = predicting(answers)
        outputs = model(**read, use_cache=False, logits_to_keep=columns)
        wrong = marked(inputs["input_ids"], inputs["attention_mask"], self.forbidden)
        loss = distillation_loss(outputs.logits, teacher, inputs["input_ids"], answers, columns, self.distill, wrong)
        return (loss, outputs) if return_outputs else loss

    @torch.no_grad()
    def teacher_scores(
        self, model: torch.nn.Module, read: dict[str, torch.Tensor], answers: torch.Tensor
    ) -> list[torch.Tensor]:
        """For each row (trained tokens, vocabulary): the start's logits before the knobs, under the system message if any."""
        if self.distill.system:
            read, answers = guided_batch(**read, guided=self.guided)
        columns = predicting(answers)
        with self.accelerator.unwrap_model(model).disable_adapter():
            logits = model(**read, use_cache=False, logits_to_keep=columns).logits
        return [scores[row[columns + 1] > 0] for scores, row in zip(logits, answers, strict=True)]


def sft_trainer(distill: DistillArgs, forbidden: Forbidden, guided: Guided, **kwargs: object) -> AlignSFTTrainer:
    if not distill.wanted:
        return AlignSFTTrainer(**kwargs)
    return KnobDistillationTrainer(distill=distill, forbidden=forbidden, guided=guided, **kwargs)


def predicting(answers: torch.Tensor) -> torch.Tensor:
    """The columns that predict a trained token in some row: position t predicts token t + 1."""
    return (answers[:, 1:] > 0).any(0).nonzero().squeeze(1)


def answer_numbers(labels: torch.Tensor) -> torch.Tensor:
    """(rows, length) labels → which answer each trained token belongs to, 0: none. `[-100, 5, 6, -100, 7]` → `[0, 1, 1, 0,
    2]`"""
    trained = labels != IGNORE
    begins = trained & ~functional.pad(trained, (1, 0))[:, :-1]
    return begins.cumsum(1) * trained


def distillation_loss(
    student: torch.Tensor,
    teacher: Sequence[torch.Tensor],
    input_ids: torch.Tensor,
    answers: torch.Tensor,
    columns: torch.Tensor,
    distill: DistillArgs,
    wrong: torch.Tensor,
) -> torch.Tensor:
    """Mean KL(teacher under the knobs ‖ student) of the trained tokens, in nats. `student`: (rows, columns, vocabulary) logits
    at positions `columns`; `teacher`: for each row (trained tokens, vocabulary); `input_ids`, `answers`, `wrong` (forbidden
    tokens): (rows, length)."""
    total = student.new_zeros((), dtype=torch.float32)
    count = 0
    for row in range(len(input_ids)):
        trained = answers[row, columns + 1] > 0
        if not trained.any():
            continue
        places, ids = columns[trained], input_ids[row]
        target = under_knobs(teacher[row].float(), ids, answers[row], places, distill)
        faulty = wrong[row, places + 1]
        target[faulty, ids[places + 1][faulty]] = IMPOSSIBLE
        output = student[row, trained].float().log_softmax(-1)
        total = total + functional.kl_div(output, target.log_softmax(-1), log_target=True, reduction="sum")
        count += len(places)
    return total / max(count, 1)


def under_knobs(
    logits: torch.Tensor, ids: torch.Tensor, answers: torch.Tensor, places: torch.Tensor, distill: DistillArgs
) -> torch.Tensor:
    """`logits` (places, vocabulary) as both penalties leave them, for the answer that each place continues."""
    if distill.repetition_penalty != 1:
        earlier = tokens_before(ids, answers, places, answers[places + 1])
        logits = penalised(logits, ids, earlier, distill.repetition_penalty)
    if distill.match_penalty:
        logits = logits - match_penalties(logits, ids, answers, places, distill)
    return logits


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


def match_lengths(ids: torch.Tensor, answers: torch.Tensor) -> torch.Tensor:
    """(length, length): how many tokens up to each position are those up to each earlier one, within one answer.

    `ids` 7 8 7 8 7, one answer: row 4 is `[1, 0, 3, 0, 0]`, since 7 8 7 ends at 2 and at 4, and 7 at 0."""
    earlier = torch.ones(len(ids), len(ids), dtype=torch.bool, device=ids.device).tril(-1)
    same = (ids[:, None] == ids) & (answers[:, None] == answers) & (answers > 0) & earlier
    lengths = same.long()
    for place in range(1, len(ids)):
        lengths[place, 1:] *= 1 + lengths[place - 1, :-1]
    return lengths


def match_penalties(
    logits: torch.Tensor, ids: torch.Tensor, answers: torch.Tensor, places: torch.Tensor, distill: DistillArgs
) -> torch.Tensor:
    """(places, vocabulary): what every token costs as the next one of the answer, for the longest stretch that it followed."""
    lengths = match_lengths(ids, answers)[places, :-1]
    costs = distill.match_penalty * MATCH_BASE ** (lengths - distill.match_length).float()
    costs = torch.where(lengths < distill.match_length, 0.0, costs.clamp(max=MOST_LOWERED))
    return torch.zeros_like(logits).scatter_reduce_(1, ids[1:].expand(len(places), -1), costs, reduce="amax")


def marked(input_ids: torch.Tensor, attention_mask: torch.Tensor, forbidden: Forbidden) -> torch.Tensor:
    """(rows, length): the positions that `forbidden` names for each row of a padded batch."""
    marks = torch.zeros_like(input_ids, dtype=torch.bool)
    for row, real in enumerate(attention_mask.bool()):
        positions = forbidden.get(tuple(input_ids[row, real].tolist()), ())
        marks[row, real.nonzero().squeeze(1)[list(positions)]] = True
    return marks


def guided_batch(
    input_ids: torch.Tensor, attention_mask: torch.Tensor, guided: Guided
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """What the teacher reads in place of a padded batch, and the numbers of its answers (rows, length)."""
    rows = [guided[tuple(ids[real.bool()].tolist())] for ids, real in zip(input_ids, attention_mask, strict=True)]

    def padded(lists: Iterable[Sequence[int]], fill: int) -> torch.Tensor:
        tensors = [torch.tensor(list(one), device=input_ids.device) for one in lists]
        return torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=fill)

    ids, labels = zip(*rows, strict=True)
    read = {"input_ids": padded(ids, 0), "attention_mask": padded([[1] * len(one) for one in ids], 0)}
    return read, answer_numbers(padded(labels, IGNORE))


def guided_rows(tokenizer: PreTrainedTokenizerBase, train: Dataset, rows: Iterable[ConversationRow], system: str) -> Guided:
    """Every tokenised row as the teacher reads it. `rows` are what `train` was tokenised from. FormatError where the template
    leaves the system message out, or an answer's tokens change behind it."""
    found: dict[tuple[int, ...], tuple[Sequence[int], Sequence[int]]] = {}
    for ids, labels, messages in _turns_of(train, rows):
        last_only = sum(map(is_trained, messages)) > answer_numbers(torch.tensor([list(labels)])).max()
        read = conversation_ids(tokenizer, with_system(messages, system), last_only)
        if read.input_ids == list(ids):
            raise FormatError("the chat template does not show the system message", key="distill.system", expected="none")
        if [one for one in read.labels if one != IGNORE] != [one for one in labels if one != IGNORE]:
            raise FormatError("behind the system message an answer has other token ids", key="distill.system", expected="none")
        found[tuple(ids)] = (read.input_ids, read.labels)
    return found


def _turns_of(train: Dataset, rows: Iterable[ConversationRow]) -> Iterator[tuple[list[int], list[int], list[Message]]]:
    """Ids, labels and turns of every tokenised row."""
    messages = {row.get("id", str(number)): row["messages"] for number, row in enumerate(rows, 1)}
    for ids, labels, key, turns in zip(*(train[name] for name in ("input_ids", "labels", "id", "turns")), strict=True):
        yield ids, labels, list(messages[key][:turns])


def forbidden_tokens(
    tokenizer: PreTrainedTokenizerBase, ids: Sequence[int], labels: Sequence[int], messages: Sequence[Message]
) -> list[int]:
    """Positions of a row's tokens at which its trained answers take a wrong turn (korean/wrong_turns.py); the closing eos where
    an answer ends too soon."""
    numbers = answer_numbers(torch.tensor([list(labels)]))[0].tolist()
    turns = [turn for turn, message in enumerate(messages) if is_trained(message)][-max(numbers, default=0) :]
    found: list[int] = []
    for number, turn in enumerate(turns, 1):
        places = [place for place, owner in enumerate(numbers) if owner == number]
        said = [ids[place] for place in places[:-1]]  # without eos
        text, prompt = tokenizer.decode(said), last_user_text(messages[:turn])
        letters = wrong_turns(text, assess(text, prompt), prompt)
        ends = [len(tokenizer.decode(said[:count])) for count in range(1, len(said) + 1)] if letters else []
        for letter in letters:
            found.append(next((place for place, end in zip(places, ends, strict=False) if end > letter), places[-1]))
    return [*dict.fromkeys(found)]


def forbid_faults(tokenizer: PreTrainedTokenizerBase, train: Dataset, rows: Iterable[ConversationRow]) -> Forbidden:
    """`forbidden_tokens` of every tokenised row that has some; `rows` are what `train` was tokenised from. Says how many."""
    found: dict[tuple[int, ...], list[int]] = {}
    for ids, labels, messages in _turns_of(train, rows):
        if positions := forbidden_tokens(tokenizer, ids, labels, messages):
            found[tuple(ids)] = positions
    print(f"{len(found)} of {len(train)} rows have faults, {sum(map(len, found.values()))} tokens of them are forbidden")
    return found
