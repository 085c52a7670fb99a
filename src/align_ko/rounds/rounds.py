"""Rounds one after the other until a gate refuses one or a gain is too small; the last good round is the result."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from align_ko.recipe_align import AlignRecipe
from align_ko.records import read_jsonl, write_json
from align_ko.rounds.gate import Measures, Verdict, judge_round, read_measures
from align_ko.rounds.plan import Round, evaluation_stage, export_stage, plan_rounds, write_gate_prompts
from align_ko.rounds.stages import Stage, StageFailed

Runner = Callable[[Stage], bool]


@dataclass(frozen=True)
class Outcome:
    """One line of the table; no verdict for the start."""

    name: str
    checkpoint: str
    measures: Measures
    verdict: Verdict | None = None


@dataclass(frozen=True)
class Result:
    outcomes: tuple[Outcome, ...]
    best: Outcome
    stopped: str  # why there was no further round

    def to_row(self) -> dict[str, object]:
        """For rounds.json."""
        return {**asdict(self), "outcomes": [asdict(outcome) for outcome in self.outcomes]}


def run_rounds(recipe: AlignRecipe, run: Runner) -> Result:
    """All rounds of one seed. `run` starts a stage unless it is done; everything is derived from what stages left behind."""
    folder = Path(recipe.output_dir)
    rounds = plan_rounds(recipe)
    write_gate_prompts(recipe)
    start = _measure(rounds[0], run)
    outcomes, best, stopped = [start], start, f"all {recipe.rounds} rounds are done"
    for round_ in rounds[1:]:
        if (found := _pairs(round_, run)) < recipe.min_pairs:
            stopped = f"{round_.name} found {found} pairs, fewer than {recipe.min_pairs}: there is little left to repair"
            break
        measured = _measure(round_, run)
        verdict = judge_round(measured.measures, best.measures, start.measures, recipe.gate)
        outcome = Outcome(measured.name, measured.checkpoint, measured.measures, verdict)
        outcomes.append(outcome)
        compared = {"before": best.measures, "start": start.measures, "limits": asdict(recipe.gate)}
        write_json(round_.folder / "gate.json", {**asdict(outcome), **compared})
        if not verdict.accepted:
            stopped = f"{outcome.name} was refused: {'; '.join(verdict.reasons)}"
            break
        best = outcome
        if verdict.gain < recipe.min_gain:
            stopped = f"{outcome.name} brought {100 * verdict.gain:.1f} points, less than {100 * recipe.min_gain:g}"
            break
    dpo = rounds[1].stages[1].recipe
    run(export_stage(folder, best.checkpoint, dpo))
    if recipe.evaluate:
        run(evaluation_stage(recipe, start.checkpoint))
    return Result(tuple(outcomes), best, stopped)


def _pairs(round_: Round, run: Runner) -> int:
    """Training pairs of a round. A later round whose answers were drawn and made no pair at all has none."""
    pairs = round_.stages[0]
    try:
        run(pairs)
    except StageFailed:
        if round_.number == 1 or not (pairs.folder / "candidates.jsonl").is_file():
            raise
        return 0
    return sum(1 for _ in read_jsonl(pairs.folder / "train.jsonl"))


def _measure(round_: Round, run: Runner) -> Outcome:
    for stage in round_.stages[1:] if round_.number else round_.stages:
        run(stage)
    return Outcome(round_.name, round_.checkpoint, read_measures(round_.gate.folder / "scores.json", round_.name))
