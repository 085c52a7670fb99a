"""The stages of every round, resolved before the first one runs, so that a mistake in round 3 is reported at once."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from align_ko.pipeline.stages import Stage, node_at, resolve
from align_ko.preferences.candidates import read_tasks
from align_ko.recipe import (
    AcceptanceArgs,
    AlignRecipe,
    DpoRecipe,
    EvaluateRecipe,
    ExportRecipe,
    PreferencesRecipe,
    Recipe,
    SftRecipe,
    recipe_error,
)
from align_ko.recipe.fields import Dtype
from align_ko.records import content_id, read_prompts, write_jsonl

INTERPOLATED, DISTILLED = "interpolated", "distilled"
OWN_PROMPTS = f"{DISTILLED}/prompts.jsonl"  # every distillation pass asks the same ones
R = TypeVar("R", bound=Recipe)
Values = Mapping[str, object]
SEED_STEP = 100_003  # between the sampling seeds of two rounds; batches and settings count up from a seed in small steps


@dataclass(frozen=True)
class Round:
    """Number 0 is the start, which is only measured."""

    number: int
    name: str  # "start" or "round-1"
    checkpoint: str  # the model that is judged
    stages: tuple[Stage[Recipe], ...]  # the last one evaluates the gate's prompts into folder/gate
    folder: Path


def gate_file(gate: AcceptanceArgs, folder: Path) -> Path:
    """The prompts that a gate asks: its file, or a part of it in `folder`."""
    return folder / "gate-prompts.jsonl" if gate.max_prompts else Path(gate.prompts_file)


def write_gate_prompts(gate: AcceptanceArgs, folder: Path) -> None:
    """Write `max_prompts` of the gate's prompts, chosen by content hash."""
    if gate.max_prompts:
        rows = sorted(read_prompts(gate.prompts_file, "gate.prompts_file"), key=lambda row: content_id(row.messages))
        write_jsonl(gate_file(gate, folder), [row.to_row() for row in rows[: gate.max_prompts]])


def _stage(place: Path, name: str, script: str, recipe: R, launch: str = "", title: str = "") -> Stage[R]:
    """The stage `name` of a round's or run's folder: its recipe in NAME.yaml, its output in NAME/."""
    return Stage(title or f"{place.name}/{name}", script, recipe, place / f"{name}.yaml", place / name, launch)


def _resolve(
    recipe: AlignRecipe, kind: type[R], part: str, hard: Values | None = None, soft: Values | None = None, number: int = 0
) -> R:
    """The recipe that `part` names; over it are laid, in this order: its `set`, `soft`, the keys of one round, and `hard`."""
    own = node_at(recipe, "per_round", number - 1, part) if number else None
    return resolve(kind, getattr(recipe, part).recipe, node_at(recipe, part, "set"), soft, own, hard)


def gate_stage(
    place: Path, name: str, checkpoint: str, gate: AcceptanceArgs, prompts: Path, scorer: str | None, part: str = "gate"
) -> Stage[EvaluateRecipe]:
    """scripts/evaluate.py on `prompts` with the gate's settings, greedy only, into the folder `part`."""
    recipe = EvaluateRecipe(
        models={name: checkpoint},
        prompts_file=str(prompts),
        output_dir=str(place / part),
        probes=(),
        sampling={},
        relevance_model=scorer,
    )
    generation = {key: getattr(gate, key) for key in ("max_new_tokens", "batch_size", "dtype")}
    recipe = replace(recipe, generation=replace(recipe.generation, **generation))
    return _stage(place, part, "evaluate", recipe, gate.accelerate_config, f"{name}/{part}")


def start_of(recipe: AlignRecipe) -> str:
    """The SFT checkpoint; every gate measures by its likelihoods what belongs to its question, so that rounds compare."""
    return str(Path(recipe.output_dir) / "sft") if recipe.sft else recipe.start


def plan_rounds(recipe: AlignRecipe) -> list[Round]:
    """Start and rounds. Raises UserError for a key or value in a stage's recipe that cannot work, with its line."""
    folder = Path(recipe.output_dir)
    start, prompts = start_of(recipe), gate_file(recipe.gate, folder)
    before: tuple[Stage[Recipe], ...] = ()
    if recipe.sft:
        resolved = _resolve(recipe, SftRecipe, "sft", {"training": {"output_dir": start, "seed": recipe.seed}})
        before = (_stage(folder, "sft", "run_sft", resolved, recipe.sft.accelerate_config, "sft"),)
    first = (*before, gate_stage(folder / "start", "start", start, recipe.gate, prompts, start))
    rounds = [Round(0, "start", start, first, folder / "start")]
    if recipe.distill:
        _distilled(recipe, 1, start)  # its mistakes are reported before the first round
    policy, checkpoint, asked = start, start, 0
    for number in range(1, recipe.rounds + 1):
        place = folder / f"round-{number}"
        pairs = _preferences(recipe, number, checkpoint, place, asked)
        asked += pairs.recipe.max_prompts
        dpo = _dpo(recipe, number, policy, place)
        judged = gate_stage(place, place.name, str(dpo.folder), recipe.gate, prompts, start)
        rounds.append(Round(number, place.name, str(dpo.folder), (pairs, dpo, judged), place))
        policy, checkpoint = _policy_folder(dpo.recipe), str(dpo.folder)
    return rounds


def _preferences(recipe: AlignRecipe, number: int, checkpoint: str, place: Path, asked: int) -> Stage[PreferencesRecipe]:
    """New pairs: prompts that no earlier round asked, as far as there are any, and another sampling seed."""
    first = _resolve(recipe, PreferencesRecipe, "preferences").first_prompt + asked
    soft = {"first_prompt": first, "generation": {"seed": recipe.seed + SEED_STEP * (number - 1)}}
    hard = {"model_name_or_path": checkpoint, "output_dir": str(place / "preferences")}
    resolved = _resolve(recipe, PreferencesRecipe, "preferences", hard, soft, number)
    if recipe.gate.prompts_file not in resolved.evaluation_files:
        resolved = replace(resolved, evaluation_files=(*resolved.evaluation_files, recipe.gate.prompts_file))
    return _stage(place, "preferences", "build_preferences", resolved, recipe.preferences.accelerate_config)


def _dpo(recipe: AlignRecipe, number: int, policy: str, place: Path) -> Stage[DpoRecipe]:
    pairs, soft = place / "preferences", {"training": {"seed": recipe.seed + number - 1}}
    hard = {
        "model_name_or_path": policy,
        "data": {"train_file": str(pairs / "train.jsonl"), "eval_file": str(pairs / "eval.jsonl")},
        "training": {"output_dir": str(place / "dpo")},
    }
    return _stage(place, "dpo", "run_dpo", _resolve(recipe, DpoRecipe, "dpo", hard, soft, number), recipe.dpo.accelerate_config)


def _policy_folder(dpo: DpoRecipe) -> str:
    """What the next round trains on: the adapter, never the merged model, which would put a second adapter on the first."""
    folder = Path(dpo.training["output_dir"])
    has_adapter = dpo.model is None or dpo.model.use_peft
    return str(folder / "adapter" if dpo.merge_adapter and has_adapter else folder)


def export_stage(folder: Path, checkpoint: str, dpo: DpoRecipe) -> Stage[ExportRecipe]:
    """The result as a plain transformers folder, `best/`, in the dtype that the gate measured."""
    return _stage(folder, "best", "export", ExportRecipe(checkpoint, str(folder / "best"), _dtype(dpo)), title="best")


def interpolation_stages(recipe: AlignRecipe, start: str, checkpoint: str, dpo: DpoRecipe) -> tuple[Stage[Recipe], ...]:
    """The best round interpolated towards the start, as a plain model in interpolated/model, and its gate."""
    place = Path(recipe.output_dir) / INTERPOLATED
    model = place / "model"
    export = ExportRecipe(checkpoint, str(model), _dtype(dpo), interpolate_from=start, interpolation=recipe.interpolation)
    prompts = gate_file(recipe.gate, Path(recipe.output_dir))
    return _stage(place, "model", "export", export), gate_stage(place, INTERPOLATED, str(model), recipe.gate, prompts, start)


def _dtype(dpo: DpoRecipe) -> Dtype:
    return dpo.model.dtype if dpo.model else "auto"


def distilled_name(number: int) -> str:
    """Of a pass and its folder: distilled, distilled-2, distilled-3."""
    return DISTILLED if number == 1 else f"{DISTILLED}-{number}"


def distillation_stages(recipe: AlignRecipe, number: int, checkpoint: str, dpo: DpoRecipe) -> tuple[Stage[Recipe], ...]:
    """Pass `number`: the checkpoint's greedy answers, training on them, and the gate; an adapter is merged first."""
    folder, name = Path(recipe.output_dir), distilled_name(number)
    place = folder / name
    stages: list[Stage[Recipe]] = []
    if (Path(checkpoint) / "adapter_config.json").is_file():  # the new adapter needs a model without one
        stages.append(_stage(place, "start", "export", ExportRecipe(checkpoint, str(place / "start"), _dtype(dpo))))
        checkpoint = str(place / "start")
    stages.append(gate_stage(place, name, checkpoint, recipe.gate, folder / OWN_PROMPTS, None, "answers"))
    launch = recipe.distill.accelerate_config if recipe.distill else ""
    stages.append(_stage(place, "model", "run_sft", _distilled(recipe, number, checkpoint), launch))
    return (
        *stages,
        gate_stage(place, name, str(place / "model"), recipe.gate, gate_file(recipe.gate, folder), start_of(recipe)),
    )


def write_distillation_prompts(recipe: AlignRecipe) -> None:
    """The prompts of the recipe's files, or as many of the pairs' prompts as a round asks."""
    pairs = _resolve(recipe, PreferencesRecipe, "preferences")
    if files := recipe.distill.prompts_files if recipe.distill else ():
        judged = [recipe.gate.prompts_file, *pairs.evaluation_files]
        tasks = list({task.id: task for file in files for task in read_tasks(file, judged)[0]}.values())
    else:
        tasks = read_tasks(pairs.prompts_file, pairs.skip_prompts_files)[0][: pairs.max_prompts or None]
    rows = [{"id": task.id, "messages": task.prompt} for task in tasks]
    write_jsonl(Path(recipe.output_dir) / OWN_PROMPTS, rows)


def _distilled(recipe: AlignRecipe, number: int, checkpoint: str) -> SftRecipe:
    assert recipe.distill
    place = Path(recipe.output_dir) / distilled_name(number)
    hard = {
        "model": {"model_name_or_path": checkpoint},
        "data": {"train_file": str(place / "answers/responses.jsonl")},
        "training": {"output_dir": str(place / "model"), "seed": recipe.seed + number - 1},
        "merge_adapter": True,
    }
    resolved = _resolve(recipe, SftRecipe, "distill", hard)
    if not resolved.distill.wanted:
        problem = "this recipe distils nothing: it would train the model on its own answers unchanged"
        expected = "'distill: {repetition_penalty: 1.05}' in it, or under distill.set"
        raise recipe_error(recipe, "distill.recipe", problem, expected)
    return resolved


def evaluation_stage(recipe: AlignRecipe, start: str) -> Stage[EvaluateRecipe]:
    """Start and best on prompts that no gate has seen."""
    assert recipe.evaluate
    folder = Path(recipe.output_dir)
    models = {"sft": start, "aligned": str(folder / "best")}
    resolved = _resolve(recipe, EvaluateRecipe, "evaluate")
    resolved = replace(resolved, models=models, output_dir=str(folder / "evaluation"))
    return _stage(folder, "evaluation", "evaluate", resolved, recipe.evaluate.accelerate_config, "evaluation")
