"""Checkpoints asked and scored: every model answers every prompt, greedily and under sampling settings.

Every answer and every reference's loss is stored under a key of all that it depends on: a run that was killed goes on where it
was, a finished one loads no model. The processes of `accelerate launch` share the prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from align_ko.errors import UserError
from align_ko.evaluation.grid import cells, cross_fitted_gaps
from align_ko.evaluation.reference_loss import encode_references, reference_losses
from align_ko.evaluation.scores import GREEDY_SETTING, Answer, ScoredAnswer, Summary, score_rows, summarise
from align_ko.generation.local import draw_local
from align_ko.generation.requests import GREEDY, OnAnswer, Request, answer_keys, describe, draw_missing, row_seed
from align_ko.models.load import best_dtype, load_checkpoint_tokenizer, load_for_inference
from align_ko.models.source import ModelSource, weights_hash
from align_ko.process import Processes
from align_ko.recipe import DecodingArgs, GenerationArgs, GridArgs
from align_ko.records import PromptRow, evenly, read_prompts, write_json, write_jsonl
from align_ko.stores import Store, StoredRow, row_key

Asked = Mapping[str, tuple[DecodingArgs, list[PromptRow]]]
"""Name of a setting → how it decodes, and what it is asked."""


@dataclass(frozen=True)
class Evaluation:
    """What responses.jsonl and scores.json contain."""

    answers: list[ScoredAnswer]
    summary: Summary


def evaluate(
    models: Mapping[str, str | ModelSource],
    prompts_file: str,
    output_dir: str | Path,
    *,
    sampling: Mapping[str, DecodingArgs] | None = None,
    probes: Iterable[str] = (),
    max_prompts: int = 0,
    sampling_prompts: int = 0,
    chat_template: str = "default",
    generation: GenerationArgs | None = None,
    processes: Processes | None = None,
) -> Evaluation | None:
    """Judge checkpoints by greedy decoding, and beside it by `sampling` settings; writes responses.jsonl and scores.json.

    `models` maps a name to a folder or hub id. `probes` are answered and shown, not counted. None in all but the first process.
    """
    held_out = list(read_prompts(prompts_file, "prompts_file", max_prompts))
    extra = [PromptRow(f"probe-{n}", [{"role": "user", "content": text}], None, "probe") for n, text in enumerate(probes)]
    fewer = held_out[:: max(1, len(held_out) // sampling_prompts)] if sampling_prompts else held_out
    asked = {GREEDY_SETTING: (GREEDY, [*held_out, *extra])}
    asked |= {setting: (decoding, [*fewer, *extra]) for setting, decoding in (sampling or {}).items()}
    return _answer_and_score(models, asked, held_out, Path(output_dir), chat_template, generation, processes)


def evaluate_grid(
    models: Mapping[str, str | ModelSource],
    prompts_file: str,
    output_dir: str | Path,
    grid: GridArgs,
    *,
    max_prompts: int = 0,
    chat_template: str = "default",
    generation: GenerationArgs | None = None,
    processes: Processes | None = None,
) -> Evaluation | None:
    """Greedy decoding beside every cell of `grid`, for the decoding gap; files and processes as in `evaluate`."""
    prompts = evenly(list(read_prompts(prompts_file, "prompts_file", max_prompts)), grid.prompts)
    asked = {setting: (decoding, prompts) for setting, decoding in {GREEDY_SETTING: GREEDY, **cells(grid)}.items()}
    return _answer_and_score(models, asked, [], Path(output_dir), chat_template, generation, processes)


def _answer_and_score(
    models: Mapping[str, str | ModelSource],
    asked: Asked,
    references: list[PromptRow],
    folder: Path,
    chat_template: str,
    generation: GenerationArgs | None,
    processes: Processes | None,
) -> Evaluation | None:
    answered = ask_models(
        models, asked, references, generation or GenerationArgs(), chat_template, folder / "answers", processes
    )
    if answered is None:
        return None
    scored = score_rows(answered[0])
    summary = summarise(scored, answered[1])
    for name, points in cross_fitted_gaps(row for row in scored if row["kind"] == "heldout").items():
        summary["decoding_gap"][name]["cross_fitted"] = points
    write_jsonl(folder / "responses.jsonl", scored)
    write_json(folder / "scores.json", summary)
    return Evaluation(scored, summary)


def ask_models(
    models: Mapping[str, str | ModelSource],
    asked: Asked,
    references: list[PromptRow],
    generation: GenerationArgs,
    chat_template: str,
    folder: Path,
    processes: Processes | None = None,
) -> tuple[list[Answer], dict[str, float | None]] | None:
    """Answers model by model and setting by setting, and each model's NLL of `references` in nats per token.

    Every process calls it and loads every model that has something left to answer; None in all but the first process. An
    answer's seed follows from its place among the prompts of its setting.
    """
    processes = processes or Processes()
    places = [(setting, n, row) for setting, (_, prompts) in asked.items() for n, row in enumerate(prompts)]
    requests = [Request(row.prompt, asked[setting][0], row_seed(generation.seed, n)) for setting, n, row in places]
    tasks = [_ModelTask(name, path, generation, chat_template, requests, references) for name, path in models.items()]
    keys = [key for task in tasks for key in task.keys]
    loss_keys = [key for task in tasks for key in task.references]
    answers = Store(folder / "answers.jsonl", processes.rank).load(keys)
    losses = Store(folder / "reference_losses.jsonl", processes.rank).load(loss_keys)
    if processes.rank == 0 and (unused := answers.describe_unused() or losses.describe_unused()):
        print(unused, flush=True)
    for task in tasks:
        labels = [{"model": task.name, "setting": setting, "prompt_id": row.id} for setting, _, row in places]
        task.run(answers, labels, losses, processes)
    processes.wait()
    if processes.rank:
        return None
    answers.load(keys)
    losses.load(loss_keys)
    if missing := sum(key not in answers for key in keys) + sum(key not in losses for key in loss_keys):
        problem = f"{missing} of {len(keys) + len(loss_keys)} answers and reference losses are missing"
        raise UserError(problem, file=answers.file, expected="an output_dir that all processes share")
    rows = [
        _answer(task.name, setting, asked[setting][0], row, answers[key])
        for task in tasks
        for (setting, _, row), key in zip(places, task.keys, strict=True)
    ]
    return rows, {task.name: _mean_nll([losses[key] for key in task.references]) for task in tasks} if references else {}


def _answer(model: str, setting: str, decoding: DecodingArgs, row: PromptRow, stored: StoredRow) -> Answer:
    return {
        "model": model,
        "setting": setting,
        "decoding": describe(decoding),
        "kind": "probe" if row.group == "probe" else "heldout",
        "prompt": row.prompt,
        "prompt_id": row.id,
        "group": row.group,
        "topic": row.topic,
        "reference": row.reference,
        "response": stored["text"],
        "finished": stored["finished"],
        "tokens": stored["tokens"],
    }


def _mean_nll(losses: list[StoredRow]) -> float | None:
    """Over all tokens of all references; None without any."""
    tokens = sum(row["tokens"] for row in losses)
    return sum(row["nats"] for row in losses) / tokens if tokens else None


class _ModelTask:
    """What one model is asked, with the keys of the answers. Loads the tokenizer at once, the model where a key is missing."""

    def __init__(
        self,
        name: str,
        path: str | ModelSource,
        generation: GenerationArgs,
        chat_template: str,
        requests: list[Request],
        references: list[PromptRow],
    ) -> None:
        self.name, self.path, self.generation, self.chat_template = name, path, generation, chat_template
        self.requests, tokenizer = requests, load_checkpoint_tokenizer(path, chat_template)
        weights, dtype = weights_hash(path), str(best_dtype(generation.dtype))
        self.keys = answer_keys(requests, tokenizer, weights, generation.max_new_tokens, dtype)
        encoded = encode_references(tokenizer, references)
        self.references = {row_key(ids=row.input_ids, labels=row.labels, weights=weights, dtype=dtype): row for row in encoded}

    def run(self, answers: Store, labels: list[dict[str, str]], losses: Store, processes: Processes) -> None:
        """Answer this process's share of what the stores lack."""
        share = range(processes.rank, len(self.keys), processes.count)
        unread = [key for key in list(self.references)[processes.rank :: processes.count] if key not in losses]
        if processes.rank == 0:
            stored = sum(key in answers for key in self.keys)
            print(f"{self.name}: {len(self.keys)} answers" + f", {stored} of them stored already" * bool(stored), flush=True)
        if not unread and all(self.keys[n] in answers for n in share):
            return
        model, tokenizer = load_for_inference(self.path, self.generation.dtype, self.chat_template)

        def draw(requests: list[Request], on_answer: OnAnswer) -> None:
            draw_local(requests, on_answer, model, tokenizer, self.generation.max_new_tokens, self.generation.batch_size)

        draw_missing(share, self.requests, self.keys, labels, answers, draw, is_shown=processes.rank == 0)
        pad = int(tokenizer.pad_token_id or 0)
        for index, nats, tokens in reference_losses(model, [self.references[key] for key in unread], pad):
            losses.add(unread[index], model=self.name, nats=nats, tokens=tokens)
