"""The answers that a checkpoint gives to each prompt: one greedy, and `samples` per decoding setting. Each is stored as it
ends, so a rerun draws only what is missing. The processes of `accelerate launch` share the prompts."""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from align_ko.errors import UserError
from align_ko.generation.requests import GREEDY, Draw, Keys, Request, describe, draw_missing, row_seed
from align_ko.process import Processes
from align_ko.recipe import CandidateArgs, DecodingArgs
from align_ko.records import Message, PromptRow, content_id, read_prompts
from align_ko.stores import Store
from align_ko.turns import with_system


@dataclass(frozen=True)
class Candidate:
    setting: str  # "greedy" or the recipe's name
    decoding: str  # "temperature=0.7 top_p=0.9 …"
    text: str
    finished: bool
    tokens: int
    sample: int = 0  # its number among the answers to one prompt under one setting


def draw_candidates(
    draw: Draw,
    keys: Keys,
    tasks: list[PromptRow],
    settings: Mapping[str, CandidateArgs],
    seed: int,
    file: Path,
    processes: Processes | None = None,
) -> dict[str, list[Candidate]]:
    """Answers per prompt id, the greedy one first, then in the recipe's order; `{}` in all but the first process.

    `keys` is `answer_keys` of the model that `draw` asks: a changed setting or prompt is drawn again. An answer's seed follows
    from (seed, prompt id, setting, sample), whatever the number of processes and interruptions."""
    processes = processes or Processes()
    ladder: dict[str, DecodingArgs] = {"greedy": GREEDY, **settings}
    rungs = [(name, sample) for name in ladder for sample in range(getattr(ladder[name], "samples", 1))]
    systems = {name: getattr(setting, "system", "") for name, setting in ladder.items()}
    places: list[tuple[PromptRow, str, int]] = []
    requests: list[Request] = []
    share = []
    for number, task in enumerate(tasks):
        for name, sample in rungs:
            if (prompt := guided(task, systems[name])) is None:
                continue
            # The share is cut from all prompts, not from the missing ones: it is the same however far the others already are.
            if number % processes.count == processes.rank:
                share.append(len(places))
            places.append((task, name, sample))
            requests.append(Request(prompt, ladder[name], row_seed(seed, task.id, name, sample)))
    wanted = keys(requests)
    store = Store(file, processes.rank).load(wanted)
    whose = f"process {processes.rank + 1} of {processes.count}: " if processes.count > 1 else ""
    if stored := sum(wanted[n] in store for n in share):
        print(f"{whose}{stored} answers are stored already, {len(share) - stored} to go", flush=True)
    if processes.rank == 0 and store.unused:
        print(store.describe_unused(), flush=True)
    labels = [{"id": task.id, "setting": name, "sample": sample} for task, name, sample in places]
    try:
        draw_missing(share, requests, wanted, labels, store, draw, is_shown=processes.rank == 0)
    except UserError as error:
        if processes.rank:  # run_script lets only the first process speak, and it knows nothing of this
            print(f"error: {whose}{error}", file=sys.stderr, flush=True)
        raise
    processes.wait()
    if processes.rank:
        return {}
    store.load(wanted)
    drawn: dict[str, list[Candidate]] = {task.id: [] for task in tasks}
    for (task, name, sample), key in zip(places, wanted, strict=True):
        row = store[key]
        decoding = describe(ladder[name]) + (f" ({name})" if systems[name] else "")
        candidate = Candidate(name, decoding, row["text"], row["finished"], row["tokens"], sample)
        drawn[task.id].append(candidate)
    return drawn


def guided(task: PromptRow, system: str) -> list[Message] | None:
    """What the model reads under a setting's `system`: behind a system message that the prompt has already. None where the
    curated answer is wanted in it and the prompt has none."""
    if not system:
        return task.prompt
    if "{reference}" in system:
        if task.reference is None:
            return None
        system = system.replace("{reference}", task.reference)
    return with_system(task.prompt, system)


def read_tasks(path: str, skip_files: Iterable[str] = ()) -> tuple[list[PromptRow], int]:
    """The prompts of a file, each once, by the hash of the id (which mixes the groups; a longer file's list begins like a
    shorter one's), and how many were dropped because their id or prompt is in one of `skip_files`."""
    rows = {row.id: row for row in read_prompts(path, "prompts_file")}  # an upsampled row is in its file several times
    seen = [row for file in skip_files for row in read_prompts(file, "skip_prompts_files")]
    skip = {name for row in seen for name in (row.id, content_id(row.prompt))}
    allowed = [row for row in rows.values() if row.id not in skip and content_id(row.prompt) not in skip]
    allowed.sort(key=lambda row: hashlib.sha256(("prompts" + row.id).encode()).digest())
    return allowed, len(rows) - len(allowed)
