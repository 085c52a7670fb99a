"""Checkpoints asked and scored: every model answers every prompt, greedily and under sampling settings.

Every answer and every reference's loss is stored under a key of all that it depends on: a killed run continues where it was, a
finished one loads no model. The processes of `accelerate launch` share the prompts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

from align_ko.chat_format import EncodedConversation, conversation_ids
from align_ko.errors import UserError
from align_ko.evaluation.scores import GREEDY_SETTING, Answer, ScoredAnswer, Summary, score_rows, summarise
from align_ko.evaluation.suites import best_checkpoints, measure_suites, read_suites
from align_ko.evaluation.verdicts import READER_FILE, add_llm_verdicts, add_reader_verdicts
from align_ko.generation.answerer import Answerer
from align_ko.generation.relevance import answer_losses, is_relevant, mean_nll, stored_relevance
from align_ko.generation.requests import GREEDY, Request, describe, draw_missing, row_seed
from align_ko.manifest import remove_manifest
from align_ko.models.load import load_tokenizer
from align_ko.models.source import ModelSource, model_source
from align_ko.process import Processes
from align_ko.recipe import DecodingArgs, EndpointArgs, EvaluateRecipe, GenerationArgs, GridArgs, JudgeEndpointArgs
from align_ko.records import PromptRow, evenly, write_json, write_jsonl
from align_ko.stores import Store, row_key

Models = Mapping[str, str | ModelSource]  # name in the table → folder, hub id or source
Asked = Mapping[str, tuple[DecodingArgs, list[PromptRow]]]  # name of a setting → how it decodes, and its prompts


@dataclass(frozen=True)
class Evaluation:
    """What responses.jsonl and scores.json contain."""

    answers: list[ScoredAnswer]
    summary: Summary


def evaluate(
    models: Models,
    prompts: str | Sequence[str],
    output_dir: str | Path,
    *,
    sampling: Mapping[str, DecodingArgs] | None = None,
    probes: Iterable[str] = (),
    max_prompts: int = 0,
    sampling_prompts: int = 0,
    chat_template: str = "default",
    generation: GenerationArgs | None = None,
    llm: JudgeEndpointArgs | None = None,
    relevance_model: str | ModelSource | None = "",
    endpoints: Mapping[str, EndpointArgs] | None = None,
    processes: Processes | None = None,
) -> Evaluation | None:
    """Judge checkpoints by greedy decoding, and beside it by `sampling` settings; writes responses.jsonl and scores.json.

    `prompts` are files and names of suites (recipe.SUITES). `probes` are answered and shown, not counted.
    `relevance_model` says for all models which answers belong to their questions (empty: the first of `models` with a chat
    template of its own; None: not measured). Beside form count the verdicts of `llm` on what the answers say and those of a
    person in `output_dir`/reader.jsonl (scripts/read.py). `endpoints`: the servers that answer for some of the names; their
    weights are not loaded, and their loss on the references is None. None in all but the first process.
    """
    held_out = read_suites(prompts, max_prompts)
    extra = [PromptRow(f"probe-{n}", [{"role": "user", "content": text}], None, "probe") for n, text in enumerate(probes)]
    fewer = held_out[:: max(1, len(held_out) // sampling_prompts)] if sampling_prompts else held_out
    asked = {GREEDY_SETTING: (GREEDY, [*held_out, *extra])}
    asked |= {setting: (decoding, [*fewer, *extra]) for setting, decoding in (sampling or {}).items()}
    if relevance_model == "":
        chatting = (path for path in models.values() if load_tokenizer(path).chat_template)
        relevance_model = next(chatting, next(iter(models.values())))
    return _answer_and_score(
        models, asked, held_out, Path(output_dir), chat_template, generation, processes, llm, relevance_model, endpoints
    )


def evaluate_recipe(recipe: EvaluateRecipe, processes: Processes | None = None) -> Evaluation | None:
    """`evaluate` as a recipe says."""

    def source(path: str) -> ModelSource:
        return model_source(path, trust_remote_code=recipe.trust_remote_code)

    return evaluate(
        {name: source(path) for name, path in recipe.models.items()},
        recipe.asked,
        recipe.output_dir,
        sampling=recipe.sampling,
        probes=recipe.probes,
        max_prompts=recipe.max_prompts,
        sampling_prompts=recipe.sampling_prompts,
        chat_template=recipe.chat_template,
        generation=recipe.generation,
        llm=recipe.llm,
        relevance_model=recipe.relevance_model and source(recipe.relevance_model),
        endpoints=recipe.endpoints,
        processes=processes,
    )


def evaluate_grid(
    models: Models,
    prompts: str | Sequence[str],
    output_dir: str | Path,
    grid: GridArgs,
    *,
    max_prompts: int = 0,
    chat_template: str = "default",
    generation: GenerationArgs | None = None,
    processes: Processes | None = None,
) -> Evaluation | None:
    """Greedy decoding beside every cell of `grid`, for the decoding gap; files and processes as in `evaluate`."""
    rows = evenly(read_suites(prompts, max_prompts), grid.prompts)
    asked = {setting: (decoding, rows) for setting, decoding in {GREEDY_SETTING: GREEDY, **cells(grid)}.items()}
    return _answer_and_score(models, asked, [], Path(output_dir), chat_template, generation, processes)


def cells(grid: GridArgs) -> dict[str, DecodingArgs]:
    """Every combination by name, `t0.7-p0.9-r1.1`; in the order temperature, top_p, repetition_penalty."""
    every = product(grid.temperature, grid.top_p, grid.repetition_penalty)
    return {f"t{t:g}-p{p:g}-r{r:g}": DecodingArgs(t, p, r) for t, p, r in every}


def _answer_and_score(
    models: Models,
    asked: Asked,
    references: list[PromptRow],
    folder: Path,
    chat_template: str,
    generation: GenerationArgs | None,
    processes: Processes | None,
    llm: JudgeEndpointArgs | None = None,
    scorer: str | ModelSource | None = None,
    endpoints: Mapping[str, EndpointArgs] | None = None,
) -> Evaluation | None:
    generation = generation or GenerationArgs()
    answers = folder / "answers"
    answered = ask_models(models, asked, references, generation, chat_template, answers, processes, scorer, endpoints)
    if answered is None:
        return None
    scored = score_rows(answered[0])
    add_reader_verdicts(scored, folder / READER_FILE)
    add_llm_verdicts(scored, llm or JudgeEndpointArgs(), folder / "answers/llm_verdicts.jsonl")
    summary = summarise(scored, answered[1])
    summary["suites"] = measure_suites(scored)
    if best := best_checkpoints(summary["results"], summary["suites"]):
        summary["best_checkpoints"] = best
    remove_manifest(folder)
    write_jsonl(folder / "responses.jsonl", scored)
    write_json(folder / "scores.json", summary)
    return Evaluation(scored, summary)


def ask_models(
    models: Models,
    asked: Asked,
    references: list[PromptRow],
    generation: GenerationArgs,
    chat_template: str,
    folder: Path,
    processes: Processes | None = None,
    scorer: str | ModelSource | None = None,
    endpoints: Mapping[str, EndpointArgs] | None = None,
) -> tuple[list[Answer], dict[str, float | None]] | None:
    """Answers model by model and setting by setting, their relevance by `scorer`, and each model's NLL of `references` in nats
    per token.

    Every process calls it and loads every model that has something left to do; None in all but the first process. An
    answer's seed follows from its place among the prompts of its setting.
    """
    processes = processes or Processes()
    places = [(setting, n, row) for setting, (_, prompts) in asked.items() for n, row in enumerate(prompts)]
    requests = [Request(row.prompt, asked[setting][0], row_seed(generation.seed, n)) for setting, n, row in places]
    servers = endpoints or {}
    tasks = [
        _ModelTask(name, Answerer(path, generation, servers.get(name), chat_template), requests, references)
        for name, path in models.items()
    ]
    keys = [key for task in tasks for key in task.keys]
    loss_keys = [key for task in tasks for key in task.references]
    answers = Store(folder / "answers.jsonl", processes.rank).load(keys)
    losses = Store(folder / "reference_losses.jsonl", processes.rank).load(loss_keys)
    if processes.rank == 0 and (unused := answers.describe_unused() or losses.describe_unused()):
        print(unused, flush=True)
    for task in tasks:
        labels = [{"model": task.name, "setting": setting, "prompt_id": row.id} for setting, _, row in places]
        task.run(answers, labels, losses, processes)

    def relevance_of(numbers: range) -> list[float | None]:
        asked = [(requests[number].prompt, answers[task.keys[number]]["text"]) for task in tasks for number in numbers]
        file = folder / "relevance.jsonl"
        return stored_relevance(asked, scorer, file, generation, chat_template, processes.rank) if scorer else []

    relevance_of(range(processes.rank, len(requests), processes.count))
    processes.wait()
    if processes.rank:
        return None
    answers.load(keys)
    losses.load(loss_keys)
    if missing := sum(key not in answers for key in keys) + sum(key not in losses for key in loss_keys):
        problem = f"{missing} of {len(keys) + len(loss_keys)} answers and reference losses are missing"
        raise UserError(problem, file=answers.file, expected="an output_dir that all processes share")
    rows = [
        answer_row(task.name, setting, asked[setting][0], row, answers[key])
        for task in tasks
        for (setting, _, row), key in zip(places, task.keys, strict=True)
    ]
    for row, nats in zip(rows, relevance_of(range(len(requests))), strict=bool(scorer)):
        row |= {"nats_per_token": nats, "relevant": is_relevant(nats)}
    nll = {task.name: mean_nll([(losses[key]["nats"], losses[key]["tokens"]) for key in task.references]) for task in tasks}
    return rows, nll if references else {}


def answer_row(model: str, setting: str, decoding: DecodingArgs, row: PromptRow, given: Mapping[str, Any]) -> Answer:
    """A row of responses.jsonl before it is judged; `given` has the fields of Generated."""
    return {
        "model": model,
        "setting": setting,
        "decoding": describe(decoding),
        "kind": "probe" if row.group == "probe" else "heldout",
        "prompt": row.prompt,
        "prompt_id": row.id,
        "group": row.group,
        "topic": row.topic,
        "suite": row.suite,
        "demands": list(row.demands),
        "reference": row.reference,
        "response": given["text"],
        "finished": given["finished"],
        "tokens": given["tokens"],
    }


class _ModelTask:
    """One model's requests and references by key. Loads the tokenizer at once, the model only where a key is missing; with an
    endpoint never, and the references are not read."""

    def __init__(self, name: str, answerer: Answerer, requests: list[Request], references: list[PromptRow]) -> None:
        self.name, self.answerer, self.requests, self.keys = name, answerer, requests, answerer.keys(requests)
        encoded = encode_references(answerer.tokenizer, [] if answerer.endpoint else references)
        of_model = {"weights": answerer.weights, "dtype": answerer.dtype}
        self.references = {row_key(ids=row.input_ids, labels=row.labels, **of_model): row for row in encoded}

    def run(self, answers: Store, labels: list[dict[str, str]], losses: Store, processes: Processes) -> None:
        """Answer this process's share of what the stores lack."""
        share = range(processes.rank, len(self.keys), processes.count)
        unread = [key for key in list(self.references)[processes.rank :: processes.count] if key not in losses]
        if processes.rank == 0:
            stored = sum(key in answers for key in self.keys)
            print(f"{self.name}: {len(self.keys)} answers" + f", {stored} of them stored already" * bool(stored), flush=True)
        if not unread and all(self.keys[n] in answers for n in share):
            return
        model = None if self.answerer.endpoint else self.answerer.load()
        draw = partial(self.answerer.draw, model=model)
        draw_missing(share, self.requests, self.keys, labels, answers, draw, is_shown=processes.rank == 0)
        pad = int(self.answerer.tokenizer.pad_token_id or 0)
        for index, nats, tokens in answer_losses(model, [self.references[key] for key in unread], pad):
            losses.add(unread[index], model=self.name, nats=nats, tokens=tokens)


def encode_references(tokenizer: Any, rows: Sequence[PromptRow]) -> list[EncodedConversation]:
    """Prompts with their references, only the reference (eos included) supervised."""
    return [conversation_ids(tokenizer, row.messages, last_only=True) for row in rows if row.reference]
