"""Recipes that run other recipes: rounds (`align`), settings side by side (`ablation`), another way (`compare`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal


@dataclass(frozen=True)
class StageArgs:
    """The recipe of one stage, and what differs from it here."""

    recipe: str
    set: dict[str, Any] = field(default_factory=dict)
    """Keys laid over that recipe, nested as in it, e.g. {training: {learning_rate: 2e-5}}."""
    accelerate_config: str = ""
    """A file of accelerate_configs/: the stage runs under `accelerate launch`; empty: one process."""


@dataclass(frozen=True)
class DistillStageArgs(StageArgs):
    """The recipe of the distillation, and whose prompts it answers."""

    prompts_files: tuple[str, ...] = ()
    """Prompts of training, without those that judge (the gate's, `evaluation_files` of the pairs); none: as many of the pairs'
    own as a round asks."""
    passes: int = 1
    """How often, each time on what the model of the pass before answers; a pass that the gate refuses is the last one."""


@dataclass(frozen=True)
class RoundArgs:
    """What one round does otherwise than `preferences.set` and `dpo.set` say."""

    preferences: dict[str, Any] = field(default_factory=dict)
    dpo: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AcceptanceArgs:
    """What a round has to hold under greedy decoding to be taken. Shares are 0..1."""

    prompts_file: str
    """JSONL with references. Never the prompts that the result is judged by: a gate chooses, and so would fit them."""
    max_prompts: int = 0
    """At most so many of them, chosen by content hash; 0 = all."""
    max_new_tokens: int = 256
    batch_size: int = 32
    dtype: Literal["auto", "bfloat16", "float16", "float32"] = "auto"
    max_collapse: float = 0.03
    min_relevant: float = 0.95
    min_distinct: float = 0.98
    max_nll_rise: float = 0.03
    """Reference NLL over the start's, 0.03 = 3 %: how much content a round may cost."""
    min_median_characters: float = 80
    max_median_characters: float = 400
    accelerate_config: str = ""
    """As a stage's; the processes share the prompts, here and where a distillation's are answered."""


@dataclass(frozen=True)
class AlignRecipe:
    """Rounds of preference pairs, DPO and a gate; each round starts from the one before, which is also its reference."""

    start: str
    """The SFT checkpoint that round 1 starts from; not read where `sft` is given."""
    output_dir: str
    preferences: StageArgs
    dpo: StageArgs
    gate: AcceptanceArgs
    sft: StageArgs | None = None
    """Train the start too, with this run's seed."""
    evaluate: StageArgs | None = None
    """Judge start and best round at the end, on prompts that no gate has seen."""
    rounds: int = 3
    per_round: tuple[RoundArgs, ...] = ()
    """One entry per round, in order; rounds beyond the list have none."""
    min_gain: float = 0.01
    """Stop after a round that brings less natural share than this."""
    min_pairs: int = 16
    """Stop before training on fewer pairs than this: there is little left to repair."""
    interpolation: float = 1.0
    """How far from the start's weights to the best round's the result lies; 0.8 goes a fifth of the way back, which gives back
    content that the rounds cost. The gate judges it too: where it is worse than the round, the round is the result."""
    distill: DistillStageArgs | None = None
    """An SFT recipe with `distill:`. What the rounds (and interpolation) made is trained by it on its own greedy answers. The
    gate judges it too: where it is worse, it is not the result."""
    seed: int = 42
    """Of sampling and training; every round draws others from it."""
    seeds: tuple[int, ...] = ()
    """Do it all once with each of these, in OUTPUT_DIR/seed-N, and write one table of all."""


@dataclass(frozen=True)
class SettingArgs:
    """One row of an ablation: keys laid over the base recipe of its stage."""

    set: dict[str, Any] = field(default_factory=dict)
    stage: Literal["dpo", "sft"] = "dpo"
    """`sft`: fine-tuning on the chosen side alone (best-of-n), of the start with a new adapter."""
    note: str = ""


@dataclass(frozen=True)
class AblationRecipe:
    """DPO settings × seeds on the same pairs, from the same checkpoint, judged on the same prompts under greedy decoding."""

    start: str
    output_dir: str
    train_file: str
    """Preference pairs."""
    eval_file: str
    dpo: StageArgs
    gate: AcceptanceArgs
    """The prompts that settings are judged on, and the limits that a winner holds in every seed."""
    settings: dict[str, SettingArgs]
    sft: StageArgs | None = None
    """The base recipe for settings of stage `sft`."""
    seeds: tuple[int, ...] = (42, 43)


@dataclass(frozen=True)
class VariantArgs:
    """One way to train in a comparison: keys laid over its SFT and DPO recipes."""

    sft: dict[str, Any] = field(default_factory=dict)
    dpo: dict[str, Any] = field(default_factory=dict)
    minutes_of_ours: bool = False
    """Train as many minutes as ours took in all, its candidates and gates included, not as many steps."""
    note: str = ""


@dataclass(frozen=True)
class CompareRecipe:
    """Another way of training the same model on the same raw rows, beside ours."""

    align: str
    """Our align recipe; it is run where its result is missing."""
    data: str
    """The data recipe whose sources are read, without its filters."""
    sft: StageArgs
    dpo: StageArgs
    evaluate: StageArgs
    output_dir: str
    variants: dict[str, VariantArgs]
    spoilt_key: str = ""
    """Which row of which spoilt file is a worse copy of which clean one (recipes/quickstart/data/spoil.py writes it)."""
    sft_minutes: float = 0.0
    """What our SFT took; 0: as long as the other way's SFT of as many steps."""
    seed: int = 42
