"""What a drawn answer earns in GRPO: the judges of preference pairs (judges.py) as TRL's reward functions."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from align_ko.preferences.judges import Judgement, is_faulty, judge
from align_ko.recipe import RewardArgs
from align_ko.records import Message, last_user_text

RewardFunction = Callable[..., list[float | None]]
_judge = lru_cache(maxsize=1_000)(judge)  # three rewards ask for one judgement


@dataclass(frozen=True)
class JudgeReward:
    """A reward by name, called as TRL calls it, with the columns of the rollouts (training/grpo.py) and of the prompts."""

    name: str
    args: RewardArgs

    @property
    def __name__(self) -> str:  # what TRL logs it under
        return self.name

    def __call__(
        self,
        prompts: Sequence[list[Message]],
        text: Sequence[str],
        finished: Sequence[bool],
        reference: Sequence[str | None],
        **_: Any,
    ) -> list[float | None]:
        rows = zip(prompts, text, finished, reference, strict=True)
        return [self.reward(last_user_text(asked), answer, ended, near) for asked, answer, ended, near in rows]

    def reward(self, question: str, text: str, finished: bool, reference: str | None) -> float | None:
        """0 to 1; None without the reference that it needs."""
        if self.name == "length":
            return None if reference is None else length_reward(len(text), len(reference), self.args)
        judgement: Judgement = _judge(question, text, finished, reference)
        if self.name == "naturalness" and (is_faulty(judgement) or not finished):
            return 0.0
        score = judgement.by_judge.get(self.name)
        return None if score is None else score.score


def length_reward(characters: int, of_reference: int, args: RewardArgs) -> float:
    """1 from `shortest` to `longest` of the reference's characters; linear to 0 at none, and at twice `longest`.

    >>> [length_reward(n, 100, RewardArgs(shortest=0.5, longest=1.5)) for n in (0, 25, 50, 150, 225, 300, 900)]
    [0.0, 0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    ratio = characters / max(of_reference, 1)
    return max(0.0, min(1.0, ratio / args.shortest, 2 - ratio / args.longest))


def reward_functions(args: RewardArgs) -> tuple[list[RewardFunction], list[float]]:
    """TRL's `reward_funcs` and `reward_weights`."""
    from trl.rewards import get_repetition_penalty_reward

    functions: list[RewardFunction] = [
        get_repetition_penalty_reward() if name == "repetition" else JudgeReward(name, args) for name in args.weights
    ]
    return functions, list(args.weights.values())
