"""GRPO on answers that generation/local.py draws: one of each group greedily, and each row leaves the batch where it ends.

TRL 1.16 takes the answers from a `rollout_func` (GRPOTrainer's docstring: "experimental and may change"; the canaries are in
tests/training/test_grpo.py). The greedy answer enters the loss as if it had been sampled: nothing corrects for that."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase
from trl import GRPOTrainer

from align_ko.chat_format import prompt_ids, stop_ids
from align_ko.errors import UserError
from align_ko.generation.local import decoded, draw_tokens
from align_ko.generation.requests import GREEDY, Request, encode_prompts, row_seed
from align_ko.models.load import greedy_config
from align_ko.recipe import DecodingArgs
from align_ko.records import Message, PromptRow
from align_ko.training.audit import MOST_BATCHES, AuditError
from align_ko.training.checkpoints import ResumableTrainer
from align_ko.training.gate import answering, refuse_fsdp
from align_ko.training.prepare import TooLong
from align_ko.training.seams import UncastAdapterInputs, score_supervised_positions_only

if TYPE_CHECKING:
    from datasets import Dataset

DEFAULTS = {"disable_dropout": True, "metric_for_best_model": "reward"}
"""Other than TRL's: dropout makes policy and reference differ at once, and the loss of a policy gradient says nothing."""
KL_TOLERANCE = 0.02
"""Nats a token between policy and reference before the first step. A judgement: rounding gives 1e-4, SFT and base over .1."""


def prompt_dataset(tokenizer: PreTrainedTokenizerBase, rows: Iterable[PromptRow], limit: int) -> tuple[Dataset, list[TooLong]]:
    """Columns `prompt` (messages), `prompt_ids`, `reference`, `id`; and the rows with more than `limit` tokens."""
    from datasets import Dataset

    encoded = [(row, prompt_ids(tokenizer, row.prompt)) for row in rows]
    fitting = [(row, ids) for row, ids in encoded if len(ids) <= limit]
    columns = {
        "prompt": [row.prompt for row, _ in fitting],
        "prompt_ids": [ids for _, ids in fitting],
        "reference": [row.reference for row, _ in fitting],
        "id": [row.id for row, _ in fitting],
    }
    return Dataset.from_dict(columns), [TooLong(row.id, len(ids)) for row, ids in encoded if len(ids) > limit]


def draw_rollouts(prompts: Sequence[list[Message]], trainer: AlignGRPOTrainer, greedy_rollout: bool) -> dict[str, Any]:
    """TRL's `rollout_func`: an answer to each prompt, which comes once for each answer of its group. A group may begin on the
    process before; its first answer is the greedy one. The reward functions get `text`, `finished` and `greedy` as columns."""
    args, tokenizer = trainer.args, trainer.processing_class
    group = trainer.num_generations if trainer.model.training else trainer.num_generations_eval
    moment = trainer._step if trainer.model.training else "evaluation"
    sampled, first = DecodingArgs(args.temperature, args.top_p), args.process_index * len(prompts)
    greedy = [greedy_rollout and place % group == 0 for place in range(first, first + len(prompts))]
    requests = [
        Request(prompt, GREEDY if alone else sampled, row_seed(args.seed, moment, place))
        for place, (prompt, alone) in enumerate(zip(prompts, greedy, strict=True), first)
    ]
    drawn: dict[int, tuple[list[int], bool]] = {}

    def keep(index: int, tokens: list[int], finished: bool) -> None:
        drawn[index] = tokens, finished

    with answering(trainer) as model:
        draw_tokens(requests, keep, model, tokenizer, args.max_completion_length, len(requests), stop_loops=True)
    answers = [drawn[index] for index in range(len(requests))]
    return {
        "prompt_ids": [list(ids) for ids in encode_prompts(requests, tokenizer)],
        "completion_ids": [tokens for tokens, _ in answers],
        "logprobs": None,  # TRL computes those that it needs
        "text": [decoded(tokenizer, *answer).text for answer in answers],
        "finished": [finished for _, finished in answers],
        "greedy": greedy,
    }


class AlignGRPOTrainer(UncastAdapterInputs, ResumableTrainer, GRPOTrainer):
    """TRL's GRPOTrainer on the rows of `prompt_dataset`, with the answers of `draw_rollouts`. The first batches are
    audited, and the first one proves that the reference is the start."""

    _step: int

    def __init__(self, *args: object, greedy_rollout: bool = True, **kwargs: Any) -> None:
        score_supervised_positions_only()
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="You are using 'rollout_func'")
            super().__init__(*args, rollout_func=partial(draw_rollouts, greedy_rollout=greedy_rollout), **kwargs)
        refuse_fsdp(self, "GRPO", "--config_file")
        if self.processing_class.pad_token_id == self.processing_class.eos_token_id:
            raise AuditError("pad and eos are the same token, so a cut off answer would count as ended", key="pad_token")
        if len(self.train_dataset) < (together := self.args.generation_batch_size // self.num_generations):
            problem = f"{len(self.train_dataset)} prompts are fewer than the {together} that are answered at once"
            raise UserError(problem, key="data.train_file", expected="more, or a smaller training.gradient_accumulation_steps")
        self.audited: Counter[str] = Counter()
        self._asked = {hash(tuple(ids)) for ids in self.train_dataset["prompt_ids"]}

    def _run_epoch(self, **kwargs: Any) -> None:
        if not self._step:  # TRL counts micro-batches from 0 in a resumed run, too, and draws by that count
            self._step = self.state.global_step * self.args.gradient_accumulation_steps
        super()._run_epoch(**kwargs)

    def compute_loss(self, model: torch.nn.Module, inputs: dict[str, torch.Tensor], *args: object, **kwargs: object) -> object:
        look = model.training and self.audited["batches"] < MOST_BATCHES
        if look:
            self.audited += audit_rollouts(inputs, self.processing_class, self._asked, self.mask_truncated_completions)
        loss = super().compute_loss(model, inputs, *args, **kwargs)
        if look and self.audited["batches"] == 1:
            seen = self.audited
            if self.is_world_process_zero():
                print(f"audit passed: {seen['rollouts']} answers, {seen['open']} left open because they never ended")
            kl = self._metrics["train"]["kl"][-1] if self.beta and not self.state.global_step else 0.0
            if kl > KL_TOLERANCE:
                raise AuditError(
                    "the reference is not the model that training starts from: before the first step they differ by "
                    f"{kl:.3f} nats a token",
                    expected="no ref_model; the reference is a frozen copy of the start",
                )
        return loss


def audit_rollouts(
    batch: dict[str, torch.Tensor], tokenizer: PreTrainedTokenizerBase, asked: Collection[int], masks_open: bool = False
) -> Counter[str]:
    """Check a batch as the loss will read it: `prompt_ids` and `completion_ids` (answers, tokens), with their masks. AuditError
    where a prompt is none of `asked` (hashes of token ids), an answer goes on after eos or is not scored whole; `masks_open`:
    TRL leaves out those that never ended."""
    ends = stop_ids(greedy_config(tokenizer).eos_token_id)
    counts: Counter[str] = Counter(batches=1, rollouts=len(batch["completion_ids"]))
    for ids, mask in zip(batch["prompt_ids"], batch["prompt_mask"], strict=True):
        if hash(tuple(real := ids[mask.bool()].tolist())) not in asked:
            raise AuditError(f"training shows another prompt than inference will: …{tokenizer.decode(real[-30:])!r}")
    for ids, mask in zip(batch["completion_ids"], batch["completion_mask"], strict=True):
        length = int(mask.sum())
        real, rest = ids[:length].tolist(), ids[length:]
        if masks_open and not length and not torch.isin(ids, torch.tensor(ends, device=ids.device)).any():
            counts["open"] += 1
            continue
        if not mask[:length].all() or (rest != tokenizer.pad_token_id).any() or any(token in ends for token in real[:-1]):
            raise AuditError(f"the scored part is not exactly the answer and its eos: …{tokenizer.decode(real[-30:])!r}")
        counts["open"] += real[-1] not in ends
    return counts
