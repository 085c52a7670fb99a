"""What came of rounds (report.md, rounds.json, best.json), a merge (merge.md) or a sweep (sweep.md), and their tables."""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from rich.console import Console
from rich.markdown import Markdown

from align_ko.evaluation.scores import GREEDY_SETTING
from align_ko.pipeline.plan import DISTILLED, INTERPOLATED
from align_ko.pipeline.rounds import Outcome, Rounds, read_measures
from align_ko.pipeline.soup import Soup
from align_ko.records import read_jsonl, write_json, write_text
from align_ko.report.page import render
from align_ko.report.tables import (
    MEASURE_LABELS,
    escape_bars,
    markdown_table,
    measure_cells,
    measures_table,
    say,
    verdict_lines,
)

if TYPE_CHECKING:
    import optuna

Line = tuple[str, Mapping[str, object], str]
"""Name, measures, a last word."""
UNSEEN = "Prompts that no gate has seen"


def write_report(folder: Path, result: Rounds, prompts_file: str, evaluated: bool, console: Console) -> None:
    lines: list[Line] = [(one.name, one.measures, _verdict(one, result.result)) for one in (*result.outcomes, *result.refined)]
    judged: list[Line] = []
    n = result.best.measures["n"]
    if evaluated:
        judged = [(name, read_measures(folder / "evaluation/scores.json", name), "") for name in ("sft", "aligned")]
        show(judged, UNSEEN, console)
    where, name = _measured(folder, result, evaluated)
    answers, table = {"Twenty answers to read": answers_to_read(where, name)}, markdown(lines, "round", "verdict")
    what = f"the {n} gate prompts of `{prompts_file}`"
    unseen = f"## {UNSEEN} ({judged[0][1]['n']})\n\n{markdown(judged)}" if judged else ""
    _write(folder / "report.md", title="Rounds", what=what, table=table, stopped=result.stopped, unseen=unseen, answers=answers)
    write_json(folder / "rounds.json", asdict(result))
    way, taken = [outcome.name for outcome in result.way], result.result
    best = {"round": way[0], INTERPOLATED: INTERPOLATED in way, DISTILLED: sum(one.name in way for one in result.distilled)}
    best |= {"checkpoint": taken.checkpoint, "measures": taken.measures}
    write_json(folder / "best.json", best | {"folder": str(folder / "best"), "stopped": result.stopped})
    show(lines, f"Gate prompts ({n}), greedy", console)
    say(console, f"{result.stopped}.")
    say(console, f"result: {_name(result)}, as a plain model in {folder / 'best'}")


def write_seeds(folder: Path, results: dict[int, Rounds], evaluated: bool, console: Console) -> None:
    """seeds.md: start and result of every seed in one table, and twenty answers of each to read."""
    lines: list[Line] = []
    answers = {}
    for seed, result in results.items():
        where, name = _measured(folder / f"seed-{seed}", result, evaluated)
        start = read_measures(where / "scores.json", "sft") if evaluated else result.outcomes[0].measures
        lines += [(f"start, seed {seed}", start, "")]
        lines += [(f"result, seed {seed}", read_measures(where / "scores.json", name), _name(result))]
        answers[f"Seed {seed}: twenty answers to read"] = answers_to_read(where, name, seed=seed)
    what = "prompts that no gate has seen" if evaluated else "the gate's prompts"
    title = f"{len(results)} seed{'s' if len(results) > 1 else ''}"
    _write(folder / "seeds.md", title=title, what=what, table=markdown(lines, "model", "from"), answers=answers)
    write_json(folder / "seeds.json", {str(seed): asdict(result) for seed, result in results.items()})
    show(lines, f"{title}, {what}", console)
    say(console, f"with answers to read: {folder / 'seeds.md'}")


def write_soup(folder: Path, soup: Soup, prompts_file: str, console: Console) -> None:
    """merge.md and merge.json: the models and what was made of them."""
    lines: list[Line] = [(one.name, one.measures, _verdict(one, soup.best)) for one in soup.outcomes]
    n = soup.best.measures["n"]
    what, where = f"the {n} gate prompts of `{prompts_file}`", folder / soup.best.name / "gate"
    answers = {"Twenty answers to read": answers_to_read(where, soup.best.name)}
    _write(folder / "merge.md", title="Merge", what=what, table=markdown(lines, "model", "verdict"), answers=answers)
    write_json(folder / "merge.json", asdict(soup))
    show(lines, f"Gate prompts ({n}), greedy", console)
    say(console, f"result: {soup.best.name}, as a plain model in {folder / 'best'}")


def _write(file: Path, **values: object) -> None:
    write_text(file, render("rounds.md.jinja", **{"stopped": "", "unseen": "", **values}))


def _verdict(outcome: Outcome, result: Outcome) -> str:
    if outcome.verdict is None:
        return "start"
    if not outcome.verdict.accepted:
        return "refused: " + "; ".join(outcome.verdict.reasons)
    return f"{100 * outcome.verdict.gain:+.1f} points" + (", the result" if outcome == result else "")


def _name(result: Rounds) -> str:
    """`round-2`, or `round-2, interpolated, distilled`."""
    return ", ".join(outcome.name for outcome in result.way)


def _measured(folder: Path, result: Rounds, evaluated: bool) -> tuple[Path, str]:
    """The folder of the result's last measurement, and its name there."""
    return (folder / "evaluation", "aligned") if evaluated else (folder / result.result.name / "gate", result.result.name)


def markdown(lines: Iterable[Line], first: str = "model", last: str = "") -> str:
    """A Markdown table of measures; the column `last` only where it has a name."""
    rows = [[name, *measure_cells(measures, 1), *([word] if last else [])] for name, measures, word in lines]
    return markdown_table([first, *MEASURE_LABELS, *([last] if last else [])], rows, escape_bars)


def show(lines: Sequence[Line], title: str, console: Console) -> None:
    """The same table in the terminal, of 80 columns too; last words below it."""
    table = measures_table(title, ("", 5))
    for name, measures, _ in lines:
        table.add_row(name, *measure_cells(measures, 1, with_verdicts=False))
    console.print(table)
    for line in verdict_lines((name, measures) for name, measures, _ in lines):
        say(console, line)
    for name, _, word in lines:
        if word:
            say(console, f"{name}: {word}")


def answers_to_read(folder: Path, model: str, seed: int = 0) -> list[dict[str, object]]:
    """Twenty random greedy answers of one model, the same ones for the same file and seed."""
    wanted = model, GREEDY_SETTING, "heldout"
    rows = [row for row in read_jsonl(folder / "responses.jsonl") if (row["model"], row["setting"], row["kind"]) == wanted]
    return random.Random(seed).sample(rows, min(20, len(rows)))


# -------------------- a sweep


def write_sweep(folder: Path, trials: Sequence[optuna.trial.FrozenTrial], console: Console) -> None:
    """sweep.md, sweep.png and a table in the terminal. `trials`: those that ended, the most natural first."""
    keys = list(dict.fromkeys(key for trial in trials for key in trial.params))
    rows = []
    for trial in trials:
        seen = trial.user_attrs.get("measures", {})
        shares = [f"{seen[f'eval_greedy_{name}']:.1%}" if seen else "" for name in ("natural", "loops", "collapse")]
        values = [f"{value:.3g}" if isinstance(value, float) else str(value).strip() for value in map(trial.params.get, keys)]
        step, looks = (str(seen.get(name, "")) for name in ("step", "looks"))
        state = "pruned" if trial.state.name == "PRUNED" else ""
        rows.append([f"trial-{trial.number}", *values, *shares, step, looks, state])
    table = markdown_table(["trial", *keys, "natural", "loops", "collapse", "at step", "looks", ""], rows, escape_bars)
    write_text(
        folder / "sweep.md", f"# Sweep\n\nThe greedy gate's best look of every trial, the most natural first.\n\n{table}"
    )
    console.print(Markdown(table))
    _plot(folder / "sweep.png", trials, keys)
    say(console, f"saved {folder / 'sweep.md'} and sweep.png")


def _plot(path: Path, trials: Sequence[optuna.trial.FrozenTrial], keys: list[str]) -> None:
    """The natural share against every key, pruned trials hollow."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import NullFormatter

    figure = Figure(figsize=(3.5 * max(1, len(keys)), 3.2), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    for axes, key in zip(figure.subplots(1, max(1, len(keys)), squeeze=False)[0], keys, strict=True):
        for pruned in (False, True):
            some = [one for one in trials if (one.state.name == "PRUNED") == pruned and "measures" in one.user_attrs]
            points = [
                one.params[key] if isinstance(one.params[key], int | float) else str(one.params[key]).strip() for one in some
            ]
            shares = [one.user_attrs["measures"]["eval_greedy_natural"] for one in some]
            axes.scatter(points, shares, facecolors="none" if pruned else "#8a3ffc", edgecolors="#8a3ffc")
        numbers = [one.params[key] for one in trials if isinstance(one.params[key], float)]
        if numbers and min(numbers) > 0 and max(numbers) >= 10 * min(numbers):
            axes.set_xscale("log")
            axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(key)
        axes.set_ylim(-0.02, 1.02)
        axes.set_ylabel("natural in form (greedy)")
    figure.savefig(path, format="png", metadata={"Software": None})
