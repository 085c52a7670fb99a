"""The recipe keys that say how candidates are judged and how they become pairs. recipe.py imports them; no torch here."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

SYNTHETIC_FAULTS = ("wrong_register", "mixed_register", "repetition", "unfinished", "filler", "strange_characters", "echo")
"""What preferences/synthetic.py can put into an answer, by the code that assess gives it."""


@dataclass(frozen=True)
class JudgeWeights:
    """What each judge counts. Every judge gives 0 to 1; the score is their mean by these weights, 0 = not asked."""

    naturalness: float = 0.4
    """assess's score."""
    variety: float = 0.3
    """Few words and phrases that come again."""
    relevance: float = 0.15
    """Whether some content word of the question comes back."""
    reference: float = 0.15
    """Closeness to the curated answer; left out where a prompt has none."""
    reward_model: float = 0.0
    """Share of the prompt's other answers that the reward model puts below this one."""
    llm: float = 0.0
    """Share of the comparisons that the endpoint's model decides for this answer."""


@dataclass(frozen=True)
class RewardModelArgs:
    """Any sequence-classification model of transformers with one label, or two of which the second is the good one."""

    model_name_or_path: str = ""
    batch_size: int = 8
    max_length: int = 2048
    """Tokens of question and answer; of longer ones the beginning is left out."""
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"


@dataclass(frozen=True)
class LlmJudgeArgs:
    """An OpenAI-compatible endpoint that compares two answers at a time, in both orders."""

    base_url: str = "http://localhost:8000/v1"
    model: str = ""
    api_key_env: str = "OPENAI_API_KEY"
    """The environment variable that holds the key; a local server needs none."""
    concurrency: int = 8
    top: int = 3
    """So many of a prompt's fit candidates, the best by the other judges, are compared with each other and with a faultless
    greedy answer: 3 and the greedy one are 6 comparisons, 12 calls."""
    max_tokens: int = 400
    timeout: float = 120.0
    """Seconds for one call."""
    max_retries: int = 5


@dataclass(frozen=True)
class JudgesArgs:
    """Who judges the candidates. What costs (reward_model, llm) is asked only where its weight is above 0, and kept on disk."""

    weights: JudgeWeights = JudgeWeights()
    reward_model: RewardModelArgs = RewardModelArgs()
    llm: LlmJudgeArgs = LlmJudgeArgs()


@dataclass(frozen=True)
class PairingArgs:
    """How candidates become pairs."""

    chosen: Literal["candidate", "reference", "both"] = "candidate"
    """The better side of a repair pair. candidate: the best fit candidate, else the curated answer. reference: the curated
    answer where there is one. both: a pair with each."""
    rejected_samples: int = 0
    """Where the greedy answer is faulty, so many faulty samples (the worst first) are rejected too, in pairs of their own; with
    `both`, against the curated answer. Draw them at a low temperature without a repetition penalty: they fail as greedy
    decoding does."""
    max_similarity: float = 0.8
    """Drop pairs whose two sides share more than this of their character trigrams."""
    length_tolerance: float = 1.0
    """|chosen - rejected| / chosen in characters; a longer rejected side is cut, a shorter one drops the pair."""
    loop_periods: int = 3
    """A loop in a rejected answer is cut after this many periods."""
    min_chosen_score: float = 0.8
    """Naturalness (assess's score) that a chosen candidate needs."""
    min_variety: float = 0.75
    """Word variety that a chosen candidate needs (preferences/judges.py)."""
    min_closeness: float = 0.0
    """Share of character trigrams with the curated answer (0-1) that a chosen candidate needs; else that answer is chosen.
    0.1 rejects nine in ten of the quickstart model's candidates (docs/preferences.md)."""
    contrast_margin: float = 0.15
    """How much better than a faultless greedy answer a candidate must be judged to make a contrast pair."""
    reference_share: float = 0.5
    """With `chosen: candidate`, at most this share of pairs may fall back on the curated answer (1.0 = no bound)."""
    candidate_share: float = 1.0
    """At most this share of pairs may have one of the model's own candidates as chosen; the rest are curated answers. A small
    model's candidates read well and say little: a few of them show the form, the curated answers hold the content."""
    contrast_share: float = 1.0
    """At most this share of pairs may be contrasts of two natural answers."""
    synthetic_share: float = 0.0
    """This share of all pairs sets a chosen candidate against a copy of it that was spoilt on purpose."""
    curated_share: float = 0.0
    """This share of all pairs sets a curated answer against a spoilt copy, so that the loss acts on curated answers too."""
    synthetic_faults: tuple[str, ...] = SYNTHETIC_FAULTS
    """The faults that are put into copies, by turns."""
    fault_share: float = 1.0
    """At most this share of the pairs may be rejected for one and the same gravest fault; surplus goes, small margins first."""
    max_collapse: float = 1.0
    """Share of a chosen answer's word trigrams that may stand in those to three other prompts; above it the pair goes."""
    drop_shared_filler: bool = True
    """Drop pairs in which one and the same filler crowds both sides."""
    eval_share: float = 0.05
    seed: int = 42
    """Of the spoilt copies: which fault, and where."""
