"""One model's answers to the evaluation's prompts under one decoding setting, kept in a file as they come."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from align_ko.errors import UserError
from align_ko.generation.local import draw_local
from align_ko.generation.meter import Meter
from align_ko.generation.processes import Processes
from align_ko.generation.requests import Generated, Request, describe, row_seed
from align_ko.generation.shards import shard, shards, whole_rows
from align_ko.recipe import DecodingArgs, GenerationArgs
from align_ko.records import PromptRow, drop_torn_line, write_jsonl

Load = Callable[[], tuple[Any, Any]]
"""Gives the model and its tokenizer; called only when an answer is missing."""


@dataclass(frozen=True)
class Answers:
    """What `model` answers to `questions` under `setting`.

    `file` begins with a line that says what the answers depend on, then holds one line for each, in the order in which they
    end; what depends on something else is drawn again. Each process of `accelerate launch` appends to a shard of its own.
    """

    model: str  # its name in the recipe
    setting: str
    decoding: DecodingArgs
    questions: list[PromptRow]
    generation: GenerationArgs
    file: Path
    checkpoint: str  # hash of the weights

    def draw(self, load: Load, processes: Processes | None = None) -> None:
        """Answer what this process shall and no shard holds yet.

        An answer's seed belongs to its place among the questions, so the number of processes does not change what is drawn,
        but for rounding (`draw_local`), and neither does an interruption.
        """
        processes = processes or Processes()
        drawn = self._drawn()
        missing = [n for n in range(processes.rank, len(self.questions), processes.count) if n not in drawn]
        if processes.rank == 0:
            there = f", {len(drawn)} of them there already" if drawn else ""
            print(f"{self.model}: {len(self.questions)} answers, {describe(self.decoding)}{there}", flush=True)
        if not missing:
            return
        own = shard(self.file, processes.rank)
        if not self._is_ours(own):
            write_jsonl(own, [self._key()])
        drop_torn_line(own)
        requests = [Request(self.questions[n].prompt, self.decoding, row_seed(self.generation.seed, n)) for n in missing]
        model, tokenizer = load()
        with own.open("a", encoding="utf-8", newline="\n") as out, Meter(len(missing), shown=processes.rank == 0) as meter:

            def save(index: int, answer: Generated) -> None:
                row = {"number": missing[index], "response": answer.text, "finished": answer.finished, "tokens": answer.tokens}
                out.write(json.dumps(row, ensure_ascii=False) + "\n")
                out.flush()
                meter.advance()

            draw_local(requests, save, model, tokenizer, self.generation.max_new_tokens, self.generation.batch_size)

    def rows(self) -> list[dict[str, Any]]:
        """Rows for responses.jsonl, in the order of the questions, once every process has drawn its share."""
        drawn = self._drawn()
        if len(drawn) < len(self.questions):
            problem = f"{len(self.questions) - len(drawn)} of {len(self.questions)} answers are not there"
            raise UserError(problem, file=self.file, expected="an output_dir that all processes share")
        return [
            {
                "model": self.model,
                "setting": self.setting,
                "decoding": describe(self.decoding),
                "kind": "probe" if question.group == "probe" else "heldout",
                "prompt": question.prompt,
                "prompt_id": question.id,
                "group": question.group,
                "topic": question.topic,
                "reference": question.reference,
                **drawn[number],
            }
            for number, question in enumerate(self.questions)
        ]

    def _key(self) -> dict[str, Any]:
        return {
            "checkpoint": self.checkpoint,
            "decoding": describe(self.decoding),
            "max_new_tokens": self.generation.max_new_tokens,
            "dtype": self.generation.dtype,
            "seed": self.generation.seed,
            "prompts": [question.id for question in self.questions],
        }

    def _is_ours(self, path: Path) -> bool:
        return path.is_file() and next(whole_rows(path), None) == self._key()

    def _drawn(self) -> dict[int, dict[str, Any]]:
        """Number of the question → response, finished, tokens."""
        ours = (path for path in shards(self.file) if self._is_ours(path))
        return {row.pop("number"): row for path in ours for row in islice(whole_rows(path), 1, None)}
