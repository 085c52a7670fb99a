"""How many rows of each group are taken, said openly. Which ones: selection.py."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, TypedDict, TypeVar

from align_ko.errors import UserError


class HasId(Protocol):
    @property
    def id(self) -> str: ...


Row = TypeVar("Row", bound=HasId)


class GroupRows(TypedDict):
    group: str
    wanted: int
    available: int
    taken: int
    share: float


@dataclass(frozen=True)
class Mixture:
    """The decision: rows per group, and one sentence that says what was decided and why."""

    wanted: dict[str, int]
    available: dict[str, int]
    taken: dict[str, int]
    decision: str

    @property
    def total(self) -> int:
        return sum(self.taken.values())

    def table(self) -> list[GroupRows]:
        """Per group `{"group": "dialogue", "wanted": 25000, "available": 88752, "taken": 22579, "share": 0.25}`."""
        return [
            {
                "group": group,
                "wanted": self.wanted[group],
                "available": self.available[group],
                "taken": self.taken[group],
                "share": round(self.taken[group] / max(self.total, 1), 4),
            }
            for group in self.wanted
        ]


def decide(available: Mapping[str, int], weights: Mapping[str, float], max_samples: int, on_shortage: str) -> Mixture:
    """Rows to take per group.

    >>> decide({"a": 30, "b": 100}, {"a": 0.5, "b": 0.5}, 100, "shrink").taken
    {'a': 30, 'b': 30}
    >>> decide({"a": 30, "b": 100}, {"a": 0.5, "b": 0.5}, 100, "fill").taken
    {'a': 30, 'b': 70}
    >>> decide({"a": 30, "b": 100}, {"a": 0.5, "b": 0.5}, 100, "upsample").taken
    {'a': 50, 'b': 50}
    """
    _check(weights, max_samples)
    counts = {group: available.get(group, 0) for group in dict.fromkeys([*weights, *available])}
    # A group with no rows at all would shrink the rest to nothing: it is left out, and the sentence says so.
    shares = {group: weights[group] for group in weights if weights[group] > 0 and counts[group] > 0}
    wanted = dict.fromkeys(counts, 0) | divide(max_samples, {g: w for g, w in weights.items() if w > 0})
    aim = divide(max_samples, shares)
    short = {group: count for group, count in aim.items() if count > counts[group]}
    if not short:
        taken, decision = aim, f"There are rows enough: {sum(aim.values()):,} are taken at the wanted weights."
    elif on_shortage == "upsample":
        taken, decision = (
            aim,
            f"{_shortage(aim, counts, short)} Short groups are repeated (upsample): {max_samples:,} rows.",
        )
    elif on_shortage == "fill":
        taken = _fill(counts, shares, max_samples)
        everything = taken == {group: counts[group] for group in taken}
        how = "Every row there is is taken" if everything else "The other groups fill the total"
        decision = (
            f"{_shortage(aim, counts, short)} {how} (fill): {sum(taken.values()):,} of {max_samples:,} rows, "
            f"so the weights become {_percents(taken)}."
        )
    else:
        total_weight = sum(shares.values())
        total = min(max_samples, *(int(counts[g] * total_weight / shares[g] + 1e-9) for g in shares))
        taken = divide(total, shares)
        decision = (
            f"{_shortage(aim, counts, short)} The weights are kept and the total shrinks (shrink): "
            f"{total:,} of {max_samples:,} rows."
        )
    missing = [group for group in weights if weights[group] > 0 and counts[group] == 0]
    if missing:
        decision += f" No rows at all in {', '.join(missing)}: the other groups share its weight."
    unweighted = [group for group in counts if counts[group] and not weights.get(group)]
    if unweighted:
        decision += f" No weight for {', '.join(unweighted)}: its rows are left out."
    return Mixture(wanted, counts, dict.fromkeys(counts, 0) | taken, decision)


def divide(total: int, weights: Mapping[str, float]) -> dict[str, int]:
    """`total` in whole rows by weight; what rounding leaves goes to the largest remainders, so the sum is exact.

    >>> divide(10, {"a": 0.5, "b": 0.25, "c": 0.25})
    {'a': 5, 'b': 3, 'c': 2}
    """
    whole = sum(weights.values())
    exact = {group: total * weight / whole for group, weight in weights.items()}
    counts = {group: int(value + 1e-9) for group, value in exact.items()}
    by_remainder = sorted(exact, key=lambda group: counts[group] - exact[group])
    for group in by_remainder[: total - sum(counts.values())]:
        counts[group] += 1
    return counts


def split(rows: Sequence[Row], eval_share: float, preference_share: float = 0.0) -> tuple[list[Row], list[Row], list[Row]]:
    """(train, eval, preferences) by each row's own id, so that none changes sides as others come or go.

    A row that was repeated (upsampling) stands once in eval and in preferences.
    """
    limits = int(eval_share * 16**8), int((eval_share + preference_share) * 16**8)
    places = [(row, int(row.id[:8], 16)) for row in rows]
    train = [row for row, place in places if place >= limits[1]]
    held_out = {row.id: row for row, place in places if place < limits[0]}
    preferences = {row.id: row for row, place in places if limits[0] <= place < limits[1]}
    return train, list(held_out.values()), list(preferences.values())


def draw(row_id: str, seed: int, lap: int) -> bytes:
    return hashlib.blake2b(f"{seed}:{lap}:{row_id}".encode(), digest_size=8).digest()


def _fill(counts: Mapping[str, int], shares: Mapping[str, float], total: int) -> dict[str, int]:
    """The wanted shares where there are rows enough; what is short goes to the others, again by weight."""
    taken: dict[str, int] = {}
    open_shares = dict(shares)
    while open_shares:
        part = divide(total - sum(taken.values()), open_shares)
        short = [group for group in open_shares if part[group] > counts[group]]
        if not short:
            return taken | part
        for group in short:
            taken[group] = counts[group]
            del open_shares[group]
    return taken


def _shortage(aim: Mapping[str, int], counts: Mapping[str, int], short: Iterable[str]) -> str:
    return " ".join(f"{group}: {aim[group]:,} rows wanted, {counts[group]:,} there." for group in short)


def _percents(taken: Mapping[str, int]) -> str:
    total = max(sum(taken.values()), 1)
    return ", ".join(f"{group} {count / total:.1%}" for group, count in taken.items())


def _check(weights: Mapping[str, float], max_samples: int) -> None:
    for group, weight in weights.items():
        if weight < 0:
            raise UserError(f"the weight is {weight}", key=f"weights.{group}", expected="a number from 0")
    if not sum(weights.values()):
        raise UserError("no group has a weight", key="weights", expected="at least one above 0")
    if max_samples < 1:
        raise UserError(f"{max_samples} rows", key="max_samples", expected="at least 1")
