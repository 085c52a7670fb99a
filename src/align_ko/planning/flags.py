"""The flags of `--plan`, taken out of a command line before the recipe reads the rest. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from align_ko.errors import UserError, nearest

SWITCH = "--plan"


@dataclass(frozen=True)
class PlanFlags:
    """`--plan_gpu A100-80`, `--plan_utilisation 0.35`, `--plan_json plan.json`."""

    gpu: str = "A100-80"
    """A name of planning/devices.py, or `this`: the speed of this machine is measured."""
    utilisation: float = 0.35
    """Share of the GPU's peak rate that training reaches: assumed, so say your own if you know it."""
    json: str = ""


def take_plan_flags(words: Sequence[str]) -> tuple[PlanFlags, list[str]]:
    """The plan's flags, and the words without them.

    >>> take_plan_flags(["r.yaml", "--plan", "--plan_gpu", "L40S"])
    (PlanFlags(gpu='L40S', utilisation=0.35, json=''), ['r.yaml'])
    """
    found: dict[str, str] = {}
    rest: list[str] = []
    queue = list(words)
    while queue:
        word = queue.pop(0)
        name, equals, value = word.replace("-", "_").partition("=")
        if word == SWITCH or not name.startswith("__plan_"):
            rest += [] if word == SWITCH else [word]
            continue
        key = name.removeprefix("__plan_")
        if key not in ("gpu", "utilisation", "json"):
            close = nearest(key, ("gpu", "utilisation", "json"))
            raise UserError("no such flag", key=word.partition("=")[0], nearest=f"--plan_{close}" if close else None)
        value = word.partition("=")[2] if equals else queue.pop(0) if queue else ""
        if not value:
            raise UserError("a value is missing", key=word)
        found[key] = value
    utilisation = found.pop("utilisation", None)
    if utilisation is None:
        return PlanFlags(**found), rest  # type: ignore[arg-type]
    try:
        share = float(utilisation)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise UserError(f"{utilisation} cannot work", key="--plan_utilisation", expected="a share above 0, up to 1")
    return PlanFlags(**found, utilisation=share), rest
