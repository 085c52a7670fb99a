"""The rows of `make bench-curation` at a small size: exact counts, a key that tells the truth, clean rows that differ."""

import json
import sys
from collections import Counter
from itertools import combinations
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
ROWS = 1200


@pytest.fixture(scope="module")
def bench():
    sys.path.append(str(ROOT / "benchmarks"))
    from curation_bench import generate, scoring

    yield generate, scoring
    sys.path.remove(str(ROOT / "benchmarks"))


@pytest.fixture(scope="module")
def rows(bench, tmp_path_factory):
    """(lines, key)."""
    folder = tmp_path_factory.mktemp("rows")
    bench[0].build(folder, ROWS, seed=3)
    return list(bench[0].lines_of(folder)), bench[0].read_key(folder)


@pytest.fixture(scope="module")
def clean(rows):
    """Row number → the row, without a fault."""
    lines, key = rows
    return {number: json.loads(line) for number, line in enumerate(lines, 1) if number not in key}


def grams(messages, role):
    text = "".join(filter(str.isalnum, "".join(m["content"] for m in messages if m["role"] == role)))
    return {text[i : i + 5] for i in range(max(len(text) - 4, 1))}


def alike(one, two, role="assistant"):
    a, b = grams(one, role), grams(two, role)
    return len(a & b) / len(a | b)


def parsed(line):
    try:
        return json.loads(line)
    except ValueError:
        return None


def test_counts_by_source_and_kind_are_exact(bench, rows):
    generate, _ = bench
    lines, key = rows
    assert generate.ROWS == 191_641
    sources = Counter(line.rpartition('"source": "')[2].removesuffix('"}') for line in lines if parsed(line))
    unreadable = Counter(entry["source"] for number, entry in key.items() if not parsed(lines[number - 1]))
    assert sources + unreadable == {"smol_koreantalk": 556, "kowiki_qa": 305, "kullm_v2": 209, "koalpaca": 130}
    kinds = Counter(entry["kind"] for entry in key.values())
    assert kinds.total() == ROWS // 4
    assert kinds == {
        "mixed_speech_level": 30, "too_short": 30, "rambling": 24, "repetition": 30, "strange_characters": 30, "chat_slang": 24,
        "template_leak": 24, "cut_off": 30, "broken_row": 12, "exact_duplicate": 24, "near_duplicate": 24, "personal_data": 12,
        "evaluation_overlap": 6,
    }  # fmt: skip


def test_the_file_is_one_array_with_a_row_a_line_and_only_marked_rows_are_broken(bench, rows, tmp_path):
    generate, _ = bench
    lines, key = rows
    unreadable = [number for number, line in enumerate(lines, 1) if parsed(line) is None]
    assert {key[number]["variant"] for number in unreadable} == {"invalid_json"}
    assert all(entry["line"] == number + 1 for number, entry in key.items())
    generate.build(tmp_path, 60, seed=1)
    text = (tmp_path / generate.DATASET).read_text(encoding="utf-8")
    assert text.splitlines()[17].removesuffix(",") == list(generate.lines_of(tmp_path))[16]
    if not any(entry.get("variant") == "invalid_json" for entry in generate.read_key(tmp_path).values()):
        assert len(json.loads(text)) == 60


def test_clean_rows_keep_the_form_and_the_bounds(clean):
    for row in clean.values():
        assert [m["role"] for m in row["messages"]] == ["user", "assistant"] * (len(row["messages"]) // 2)
        lowest = 10 if row["source"] == "smol_koreantalk" else 50
        assert all(lowest <= len(m["content"]) <= 1500 for m in row["messages"][1::2])
        assert 15 <= len(row["messages"][0]["content"]) <= 500


def test_lengths_lie_where_they_were_meant_to(clean):
    def median(source):
        lengths = sorted(len(m["content"]) for row in clean.values() if row["source"] == source for m in row["messages"][1::2])
        return lengths[len(lengths) // 2]

    assert 280 <= median("kullm_v2") <= 400
    assert 320 <= median("koalpaca") <= 480
    assert 190 <= median("kowiki_qa") <= 290
    assert 90 <= median("smol_koreantalk") <= 140


def test_no_two_clean_rows_are_near_duplicates(clean):
    for role in ("user", "assistant"):
        sets = [grams(row["messages"], role) for row in list(clean.values())[:500]]
        likeness = [len(a & b) / len(a | b) for a, b in combinations(sets, 2)]
        assert max(likeness) < 0.8
        assert sum(value >= 0.7 for value in likeness) <= 5  # of 500 rows


def test_copies_are_copies_of_what_the_key_says(rows, clean):
    lines, key = rows
    copies = [(number, entry) for number, entry in key.items() if "of" in entry]
    assert {entry["kind"] for _, entry in copies} == {"exact_duplicate", "near_duplicate"}
    for number, entry in copies:
        messages, original = json.loads(lines[number - 1])["messages"], clean[entry["of"]]["messages"]
        assert entry["of"] < number
        least = 1.0 if entry["kind"] == "exact_duplicate" else 0.7
        assert alike(messages, original) >= least
        assert (messages == original) == (entry["variant"] == "identical")


def test_personal_data_and_evaluation_prompts_are_where_the_key_says(rows):
    lines, key = rows
    text = (ROOT / "recipes/quickstart/data/evaluation/prompts.jsonl").read_text(encoding="utf-8")
    prompts = [json.loads(line)["messages"][0]["content"] for line in text.splitlines()]
    for number, entry in key.items():
        if entry["kind"] == "personal_data":
            assert entry["planted"] in lines[number - 1]
        if entry["kind"] == "evaluation_overlap":
            asked = json.loads(lines[number - 1])["messages"][0]["content"]
            assert any(asked.endswith(prompt) for prompt in prompts)


def test_the_same_seed_gives_the_same_rows_and_another_one_others(bench, tmp_path):
    generate, _ = bench
    texts = []
    for name, seed in (("a", 5), ("b", 5), ("c", 6)):
        (tmp_path / name).mkdir()
        generate.build(tmp_path / name, 150, seed)
        texts.append([(tmp_path / name / file).read_text(encoding="utf-8") for file in (generate.DATASET, generate.KEY)])
    assert texts[0] == texts[1]
    assert texts[0][0] != texts[2][0]


def test_rows_are_built_once(bench, tmp_path):
    generate, _ = bench
    folder = generate.cached(tmp_path, 40, seed=1)
    (folder / generate.DATASET).write_text("mine", encoding="utf-8")
    assert generate.cached(tmp_path, 40, seed=1) == folder
    assert (folder / generate.DATASET).read_text(encoding="utf-8") == "mine"
    assert generate.cached(tmp_path, 41, seed=1) != folder


def test_score_counts_a_copy_as_found_when_its_original_fell_and_no_clean_row_as_lost_for_it(bench):
    _, scoring = bench
    key = {
        5: {"row": 5, "kind": "near_duplicate", "of": 2},
        6: {"row": 6, "kind": "cut_off"},
        7: {"row": 7, "kind": "cut_off"},
        8: {"row": 8, "kind": "chat_slang"},
    }
    reasons = {2: "near_duplicate", 6: "unfinished", 7: "too_short", 1: "filler"}
    table = {line.kind: line for line in scoring.score(reasons, key, rows=10)}
    assert (table["near_duplicate"].dropped, table["near_duplicate"].right) == (1.0, 1.0)
    assert (table["cut_off"].dropped, table["cut_off"].right) == (1.0, 0.5)
    assert (table["all faulty"].dropped, table["all faulty"].right) == (0.75, 0.5)
    assert table["clean"].dropped == pytest.approx(1 / 6)
    assert table["clean"].reasons == "filler 1"


def test_masked_personal_data_is_told_from_data_left_in_and_from_rows_not_taken(bench, tmp_path):
    _, scoring = bench
    start = "수원에서 일하는 간호사인데 "
    key = {
        n: {"row": n, "kind": "personal_data", "planted": f"010-1234-000{n}", "opening": f"{start}{n}번째 질문이에요."}
        for n in range(4)
    }

    def row(number, said):
        asked = f"{start}{number}번째 질문이에요. 제 전화번호는 {said}예요."
        return json.dumps({"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": "네."}]})

    file = tmp_path / "train.jsonl"
    file.write_text("\n".join([row(0, "010-1234-0000"), row(1, "[전화번호]")]) + "\n", encoding="utf-8")
    assert scoring.fate_of_personal_data(key, {3: "personal_data"}, [file]) == ({1}, {2})
