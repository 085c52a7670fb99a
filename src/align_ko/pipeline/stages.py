"""One stage of a longer run: its recipe written to a file, its script started, skipped when it is done.

A stage is done when its manifest.json has the same recipe and the same hashes of what it reads (recipe/load.py), and its
training is marked finished. No other state is kept and no clock is read, so a run continues wherever it was killed."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Generic, TypeVar

import yaml

from align_ko.errors import UserError
from align_ko.manifest import (
    MANIFEST_FILE,
    input_digests,
    is_finished,
    is_secret,
    is_unfinished,
    masked,
    read_manifest,
    result_problem,
)
from align_ko.process import STARTED_BY, check_unlocked
from align_ko.recipe import Recipe, hash_inputs, recipe_of
from align_ko.recipe.yaml_lines import Tree, read_recipe_file, text_of
from align_ko.records import write_json, write_text

R = TypeVar("R", bound=Recipe)
R_co = TypeVar("R_co", bound=Recipe, covariant=True)
TIMES = "times.json"
# Training continues from its own checkpoints, and starts over where an unfinished run has another recipe or other pairs.
RESUME_FLAGS = {"run_sft": ("--resume", "replace"), "run_dpo": ("--resume", "replace")}
PATIENCE = 5.0  # seconds for a stage to end by itself after Ctrl-C


class StageFailed(UserError):
    """A stage failed; it has printed its own message."""


@dataclass(frozen=True)
class Stage(Generic[R_co]):
    """`script` is run with `recipe`, written to `file`, and writes a manifest into `folder`."""

    title: str  # "round-1/dpo"
    script: str  # "run_dpo"
    recipe: R_co
    file: Path
    folder: Path
    accelerate_config: str = ""


def resolve(recipe_class: type[R], path: str, *overrides: Tree | Mapping[str, object] | None) -> R:
    """The recipe at `path` with mappings laid over it, later ones winning. UserError with the line of a wrong key."""
    tree = read_recipe_file(path)
    for over in overrides:
        if over is not None:
            tree = tree.merged(Tree(text_of(over), {}) if isinstance(over, Mapping) else over)
    return recipe_of(tree, recipe_class)


def node_at(recipe: Recipe, *keys: str | int) -> Tree | None:
    """The mapping under `keys` of a loaded recipe as it was written, with its places; None where there is none."""
    return recipe.tree.below(keys) if recipe.tree and isinstance(recipe.tree.get(keys), dict) else None


def plain(recipe: Recipe | dict[str, object]) -> dict[str, object]:
    """A recipe as JSON, without secrets and the keys that only say how a run is resumed."""
    values: dict[str, object] = json.loads(json.dumps(recipe if isinstance(recipe, dict) else asdict(recipe)))  # type: ignore[call-overload]
    values.pop("resume", None)
    if isinstance(training := values.get("training"), dict):
        kept = {key: value for key, value in training.items() if key != "resume_from_checkpoint" and not is_secret(key)}
        values["training"] = kept
    return values


def why_again(stage: Stage[Recipe]) -> str:
    """Why the stage has to run; empty when it is done."""
    saved = read_manifest(stage.folder)
    if not saved:
        return "not made yet"
    if is_unfinished(stage.folder):  # killed between its manifest and its last file
        return "not finished"
    if problem := result_problem(stage.folder):
        return problem
    now, then = masked(plain(stage.recipe)), plain(saved["recipe"])
    if now != then:
        return "the recipe has changed: " + ", ".join(_differences(then, now)[:3])
    digests = masked(input_digests(hash_inputs(stage.recipe)))
    before, after = {**saved["inputs"], **saved["models"]}, {**digests["inputs"], **digests["models"]}
    changed = [path for path in {**before, **after} if before.get(path) != after.get(path)]
    return f"{changed[0]} has changed" if changed else ""


def _differences(then: object, now: object, above: str = "") -> list[str]:
    """Dotted keys whose values differ."""
    if not isinstance(then, dict) or not isinstance(now, dict):
        return [] if then == now else [above]
    keys = dict.fromkeys([*then, *now])
    return [name for key in keys for name in _differences(then.get(key), now.get(key), f"{above}.{key}" if above else key)]


def run_stage(stage: Stage[Recipe], scripts: Path) -> bool:
    """Run a stage that is not done; returns whether it ran. KeyboardInterrupt when it was interrupted; UserError when it failed
    (it has printed why) or another run is writing to its folder."""
    check_unlocked(stage.folder)
    reason = why_again(stage)
    if not reason:
        print(f"── {stage.title}: done before", flush=True)
        return False
    text = as_yaml(plain(stage.recipe))
    known = stage.file.read_text(encoding="utf-8") if stage.file.is_file() else None
    stale = reason not in ("not made yet", "not finished") or (known is not None and known != text)
    if stale:
        (stage.folder / TIMES).unlink(missing_ok=True)
    write_text(stage.file, text)
    (stage.folder / MANIFEST_FILE).unlink(missing_ok=True)
    launcher = ["-m", "accelerate.commands.launch", "--config_file", stage.accelerate_config] if stage.accelerate_config else []
    program = [str(scripts / f"{stage.script}.py"), str(stage.file), *RESUME_FLAGS.get(stage.script, ())]
    command = [sys.executable, *launcher, *program]
    print(f"── {stage.title}: {reason}\n   python {' '.join(command[1:])}", flush=True)
    began = time.monotonic()
    try:
        token = [str(value) for key, value in getattr(stage.recipe, "training", {}).items() if is_secret(key) and value]
        secret = {"HF_TOKEN": token[0]} if token else {}  # which the written recipe lacks
        code = _wait(
            subprocess.Popen(command, env={**os.environ, **secret, STARTED_BY: f"{os.getpid()} {socket.gethostname()}"})
        )
    finally:
        _add_time(stage.folder, time.monotonic() - began)
    if code in (130, -signal.SIGINT):
        raise KeyboardInterrupt
    if not is_finished(stage.folder) or (code and not nothing_to_do(stage.folder)):
        problem = f"{stage.title} ended with exit code {code}; its own message is above"
        expected = "the same command again when that is corrected: what is finished is not repeated"
        raise StageFailed(problem, file=stage.file, expected=expected)
    return True


def nothing_to_do(folder: Path) -> str:
    """What a stage wrote into its manifest when it ran to its end and had nothing to make; empty for any other stage."""
    return str(read_manifest(folder).get("nothing_to_do") or "")


def _wait(process: subprocess.Popen[bytes]) -> int:
    """Exit code. A terminal sends Ctrl-C to the stage too; a signal to this process alone is forwarded."""
    try:
        return process.wait()
    except (KeyboardInterrupt, SystemExit):  # the latter on SIGTERM
        for stop in (lambda: None, lambda: process.send_signal(signal.SIGINT), process.kill):
            stop()
            try:
                process.wait(PATIENCE)
                break
            except subprocess.TimeoutExpired:
                continue
        raise


def as_yaml(values: Mapping[str, object]) -> str:
    """A recipe as a file has it."""
    return yaml.safe_dump(values, allow_unicode=True, sort_keys=False)


class Gpus:
    """GPUs that are lent, one to each process that runs beside others."""

    def __init__(self, names: Sequence[str]) -> None:
        self._free: queue.Queue[str] = queue.Queue()
        for name in names:
            self._free.put(name)

    @contextmanager
    def one(self) -> Iterator[str]:
        """Waits until one is free."""
        gpu = self._free.get()
        try:
            yield gpu
        finally:
            self._free.put(gpu)


@contextmanager
def started(
    values: Mapping[str, object], place: Path, script: Path, gpu: str, *flags: str
) -> Iterator[subprocess.Popen[bytes]]:
    """`script` on a recipe of these values, written to PLACE.yaml, on one GPU ("": all); its output is in PLACE.log."""
    file, environment = Path(f"{place}.yaml"), {**os.environ, **({"CUDA_VISIBLE_DEVICES": gpu} if gpu else {})}
    write_text(file, as_yaml(values))
    with Path(f"{place}.log").open("w", encoding="utf-8") as log:
        command = [sys.executable, str(script), str(file), *flags]
        yield subprocess.Popen(command, env=environment, stdout=log, stderr=subprocess.STDOUT)


def run_at_once(runs: Mapping[int, Recipe], gpus: Sequence[str], script: Path) -> None:
    """Each recipe (seed → recipe with an `output_dir` of its own) by `script` in a process, as many at once as there are GPUs,
    one on each; their output is in OUTPUT_DIR.log. StageFailed when all have ended, if one failed."""
    free = Gpus(gpus)

    def start(seed: int) -> int:
        folder = Path(runs[seed].output_dir)  # type: ignore[attr-defined]
        values = {key: value for key, value in plain(runs[seed]).items() if key not in ("seeds", "gpus")}
        with free.one() as gpu:
            print(f"── seed {seed} on GPU {gpu}: {folder}.log", flush=True)
            with started(values, folder, script, gpu) as process:
                return _wait(process)

    with ThreadPoolExecutor(len(gpus)) as pool:
        codes = dict(zip(runs, pool.map(start, runs), strict=True))
    if failed := [str(seed) for seed, code in codes.items() if code]:
        raise StageFailed(f"seed {', '.join(failed)} failed; its own message ends its .log", expected="the same command again")


def seconds_in(folder: Path) -> float:
    """Seconds of all attempts at a folder's stage, except those during which this process was killed; 0 without any."""
    file = folder / TIMES
    return float(json.loads(file.read_text(encoding="utf-8"))["seconds"]) if file.is_file() else 0.0


def _add_time(folder: Path, seconds: float) -> None:
    if folder.is_dir():
        write_json(folder / TIMES, {"seconds": round(seconds_in(folder) + seconds, 1)})
