"""Tokens of every row of a data file, and the batches that an epoch makes of them.

Where no data file exists, `reference_rows` stands for it: lengths like those of the user's 191,641 rows. Known are the rows by
source; assumed are log-normal lengths in characters, with the medians of benchmarks/curation_bench and wider spreads. Measured:
how many tokens each family's tokenizer makes of a character of the quickstart's polite Korean."""

from __future__ import annotations

import itertools
import random
from bisect import bisect_left, insort
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from transformers import PreTrainedTokenizerBase

from align_ko.chat_format import answer_ids, prompt_ids
from align_ko.records import read_conversations, read_pairs, read_prompts
from align_ko.training.prepare import ShuffledLengthGroupedSampler, encode_conversations, encode_pairs

SIDES = "prompt", "chosen", "rejected"
TOKENS_PER_CHARACTER = {32_000: 1.19, 128_256: 0.67, 151_936: 0.76, 262_208: 0.61}
"""Size of the vocabulary (SOLAR and KULLM3, Llama 3, Qwen 3, Gemma 3) → tokens of one character of the quickstart's 110,370
curated ones, without the template's (docs/plan.md)."""
SOLAR = TOKENS_PER_CHARACTER[32_000]
TOKENS_PER_TURN = 13  # "### User:\n", "\n\n### Assistant:\n", eos, the blank line between turns
COUNTED_ROWS = 1_000  # rows that are tokenised; their tokens per character hold for the rest (a plan takes seconds)
BATCHINGS = {  # the original script's, TRL's default, ours, and the tightest
    "max_length": "every row padded to max_length",
    "random": "random batches, padded to their longest row",
    "group_by_length": "rows of like length together, in shuffled order",
    "packing": "rows packed into max_length (needs FlashAttention)",
}


class Row(NamedTuple):
    """Tokens of one row; a preference pair is computed as two sequences of its longer side's length."""

    longest: int
    real: int
    trained: int
    sequences: int = 1
    source: str = ""


class Lengths(NamedTuple):
    """The rows of a file without those over max_length, as in training, and how they were counted."""

    rows: list[Row]
    too_long: int
    method: str

    @property
    def trained_share(self) -> float:
        return sum(row.trained for row in self.rows) / max(1, sum(row.real for row in self.rows))


def tokens_per_character(vocabulary: int) -> tuple[float, str]:
    """By the size of the vocabulary, and in words: 262,144 → 0.61, "0.61 tokens a character". Of an unknown one SOLAR's, which
    is the most."""
    near = min(TOKENS_PER_CHARACTER, key=lambda size: abs(size - vocabulary))
    if abs(near - vocabulary) <= near / 50:
        return TOKENS_PER_CHARACTER[near], f"{TOKENS_PER_CHARACTER[near]} tokens a character"
    return SOLAR, f"{SOLAR} tokens a character as SOLAR's: a vocabulary of {vocabulary:,} was not measured"


def fitting_lengths(rows: list[Row], max_length: int | None, method: str) -> Lengths:
    fitting = [row for row in rows if max_length is None or row.longest <= max_length]
    return Lengths(fitting, len(rows) - len(fitting), method)


def file_lengths(
    stage: str, file: str, tokenizer: PreTrainedTokenizerBase | None, max_length: int | None, vocabulary: int = 32_000
) -> Lengths:
    """Lengths of curated conversations (`sft`) or preference pairs (`dpo`), without a tokenizer from the size of its
    vocabulary. UserError where none of the rows is one."""
    rows: Iterator[Any] = read_conversations(file) if stage == "sft" else read_pairs(file)

    def pair(prompt: int, chosen: int, rejected: int) -> Row:
        return Row(prompt + max(chosen, rejected), 2 * prompt + chosen + rejected, chosen + rejected, sequences=2)

    def count(some: list[Any]) -> list[Row]:
        if stage == "sft":
            labels = encode_conversations(tokenizer, some, None)["labels"]
            return [Row(len(each), len(each), sum(label != -100 for label in each)) for each in labels]
        columns = encode_pairs(tokenizer, some, None)
        return [pair(*map(len, ids)) for ids in zip(*(columns[f"{side}_ids"] for side in SIDES), strict=True)]

    def estimate(row: Mapping[str, Any], ratio: float) -> Row:
        if stage == "dpo":
            prompt, *answers = (round(sum(len(turn["content"]) for turn in row[side]) * ratio) for side in SIDES)
            return pair(prompt + TOKENS_PER_TURN, *(answer + 1 for answer in answers))
        questions, answers = (
            [len(m["content"]) for m in row["messages"] if (m["role"] == "assistant") == answer] for answer in (False, True)
        )
        trained = round(sum(answers) * ratio) + len(answers)
        tokens = trained + round(sum(questions) * ratio) + (TOKENS_PER_TURN - 1) * len(answers) + 1
        return Row(tokens, tokens, trained)

    (ratio, told), counted = tokens_per_character(vocabulary), []
    method = f"estimated, {told}: no tokenizer is at hand"
    if tokenizer is not None:
        head = list(itertools.islice(rows, COUNTED_ROWS))
        counted = count(head)
        # from two ratios, the tokens that grow with the characters follow without knowing the template's marks
        low, high = (sum(estimate(row, ratio).real for row in head) for ratio in (1.0, 2.0))
        ratio = 1 + (sum(row.real for row in counted) - low) / max(1, high - low)
        method = f"counted with the model's tokenizer ({ratio:.2f} tokens a character)"
    estimated = [estimate(row, ratio) for row in rows]
    if tokenizer is not None and estimated:
        method += f", beyond {COUNTED_ROWS} rows estimated from characters"
    return fitting_lengths(counted + estimated, max_length, method)


def prompt_lengths(
    file: str, tokenizer: PreTrainedTokenizerBase | None, max_prompt: int, max_answer: int, vocabulary: int = 32_000
) -> Lengths:
    """GRPO's rows, each a prompt with one answer as long as its reference (where there is none: as `max_answer`)."""
    rows, long = [], 0
    ratio, told = tokens_per_character(vocabulary)
    for row in read_prompts(file):
        if tokenizer is None:
            prompt = round(sum(len(turn["content"]) for turn in row.prompt) * ratio) + TOKENS_PER_TURN
            answer = round(len(row.reference or "") * ratio)
        else:
            prompt = len(prompt_ids(tokenizer, row.prompt))
            answer = len(answer_ids(tokenizer, row.prompt, row.reference)) if row.reference else 0
        answer = min(answer or max_answer, max_answer)
        long += prompt > max_prompt
        if prompt <= max_prompt:
            rows.append(Row(prompt + answer, prompt + answer, answer))
    counted = "counted with the model's tokenizer" if tokenizer else f"estimated, {told}"
    return Lengths(rows, long, f"{counted}, answers as long as the references")


class Source(NamedTuple):
    """Rows of one source: median characters and spread (sigma of the logarithm) of questions and answers."""

    name: str
    rows: int
    question: tuple[float, float]
    answer: tuple[float, float]
    turn_shares: Mapping[int, float] = {1: 1.0}


SOURCES = (
    Source("smol_koreantalk", 88_752, (30, 0.5), (110, 0.6), {1: 0.30, 2: 0.35, 3: 0.20, 4: 0.15}),
    Source("kowiki_qa", 48_699, (40, 0.4), (230, 0.5)),
    Source("kullm_v2", 33_422, (60, 0.8), (330, 0.7)),
    Source("koalpaca", 20_768, (60, 0.6), (390, 0.6)),
)
ROWS = sum(source.rows for source in SOURCES)


def reference_rows(rows: int = ROWS, spread: float = 1.0, seed: int = 42, ratio: float = SOLAR) -> list[Row]:
    """`rows` rows in the sources' proportions, shuffled; the same for the same seed. `spread` scales every sigma, `ratio` is
    the tokenizer's tokens a character."""
    rng = random.Random(seed)

    def tokens(median: float, sigma: float, turns: int) -> int:
        lengths = (round(median * rng.lognormvariate(0, sigma * spread) * ratio) for _ in range(turns))
        return sum(max(2, length) for length in lengths)

    result: list[Row] = []
    for source in SOURCES:
        numbers, shares = list(source.turn_shares), list(source.turn_shares.values())
        for _ in range(round(source.rows * rows / ROWS)):
            turns = rng.choices(numbers, shares)[0] if len(numbers) > 1 else 1
            question, answer = tokens(*source.question, turns), tokens(*source.answer, turns)
            total = question + answer + TOKENS_PER_TURN * turns + 1
            result.append(Row(total, total, answer + turns, source=source.name))
    rng.shuffle(result)
    return result


class Batch(NamedTuple):
    """One micro-batch: `sequences` rows of `width` positions, `real` of them tokens, `trained` with loss."""

    sequences: int
    width: int
    real: int
    trained: int

    @property
    def computed(self) -> int:
        return self.sequences * self.width


def epoch_batches(
    rows: Sequence[Row], batching: str, batch_size: int, step_rows: int, max_length: int, seed: int = 42, multiple: int = 1
) -> list[Batch]:
    """The micro-batches of one epoch, of `batch_size` rows each; `step_rows` (batch × accumulation × devices) are grouped by
    length as one. `multiple`: TRL's pad_to_multiple_of; with 32 a batch of 130 tokens is 160 wide."""
    if batching == "packing":
        packs = _pack(rows, max_length)
        groups = [packs[start : start + batch_size] for start in range(0, len(packs), batch_size)]
        parts = [(len(group), max_length, [row for pack in group for row in pack]) for group in groups]
    else:
        order: Iterable[int] = random.Random(seed).sample(range(len(rows)), len(rows))
        if batching == "group_by_length":
            order = ShuffledLengthGroupedSampler([row.longest for row in rows], step_rows, seed)
        ordered = [rows[index] for index in order]
        chunks = [ordered[start : start + batch_size] for start in range(0, len(ordered), batch_size)]
        widths = [max_length if batching == "max_length" else max(row.longest for row in chunk) for chunk in chunks]
        sequences = [sum(row.sequences for row in chunk) for chunk in chunks]
        parts = list(zip(sequences, (-(-width // multiple) * multiple for width in widths), chunks, strict=True))
    return [Batch(n, width, sum(row.real for row in some), sum(row.trained for row in some)) for n, width, some in parts]


def _pack(rows: Sequence[Row], max_length: int) -> list[list[Row]]:
    """Best-fit decreasing, as TRL's `packing_strategy: bfd`; the empty end of each pack counts as computed."""
    room: list[int] = []  # free positions that some pack has, sorted, each once
    packs: dict[int, list[list[Row]]] = {}
    for row in sorted(rows, key=lambda row: -row.longest):
        place = bisect_left(room, row.longest)
        if place < len(room):
            free = room[place]
            pack = packs[free].pop()
            if not packs[free]:
                room.pop(place)
        else:
            free, pack = max_length, []
        pack.append(row)
        left = free - row.longest
        if not packs.get(left):
            insort(room, left)
        packs.setdefault(left, []).append(pack)
    every = [pack for some in packs.values() for pack in some]
    random.Random(0).shuffle(every)
    return every


def real_share(batches: Sequence[Batch]) -> float:
    return sum(batch.real for batch in batches) / max(1, sum(batch.computed for batch in batches))
