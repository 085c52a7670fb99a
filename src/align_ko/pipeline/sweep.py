"""Values of a training recipe's keys, tried by Optuna; the greedy gate's natural share is the objective and prunes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import yaml

from align_ko.errors import UserError, missing_package
from align_ko.pipeline.stages import Gpus, plain, started
from align_ko.recipe import DpoRecipe, GrpoRecipe, SftRecipe
from align_ko.recipe.fields import guess
from align_ko.recipe.yaml_lines import parse_flag
from align_ko.records import read_jsonl
from align_ko.training.gate import FOLDER, GateRow, gate_measures

try:
    import optuna
except ImportError:
    raise missing_package("optuna") from None

STUDY, STORAGE = "sweep", "optuna.db"
LOOK_EVERY = 1.0  # seconds between looks at a trial's gate
Training = SftRecipe | DpoRecipe | GrpoRecipe
Load = Callable[[Mapping[str, object]], Training]


@dataclass(frozen=True)
class Space:
    """What one key may be: one of `choices`, or a number between `low` and `high`, by its logarithm from tenfold on."""

    key: str
    choices: tuple[object, ...] = ()
    low: float = 0.0
    high: float = 0.0

    @property
    def example(self) -> object:
        """One of the values."""
        return self.choices[0] if self.choices else self.low

    def suggest(self, trial: optuna.Trial) -> object:
        if self.choices:
            return yaml.safe_load(str(trial.suggest_categorical(self.key, [yaml.safe_dump(one) for one in self.choices])))
        if isinstance(self.low, int) and isinstance(self.high, int):
            return trial.suggest_int(self.key, self.low, self.high)
        return trial.suggest_float(self.key, self.low, self.high, log=self.low > 0 and self.high >= 10 * self.low)


def read_space(word: str) -> Space:
    """`training.learning_rate=1e-5..1e-4` or `training.beta=1,5`. UserError for anything else."""
    key, equals, values = word.partition("=")
    low, dots, high = values.partition("..")
    try:
        if not (key and equals and values):
            raise ValueError
        if dots:
            ends = [int(end) if end.lstrip("-").isdigit() else float(end) for end in (low, high)]
            if ends[0] >= ends[1]:
                raise ValueError
            return Space(key, low=ends[0], high=ends[1])
        return Space(key, tuple(guess(parse_flag(f"[{values}]", "search").values)))
    except ValueError:
        expected = "KEY=LOW..HIGH with LOW below HIGH, or KEY=A,B,C"
        raise UserError(f"'{word}' is no range and no list of values", key="--search", expected=expected) from None


def gate_steps(folder: Path) -> Iterator[tuple[int, dict[str, float]]]:
    """Step and measures of every look of a run's gate after its first, as far as the run has come."""
    for file in sorted((folder / FOLDER).glob("step-*.jsonl")):
        if step := int(file.stem.partition("-")[2]):
            yield step, gate_measures([cast(GateRow, row) for row in read_jsonl(file)])


def sweep(
    load: Load, spaces: Sequence[Space], folder: Path, trials: int, script: Path, gpus: Sequence[str] = (), seed: int = 42
) -> optuna.Study:
    """Run until `trials` are finished or pruned; `load` gives the recipe with values laid over it. Started again it goes on,
    and the values of a trial that was cut off are tried again. `gpus`: that many trials at once."""
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    folder.mkdir(parents=True, exist_ok=True)
    study = optuna.create_study(
        study_name=STUDY, storage=f"sqlite:///{folder / STORAGE}", direction="maximize", load_if_exists=True,
        pruner=optuna.pruners.MedianPruner(n_startup_trials=2),
    )  # fmt: skip
    study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))  # with one seed a sweep that goes on would repeat
    for cut in study.get_trials(states=[optuna.trial.TrialState.RUNNING]):
        study.tell(cut.number, state=optuna.trial.TrialState.FAIL)
        study.enqueue_trial(cut.params)
    free = Gpus(gpus or ("",))

    def objective(trial: optuna.Trial) -> float:
        values = {space.key: space.suggest(trial) for space in spaces}
        with free.one() as gpu:
            return _run(trial, load, values, folder / f"trial-{trial.number}", script, gpu)

    left = trials - len(ended(study))
    study.optimize(objective, n_trials=max(0, left), n_jobs=max(1, len(gpus)))
    return study


def ended(study: optuna.Study) -> list[optuna.trial.FrozenTrial]:
    """Trials that ran to their end or were pruned, the most natural first."""
    states = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    return sorted(study.get_trials(states=states), key=lambda one: (-(one.value or 0.0), one.number))


def _run(trial: optuna.Trial, load: Load, values: Mapping[str, object], place: Path, script: Path, gpu: str) -> float:
    """Train in a process of its own, report each look of the gate, end it where Optuna prunes. The best natural share."""
    recipe = plain(load({**values, "training.output_dir": str(place)}))
    seen: dict[int, dict[str, float]] = {}
    with started(recipe, place, script, gpu, "--resume", "fresh") as process:
        try:
            running = True
            while running:
                running = process.poll() is None
                for step, measures in gate_steps(place):
                    if step not in seen:
                        seen[step] = measures
                        trial.report(measures["eval_greedy_natural"], step)
                if running and seen and trial.should_prune():
                    raise optuna.TrialPruned
                if running:
                    time.sleep(LOOK_EVERY)
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            if seen:
                step = max(seen, key=lambda each: seen[each]["eval_greedy_natural"])
                trial.set_user_attr("measures", {"step": step, "looks": len(seen), **seen[step]})
    if not seen:
        lines = place.with_suffix(".log").read_text(encoding="utf-8").strip().splitlines()
        told = next((line for line in reversed(lines) if "error: " in line.lower()), lines[-1] if lines else "")
        expected = "a recipe that trains with these values"
        problem = f"trial {trial.number} ended before its gate looked: {told}"
        raise UserError(problem, file=place.with_suffix(".yaml"), expected=expected)
    if process.returncode:  # the gate refused every evaluation, or the run broke after one
        raise optuna.TrialPruned
    return max(each["eval_greedy_natural"] for each in seen.values())
