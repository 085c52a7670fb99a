"""Every place where TRL 1.16 / transformers 5.23 fall short and we step in, each with the upstream fact and a test.

tests/training/test_trl_seams.py has one canary per seam that fails when upstream changes, so that the seam can go.

1. `SupervisedPositionsOnly`: TRL's fused LM head scores every position, prompt and padding included, wherever there is no
   Triton (trl/trainer/utils.py, add_fused_lm_head: "Elsewhere, every position is scored instead", meant for Neuron, which
   recompiles on new shapes). On a CPU that is most of a step. The one predicate that decides it is answered for the CPU.
2. `ShuffledLengthGroupedSampler`: transformers sorts each group of 50 batches longest first, so a short run sees lengths in
   order. The batches are shuffled after grouping, seeded by epoch so that a resumed run sees the same order
   (prepare.py).
3. `AlignSFTTrainer` takes rows that chat_format.py has tokenised (TRL leaves a dataset with `input_ids` and `labels` alone).
4. `AlignDPOTrainer` does the same for pairs, which TRL always tokenises itself, closing both sides with eos and scoring the
   user's turns in a side of several (`AnswersOnly`). A rejected
   answer that never ended has to stay open (trl issues 1025 and 1239: DPO turning models repetitive or endless). Its first
   loss also proves that the reference is the start (`check_reference`), from what TRL logs. Its evaluation under
   `group_by_length` takes the lengths of pairs, for which transformers' sampler looks in `input_ids`.
5. `UncastAdapterInputs`: under autocast PEFT copies every adapter input to float32 and autocast copies it back to bf16 (peft
   pull 2353 gave the switch). Without the copies the numbers are the same to the bit, a step is a tenth faster on a CPU.
6. `ResumableTrainer` (checkpoints.py): whole checkpoints, and a resumed run that sees the same rows and stops at the same step.
7. `AlignGRPOTrainer` (grpo.py): a group with one greedy answer, through TRL's experimental `rollout_func`; its counter of
   micro-batches, which begins at 0 in a resumed run (canary in test_grpo.py).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import trl.trainer.utils as trl_utils
from datasets import Dataset
from peft.helpers import disable_input_dtype_casting
from torch.utils.data import Sampler
from transformers import TrainingArguments
from transformers.trainer_utils import TrainOutput
from trl import DPOTrainer, SFTTrainer

from align_ko.training.audit import AuditError
from align_ko.training.checkpoints import ResumableTrainer
from align_ko.training.prepare import ShuffledLengthGroupedSampler

CPU_VOCABULARY_CHUNK = 4_096
"""Logits columns computed at once. TRL's 32,768 makes tiles of a hundred megabytes, which malloc maps and the kernel zeroes
anew in every step; tiles of a dozen stay in the heap and in the cache. The sum over the vocabulary is exact either way."""


def score_supervised_positions_only() -> None:
    """Make TRL's fused LM head project only positions with a label on the CPU too, with the same loss. Safe to call twice."""
    original = trl_utils._use_triton
    if getattr(original, "covers_cpu", False):
        return

    def compact(device: torch.device) -> bool:
        return device.type == "cpu" or bool(original(device))

    if not torch.cuda.is_available():  # TRL has one tile width for all devices, and its own is right for a GPU
        trl_utils._CHUNKED_LOGPROB_CHUNK_SIZE = CPU_VOCABULARY_CHUNK
    compact.covers_cpu = True  # type: ignore[attr-defined]
    compact.original = original  # type: ignore[attr-defined]
    trl_utils._use_triton = compact


class _LengthGrouping:
    """Mixin: `train_sampling_strategy: group_by_length` with shuffled batches."""

    args: TrainingArguments
    train_dataset: Dataset

    def _get_train_sampler(self, train_dataset: Dataset | None = None) -> Sampler[int]:
        args, dataset = self.args, self.train_dataset if train_dataset is None else train_dataset
        if args.train_sampling_strategy != "group_by_length":
            return super()._get_train_sampler(train_dataset)  # type: ignore[misc]
        batch_size = args.train_batch_size * args.gradient_accumulation_steps * args.world_size
        return ShuffledLengthGroupedSampler(_row_lengths(dataset), batch_size, args.data_seed or args.seed)


def _row_lengths(dataset: Dataset) -> list[int]:
    """Tokens that one row fills; for a pair, its longer side."""
    if "input_ids" in dataset.column_names:
        return [len(ids) for ids in dataset["input_ids"]]
    sides = zip(dataset["prompt_ids"], dataset["chosen_ids"], dataset["rejected_ids"], strict=True)
    return [len(prompt) + max(len(chosen), len(rejected)) for prompt, chosen, rejected in sides]


class UncastAdapterInputs:
    """Mixin: in mixed precision, adapters take their inputs as they come. DeepSpeed does its own casting and is left alone."""

    args: TrainingArguments
    model: torch.nn.Module

    def train(self, *args: object, **kwargs: object) -> TrainOutput:
        mixed = (self.args.bf16 or self.args.fp16) and self.args.deepspeed is None
        with disable_input_dtype_casting(self.model, active=mixed):
            return super().train(*args, **kwargs)  # type: ignore[misc]


class AlignSFTTrainer(UncastAdapterInputs, _LengthGrouping, ResumableTrainer, SFTTrainer):
    """TRL's SFTTrainer on rows of `input_ids` and `labels`."""

    def __init__(self, *args: object, **kwargs: object) -> None:
        score_supervised_positions_only()
        super().__init__(*args, **kwargs)


class AnswersOnly:
    """TRL's collator of pairs, which scores whole sides, without the user's turns in them."""

    def __init__(self, collator: Callable[[list[dict[str, Any]]], dict[str, torch.Tensor]]) -> None:
        self.collator = collator

    @classmethod
    def around(cls, collator: Any) -> AnswersOnly:
        return collator if isinstance(collator, cls) else cls(collator)

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, torch.Tensor]:
        batch = self.collator(examples)
        sides = [(example, side) for side in ("chosen", "rejected") for example in examples]
        for scored, (example, side) in zip(batch["completion_mask"], sides, strict=True):
            start, mask = len(example["prompt_ids"]), scored.new_tensor(example.get(f"{side}_mask", []))
            scored[start : start + len(mask)] *= mask
        return batch


class AlignDPOTrainer(UncastAdapterInputs, _LengthGrouping, ResumableTrainer, DPOTrainer):
    """TRL's DPOTrainer on rows of `prompt_ids`, `chosen_ids`, `rejected_ids`."""

    data_collator: Any
    _signature_columns: list[str]
    _reference_checked = False

    def __init__(self, *args: object, **kwargs: object) -> None:
        score_supervised_positions_only()
        super().__init__(*args, **kwargs)
        self.data_collator = AnswersOnly.around(self.data_collator)

    def _precompute_ref_logps(self, *args: Any) -> Dataset:
        self.data_collator = AnswersOnly.around(self.data_collator)  # TRL's __init__ calls this
        return super()._precompute_ref_logps(*args)

    def _get_eval_sampler(self, eval_dataset: Dataset) -> Sampler[int] | None:
        if self.args.train_sampling_strategy != "group_by_length":
            return super()._get_eval_sampler(eval_dataset)
        seed = self.args.data_seed or self.args.seed
        return ShuffledLengthGroupedSampler(_row_lengths(eval_dataset), self.args.eval_batch_size, seed)

    def _set_signature_columns_if_needed(self) -> None:
        super()._set_signature_columns_if_needed()
        self._signature_columns = [*dict.fromkeys([*self._signature_columns, "chosen_mask", "rejected_mask"])]

    def _prepare_dataset(self, dataset: Dataset, *args: object) -> Dataset:
        if "chosen_ids" in dataset.column_names:
            return dataset
        return super()._prepare_dataset(dataset, *args)

    def compute_loss(self, model: torch.nn.Module, *args: object, **kwargs: object) -> object:
        """TRL's, and before the first step proof that the reference is the start: both find every answer equally likely."""
        loss = super().compute_loss(model, *args, **kwargs)
        if self.state.global_step == 0 and model.training and not self._reference_checked:
            self._reference_checked = True
            logged = self._metrics["train"]
            check_reference(logged["rewards/chosen"][-1] / self.beta, logged["logps/chosen"][-1])
        return loss


REFERENCE_TOLERANCE = 0.05
"""Of an answer's log-probability. A judgement: rounding and LoRA dropout should stay well below, SFT and its base far above."""


def check_reference(difference: float, logps: float) -> None:
    """AuditError where policy and reference differ before the first step. Both in nats, summed over the answer's tokens."""
    if abs(difference) > max(1.0, REFERENCE_TOLERANCE * abs(logps)):
        raise AuditError(
            f"the reference is not the model that training starts from: before the first step they differ by {difference:+.1f} "
            f"nats on answers of {logps:.1f}, so the loss does not begin at ln 2",
            expected="no ref_model and no log-probabilities of another model; the reference is a frozen copy of the start",
        )
