"""Does an export still speak as its checkpoint? Templates by token ids, greedy answers compared engine by engine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch
from transformers import AutoModelForCausalLM, PreTrainedTokenizerBase

from align_ko.chat_format import EncodedConversation, RefusedConversation, answer_ids, prompt_ids
from align_ko.evaluation.run import ask_models, encode_references
from align_ko.evaluation.scores import GREEDY_SETTING, Answer, Result, score_rows, summarise
from align_ko.generation.endpoint import draw_from_endpoint, key_of_server
from align_ko.generation.relevance import answer_losses, mean_nll
from align_ko.generation.requests import GREEDY, OnAnswer, Request, answer_keys, draw_missing
from align_ko.generation.servers import llama_cpp_ids, llama_cpp_server, llama_cpp_tokens, transformers_server
from align_ko.manifest import file_mark
from align_ko.models.load import best_dtype, load_checkpoint_tokenizer, load_for_inference
from align_ko.models.ollama import questions, render_modelfile
from align_ko.models.source import ModelSource, model_source, weights_hash
from align_ko.recipe import EndpointArgs, GenerationArgs
from align_ko.records import PromptRow
from align_ko.stores import Store

CHECKPOINT, EXPORT = "checkpoint", "export"
ROOM = 1024  # tokens of the longest prompt that a server is started for


@dataclass(frozen=True)
class Difference:
    """An answer that is another one than the checkpoint's."""

    prompt_id: str
    checkpoint: str
    engine: str
    margin: float
    """Nats by which the checkpoint prefers its own token at the first difference: a near-tie is close to 0."""


@dataclass(frozen=True)
class Engine:
    """One way to run the export, beside the checkpoint."""

    name: str
    result: Result
    equal: float
    """Share of answers with the same text and the same end."""
    drop: float
    """Points of natural share below the checkpoint."""
    differences: list[Difference] = field(default_factory=list)

    @property
    def margin(self) -> float | None:
        return median(each.margin for each in self.differences) if self.differences else None


@dataclass(frozen=True)
class ExportCheck:
    engines: list[Engine]
    template_faults: list[str]
    """Where another template engine makes other token ids of a fixed conversation than ours."""


def check_export(
    folder: Path,
    checkpoint: str | ModelSource,
    rows: Sequence[PromptRow],
    generation: GenerationArgs,
    endpoint: EndpointArgs | None = None,
    serve: bool = True,
) -> ExportCheck:
    """`folder` against its checkpoint: the folder itself, its GGUF files under llama.cpp, `transformers serve` (where `serve`),
    and a server that is running already. Answers are kept in `folder`/verification: a second run draws what is missing."""
    export, place = model_source(str(folder)), folder / "verification"
    asked = {GREEDY_SETTING: (GREEDY, list(rows))}
    answered = ask_models({CHECKPOINT: checkpoint, EXPORT: export}, asked, list(rows), generation, "default", place)
    assert answered is not None  # one process
    answers, nll = answered
    tokenizer = load_checkpoint_tokenizer(export)
    check = _Servers(tokenizer, [row for row in answers if row["model"] == EXPORT], generation, place)
    faults: list[str] = []
    for file in sorted(folder.glob("*.gguf")):
        name = f"llama.cpp {file.stem.removeprefix('model-')}"
        with llama_cpp_server(file, ROOM + generation.max_new_tokens) as address:
            faults += _template_faults(name, address, tokenizer, folder / "Modelfile" if not faults else None)
            args = EndpointArgs(
                f"{address}/v1", str(file), server="llama_cpp", send="messages", concurrency=1, check_prompt=False
            )
            args = replace(args, extra_body={"cache_prompt": False})  # a reused prefix changes the last digits
            answers += check.ask(name, file_mark(file), nullcontext(args))
        nll[name] = _gguf_nll(file, encode_references(tokenizer, rows), generation, int(tokenizer.pad_token_id or 0))
    if serve:
        answers += check.ask("transformers serve", weights_hash(export), _served(folder))
    if endpoint is not None:
        answers += check.ask(endpoint.base_url, f"{key_of_server(endpoint)} {endpoint.base_url}", nullcontext(endpoint))
    return ExportCheck(_compare(answers, nll, folder, generation, tokenizer), faults)


@contextmanager
def _served(folder: Path) -> Iterator[EndpointArgs]:
    with transformers_server(folder) as address:
        yield EndpointArgs(
            f"{address}/v1", str(folder), server="transformers", send="messages", concurrency=1, check_prompt=False
        )


class _Servers:
    """The export's prompts for servers, their answers stored."""

    def __init__(
        self, tokenizer: PreTrainedTokenizerBase, rows: Sequence[Answer], generation: GenerationArgs, place: Path
    ) -> None:
        self.tokenizer, self.rows, self.generation, self.place = tokenizer, rows, generation, place
        self.requests = [Request(row["prompt"], GREEDY, 0) for row in rows]

    def ask(self, name: str, weights: str, server: Any) -> list[Answer]:
        """`server`: a context manager of its address, entered only where an answer is missing."""
        tokens = self.generation.max_new_tokens
        keys = answer_keys(self.requests, self.tokenizer, weights, tokens, server=name)
        store = Store(self.place / "servers.jsonl").load(keys)
        labels = [{"model": name, "prompt_id": row["prompt_id"]} for row in self.rows]

        def draw(requests: list[Request], on_answer: OnAnswer) -> None:
            with server as args:
                draw_from_endpoint(requests, on_answer, self.tokenizer, args, tokens)

        print(f"{name}: {len(keys)} answers, {sum(key in store for key in keys)} of them stored already", flush=True)
        draw_missing(range(len(keys)), self.requests, keys, labels, store, draw)
        drawn: list[Answer] = []
        for row, key in zip(self.rows, keys, strict=True):
            one = store[key]
            drawn.append({**row, "model": name, "response": one["text"], "finished": one["finished"], "tokens": one["tokens"]})
        return drawn


def _template_faults(name: str, address: str, tokenizer: PreTrainedTokenizerBase, modelfile: Path | None) -> list[str]:
    """Fixed conversations whose ids llama.cpp makes otherwise, by the template of its GGUF file or by that of a Modelfile."""
    faults = []
    for number, messages in enumerate(questions(), 1):
        if (ours := _our_ids(tokenizer, messages)) is None:
            continue
        try:
            theirs = llama_cpp_ids(address, messages)
        except RefusedConversation as error:
            faults.append(f"{name}: its chat template refuses fixed conversation {number}: {error}")
            continue
        if theirs != ours:
            faults.append(f"{name}: its chat template gives other ids, {_first(tokenizer, number, ours, theirs)}")
    if modelfile is not None and modelfile.is_file():
        ids = [(messages, ours) for messages in questions(trimmed=True) if (ours := _our_ids(tokenizer, messages)) is not None]
        texts = render_modelfile(modelfile, [messages for messages, _ in ids])
        for number, ((_, ours), text) in enumerate(zip(ids, texts, strict=True), 1):
            if (theirs := llama_cpp_tokens(address, text)) != ours:
                faults.append(f"{modelfile.name}: its TEMPLATE gives other ids, {_first(tokenizer, number, ours, theirs)}")
    return faults


def _our_ids(tokenizer: PreTrainedTokenizerBase, messages: list[Any]) -> list[int] | None:
    """None where the template refuses the conversation."""
    try:
        return prompt_ids(tokenizer, messages)
    except RefusedConversation:
        return None


def _first(tokenizer: PreTrainedTokenizerBase, number: int, ours: list[int], theirs: list[int]) -> str:
    """`in fixed conversation 2 at token 7: '### User' for '### Users'`."""
    at = _parted(ours, theirs)
    texts = [repr(str(tokenizer.decode(ids[max(0, at - 2) : at + 6]))) for ids in (ours, theirs)]
    return f"in fixed conversation {number} from token {at} on: {texts[1]} where the checkpoint's format has {texts[0]}"


def _parted(one: Sequence[int], other: Sequence[int]) -> int:
    shorter = min(len(one), len(other))
    return next((at for at in range(shorter) if one[at] != other[at]), shorter)


def _gguf_nll(file: Path, references: list[EncodedConversation], generation: GenerationArgs, pad: int) -> float | None:
    """NLL of the references by a GGUF file's weights, read back by transformers; None where it cannot read the family."""
    if not references:
        return None
    try:
        model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=best_dtype(generation.dtype))
    except (ValueError, KeyError, NotImplementedError, ImportError):
        return None
    return mean_nll([(nats, tokens) for _, nats, tokens in answer_losses(model.eval(), references, pad)])


def _compare(
    answers: list[Answer],
    nll: dict[str, float | None],
    folder: Path,
    generation: GenerationArgs,
    tokenizer: PreTrainedTokenizerBase,
) -> list[Engine]:
    """Lines of all engines, the checkpoint first; the export's model is loaded where answers differ."""
    results = summarise(score_rows(answers), nll)["results"]
    own = {row["prompt_id"]: row for row in answers if row["model"] == CHECKPOINT}
    model: Any = None
    engines = []
    for result in results:
        rows = [row for row in answers if row["model"] == result["model"]]
        differ = [row for row in rows if not _is_same(row, own[row["prompt_id"]])]
        if differ and model is None:
            model, _ = load_for_inference(str(folder), generation.dtype)
        differences = [
            Difference(row["prompt_id"], own[row["prompt_id"]]["response"], row["response"], margin)
            for row in differ
            if (margin := _margin(model, tokenizer, own[row["prompt_id"]], row)) is not None
        ]
        drop = 100 * (results[0]["natural"] - result["natural"])
        engines.append(Engine(result["model"], result, 1 - len(differ) / len(rows), drop, differences))
    return engines


def _is_same(one: Answer, other: Answer) -> bool:
    return (one["response"], one["finished"]) == (other["response"], other["finished"])


@torch.inference_mode()
def _margin(model: Any, tokenizer: PreTrainedTokenizerBase, own: Answer, other: Answer) -> float | None:
    """Nats by which the model prefers its own token where the two answers part."""
    mine, theirs = (answer_ids(tokenizer, row["prompt"], row["response"], row["finished"]) for row in (own, other))
    at = _parted(mine, theirs)
    if at >= min(len(mine), len(theirs)):
        return None  # one is cut where the other goes on
    ids = torch.tensor([prompt_ids(tokenizer, own["prompt"]) + mine[:at]], device=model.device)
    scores = model(input_ids=ids).logits[0, -1].float()
    return float(scores[mine[at]] - scores[theirs[at]])
