"""Measure align_ko.korean on labelled Korean text and print the table of docs/naturalness.md.

    python benchmarks/bench_korean.py                 # reads ../shared/data; reports if that folder is missing
    python benchmarks/bench_korean.py --rules-alone   # what is found without Kiwi
    python benchmarks/bench_korean.py --only editor language long documents

Nothing from that folder is shipped; rows whose data is missing are printed as "no data".
"""

from __future__ import annotations

import csv
import hashlib
import json
import random
import re
import statistics
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

import tyro

from align_ko.korean import assess, assess_each, document_level, measure
from align_ko.korean.particles import RIGHT, wrong_particles
from align_ko.korean.prose import own_words, sentences
from align_ko.korean.spelling import misspellings
from align_ko.korean.tagger import ends_in, rules_alone
from align_ko.records import read_jsonl
from fit_score import report as judge_report
from fit_score import spearman, zipped

Row = dict[str, Any]
Way = Callable[[], AbstractContextManager[None]]  # with Kiwi or without
Section = Literal["level", "faults", "particles", "judge", "sets", "editor", "language", "long", "documents", "speed"]
SECTIONS: tuple[Section, ...] = get_args(Section)
QUICKSTART = Path(__file__).resolve().parents[1] / "recipes" / "quickstart" / "data" / "raw"
POLITE_STYLES = ("formal", "gentle")
GOOD_HAVE_FEW = "repetition filler unfinished mixed_register wrong_particle strange_characters translationese".split()
FOREIGN = ("纯净", "です", "привет", "สวัสดี", "مرحبا", "\ufffd", "\u200b", "\ue001")


@dataclass(frozen=True)
class Args:
    data: Path = Path(__file__).resolve().parents[2] / "shared" / "data"
    """Folder with the labelled files."""
    seed: int = 0
    rules_alone: bool = False
    """As `assess(morphology=False)`: Kiwi is never asked."""
    only: tuple[Section, ...] = SECTIONS
    """The parts to measure."""
    documents: Path = Path(__file__).resolve().parents[2] / "shared" / "data" / "documents"
    """Folder of `*.jsonl` with passages of polite documentation (`text`); every alarm in them is taken for a false one."""
    show: bool = False
    """Print each text that is judged otherwise than expected."""


def share(hits: int, total: int) -> str:
    return f"{hits / max(total, 1):8.2%}  ({hits} of {total})"


def styles(data: Path) -> list[dict[str, str]]:
    with (data / "speech_level_smilestyle.tsv").open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


def bench_speech_level(data: Path, rng: random.Random) -> None:
    lines = (data / "speech_level_stylekqc.tsv").read_text(encoding="utf-8").splitlines()[1:]
    pairs = [(label, text) for label, text in (line.split("\t") for line in lines)]
    smile = styles(data)
    for label, names in (("polite", POLITE_STYLES), ("plain", ("informal",))):
        pairs += [(label, row[name]) for row in smile for name in names if (row[name] or "").strip()]
    for name, part in (("StyleKQC", pairs[: len(lines)]), ("SmileStyle", pairs[len(lines) :])):
        verdicts = [(label, document_level(text).verdict) for label, text in part]
        known = [(label, verdict) for label, verdict in verdicts if verdict not in ("unknown", "mixed")]
        right = sum((label == "polite") == (verdict == "polite") for label, verdict in known)
        print(f"speech level, {name}: right of those named   {share(right, len(known))}")
        print(f"speech level, {name}: not unknown            {share(len(known), len(verdicts))}")
    called: dict[str, float] = {}
    for style in smile[0]:
        texts = [row[style] for row in smile if style not in ("dialogue", *POLITE_STYLES) and (row[style] or "").strip()]
        if texts:
            called[style] = sum(document_level(text).verdict == "polite" for text in texts) / len(texts)
    print("speech level: plain styles called polite      " + ", ".join(f"{k} {v:.1%}" for k, v in called.items()))
    one = re.compile(r"[^.!?]{8,}[.!?]")
    rows = [r for r in smile if one.fullmatch(r["formal"] or "") and one.fullmatch(r["informal"] or "")]
    found = alarms = 0
    for _ in range(2000):
        six = rng.sample(rows, 6)
        texts, i = [row["formal"] for row in six], rng.randrange(6)
        alarms += document_level(" ".join(texts)).verdict == "mixed"
        texts[i] = six[i]["informal"]
        found += document_level(" ".join(texts)).verdict == "mixed"
    print(f"mixed: one sentence of six flipped, found     {share(found, 2000)}")
    print(f"mixed: none flipped, false alarms             {share(alarms, 2000)}")


def spoil_loop(text: str, rng: random.Random) -> str:
    """The last sentence repeated four times, the same counted on, or three of them repeated in turn."""
    parts = [part.text for part in sentences(text) if part.kind == "prose" and len(part.text) >= 12 and part.text[-1] in ".!?"]
    if not parts:
        return ""
    kind, last = rng.randrange(3), rng.choice(parts)
    if kind == 0:
        return text + "\n" + " ".join([last] * 4)
    if kind == 1:
        return text + "\n" + "\n".join(f"{i}. {last}" for i in range(1, 6))
    return text + "\n" + " ".join(rng.sample(parts, min(3, len(parts))) * 4)


def spoil_near(text: str, rng: random.Random) -> str:
    """A sentence followed by itself with one word changed."""
    parts = [p for p in sentences(text) if p.kind == "prose" and 5 <= len(p.text.split()) <= 14 and p.text[-1] == "."]
    parts = [p for p in parts if p.text == text[p.start : p.end] and re.fullmatch(r"[가-힣 ,.]+", p.text)]
    if not parts:
        return ""
    part = rng.choice(parts)
    words = part.text.split()
    words[rng.randrange(len(words) - 1)] = rng.choice(["고객을", "가족을", "미래를", "모두를"])
    return text[: part.end] + " " + " ".join(words) + text[part.end :]


def spoil_cut(text: str, rng: random.Random) -> str:
    """Broken off after a word inside a sentence."""
    places = [m.start() for m in re.finditer(r"(?<=[가-힣,]) (?=\S)", text)]
    places = [i for i in places if i > 40 and text[:i].count("```") % 2 == 0]
    return text[: rng.choice(places)] if places else ""


def spoil_foreign(text: str, rng: random.Random) -> str:
    places = [m.end() for m in re.finditer(r"[가-힣](?=[가-힣])", own_words(text))]
    if not places:
        return ""
    i = rng.choice(places)
    return text[:i] + rng.choice(FOREIGN) + text[i:]


def bench_faults(rows: list[Row], rng: random.Random) -> None:
    good = [row for row in rows if row["judge_score"] >= 9]
    for code in GOOD_HAVE_FEW:
        hits = sum(code in assess(row["response"], row["prompt"]).codes for row in good)
        print(f"answers judged 9 or 10 flagged: {code:<18} {share(hits, len(good))}")
    spoilers: list[tuple[str, str, Callable[[str, random.Random], str]]] = [
        ("repetition", "loops put in", spoil_loop),
        ("repetition", "near-duplicates put in", spoil_near),
        ("unfinished", "cut at a word", spoil_cut),
        ("strange_characters", "foreign characters put in", spoil_foreign),
    ]
    for code, name, spoil in spoilers:
        found = total = 0
        for row in good:
            if code in assess(row["response"], row["prompt"]).codes:
                continue
            if text := spoil(row["response"].rstrip(), rng):
                total += 1
                found += code in assess(text).codes
        print(f"{name + ', found':<45} {share(found, total)}")


def bench_particles(rows: list[Row], rng: random.Random, way: Way) -> None:
    texts = [own_words(row["response"]) for row in rows if row["judge_score"] >= 9]
    words = sum(len(text.split()) for text in texts)
    flips: list[tuple[str, int]] = []  # text, end of the wrong particle
    for text in rng.sample(texts, 600):
        spots = [m for m in re.finditer(r"[가-힣]+([은는이가을를과와])(?![가-힣])", text) if len(m.group()) >= 2]
        begins = [max(0, m.start() - 20) for m in spots]
        spots = [m for m, i in zip(spots, begins, strict=True) if ends_in(text[i : m.end()], m.end() - i, ("JK", "JX", "JC"))]
        if spots:
            spot = rng.choice(spots)
            flips.append((text[: spot.end() - 1] + RIGHT[spot[1]] + text[spot.end() :], spot.end()))
    with way():  # Kiwi chose the places in either case
        hits = sum(len(wrong_particles(text, spelling=False)) for text in texts)
        slips = sum(len(misspellings(text)) for text in texts)
        found = sum(any(wrong.end == end for wrong in wrong_particles(flipped)) for flipped, end in flips)
    print(f"particles: flips found                        {share(found, len(flips))}")
    print(f"particles: hits per 10,000 words of good text {hits / words * 10000:8.2f}  ({hits} in {words})")
    print(f"spelling: hits per 10,000 words of good text  {slips / words * 10000:8.2f}  ({slips} in {words})")


def quickstart(raw: Path) -> tuple[list[str], list[str]]:
    """Questions and answers of the 950 rows, written by hand, that the quickstart trains on."""
    rows = json.loads((raw / "kullm_v2.json").read_text(encoding="utf-8"))
    for name in ("koalpaca", "kowiki_qa", "smol_koreantalk"):
        rows += read_jsonl(raw / f"{name}.jsonl")
    turns = [(row.get("instruction") or row.get("question"), row.get("output") or row.get("answer")) for row in rows]
    for row in rows:
        texts = [message["content"] for message in row.get("messages", ())]
        turns += zip(texts[::2], texts[1::2], strict=True)
    return [q for q, a in turns if a], [a for q, a in turns if a]


def bench_sets(rows: list[Row]) -> None:
    print(f"set measures: {'our own 950 rows':<31} {measure(*quickstart(QUICKSTART))}")
    models: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        models[row["model"]].append(row)
    for model, own in sorted(models.items(), key=lambda item: -len(item[1]))[:4]:
        print(f"set measures: {model[:30]:<31} {measure([r['prompt'] for r in own], [r['response'] for r in own])}")


ALIKE = {"strange_characters": ("code_switching", "not_korean"), "not_korean": ("code_switching",), "off_topic": ("no_answer",)}
"""Codes that name the same fault: the texts were labelled before `code_switching` and `no_answer` existed."""


def bench_editor(data: Path, show: bool) -> None:
    """Texts with the codes that an editor raises; the halves are split by prompt, frequent prompts by pair."""
    rows = list(read_jsonl(data / "native_editor.jsonl"))
    found = assess_each([row["response"] for row in rows], [row["prompt"] for row in rows])
    often = Counter(row["prompt"] for row in rows)
    outcomes: dict[tuple[str, str], list[tuple[bool, bool]]] = defaultdict(list)  # (strictly right, right)
    for number, (row, verdict) in enumerate(zip(rows, found, strict=True)):
        digest = int(hashlib.sha1(str(row["prompt"])[:40].encode()).hexdigest(), 16)
        half = ("odd" if digest % 2 else "even") if often[row["prompt"]] <= 6 else ("odd" if number // 2 % 2 else "even")
        strict = not verdict.codes if not row["expect"] else not set(row["expect"]).isdisjoint(verdict.codes)
        alike = strict or any(code in verdict.codes for wanted in row["expect"] for code in ALIKE.get(wanted, ()))
        side = "clean" if not row["expect"] else "faulty"
        for group in ("all", half, row["kind"]):
            outcomes[group, side].append((strict, alike))
        if show and not alike:
            print(f"  {half} {row['kind']}: {row['expect']} {verdict.codes} | {row['prompt']} | {row['response']!r}"[:400])
    for group in ("all", "even", "odd"):
        hits = outcomes[group, "faulty"]
        strictly = f"strictly {sum(one for one, _ in hits) / max(len(hits), 1):.1%}"
        print(f"editor: expected code found, {group:<17} {share(sum(two for _, two in hits), len(hits))}, {strictly}")
        clean = outcomes[group, "clean"]
        print(f"editor: clean texts flagged, {group:<17} {share(sum(not one for one, _ in clean), len(clean))}")
    kinds = sorted({group for group, _ in outcomes} - {"all", "even", "odd"})
    for kind in kinds:
        faulty, clean = outcomes[kind, "faulty"], outcomes[kind, "clean"]
        print(
            f"editor: {kind:<24} found {sum(two for _, two in faulty):>3} of {len(faulty):>3}, "
            f"flagged {sum(not one for one, _ in clean):>3} of {len(clean):>3}"
        )


def bench_language(data: Path, rows: list[Row], show: bool) -> None:
    """Language confusion by the benchmark's own labels, and every English answer at hand."""
    confused = zipped(data / "language_confusion.jsonl.gz")
    verdicts = assess_each([row["response"] for row in confused])
    foreign = ("code_switching", "not_korean", "strange_characters")
    for label, names in (
        ("line", ("not_korean",)),
        ("line", foreign),
        ("word", foreign),
        ("ok", ("not_korean",)),
        ("ok", ("code_switching",)),
        ("ok", ("strange_characters",)),
    ):
        own = [(row, verdict) for row, verdict in zip(confused, verdicts, strict=True) if row["label"] == label]
        hits = [(row, verdict) for row, verdict in own if not set(names).isdisjoint(verdict.codes)]
        name = "any of the three" if len(names) > 1 else names[0]
        print(f"language: labelled {label:<5} called {name:<18} {share(len(hits), len(own))}")
        if show and (label, len(names)) in (("ok", 1), ("word", 3), ("line", 3)):
            shown = hits if label == "ok" else [one for one in own if one not in hits]
            for row, verdict in shown:
                spans = [row["response"][max(0, f.start - 20) : f.end + 20] for f in verdict.faults if f.code in names]
                print(f"  {label} {row['words']} {spans[:2] if label == 'ok' else row['response'][:300]!r}")
    english = [row["response"] for row in [*confused, *rows] if _is_english(row)]
    judged = assess_each(english)
    scores = [verdict.score for verdict in judged if not verdict.outside]  # code alone, a table of sounds
    print(f"language: English answers, not judged         {share(len(english) - len(scores), len(english))}")
    print(f"language: English answers, highest score      {max(scores):8.3f}")
    print(f"language: English answers above .3            {share(sum(s > 0.3 for s in scores), len(scores))}")


def _is_english(row: Row) -> bool:
    """Twenty foreign letters outside code and no Hangul, to a Korean prompt that names no language, code or format."""
    prompt, said = row.get("prompt") or "", own_words(row["response"])
    asked = re.search("[A-Za-z]{4}|영어|영작|번역|코드|파이썬|함수|자바|프로그램|알고리즘|수식|행렬", prompt)
    return not asked and not re.search("[가-힣]", said) and len(re.findall("[A-Za-z]", said)) >= 20


def bench_long(data: Path, show: bool) -> None:
    """Long technical answers: what is flagged, and whether natural answers are the better ones."""
    rows = zipped(data / "long_answers.jsonl.gz")
    verdicts = assess_each([row["response"] for row in rows], [row["prompt"] for row in rows])
    pairs = list(zip(rows, verdicts, strict=True))
    print(f"long answers: not natural                     {share(sum(not v.natural for _, v in pairs), len(pairs))}")
    print(f"long answers: not made for their kind         {share(sum(bool(v.outside) for _, v in pairs), len(pairs))}")
    codes = Counter(code for _, verdict in pairs for code in verdict.codes)
    print(
        "long answers: codes                           " + ", ".join(f"{code} {count}" for code, count in codes.most_common())
    )
    models: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for row, verdict in pairs:
        models[row["model"]].append((float(verdict.natural), float(row["verdict"])))
    means = [tuple(statistics.mean(v) for v in zip(*values, strict=True)) for values in models.values()]
    print(f"long answers: Spearman, natural share, {len(means)} models {spearman(means):8.3f}")
    answers: list[tuple[float, ...]] = [(verdict.score, float(row["verdict"])) for row, verdict in pairs]
    print(f"long answers: Spearman, score, answers        {spearman(answers):8.3f}")
    if show:
        for row, verdict in pairs:
            for fault in verdict.faults:
                print(f"  {fault.code}: {row['response'][max(0, fault.start - 30) : min(fault.end, fault.start + 60) + 30]!r}")


def bench_documents(folder: Path, show: bool) -> None:
    texts = [row["text"] for path in sorted(folder.glob("*.jsonl")) for row in read_jsonl(path)]
    if not texts:
        print(f"documents: no data in {folder}")
        return
    verdicts = assess_each(texts)
    print(f"documents: called unnatural                   {share(sum(not v.natural for v in verdicts), len(texts))}")
    codes = Counter(code for verdict in verdicts for code in verdict.codes)
    print(
        "documents: codes                              " + ", ".join(f"{code} {count}" for code, count in codes.most_common())
    )
    if show:
        for text, verdict in zip(texts, verdicts, strict=True):
            for fault in verdict.faults:
                print(f"  {fault.code}: {text[max(0, fault.start - 30) : min(fault.end, fault.start + 60) + 30]!r}")


def bench_speed(rows: list[Row]) -> None:
    near = [row for row in rows if 200 <= len(row["response"]) <= 400]
    texts, prompts = [row["response"] for row in near], [row["prompt"] for row in near]
    for morphology, name in ((True, "Kiwi where needed"), (False, "rules alone")):
        one_by_one, together = [], []
        for _ in range(5):
            begin = time.process_time()
            for text, prompt in zip(texts, prompts, strict=True):
                assess(text, prompt, morphology=morphology)
            middle = time.process_time()
            assess_each(texts, prompts, morphology=morphology)
            one_by_one.append(middle - begin)
            together.append(time.process_time() - middle)
        for how, took in (("assess", one_by_one), ("assess_each", together)):
            rate = len(texts) / min(took)
            print(f"speed: about 300 characters, {name:<17} {how:<11} {rate:8.0f} per second, one core")


def main(args: Args) -> None:
    """Print the measured table."""
    if not (args.data / "judged_answers.jsonl.gz").is_file():
        print(f"no data: {args.data} is not here, so nothing can be measured")
        return
    rng, rows = random.Random(args.seed), zipped(args.data / "judged_answers.jsonl.gz")
    way: Way = rules_alone if args.rules_alone else nullcontext
    sections: dict[Section, Callable[[], object]] = {
        "level": lambda: bench_speech_level(args.data, rng),
        "faults": lambda: bench_faults(rows, rng),
        "judge": lambda: judge_report(rows),
        "sets": lambda: bench_sets(rows),
        "editor": lambda: bench_editor(args.data, args.show),
        "language": lambda: bench_language(args.data, rows, args.show),
        "long": lambda: bench_long(args.data, args.show),
        "documents": lambda: bench_documents(args.documents, args.show),
    }
    for name in SECTIONS:
        if name in args.only and name == "particles":
            bench_particles(rows, rng, way)
        elif name in args.only and name == "speed":
            bench_speed(rows)
        elif name in args.only:
            with way():
                sections[name]()


if __name__ == "__main__":
    main(tyro.cli(Args))
