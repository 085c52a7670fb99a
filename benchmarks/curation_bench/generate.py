"""korean_large_dataset.json and its answer key: `build(folder, rows, seed)`, written row by row, the same for one seed.

The file is one JSON array with one row a line (row n stands on line n + 1). The key is JSONL, one entry per faulty row:
`{"row": 7, "line": 8, "source": "kullm_v2", "kind": "near_duplicate", "variant": "opening", "of": 3}`.
"""

from __future__ import annotations

import hashlib
import json
import random
import shutil
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from damage import Untouchable, kiwi

from curation_bench import faults
from curation_bench.compose import Composer, Messages, find_topics
from curation_bench.units import DATA, load_units

SOURCES = {"smol_koreantalk": 88_752, "kowiki_qa": 48_699, "kullm_v2": 33_422, "koalpaca": 20_768}
ROWS = sum(SOURCES.values())
SIBLINGS = {"kullm_v2": "koalpaca", "koalpaca": "kullm_v2"}
FAULTY_SHARE = sum(faults.SHARES.values()) / 1000
RECENT = 2000  # clean rows of a source from which a copy may be made
REDRAWS = 200
DATASET, KEY = "korean_large_dataset.json", "key.jsonl"


def cached(root: Path, rows: int, seed: int) -> Path:
    """The folder with these rows; built unless one with the same fingerprint is there."""
    folder = root / f"rows-{rows}-{seed}-{fingerprint()}"
    if not (folder / KEY).is_file():
        partly = folder.with_suffix(".part")
        shutil.rmtree(partly, ignore_errors=True)
        partly.mkdir(parents=True)
        build(partly, rows, seed)
        partly.rename(folder)
    return folder


def fingerprint() -> str:
    """Of all that the rows depend on but their number and seed: these modules and the data behind them."""
    files = [*Path(__file__).parent.glob("*.py"), DATA / "damage.py", *sorted((DATA / "raw").iterdir()), faults.EVALUATION_FILE]
    own = {"units.py", "phrases.py", "compose.py", "faults.py", "generate.py"}
    files = [file for file in files if file.parent != Path(__file__).parent or file.name in own]
    return hashlib.blake2b(b"".join(hashlib.md5(f.read_bytes()).digest() for f in sorted(files)), digest_size=4).hexdigest()


def proportional(weights: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers in proportion that add up to `total`, the largest remainders rounded up.

    >>> proportional({"a": 2, "b": 1}, 10)
    {'a': 7, 'b': 3}
    """
    exact = {name: total * weight / sum(weights.values()) for name, weight in weights.items()}
    counts = {name: int(share) for name, share in exact.items()}
    short = total - sum(counts.values())
    for name in sorted(exact, key=lambda name: counts[name] - exact[name])[:short]:
        counts[name] += 1
    return counts


def shuffled(counts: Mapping[str, int], rng: random.Random) -> list[str]:
    names = [name for name, count in counts.items() for _ in range(count)]
    rng.shuffle(names)
    return names


def build(folder: Path, rows: int, seed: int) -> None:
    rng = random.Random(seed)
    units = load_units()
    composer = Composer(units, find_topics(units, kiwi().tokenize), rng)
    sources = shuffled(proportional(SOURCES, rows), rng)
    faulty = proportional(faults.SHARES, round(rows * FAULTY_SHARE))
    head = min(rows // 10, 200)  # the first rows are clean: copies need something to be copies of
    kinds = ["clean"] * head + shuffled({"clean": rows - head - sum(faulty.values()), **faulty}, rng)
    writer = _Writer(composer, rng)
    with (folder / DATASET).open("w", encoding="utf-8") as data, (folder / KEY).open("w", encoding="utf-8") as key:
        data.write("[")
        for number, (source, kind) in enumerate(zip(sources, kinds, strict=True), 1):
            line, entry = writer.row(number, source, kind)
            data.write(("," if number > 1 else "") + "\n" + line)
            if entry is not None:
                named = {"row": number, "line": number + 1, "source": source, "kind": kind, **entry}
                key.write(json.dumps(named, ensure_ascii=False) + "\n")
        data.write("\n]\n")


class _Writer:
    """Makes one row after the other; remembers recent clean ones, for the copies."""

    def __init__(self, composer: Composer, rng: random.Random) -> None:
        self.composer, self.rng = composer, rng
        self.recent: dict[str, list[tuple[int, Messages]]] = defaultdict(list)
        self.turns: Counter[str] = Counter()  # rows so far of each kind
        self.prompts = faults.evaluation_pairs()

    def row(self, number: int, source: str, kind: str) -> faults.Spoilt | tuple[str, None]:
        if kind == "clean":
            draft = self.composer.draft(source)
            self.composer.accept(draft)
            self._remember(source, number, draft.messages)
            return faults.as_json(draft.messages, source), None
        for redraw in range(REDRAWS):
            # a variant that nothing lends itself to gives way to the next one in the end
            turn = self.turns[kind] + redraw // 40
            try:
                spoilt = self._spoilt(kind, source, turn)
            except Untouchable:
                continue
            self.turns[kind] = turn + 1
            return spoilt
        raise SystemExit(f"no row was found that {kind!r} can be done to")

    def _spoilt(self, kind: str, source: str, turn: int) -> faults.Spoilt:
        if kind in faults.COPIES:
            across = SIBLINGS.get(source, source) if self.rng.random() < 0.3 else source
            original, messages = self.rng.choice(self.recent[across] or self.recent[source] or self.recent["smol_koreantalk"])
            line, entry = faults.copy(kind, messages, source, turn, self.rng)
            return line, {**entry, "of": original}
        draft = self.composer.draft(source)
        if kind == "evaluation_overlap":
            return faults.leak_evaluation(draft, source, self.prompts, turn, self.rng)
        spoilt = faults.spoil(kind, draft, source, turn, self.rng)
        self.composer.accept(draft)
        return spoilt

    def _remember(self, source: str, number: int, messages: Messages) -> None:
        rows = self.recent[source]
        if len(rows) < RECENT:
            rows.append((number, messages))
        else:
            rows[self.rng.randrange(RECENT)] = (number, messages)


def lines_of(folder: Path) -> Iterable[str]:
    """The JSON of each row, in order, without the comma."""
    with (folder / DATASET).open(encoding="utf-8") as lines:
        next(lines)
        yield from (line.rstrip("\n").removesuffix(",") for line in lines if line != "]\n")


def read_key(folder: Path) -> dict[int, dict[str, Any]]:
    """Row number → entry."""
    with (folder / KEY).open(encoding="utf-8") as lines:
        return {entry["row"]: entry for entry in map(json.loads, lines)}
