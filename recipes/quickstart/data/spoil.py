"""Spoil copies of the clean rows in known ways, so that curation can be measured.

    python recipes/quickstart/data/spoil.py
    python recipes/quickstart/data/spoil.py --raw my/raw --output my/spoilt --share 0.5 --seed 7

Writes a fifth as many damaged rows as there are clean ones, in files of the same names and schemas, and beside the
folder a key: `{"file": "koalpaca.jsonl", "line": 7, "kind": "cut_off", "variant": "mid_word", "clean_line": 41}`. Nine
kinds, equally often:

| kind               | before                          | after                                            |
|--------------------|---------------------------------|--------------------------------------------------|
| mixed_speech_level | … 나눕니다. 얼려 두세요. …      | … 나눕니다. 얼려 둬. …                           |
| too_short          | (three sentences)               | 네, 맞아요.                                      |
| rambling           | (three sentences)               | … 다양한 점에서 다양한 … 을 다양하게 …           |
| repetition         | … 한 시간 불리세요.             | … 한 시간 불리세요. 한 시간 불리세요. …          |
| strange_characters | 가장 중요한 것은 온도예요.      | 가장 重要한 것은 온도예요.                       |
| chat_slang         | 김치는 신 것이 좋아요.          | ㅇㅇ 김치는 신 것이 좋아요 ㅋㅋ                  |
| template_leak      | … 좋아요.                       | … 좋아요.\\n\\n### User:\\n다음 질문이에요.         |
| cut_off            | … 한 시간 불리세요.             | … 한 시간 불리                                   |
| broken_row         | {"question": …, "answer": …}    | {"question": …}                                  |

The question of a spoilt row opens with a harmless word more ("저기요, …"): it is no exact copy of its clean twin.
"""

from __future__ import annotations

import argparse
import json
import random
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))
from damage import DAMAGES, Untouchable  # (the folder is not a package: it holds a recipe's data)

HERE = Path(__file__).parent
FILES = ("kullm_v2.json", "koalpaca.jsonl", "smol_koreantalk.jsonl", "kowiki_qa.jsonl")
KEYS = {  # file → the names of question and answer
    "kullm_v2.json": ("instruction", "output"),
    "koalpaca.jsonl": ("instruction", "output"),
    "kowiki_qa.jsonl": ("question", "answer"),
}
OPENINGS = ("저기요, ", "있잖아요, ", "잠깐만요. ", "참, ", "안녕하세요. ", "혹시 말이에요, ", "하나만요. ")
KINDS = (*DAMAGES, "broken_row")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--raw", type=Path, default=HERE / "raw")
    parser.add_argument("--output", type=Path, default=Path("data/quickstart/spoilt"))
    parser.add_argument("--share", type=float, default=0.2, help="spoilt rows per clean row")
    parser.add_argument("--seed", type=int, default=42)
    args = parser.parse_args()
    clean = {name: read_rows(args.raw / name) for name in FILES}
    spoilt, key = spoil(clean, args.share, args.seed)
    args.output.mkdir(parents=True, exist_ok=True)
    for name, lines in spoilt.items():
        text = "[\n" + ",\n".join(lines) + "\n]\n" if name.endswith(".json") else "".join(f"{line}\n" for line in lines)
        (args.output / name).write_text(text, encoding="utf-8")
    key_file = args.output.with_name(args.output.name + ".key.jsonl")
    key_file.write_text("".join(json.dumps(entry, ensure_ascii=False) + "\n" for entry in key), encoding="utf-8")
    counts = ", ".join(f"{kind} {sum(entry['kind'] == kind for entry in key)}" for kind in KINDS)
    print(f"{len(key)} spoilt rows in {args.output}/ ({counts}); key in {key_file}")


def read_rows(path: Path) -> list[dict[str, Any]]:
    """The rows of a clean file, one element per line in all of them (the JSON array too)."""
    text = path.read_text(encoding="utf-8")
    return json.loads(text) if path.suffix == ".json" else [json.loads(line) for line in text.splitlines()]


def spoil(clean: dict[str, list[dict[str, Any]]], share: float, seed: int) -> tuple[dict[str, list[str]], list[dict[str, Any]]]:
    """(file → lines of JSON, key). Rows are drawn from all files; one that a kind cannot damage waits for the next."""
    rng = random.Random(seed)
    places = [(name, number) for name, rows in clean.items() for number in range(len(rows))]
    rng.shuffle(places)
    wanted = round(len(places) * share)
    spoilt: dict[str, list[str]] = {name: [] for name in clean}
    key: list[dict[str, Any]] = []
    while len(key) < wanted:
        kind = KINDS[len(key) % len(KINDS)]
        for place in places:
            name, number = place
            try:
                line, variant = spoil_row(clean[name][number], name, kind, len(key) // len(KINDS), rng)
            except Untouchable:
                continue
            break
        else:
            raise SystemExit(f"no row is left that '{kind}' can be done to: add clean rows or lower --share")
        places.remove(place)
        spoilt[name].append(line)
        first_line = 2 if name.endswith(".json") else 1  # an array opens with a line of its own
        line_number = len(spoilt[name]) - 1 + first_line
        key.append({"file": name, "line": line_number, "kind": kind, "variant": variant, "clean_line": number + first_line})
    return spoilt, key


def spoil_row(row: dict[str, Any], name: str, kind: str, turn: int, rng: random.Random) -> tuple[str, str]:
    """(the damaged row as JSON, which variant). `turn` goes through a kind's variants one after the other."""
    row = json.loads(json.dumps(row))
    row.pop("id", None)
    open_question(row, name, rng)
    if kind == "broken_row":
        return break_row(row, name, turn, rng)
    if "messages" in row:
        message = rng.choice([m for m in row["messages"] if m["role"] == "assistant"])
        before = row["messages"][row["messages"].index(message) - 1]["content"]
        message["content"], variant = DAMAGES[kind](message["content"], before, turn, rng)
    else:
        question, answer = KEYS[name]
        row[answer], variant = DAMAGES[kind](row[answer], row[question], turn, rng)
    return json.dumps(row, ensure_ascii=False), variant


def open_question(row: dict[str, Any], name: str, rng: random.Random) -> None:
    opening = rng.choice(OPENINGS)
    if "messages" in row:
        row["messages"][0]["content"] = opening + row["messages"][0]["content"]
    else:
        question = KEYS[name][0]
        row[question] = opening + row[question]


def break_row(row: dict[str, Any], name: str, turn: int, rng: random.Random) -> tuple[str, str]:
    """A row of the wrong shape; where the file allows it (JSON Lines), also a line that is not JSON."""
    variants = ["missing_key", "wrong_type", "empty", "null"]
    variants += ["roles", "no_answer"] if "messages" in row else []
    variants += ["invalid_json"] if name.endswith(".jsonl") else []
    variant = variants[turn % len(variants)]
    line = json.dumps(row, ensure_ascii=False)
    if variant == "invalid_json":
        return line[: rng.randrange(len(line) // 2, len(line) - 2)], variant
    values = {"wrong_type": 42, "empty": " ", "null": None}
    if "messages" in row:
        messages, last = row["messages"], row["messages"][-1]
        if variant == "roles":
            messages.reverse()
        elif variant == "no_answer":
            messages.pop()
        elif variant == "missing_key":
            del last["content"]
        else:
            last["content"] = values[variant]
    else:
        answer = KEYS[name][1]
        row[answer] = values.get(variant)
        if variant == "missing_key":
            del row[answer]
    return json.dumps(row, ensure_ascii=False), variant


if __name__ == "__main__":
    main()
