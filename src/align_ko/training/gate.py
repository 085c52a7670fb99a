"""A few fixed prompts answered greedily at every evaluation: loss can fall while answers begin to loop or to be all the same.

The gate logs `eval_greedy_natural`, `_stopped`, `_loops`, `_characters` (mean) and `_collapse` through the trainer, so that
`metric_for_best_model: greedy_natural` can choose by them, and writes the answers to greedy_gate/step-N.jsonl."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from statistics import mean
from typing import Any, NotRequired, TypedDict

import torch
from accelerate.utils import broadcast_object_list, gather_object
from peft import PeftModel
from transformers import PreTrainedTokenizerBase, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from trl.models.utils import unwrap_model_for_generation

from align_ko.chat_format import answer_ids
from align_ko.errors import UserError, warn
from align_ko.generation.local import generate_answers
from align_ko.generation.relevance import is_relevant, relevance
from align_ko.generation.requests import Generated
from align_ko.korean import assess, measure
from align_ko.recipe import GateArgs
from align_ko.records import Message, evenly, last_user_text, read_prompts, write_jsonl
from align_ko.training.overfitting import Metrics

FOLDER = "greedy_gate"
TUNED = 0.4
"""Natural share from which a start counts as tuned: the quickstart's base has 0 %, Qwen2.5-Coder-1.5B-Instruct 50 %
(docs/experiments.md)."""
LIMIT = 256  # tokens of an answer where no reference shows how long answers are
REFERENCES = 200  # how many are tokenised for that
Clock = Callable[[], float]


def gate_prompts(path: str, count: int) -> list[list[Message]]:
    """`count` prompts spread evenly over a prompt file; the same file gives the same prompts."""
    prompts = [row.prompt for row in evenly(list(read_prompts(path, "gate.prompts_file")), count)]
    if not prompts:
        raise UserError("no prompt for the greedy gate", file=path, key="gate.prompts_file")
    return prompts


class GateRow(TypedDict):
    """A row of greedy_gate/step-N.jsonl."""

    prompt: str
    response: str
    finished: bool
    natural: bool
    outside: NotRequired[str]
    score: float
    faults: list[str]
    relevant: NotRequired[bool | None]
    """By the likelihoods of the model in training; None without `min_relevant`."""
    cut: bool
    """At max_new_tokens, and not in a loop: the limit may be to blame, not the model."""


def _gate_row(prompt: str, answer: Generated, limit: int, relevant: bool | None = None) -> GateRow:
    assessed = assess(answer.text, prompt=prompt, finished=answer.finished)
    cut = not answer.finished and answer.tokens >= limit and "repetition" not in assessed.codes
    return {"prompt": prompt, "response": answer.text, "finished": answer.finished, "natural": assessed.natural,
            "outside": assessed.outside, "score": assessed.score, "faults": assessed.codes, "relevant": relevant,
            "cut": cut}  # fmt: skip


def gate_measures(rows: list[GateRow]) -> dict[str, float]:
    """Shares (0..1), mean length in characters and collapse of answered rows (`prompt`, `response`, `natural`, `faults`)."""
    judged = [row for row in rows if not row.get("outside")]
    measures = {
        "eval_greedy_natural": mean(float(row["natural"]) for row in judged) if judged else 1.0,
        "eval_greedy_outside": 1 - len(judged) / len(rows),
        "eval_greedy_stopped": mean(float(row["finished"]) for row in rows),
        "eval_greedy_loops": mean(float("repetition" in row["faults"]) for row in rows),
        "eval_greedy_cut": mean(float(row["cut"]) for row in rows),
        "eval_greedy_characters": mean(len(row["response"]) for row in rows),
        "eval_greedy_collapse": measure([row["prompt"] for row in rows], [row["response"] for row in rows]).collapse,
        "eval_greedy_answered": float(len(rows)),
    }
    asked = [float(relevant) for row in rows if (relevant := row.get("relevant")) is not None]
    return measures | ({"eval_greedy_relevant": mean(asked)} if asked else {})


@contextmanager
def answering(trainer: Trainer) -> Iterator[Any]:
    """The model in training, ready to generate on every process (ZeRO-3 gathers its weights); afterwards random numbers and
    mode are as before, so dropout continues as if nothing had been asked."""
    training = trainer.model.training
    with (
        torch.random.fork_rng(devices=[torch.cuda.current_device()] if torch.cuda.is_available() else []),
        unwrap_model_for_generation(trainer.model_wrapped, trainer.accelerator) as whole,
        trainer.accelerator.autocast(),
    ):
        model: Any = whole.get_base_model() if isinstance(whole, PeftModel) else whole
        model.eval()
        yield model
        model.train(training)


class GreedyGate(TrainerCallback):
    """Answers, logs, and stops the run when the natural share falls below that of the start by more than `stop_margin`; such an
    evaluation never becomes the best one. The processes share the prompts; ZeRO-3's weights are gathered for the answers."""

    def __init__(
        self,
        args: GateArgs,
        prompts: list[list[Message]],
        trainer: Trainer,
        clock: Clock = time.monotonic,
        is_first_sft: bool = False,
    ) -> None:
        self.args, self.prompts, self.trainer, self.clock = args, prompts, trainer, clock
        self.limit = args.max_new_tokens or LIMIT
        self.is_first_sft = is_first_sft  # SFT of a model from elsewhere
        self.start: float | None = None  # natural share before the first step
        self.passed: list[bool] = []

    @property
    def failed(self) -> bool:
        """Whether every evaluation fell below the start."""
        return bool(self.passed) and not any(self.passed)

    def on_train_begin(self, args: object, state: TrainerState, control: TrainerControl, **kwargs: object) -> TrainerControl:
        shares = [entry["eval_greedy_natural"] for entry in state.log_history if "eval_greedy_natural" in entry]
        if not shares:  # a resumed run finds its start in the log of its checkpoint
            shares = [self._look(state)["eval_greedy_natural"]]
            if self.is_first_sft and shares[0] >= TUNED:
                warn(
                    f"the start answers {shares[0]:.0%} of the gate's prompts naturally before the first step: it is tuned "
                    "already, and answers unlike its own can take its sense away. Safer: a tenth of the learning rate, its own "
                    "best answers, or distillation alone (docs/preferences.md, 'A model that is tuned already')"
                )
        self.start, later = shares[0], shares[1:]
        self.passed = [not self._below(share) for share in later]
        control.should_training_stop |= bool(later) and self._below(later[-1])
        return control

    def on_evaluate(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, metrics: Metrics = None, **kwargs: object
    ) -> TrainerControl:
        measures = self._look(state)
        share = measures["eval_greedy_natural"]
        off_topic = measures.get("eval_greedy_relevant", 1.0) < (self.args.min_relevant or 0.0)
        below = self._below(share) or off_topic
        self.passed.append(not below)
        if metrics is not None:
            metrics.update(measures)  # the trainer chooses the best checkpoint by these
            if below and args.metric_for_best_model:
                key = "eval_" + args.metric_for_best_model.removeprefix("eval_")
                metrics[key] = float("-inf") if args.greater_is_better else float("inf")
        if below:
            if state.is_world_process_zero and off_topic:
                told = f"{measures['eval_greedy_relevant']:.0%} of the answers belong to their questions"
                print(f"greedy gate: {told}, fewer than min_relevant ({self.args.min_relevant:g}): training stops")
            elif state.is_world_process_zero:
                print(
                    f"greedy gate: natural {share:.0%}, {self.start:.0%} before the first step; that is more than "
                    f"stop_margin ({self.args.stop_margin:g}) below: training stops"
                )
                if not self._below(share + (cut := measures.get("eval_greedy_cut", 0.0))):
                    warn(f"{cut:.0%} of the answers were cut at {self.limit} tokens, which decides this: gate.max_new_tokens")
            control.should_training_stop = True
        return control

    def _below(self, share: float) -> bool:
        if self.args.stop_margin is None or self.start is None:
            return False
        return share < self.start - self.args.stop_margin - 1e-9  # 0.8 - 0.1 is a little more than 0.7

    def _look(self, state: TrainerState) -> dict[str, float]:
        """One round, on all processes: answers, measures, log."""
        began = self.clock()
        answered = self._answers(began)
        shared: list[dict[str, float]] = [{}]
        if state.is_world_process_zero:
            answers = sorted(answered.items())
            rows = [
                _gate_row(last_user_text(self.prompts[number]), answer, self.limit, relevant)
                for number, (answer, relevant) in answers
            ]
            write_jsonl(Path(self.trainer.args.output_dir) / FOLDER / f"step-{state.global_step:06d}.jsonl", rows)
            shared = [{**gate_measures(rows), "eval_greedy_seconds": round(self.clock() - began, 2)}]
        measures = (broadcast_object_list(shared) if self.trainer.args.world_size > 1 else shared)[0]
        self.trainer.log(dict(measures))
        if state.is_world_process_zero:
            shown = {name.removeprefix("eval_greedy_"): value for name, value in measures.items()}
            print(
                f"step {state.global_step}: greedy natural {shown['natural']:.0%}  stopped {shown['stopped']:.0%}  "
                f"loops {shown['loops']:.0%}  {shown['characters']:.0f} characters  collapse {shown['collapse']:.3f}  "
                f"({shown['answered']:.0f} of {len(self.prompts)} prompts, {shown['cut']:.0%} cut at {self.limit} tokens, "
                f"{shown['seconds']:.0f} s)"
            )
        return measures

    def _answers(self, began: float) -> dict[int, tuple[Generated, bool | None]]:
        """Prompt number → answer and whether it belongs to its prompt (None: not asked), from all processes."""
        trainer = self.trainer
        mine = range(trainer.args.process_index, len(self.prompts), trainer.args.world_size)
        answers: dict[int, tuple[Generated, bool | None]] = {}
        tokenizer: PreTrainedTokenizerBase = trainer.processing_class
        with answering(trainer) as model:
            for first in range(0, len(mine), self.args.batch_size):
                numbers = mine[first : first + self.args.batch_size]
                prompts = [self.prompts[number] for number in numbers]
                # a row that only repeats itself fails either way; ending it early saves most of the time
                batch = generate_answers(
                    model, tokenizer, prompts, max_new_tokens=self.limit, batch_size=self.args.batch_size,
                    stop_loops=True,
                )  # fmt: skip
                relevant: list[bool | None] = [None] * len(batch)
                if self.args.min_relevant is not None:
                    questions = [(prompt, answer.text) for prompt, answer in zip(prompts, batch, strict=True)]
                    relevant = [is_relevant(nats) for nats in relevance(model, tokenizer, questions)]
                answers.update(zip(numbers, zip(batch, relevant, strict=True), strict=True))
                if self.clock() - began > self.args.max_seconds:
                    break
        return answers if trainer.args.world_size == 1 else dict(gather_object(list(answers.items())))


def reference_limit(tokenizer: PreTrainedTokenizerBase, files: Sequence[str]) -> int:
    """Half as many tokens again as 95 of 100 references take, of the first file that has any: a tokenizer with 1.1 Korean
    characters a token needs twice the limit of one with 2.2."""
    for file in files:
        rows = evenly([row for row in read_prompts(file, "gate.prompts_file") if row.reference], REFERENCES)
        if lengths := sorted(len(answer_ids(tokenizer, row.prompt, str(row.reference))) for row in rows):
            return lengths[int(0.95 * len(lengths))] * 3 // 2
    return LIMIT


def refuse_fsdp(trainer: Trainer, what: str, key: str, otherwise: str = "") -> None:
    """UserError where `answering` cannot be: FSDP keeps a part of each weight on every process."""
    if trainer.is_fsdp_enabled:
        problem = f"{what} cannot answer under FSDP, which keeps a part of each weight on every process"
        raise UserError(problem, key=key, expected=f"{otherwise}accelerate_configs/ddp.yaml, zero2.yaml or zero3.yaml")


def attach_gate(trainer: Trainer, args: GateArgs, eval_file: str, is_first_sft: bool = False) -> GreedyGate | None:
    """Add the gate where the recipe asks for one; `eval_file` gives its prompts by default. UserError under FSDP, where every
    process has a part of each weight and none can generate."""
    if not args.prompts:
        return None
    refuse_fsdp(trainer, "the greedy gate", "gate.prompts", "0, or ")
    file = args.prompts_file or eval_file
    if args.max_new_tokens is None:
        args = replace(args, max_new_tokens=reference_limit(trainer.processing_class, (file, eval_file)))
    gate = GreedyGate(args, gate_prompts(file, args.prompts), trainer, is_first_sft=is_first_sft)
    trainer.add_callback(gate)
    return gate


def gate_rounds(log: Iterable[Mapping[str, float]]) -> list[dict[str, float]]:
    """`[{"step": 0, "natural": 0.8, "stopped": 1.0, "loops": 0.0, "characters": 131.0, "collapse": 0.01, …}, …]`"""
    return [
        {"step": entry["step"], **{k.removeprefix("eval_greedy_"): v for k, v in entry.items() if k.startswith("eval_greedy_")}}
        for entry in log
        if "eval_greedy_natural" in entry
    ]
