"""The recipe of curation: raw rows → train.jsonl and eval.jsonl."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import field
from typing import Literal

from align_ko.recipe import fields
from align_ko.recipe.record import InputPath, Problem, Recipe, files, record, unknown_name

Selection = Literal["random", "quality", "quality_diverse"]
GROUPS = ("instruction", "dialogue", "knowledge")


@record
class SourceArgs:
    path: fields.Text
    """A file, a folder of files, or a hub dataset id."""
    group: Literal["instruction", "dialogue", "knowledge", "auto"] = "auto"
    """`auto`: by the row's own `source` field through `groups`."""
    adapter: Literal["auto", "messages", "instruction", "question_answer"] = "auto"
    """The form of its rows; `auto`: by each row's own keys."""
    split: str = "train"
    """Of a hub dataset."""
    columns: dict[str, str] = field(default_factory=dict)
    """Our name → the file's column, e.g. {question: Q, answer: A}."""


@record
class LengthBounds:
    """Characters, inclusive."""

    min_question: fields.ZeroOrMore = 15
    max_question: fields.ZeroOrMore = 500
    min_answer: fields.ZeroOrMore = 50
    max_answer: fields.ZeroOrMore = 1500


@record
class NearDuplicateArgs:
    """Similarity (0-1) from which the weaker of two rows is dropped; above 1: never. Examples: curation/near_duplicates.py."""

    question: fields.Positive = 0.58
    long_question: fields.Positive = 0.8
    """Beyond about 65 syllables."""
    answer: fields.Positive = 0.7


@record
class DataRecipe(Recipe):
    """Raw rows → curated train.jsonl and eval.jsonl."""

    sources: dict[str, SourceArgs]
    output_dir: fields.Text
    groups: dict[str, tuple[str, ...]] = field(
        default_factory=lambda: {
            "instruction": ("kullm_v2", "koalpaca"),
            "dialogue": ("smol_koreantalk",),
            "knowledge": ("kowiki_qa",),
        }
    )
    """The `source` names of each group."""
    weights: dict[str, fields.NotNegative] = field(
        default_factory=lambda: {"instruction": 0.60, "dialogue": 0.25, "knowledge": 0.15}
    )
    """Each group's part of the mixture, relative to the sum."""
    max_samples: fields.AtLeastOne = 100_000
    """Rows of the mixture."""
    on_shortage: Literal["shrink", "fill", "upsample"] = "shrink"
    """shrink: keep the weights, take fewer. fill: other groups fill the total. upsample: repeat rows."""
    selection: Selection = "random"
    """Which rows of a group are taken: any, the best, or the best of many topics (score, answers of 150-500 characters)."""
    lengths: dict[str, LengthBounds] = field(
        default_factory=lambda: {
            "instruction": LengthBounds(),
            "dialogue": LengthBounds(min_question=2, min_answer=10),
            "knowledge": LengthBounds(min_question=8),
        }
    )
    """Bounds of each group."""
    require_speech_level: Literal["polite", "consistent", "any"] = "polite"
    filters: tuple[str, ...] = ()
    """Names of filters to run, in order; empty: all of them in their standard order."""
    repairs: tuple[str, ...] = ("nfc", "white_space", "full_width", "stray_markers", "particles")
    """Harmless mistakes that are repaired; a repaired row says so. Others: format_tokens."""
    personal_data: Literal["mask", "drop", "keep"] = "mask"
    """Telephone, resident, card and account numbers, e-mail: masked as [전화번호], or the row is dropped."""
    profanity_file: str = ""
    """A list of swear words, one a line; empty: the one that ships."""
    near_duplicates: NearDuplicateArgs = field(default_factory=NearDuplicateArgs)
    eval_share: fields.ShareBelowOne = 0.05
    """Share of rows held out for eval loss, chosen by content hash."""
    preference_share: fields.ShareBelowOne = 0.0
    """Share of rows set apart for preference pairs, into preferences.jsonl: SFT never sees them, so greedy decoding fails on
    them as it will on a user's prompts, and their curated answers are new to DPO."""
    evaluation_files: tuple[str, ...] = ()
    """Prompt files that training must never see (exact or near)."""
    off_topic_model: str = ""
    """A causal language model that drops answers to other questions (generation/relevance.py), in place of `off_topic`,
    which goes by words; empty: that one. Needs torch."""
    max_broken_share: fields.Share = 0.5
    """Stop with an error when more than this share of a source's rows cannot be read."""
    num_proc: fields.ZeroOrMore = 0
    """Processes that judge the rows; 0: one per core where the data is large enough to need them. The outcome is the same."""
    engine: Literal["local", "datatrove", "ray"] = "local"
    """local: one process and its workers, all rows in memory. datatrove: in tasks that hold little and are not done twice. ray:
    the same on a Ray cluster ($RAY_ADDRESS), or on one that is started here. The outcome is the same."""
    tasks: fields.ZeroOrMore = 0
    """Of an engine: parts that the rows are divided into; 0: by their size."""
    seed: fields.Seed = 42

    def problems(self) -> Iterator[Problem]:
        if not self.sources:
            yield Problem("sources", "no source to read", "'name: {path: …}'")
        for key in ("groups", "weights", "lengths"):
            for name in getattr(self, key):
                if name not in GROUPS:
                    yield unknown_name(f"{key}.{name}", "unknown group", name, GROUPS)
        if sum(self.weights.values()) <= 0:
            yield Problem("weights", "the weights sum to 0", "at least one weight above 0")
        if self.eval_share + self.preference_share >= 1:
            problem = f"with eval_share ({self.eval_share:g}) no row is left to train on"
            yield Problem("preference_share", problem, f"less than {1 - self.eval_share:g}")
        for name, bounds in self.lengths.items():
            for side in ("question", "answer"):
                low, high = getattr(bounds, f"min_{side}"), getattr(bounds, f"max_{side}")
                if high < low:
                    yield Problem(f"lengths.{name}.max_{side}", f"{high} cannot work", f"min_{side} ({low}) or more")

    def inputs(self) -> Iterator[InputPath]:
        for name, source in self.sources.items():
            yield InputPath(f"sources.{name}.path", source.path, "dataset")
        if self.off_topic_model:
            yield InputPath("off_topic_model", self.off_topic_model, "model")
        if self.profanity_file:
            yield InputPath("profanity_file", self.profanity_file, "file")
        yield from files("evaluation_files", self.evaluation_files)
