"""A table of row lengths like those of the user's 191,641 rows, for planning and benchmarks where the rows are not at hand.

What is known: rows by source (shared facts of the project: korean_large_dataset.json) and the wanted bounds. What is assumed,
no statistics of the originals being at hand: lengths are log-normal in characters, with the medians of
benchmarks/curation_bench (written after reading such rows) and wider spreads than there (that benchmark cuts answers at 1,450
characters; raw files do not); turns by dialogue as there. What is measured: SOLAR's tokenizer makes 1.19 tokens of a
character of the quickstart's polite Korean (Mistral 7B v0.1's vocabulary, which SOLAR kept), and 13 tokens a turn go to the
chat template's marks.
"""

from __future__ import annotations

import random
from dataclasses import dataclass

TOKENS_A_CHARACTER = 1.19
TOKENS_A_TURN = 13  # "### User:\n", "\n\n### Assistant:\n", eos, the blank line between turns
TURN_SHARES = {1: 0.30, 2: 0.35, 3: 0.20, 4: 0.15}  # question-and-answer turns of a dialogue


@dataclass(frozen=True)
class Source:
    """Rows of one source: median characters and spread (sigma of the logarithm) of questions and answers."""

    name: str
    rows: int
    question: tuple[float, float]
    answer: tuple[float, float]
    several_turns: bool = False


SOURCES = (
    Source("smol_koreantalk", 88_752, (30, 0.5), (110, 0.6), several_turns=True),
    Source("kowiki_qa", 48_699, (40, 0.4), (230, 0.5)),
    Source("kullm_v2", 33_422, (60, 0.8), (330, 0.7)),
    Source("koalpaca", 20_768, (60, 0.6), (390, 0.6)),
)
ROWS = sum(source.rows for source in SOURCES)


@dataclass(frozen=True)
class RowLength:
    """Tokens of one row, and how many of them are trained (answers and their eos)."""

    source: str
    tokens: int
    trained: int


def reference_rows(rows: int = ROWS, spread: float = 1.0, seed: int = 42) -> list[RowLength]:
    """`rows` rows in the sources' proportions, shuffled; the same for the same seed. `spread` scales every sigma."""
    rng = random.Random(seed)
    made: list[RowLength] = []
    for source in SOURCES:
        for _ in range(round(source.rows * rows / ROWS)):
            turns = rng.choices(list(TURN_SHARES), list(TURN_SHARES.values()))[0] if source.several_turns else 1
            asked = sum(_tokens(source.question, spread, rng) for _ in range(turns))
            said = sum(_tokens(source.answer, spread, rng) for _ in range(turns))
            made.append(RowLength(source.name, asked + said + TOKENS_A_TURN * turns + 1, said + turns))
    rng.shuffle(made)
    return made


def _tokens(distribution: tuple[float, float], spread: float, rng: random.Random) -> int:
    median, sigma = distribution
    return max(2, round(median * rng.lognormvariate(0, sigma * spread) * TOKENS_A_CHARACTER))
