"""Every model asked everything, its references too; the prompts are shared among the processes of `accelerate launch`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from functools import cache, partial
from pathlib import Path
from typing import Any

from align_ko.evaluation.answers import Answers
from align_ko.evaluation.reference_loss import reference_nats
from align_ko.generation.processes import Processes
from align_ko.generation.shards import shard
from align_ko.models.load import load_for_inference
from align_ko.models.source import ModelSource, weights_hash
from align_ko.recipe import DecodingArgs, GenerationArgs
from align_ko.records import PromptRow, write_json

Asked = Mapping[str, tuple[DecodingArgs, list[PromptRow]]]
"""Name of a setting → how it decodes, and what it is asked."""


def ask_models(
    models: Mapping[str, str | ModelSource],
    asked: Asked,
    references: list[PromptRow],
    generation: GenerationArgs,
    chat_template: str,
    folder: Path,
    processes: Processes,
) -> tuple[list[dict[str, Any]], dict[str, float | None]]:
    """Rows for responses.jsonl, model by model and setting by setting, and each model's NLL of `references` in nats per token.

    Every process calls it, each loads every model; only the first one gets the rows, the others get nothing. What lies in
    `folder` already is not asked again.
    """
    answers = []
    for name, path in models.items():
        load = cache(partial(load_for_inference, path, generation.dtype, chat_template))
        checkpoint = weights_hash(path)
        for setting, (decoding, questions) in asked.items():
            file = folder / name / f"{setting}.jsonl"
            answers.append(Answers(name, setting, decoding, questions, generation, file, checkpoint))
            answers[-1].draw(load, processes)
        if references:
            nats, tokens = reference_nats(*load(), references[processes.rank :: processes.count])
            write_json(shard(_loss_file(folder, name), processes.rank), {"nats": nats, "tokens": tokens})
        del load  # and the model with it, before the next one is loaded
    processes.wait()
    if processes.rank:
        return [], {}
    losses = {name: _loss(_loss_file(folder, name), processes.count) for name in models} if references else {}
    return [row for one in answers for row in one.rows()], losses


def _loss_file(folder: Path, name: str) -> Path:
    return folder / name / "references.json"


def _loss(file: Path, count: int) -> float | None:
    """Mean over the tokens of all processes; None where there were no references."""
    parts = [json.loads(shard(file, rank).read_text(encoding="utf-8")) for rank in range(count)]
    tokens = sum(part["tokens"] for part in parts)
    return sum(part["nats"] for part in parts) / tokens if tokens else None
