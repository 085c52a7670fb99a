"""Curation: what goes in, what comes out, and what is said about the difference. Offline, no torch."""

from __future__ import annotations

import importlib
import json
import os
import random
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from html_page import english_sentences
from rich.console import Console

from align_ko import json_rows
from align_ko.adapters import Rejection, adapt
from align_ko.curation.curate import Pool, curate
from align_ko.curation.facts import CurationFacts, Tally, funnel, histogram
from align_ko.curation.filters import FILTERS, Candidate, Rules, choose_filters, first_rejections
from align_ko.curation.judge import Judge, Judged, Work
from align_ko.curation.select import Features, decide, divide, select, split
from align_ko.curation.sketches import duplicate_key
from align_ko.errors import UserError, run_script
from align_ko.manifest import what_is_whole
from align_ko.overlap import PromptIndex, overlaps, prompts_to_hold_out
from align_ko.process import HOLDER_FILE, lock_folder
from align_ko.recipe import DataRecipe, LengthBounds, NearDuplicateArgs, SftRecipe, SourceArgs, check_inputs, recipe_from
from align_ko.records import Conversation, content_id, read_jsonl
from align_ko.report.curation import write_report
from align_ko.sources import RawRow, read_file, read_source
from align_ko.workers import Workers

ROOT = Path(__file__).parents[2]
GOOD = "김치찌개는 신 김치로 끓여야 맛이 깊어요. 멸치 육수를 쓰면 국물이 한결 시원해집니다."
WEIGHTS = {"instruction": 0.60, "dialogue": 0.25, "knowledge": 0.15}
REAL_COUNTS = {"instruction": 54_190, "dialogue": 88_752, "knowledge": 48_699}


def turns(*texts: str) -> list[dict[str, str]]:
    """Messages from texts, the user's first."""
    return [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]


def some_rows(count: int, group: str = "dialogue") -> list[Conversation]:
    return [Conversation(turns(f"{number}번 질문이에요", GOOD), "smol", group) for number in range(count)]


# ------------------------------------------------------------------------------------------------------------- readers

ROWS = [
    {"question": "수도가 어디예요?", "answer": "서울이에요.\n한강이 흐르죠."},
    {"question": "똠방각하 뜻?", "answer": "펲시콜라"},  # syllables that are in CP949 and not in EUC-KR
]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp949", "utf-16"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_jsonl_in_every_encoding(tmp_path: Path, encoding: str, newline: str) -> None:
    path = tmp_path / "rows.jsonl"
    text = newline.join(json.dumps(row, ensure_ascii=False) for row in ROWS) + newline
    path.write_bytes(text.encode(encoding))
    assert [(row.line, row.value, row.problem) for row in read_file(path)] == [(1, ROWS[0], ""), (2, ROWS[1], "")]


@pytest.mark.parametrize("encoding", ["utf-8-sig", "cp949"])
@pytest.mark.parametrize(("name", "delimiter"), [("rows.csv", ","), ("rows.tsv", "\t")])
def test_csv(tmp_path: Path, encoding: str, name: str, delimiter: str) -> None:
    path = tmp_path / name
    lines = [("Q", "A"), ("수도가 어디예요?", '"서울이에요.\r\n한강이 흐르죠."'), ("하나뿐",), ("고마워요", "네")]
    path.write_bytes("".join(delimiter.join(line) + "\r\n" for line in lines).encode(encoding))
    rows = list(read_file(path))
    assert [row.line for row in rows] == [2, 4, 5]  # the second row's answer holds a line break
    assert rows[0].value == {"Q": "수도가 어디예요?", "A": "서울이에요.\r\n한강이 흐르죠."}
    assert [row.problem for row in rows] == ["", "number of fields differs from the header's", ""]


def test_parquet(tmp_path: Path) -> None:
    import pyarrow
    from pyarrow import parquet

    value = {"messages": turns("안녕", "반가워요."), "source": "smol_koreantalk"}
    parquet.write_table(pyarrow.Table.from_pylist([value, value]), tmp_path / "rows.parquet")
    assert [(row.line, row.value) for row in read_file(tmp_path / "rows.parquet")] == [(1, value), (2, value)]
    (tmp_path / "cut.parquet").write_bytes((tmp_path / "rows.parquet").read_bytes()[:200])
    assert [row.problem[:24] for row in read_file(tmp_path / "cut.parquet")] == ["not readable as Parquet:"]


@pytest.mark.parametrize("chunk", [7, 64, 1 << 20])
@pytest.mark.parametrize("indent", [None, 2])
def test_json_array_is_read_whole_whatever_the_chunk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, chunk: int, indent: int | None
) -> None:
    rows = [{"messages": turns(f'질문 {n} "]}},{{', "답변" * n), "source": "kullm_v2"} for n in range(40)]
    path = tmp_path / "korean_large_dataset.json"
    path.write_text("\ufeff" + json.dumps(rows, ensure_ascii=False, indent=indent), encoding="utf-8")
    monkeypatch.setattr(json_rows, "CHUNK", chunk)
    assert [(row.value, row.problem) for row in read_file(path)] == [(row, "") for row in rows]


def test_json_array_goes_on_after_a_broken_element(tmp_path: Path) -> None:
    elements = [json.dumps({"question": f"질문 {n}", "answer": "답"}, ensure_ascii=False) for n in range(6)]
    elements[1] = elements[1].replace('"answer":', '"answer"')
    elements[3] = elements[3][:14]
    path = tmp_path / "rows.json"
    path.write_text("[\n" + ",\n".join(elements) + "\n]", encoding="utf-8")
    rows = list(read_file(path))
    assert [row.line for row in rows] == [2, 3, 4, 5, 6, 7]
    assert [bool(row.problem) for row in rows] == [False, True, False, True, False, False]
    assert rows[1].problem == "not valid JSON: Expecting ':' delimiter"

    path.write_text(path.read_text(encoding="utf-8")[:-30], encoding="utf-8")
    rows = list(read_file(path))
    assert [row.line for row in rows if not row.problem] == [2, 4, 6]
    assert rows[-1].problem == "the file ends inside the array: it was cut off"


def test_broken_lines_are_rows_with_a_problem(tmp_path: Path) -> None:
    good = json.dumps(ROWS[0], ensure_ascii=False)
    deep = '{"a":' * 100_000
    lines = [good, '{"question": "수', "", good, good.replace("서울", "서\0울"), deep, '{"n": ' + "9" * 5000 + "}"]
    path = tmp_path / "rows.jsonl"
    path.write_text("\n".join(lines), encoding="utf-8")
    rows = list(read_file(path))
    assert [(row.line, bool(row.problem)) for row in rows] == [
        (1, False), (2, True), (4, False), (5, True), (6, True), (7, True),
    ]  # fmt: skip
    assert rows[1].problem.startswith("not valid JSON: Invalid control character")


def test_one_bad_byte_costs_one_row(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    lines = [json.dumps(ROWS[0], ensure_ascii=False).encode()] * 3
    path.write_bytes(b"\n".join([lines[0], lines[1].replace("서".encode(), b"\xec\x84"), lines[2]]))
    rows = list(read_file(path))
    assert [row.value["answer"][0] for row in rows if not row.problem] == ["서", "서"]
    assert (rows[1].line, rows[1].problem) == (2, "contains bytes that are no text in this file's encoding (column 38)")


def test_folder_and_missing_path(tmp_path: Path) -> None:
    for name in ("b.jsonl", "a.json", ".hidden.jsonl", "notes.txt"):
        text = json.dumps([{"question": name}]) if name == "a.json" else json.dumps({"question": name})
        (tmp_path / name).write_text(text)
    assert [row.value["question"] for row in read_source(str(tmp_path))] == ["a.json", "b.jsonl"]
    with pytest.raises(UserError, match=r"no_such.jsonl: file or folder not found"):
        list(read_source(str(tmp_path / "no_such.jsonl")))


# ------------------------------------------------------------------------------------------------------------ adapters


@pytest.mark.parametrize(
    ("row", "columns", "expected"),
    [
        ({"messages": turns("가", "나", "다", "라"), "source": "s"}, {}, turns("가", "나", "다", "라")),
        ({"conversations": [{"from": "human", "value": "가"}, {"from": "gpt", "value": "나"}]}, {}, turns("가", "나")),
        ({"id": 1, "instruction": "번역해 줘", "input": "Hi", "output": "안녕"}, {}, turns("번역해 줘\n\nHi", "안녕")),
        ({"instruction": "뭐야?", "input": "", "output": " 답\r\n끝 "}, {}, turns("뭐야?", "답\n끝")),
        ({"instruction": "뭐야?", "output": "답", "url": "u"}, {}, turns("뭐야?", "답")),
        ({"question": "뭐야?", "answer": "답"}, {}, turns("뭐야?", "답")),
        ({"Q": "뭐야?", "A": "답", "label": "0"}, {}, turns("뭐야?", "답")),
        ({"물음": "뭐야?", "풀이": "답"}, {"question": "물음", "answer": "풀이"}, turns("뭐야?", "답")),
        ({"question": "한글".encode().decode(), "answer": "\u1112\u1161\u11ab"}, {}, turns("한글", "한")),  # NFD → NFC
        ({"question": "뭐야?", "answer": "좋아요 \ud83d"}, {}, turns("뭐야?", "좋아요 \ufffd")),
    ],
)
def test_adapters(row: dict[str, Any], columns: dict[str, str], expected: list[dict[str, str]]) -> None:
    assert adapt(row, "auto", columns) == expected


@pytest.mark.parametrize(
    ("row", "detail"),
    [
        ([1], "the row is a list, expected an object"),
        ({"instruction": "뭐야?"}, "'output' is missing"),
        ({"question": "뭐야?", "answer": 42}, "'answer' is a number, expected text"),
        ({"messages": "안녕"}, "'messages' is text, expected a list"),
        ({"messages": [{"role": "user"}]}, "content of message 1 is null, expected text"),
        ({"messages": [{"content": "안녕"}]}, "message 1 has no role"),
        ({"text": "안녕"}, "no adapter fits the keys (text); name columns in the recipe"),
    ],
)
def test_adapters_say_what_is_wrong(row: Any, detail: str) -> None:
    assert adapt(row) == Rejection("broken_row", detail)


# ------------------------------------------------------------------------------------------------------------- filters


def verdict(messages: list[dict[str, str]], level: str = "polite", names: tuple[str, ...] = ()) -> str:
    rules = Rules({"dialogue": LengthBounds(2, 100, 10, 200)}, level)
    row = Candidate(Conversation(messages, "smol", "dialogue"))
    found = first_rejections([row], rules, choose_filters(names))[0]
    return found.reason if found else ""


@pytest.mark.parametrize(
    ("messages", "reason"),
    [
        (turns("김치찌개 끓이는 법?", GOOD), ""),
        ([{"role": "system", "content": "친절하게 답해요"}, *turns("김치찌개 끓이는 법?", GOOD)], ""),
        (turns("김치찌개 끓이는 법?", GOOD, "왜?"), "roles"),
        (list(reversed(turns("김치찌개 끓이는 법?", GOOD))), "roles"),
        (turns("김치찌개 끓이는 법?", "…"), "empty"),
        (turns("?", GOOD), "empty"),
        (turns("법", GOOD), "too_short"),
        (turns("김치찌개 끓이는 법?", "네, 맞아요."), "too_short"),
        (turns("김치찌개 끓이는 법?", GOOD, "왜?", GOOD), ""),  # a follow-up may be short
        (turns("김치찌개 끓이는 법?", GOOD * 5), "too_long"),
        (turns("김치찌개 끓이는 법?", GOOD + "\n\n### User:\n고마워요"), "template_leak"),
        (turns("김치찌개 끓이는 법?<|eot_id|>", GOOD), "template_leak"),
        ([{"role": "system", "content": "친절하게</s>"}, *turns("김치찌개 끓이는 법?", GOOD)], "template_leak"),
        (turns("### 질문\n김치찌개 끓이는 법?", GOOD), ""),  # a heading in a question is no leak
        (turns("김치찌개 끓이는 법?", GOOD.replace("국물이", "国물이")), "strange_characters"),
        (turns("김치찌개 끓이는 법?", GOOD + " 돼지고기도 넣어라."), "speech_level"),
        (turns("김치찌개 끓이는 법?", GOOD, "고기는?", "돼지고기 목살을 넣는다. 기름이 적당하다."), "speech_level"),
        (turns("김치찌개 끓이는 법?", GOOD + " ㅋㅋㅋㅋ"), "chat_slang"),
        (turns("김치찌개 끓이는 법?", GOOD + " 국물이 한결 시원해집니다." * 4), "repetition"),
    ],
)
def test_filters(messages: list[dict[str, str]], reason: str) -> None:
    assert verdict(messages) == reason


def test_speech_level_as_the_recipe_wants_it() -> None:
    plain = turns("고기는 뭘 넣어?", "돼지고기 목살을 넣는다. 기름이 적당하다.")
    mixed = turns("고기는 뭘 넣어?", GOOD + " 돼지고기 목살을 넣어라. 기름이 적당하다.")
    assert [verdict(plain, level) for level in ("polite", "consistent", "any")] == ["speech_level", "", ""]
    assert [verdict(mixed, level) for level in ("polite", "consistent", "any")] == ["speech_level", "speech_level", ""]


def test_filters_run_in_the_recipes_order() -> None:
    names = [check.__name__ for check in choose_filters()]
    assert names == ["roles", "empty", *FILTERS]
    slangy_and_long = turns("김치찌개 끓이는 법?", GOOD * 5 + " ㅋㅋㅋㅋ")
    assert verdict(slangy_and_long, names=("chat_slang", "length")) == "chat_slang"
    assert verdict(slangy_and_long, names=("length", "chat_slang")) == "too_long"
    assert verdict(slangy_and_long, names=("template_leak",)) == ""


# ---------------------------------------------------------------------------------------------------------- duplicates


def test_duplicates_and_overlap() -> None:
    assert duplicate_key(turns("수도가 어디?", "서울이에요.")) == duplicate_key(turns("수도가  어디", "서울 이에요!"))
    assert duplicate_key(turns("수도가 어디?", "서울이에요.")) != duplicate_key(turns("수도가 어디?", "부산이에요."))
    assert PromptIndex(["김치찌개는 어떻게 끓이나요?"]).nearest("날씨") == ("", 0.0)
    assert overlaps("한국의 수도는 어디인가요?", ["한국의 수도는 어디야?"])
    assert not overlaps("한국의 국화는 무엇인가요?", ["한국의 수도는 어디야?"])
    assert not overlaps("사계절은 왜 생기나요?", ["밀물과 썰물은 왜 생기나요?"])
    assert prompts_to_hold_out(turns("가", "나", "왜요?", "라", "그러면 물은 얼마나 넣나요?", "바")) == [
        "가",
        "그러면 물은 얼마나 넣나요?",
    ]


# ------------------------------------------------------------------------------------------------------------- mixture


@pytest.mark.parametrize(
    ("on_shortage", "taken", "sentence"),
    [
        ("shrink", (54_190, 22_579, 13_547), "The weights are kept and the total shrinks (shrink): 90,316 of"),
        ("fill", (54_190, 28_631, 17_179), "The other groups fill the total (fill): 100,000 of 100,000 rows"),
        ("upsample", (60_000, 25_000, 15_000), "Short groups are repeated (upsample): 100,000 rows."),
    ],
)
def test_the_users_own_shortage(on_shortage: str, taken: tuple[int, int, int], sentence: str) -> None:
    mixture = decide(REAL_COUNTS, WEIGHTS, 100_000, on_shortage)
    assert tuple(mixture.taken.values()) == taken
    assert mixture.decision.startswith(f"instruction: 60,000 rows wanted, 54,190 there. {sentence}")
    assert mixture.table()[0] == {
        "group": "instruction", "wanted": 60_000, "available": 54_190, "taken": taken[0],
        "share": round(taken[0] / sum(taken), 4),
    }  # fmt: skip


def test_enough_rows_empty_groups_and_rounding() -> None:
    assert decide(REAL_COUNTS, WEIGHTS, 50_000, "shrink").taken == {
        "instruction": 30_000, "dialogue": 12_500, "knowledge": 7_500,
    }  # fmt: skip
    alone = decide({"dialogue": 700}, WEIGHTS, 500, "shrink")
    assert alone.taken == {"instruction": 0, "dialogue": 500, "knowledge": 0}
    assert alone.decision.endswith("No rows at all in instruction, knowledge: the other groups share its weight.")
    unweighted = decide({"a": 10, "b": 10}, {"a": 1.0}, 5, "fill")
    assert unweighted.taken == {"a": 5, "b": 0}
    assert unweighted.decision.endswith("No weight for b: its rows are left out.")
    assert decide({"a": 3, "b": 4}, {"a": 0.5, "b": 0.5}, 100, "fill").taken == {"a": 3, "b": 4}
    assert divide(7, {"a": 1, "b": 1, "c": 1}) == {"a": 3, "b": 2, "c": 2}


def test_same_seed_same_rows_whatever_the_order() -> None:
    rows = [Features(row.id, row.group, 1.0, 200) for row in some_rows(50)]
    shuffled = random.Random(1).sample(rows, len(rows))
    chosen = [rows[place].id for place in select(rows, {"dialogue": 20}, seed=42)]
    assert chosen == [shuffled[place].id for place in select(shuffled, {"dialogue": 20}, seed=42)]
    assert chosen != [rows[place].id for place in select(rows, {"dialogue": 20}, seed=43)]
    assert len(set(chosen)) == 20
    repeated = Counter(select(rows, {"dialogue": 120}, seed=42))
    assert sorted(repeated.values()) == [2] * 30 + [3] * 20  # evenly, none three times before all came twice


def test_split_never_moves_a_row() -> None:
    rows = some_rows(400)
    train, held_out, _ = split(rows, 0.05)
    assert (len(train), len(held_out)) == (376, 24)
    more = split(some_rows(1000) + some_rows(200, "knowledge"), 0.05)
    assert {row.id for row in held_out} <= {row.id for row in more[1]}
    assert {row.id for row in train} <= {row.id for row in more[0]}
    again = split(rows * 2, 0.05)
    assert (len(again[0]), len(again[1])) == (2 * len(train), len(held_out))  # repeats are for training only
    assert split(rows, 0.0) == (rows, [], [])
    less, same, apart = split(rows * 2, 0.05, 0.3)
    assert same == held_out and len(apart) == len({row.id for row in apart})  # eval does not change with the other share
    assert {row.id for row in less} | {row.id for row in apart} == {row.id for row in train} and len(less) == 2 * (
        376 - len(apart)
    )
    assert 90 < len(apart) < 150


# ------------------------------------------------------------------------------------------------------ report and run


def test_funnel_and_histograms() -> None:
    dropped = {"broken_row": 1, "roles": 1, "too_short": 2, "repetition": 3, "echo": 1, "duplicate": 1}
    assert list(funnel(20, dropped, 5).values()) == [20, 18, 16, 12, 11, 11, 5]
    bins = histogram({9: 1, 10: 2, 149: 1, 150: 1, 5000: 1}, {150: 1})
    assert [(b["before"], b["after"]) for b in bins] == [
        (1, 0), (2, 0), (0, 0), (1, 0), (1, 1), (0, 0), (0, 0), (0, 0), (1, 0),
    ]  # fmt: skip


def run(tmp_path: Path, rows: list[Any], **options: Any) -> tuple[CurationFacts, Path]:
    """Curate `rows`, written as the user's own file: one array of {messages, source}."""
    path, out = tmp_path / "korean_large_dataset.json", tmp_path / "out"
    path.write_text("[\n" + ",\n".join(json.dumps(row, ensure_ascii=False) for row in rows) + "\n]", encoding="utf-8")
    bounds = dict.fromkeys(("instruction", "dialogue", "knowledge"), LengthBounds(2, 500, 10, 1500))
    never = NearDuplicateArgs(2.0, 2.0, 2.0)  # the rows of these tests differ in a number only
    settings = {"lengths": bounds, "on_shortage": "fill", "eval_share": 0.3, "near_duplicates": never} | options
    facts = curate(DataRecipe({"mine": SourceArgs(str(path))}, str(out), **settings), Console(quiet=True))
    write_report(out, facts)
    return facts, out


def own_rows(count: int) -> list[dict[str, Any]]:
    names = ("kullm_v2", "koalpaca", "smol_koreantalk", "kowiki_qa")
    return [{"messages": turns(f"{n}번째 김치찌개 비결은?", GOOD), "source": names[n % 4]} for n in range(count)]


def test_the_users_own_file_with_one_path(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.jsonl"
    prompts.write_text(json.dumps({"messages": turns("멸치 육수는 어떻게 내나요?", "…")}) + "\n", encoding="utf-8")
    many = turns("된장찌개는요?", GOOD, "간은요?", "된장 한 숟갈이면 맞아요.", "두부는요?", "두부는 나중에 넣으세요.")
    rows = [
        *own_rows(20),
        {"messages": many, "source": "smol_koreantalk"},
        {"messages": turns("0번째 김치찌개 비결은", GOOD), "source": "kullm_v2"},  # line 23: says the same as row 0
        {"messages": turns("멸치 육수는 어떻게 내요?", GOOD), "source": "kullm_v2"},  # line 24: an evaluation prompt
        {"messages": turns("고기는?", "돼지고기 목살이 좋다."), "source": "kullm_v2"},  # line 25: plain
        {"messages": turns("고기는?", GOOD), "source": "nobody_knows"},  # line 26: in no group
        {"messages": turns("고기는?"), "source": "kullm_v2"},  # line 27: no answer
    ]
    facts, out = run(tmp_path, rows, evaluation_files=(str(prompts),))
    kept = [*read_jsonl(out / "train.jsonl"), *read_jsonl(out / "eval.jsonl")]
    assert len(kept) == facts["rows"]["taken"] == 21
    assert [row["messages"] for row in kept if len(row["messages"]) > 2] == [many]
    assert {row["source"]: row["group"] for row in kept} == {
        "kullm_v2": "instruction", "koalpaca": "instruction",
        "smol_koreantalk": "dialogue", "kowiki_qa": "knowledge",
    }  # fmt: skip
    assert {tuple(row) for row in kept} == {("messages", "source", "group", "id", "repairs")}
    rejected = {row["line"]: row for row in read_jsonl(out / "rejected.jsonl")}
    assert {line: row["reason"] for line, row in rejected.items()} == {
        23: "duplicate", 24: "evaluation_overlap", 25: "speech_level", 26: "broken_row", 27: "roles",
    }  # fmt: skip
    assert rejected[23]["detail"].endswith("korean_large_dataset.json:2")
    assert rejected[25]["row"] == rows[23]
    assert {name: list(left.values()) for name, left in facts["funnel"].items()} == {
        "kullm_v2": [9, 8, 8, 7, 6, 5, 5],
        "koalpaca": [5] * 7,
        "smol_koreantalk": [6] * 7,
        "kowiki_qa": [5] * 7,
        "nobody_knows": [1] + [0] * 6,
    }
    assert json.loads((out / "report.json").read_text(encoding="utf-8")) == facts
    assert english_sentences((out / "report.html").read_text(encoding="utf-8")) == []
    by_group = facts["answer_characters_by_group"]
    assert set(by_group) == {"instruction", "dialogue", "knowledge"}
    for side in ("before", "after"):
        summed = [sum(counts) for counts in zip(*([line[side] for line in lines] for lines in by_group.values()), strict=True)]
        assert summed == [line[side] for line in facts["answer_characters"]] and sum(summed) >= 21
    report = (out / "README.md").read_text(encoding="utf-8")
    assert "| evaluation_overlap | 1 | 0 | 0 | 0 | 0 | 1 |" in report
    assert facts["mixture"]["decision"] in report


def test_a_model_drops_what_belongs_to_another_question(tmp_path: Path) -> None:
    many = turns("된장찌개는요?", GOOD, "간은요?", "된장 한 숟갈이면 맞아요.", "두부는요?", "두부는 나중에 넣으세요.")
    path, asked = tmp_path / "rows.jsonl", []
    rows = [*own_rows(20), {"messages": many, "source": "koalpaca"}]
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    def unrelated(questions: Any) -> list[str]:
        asked.extend(questions)
        return [
            "not of this" if "두부" in answer or prompt[0]["content"].startswith("3") else "" for prompt, answer in questions
        ]

    bounds = {"instruction": LengthBounds(2, 500, 2, 1500)}
    recipe = DataRecipe(
        {"mine": SourceArgs(str(path), "instruction")}, str(tmp_path / "out"), lengths=bounds, off_topic_model="m",
        near_duplicates=NearDuplicateArgs(2.0, 2.0, 2.0), on_shortage="fill",
    )  # fmt: skip
    facts = curate(recipe, Console(quiet=True), unrelated)
    assert len(asked) == 23 and asked[-1] == (many[:5], many[5]["content"])  # every answer beside all that was said before
    rejected = list(read_jsonl(tmp_path / "out/rejected.jsonl"))
    assert [(row["line"], row["reason"], row["detail"]) for row in rejected] == [
        (4, "unrelated", "not of this"), (21, "unrelated", "not of this"),
    ]  # fmt: skip
    assert facts["rows"]["taken"] == 19 and "unrelated" in facts["filters"] and "off_topic" not in facts["filters"]


def test_same_files_again_and_after_rows_were_added(tmp_path: Path) -> None:
    _, out = run(tmp_path, own_rows(40))
    first = [(out / name).read_bytes() for name in ("train.jsonl", "eval.jsonl")]
    _, out = run(tmp_path, list(reversed(own_rows(40))))
    assert [(out / name).read_bytes() for name in ("train.jsonl", "eval.jsonl")] == first
    held_out = {row["id"] for row in read_jsonl(out / "eval.jsonl")}
    _, out = run(tmp_path, own_rows(60))
    assert held_out < {row["id"] for row in read_jsonl(out / "eval.jsonl")}
    assert not held_out & {row["id"] for row in read_jsonl(out / "train.jsonl")}


def test_rows_for_preference_pairs_are_set_apart(tmp_path: Path) -> None:
    facts, out = run(tmp_path, own_rows(200), eval_share=0.1, preference_share=0.4)
    ids = {name: {row["id"] for row in read_jsonl(out / f"{name}.jsonl")} for name in ("train", "eval", "preferences")}
    assert {name: len(found) for name, found in ids.items()} == {name: facts["rows"][name] for name in ids}
    assert facts["rows"]["taken"] == len(set().union(*ids.values())) == sum(map(len, ids.values()))
    assert len(ids["preferences"]) > 0.3 * facts["rows"]["taken"]
    assert f"{len(ids['preferences'])} set apart for preference pairs" in (out / "README.md").read_text(encoding="utf-8")
    assert "split: preferences" in (out / "README.md").read_text(encoding="utf-8")
    again, _ = run(tmp_path, own_rows(200), eval_share=0.1)
    assert not (out / "preferences.jsonl").exists()  # its rows are trained on now
    assert again["rows"]["train"] == facts["rows"]["train"] + facts["rows"]["preferences"]


def test_an_interrupted_run_leaves_all_files_of_the_earlier_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, out = run(tmp_path, own_rows(40), preference_share=0.3)
    (out / "manifest.json").write_text("{}")
    before = {path.name: path.read_bytes() for path in out.iterdir()}

    def interrupted(folder: Path) -> None:  # all rows are written by then
        assert len(list(folder.glob(".*.align_ko.tmp"))) == 4
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("align_ko.curation.finish"), "remove_manifest", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, own_rows(80), preference_share=0.3)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before


@pytest.mark.parametrize("renamed", [0, 1, 2])
def test_killed_while_its_files_are_renamed_a_run_is_not_trained_on(tmp_path, monkeypatch, renamed) -> None:
    """train.jsonl of one run beside eval.jsonl of another: rows are trained on that are held out."""
    _, out = run(tmp_path, own_rows(40))
    rows, held_out = out / "train.jsonl", out / "eval.jsonl"
    (out / HOLDER_FILE).write_text("{}")
    recipe = recipe_from(
        SftRecipe,
        model={"model_name_or_path": "owner/name"},
        data={"train_file": str(rows), "eval_file": str(held_out)},
        training={"output_dir": str(tmp_path / "sft")},
    )
    (out / "manifest.json").write_text("{}")
    check_inputs(recipe)
    calls, replace = iter(range(10)), os.replace

    def killed(source: str, target: str) -> None:
        if next(calls) == renamed:
            raise SystemExit
        replace(source, target)

    with monkeypatch.context() as patch, pytest.raises(SystemExit):
        patch.setattr(os, "replace", killed)
        run(tmp_path, own_rows(80))
    assert not (out / "manifest.json").exists()
    with pytest.raises(UserError, match=r"data\.train_file: .* has no manifest\.json: .* its files may be of two runs"):
        check_inputs(recipe)
    (out / HOLDER_FILE).unlink()  # rows of one's own, in a folder that no stage wrote
    check_inputs(recipe)


def test_what_became_of_the_files_is_said_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert what_is_whole() == "nothing was written"
    lock_folder(tmp_path)
    (tmp_path / "rejected.jsonl").touch()
    assert what_is_whole().startswith("nothing was written, the files of an earlier run")
    (tmp_path / "train.jsonl").touch()
    assert what_is_whole().startswith(f"the files in {tmp_path} are not all of one run")
    (tmp_path / "manifest.json").touch()
    assert what_is_whole().startswith("nothing was written, the files of an earlier run")
    (tmp_path / "training_run.json").write_text('{"finished": null}')
    assert what_is_whole().startswith("no checkpoint is whole yet")
    for step, whole in ((9, True), (10, True), (11, False)):
        (tmp_path / f"checkpoint-{step}").mkdir()
        if whole:
            (tmp_path / f"checkpoint-{step}/align_ko_whole.json").touch()
    assert what_is_whole() == f"{tmp_path}/checkpoint-10 is whole, the same command continues from there"


def test_where_no_row_is_left_the_reasons_are_counted_and_the_rows_kept(tmp_path: Path) -> None:
    rows = [{"messages": turns("김치찌개?", "네"), "source": "kullm_v2"}] * 3
    rows += [{"messages": turns("된장?", ""), "source": "koalpaca"}]
    with pytest.raises(UserError, match=r"out/rejected\.jsonl: no row of 4 is left for training: 3 too_short, 1 ") as caught:
        run(tmp_path, rows)
    assert "this file has each with its reason" in str(caught.value)
    assert [row["line"] for row in read_jsonl(tmp_path / "out/rejected.jsonl")] == [2, 3, 4, 5]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rejected.jsonl"]


def test_too_many_broken_rows_stop_the_run(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"sources.mine: 3 of 5 rows cannot be read; the first: .*dataset.json:2: "):
        run(tmp_path, [{"message": 1, "messages": 1}] * 3 + own_rows(2))
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["rejected.jsonl"]
    with pytest.raises(UserError, match=r"sources.mine.path: .* contains no rows"):
        run(tmp_path, [])


def test_unknown_filter_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"filters\[1\]: unknown filter; .*did you mean 'repetition'"):
        run(tmp_path, own_rows(2), filters=("length", "repetitions"))


# ---------------------------------------------------------------------------------------------------- quickstart data


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The quickstart's rows, spoilt and curated in a folder of its own."""
    folder = tmp_path_factory.mktemp("quickstart")
    (folder / "recipes").symlink_to(ROOT / "recipes")
    for command in (
        ["recipes/quickstart/data/spoil.py"],
        [str(ROOT / "benchmarks/measure_curation.py"), "recipes/quickstart/data.yaml"],
    ):
        environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
        subprocess.run([sys.executable, *command], cwd=folder, env=environment, check=True, capture_output=True)
    return folder / "data" / "quickstart"


def test_curation_finds_the_damage_and_spares_the_clean_rows(measured: Path) -> None:
    lines = json.loads((measured / "sft" / "measured.json").read_text(encoding="utf-8"))
    table = {line["kind"]: line for line in lines}
    assert table["all spoilt"]["rows"] == round(0.2 * table["clean"]["rows"])
    kinds = [line["rows"] for kind, line in table.items() if kind not in ("all spoilt", "clean")]
    assert max(kinds) - min(kinds) <= 1
    assert table["all spoilt"]["dropped"] >= 0.9
    assert table["clean"]["dropped"] <= 0.03


def test_no_evaluation_prompt_reaches_training(measured: Path) -> None:
    prompts = ROOT / "recipes" / "quickstart" / "data" / "evaluation" / "prompts.jsonl"
    held_out = PromptIndex(q for row in read_jsonl(prompts) for q in prompts_to_hold_out(row["messages"]))
    rows = [row for part in ("train", "eval", "preferences") for row in read_jsonl(measured / "sft" / f"{part}.jsonl")]
    assert len(rows) >= 900
    asked = [m["content"] for row in rows for m in row["messages"] if m["role"] == "user"]
    assert [question for question in asked if overlaps(question, held_out)] == []


@pytest.fixture
def damage(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "recipes" / "quickstart" / "data"))
    return importlib.import_module("damage")


@pytest.mark.parametrize(
    ("polite", "hae", "haera"),
    [
        ("제가 도와요.", "제가 도와.", "제가 돕는다."),
        ("둘로 가릅니다.", "둘로 갈라.", "둘로 가른다."),
        ("1446년에 반포했습니다.", "1446년에 반포했어.", "1446년에 반포했다."),
        ("그릇이 예뻐요.", "그릇이 예뻐.", "그릇이 예쁘다."),
        ("먹고 싶어요.", "먹고 싶어.", "먹고 싶다."),
        ("좋지 않아요.", "좋지 않아.", "좋지 않다."),
        ("냉동실에 얼려 두세요.", "냉동실에 얼려 둬.", None),
        ("어떨까요?", None, None),
    ],
)
def test_a_polite_sentence_made_plain(damage: Any, polite: str, hae: str | None, haera: str | None) -> None:
    assert (damage.to_plain(polite, "hae"), damage.to_plain(polite, "haera")) == (hae, haera)


def test_spoiling_is_deterministic_and_keeps_the_schemas(damage: Any, tmp_path: Path) -> None:
    spoil = importlib.import_module("spoil")
    answer = f"{GOOD} 대파는 불을 끄기 직전에 넣어야 향이 살아납니다. 두부는 도톰하게 썰어서 마지막에 올리세요."
    clean = {
        "koalpaca.jsonl": [{"instruction": f"비결 {n}은?", "output": answer, "url": ""} for n in range(30)],
        "smol_koreantalk.jsonl": [{"messages": turns(f"비결 {n}은?", answer, "그리고?", answer)} for n in range(30)],
    }
    spoilt, key = spoil.spoil(clean, 0.6, seed=7)
    assert (spoilt, key) == spoil.spoil(clean, 0.6, seed=7)
    assert Counter(entry["kind"] for entry in key) == dict.fromkeys(spoil.KINDS, 4)
    assert len({(entry["file"], entry["clean_line"]) for entry in key}) == len(key) == 36  # no clean row twice
    for entry in key:
        if entry["kind"] != "broken_row":
            row = json.loads(spoilt[entry["file"]][entry["line"] - 1])
            assert set(row) <= set(clean[entry["file"]][0])
            before, after = adapt(clean[entry["file"]][entry["clean_line"] - 1]), adapt(row)
            changed = [b["role"] for b, a in zip(before, after, strict=True) if a["content"] != b["content"]]
            assert sorted(changed) == ["assistant", "user"]  # one answer, and the opening of the first question


# ------------------------------------------------------------------------------------------------------------ processes


def test_the_same_rows_whatever_the_number_of_processes(tmp_path: Path) -> None:
    rows = own_rows(900)  # three batches
    for number in (7, 411, 833):
        rows[number]["messages"][1]["content"] = "몰라. 네가 알아서 해."
    written = []
    for num_proc in (1, 3):
        facts, out = run(tmp_path, rows, num_proc=num_proc)
        names = ("train.jsonl", "eval.jsonl", "rejected.jsonl")
        written.append([*((out / name).read_bytes() for name in names), facts["funnel"], facts["reasons"]])
    assert written[0] == written[1]
    assert [row["line"] for row in read_jsonl(out / "rejected.jsonl")] == [9, 413, 835]


def test_a_killed_process_is_a_user_error() -> None:
    with pytest.raises(UserError, match="one of 2 worker processes was killed"), Workers(2, int) as workers:
        list(workers.ordered_map(os._exit, [1, 1]))
    with pytest.raises(UserError, match="one of 2 worker processes was killed"), Workers(2, int) as workers:
        workers.side_by_side(_exit_elsewhere, [(os.getpid(),)] * 2)


def _exit_elsewhere(here: int) -> None:
    if os.getpid() != here:
        os._exit(1)


def test_pool_drops_rows_that_it_had_kept(tmp_path: Path) -> None:
    path, out = tmp_path / "rows.jsonl", tmp_path / "rejected.jsonl"
    rules = Rules({"dialogue": LengthBounds(2, 500, 10, 1500)})
    judge = Judge(Work({"mine": SourceArgs(str(path), "dialogue")}, {}, rules, ()))
    tally = Tally(42)
    with out.open("w", encoding="utf-8") as rejected, Pool(tmp_path, rejected, tally) as pool:
        for line in range(1, 5):
            value = {"question": f"{line}번 김치는 어떻게 고르면 좋을까요?", "answer": GOOD}
            pool.add(judge.each([("mine", RawRow(str(path), line, value))])[0])
        pool.add(
            judge.each([("mine", RawRow(str(path), 5, {"question": "1번 김치는 어떻게 고르면 좋을까요", "answer": GOOD}))])[0]
        )
        assert [row.line for row in pool.rows] == [1, 2, 3, 4]
        pool.drop({1: Rejection("near_duplicate", "이웃과 같음"), 2: Rejection("near_duplicate", "이웃과 같음")})
        assert [row.line for row in pool.rows] == [1, 4]
        pool.add(
            judge.each([("mine", RawRow(str(path), 6, {"question": "6번 김치는 어떻게 고르면 좋을까요?", "answer": GOOD}))])[0]
        )
        assert [json.loads(pool.text(n))["messages"][0]["content"][:2] for n in (0, 1, 2)] == ["1번", "4번", "6번"]
    fallen = [(row["line"], row["reason"]) for row in read_jsonl(out)]
    assert fallen == [(5, "duplicate"), (2, "near_duplicate"), (3, "near_duplicate")]
    assert tally.read["mine"] == 6 and tally.dropped["mine"].total() == 3


def test_a_batch_is_judged_as_its_rows_are() -> None:
    """Rows that fall at every step, between rows that stay: each meets its own outcome again."""
    held_out = "김치찌개는 어떻게 끓이나요?"
    texts = [
        GOOD,
        "책를 읽으면 좋습니다. " + GOOD,
        "몰라. 네가 알아서 해.",
        "다양한 정보를 다양하게 다양한 곳에서 " * 4,
        "…",
        GOOD[:20],
    ]
    values: list[object] = [{"question": f"{n}번 책은 어떻게 두면 좋을까요?", "answer": text} for n, text in enumerate(texts)]
    values += [{"question": "질문뿐입니다"}, "글자뿐", {"question": held_out, "answer": GOOD}]
    rules = Rules({"dialogue": LengthBounds(2, 500, 10, 1500)}, wrong_particles=5)
    repairs = ("white_space", "particles")
    judge = Judge(Work({"mine": SourceArgs("f", "dialogue")}, {}, rules, (), (held_out,), repairs, with_topics=True))
    rows = [("mine", RawRow("f", line, value)) for line, value in enumerate(values, 1)]
    judged = judge.each(rows)
    alone = [judge.each([row])[0] for row in rows]
    for name in Judged._fields:
        got, expected = ([getattr(row, name) for row in several] for several in (judged, alone))
        if name.endswith("sketch"):  # a signature has no equality
            got, expected = ([one[:4] for one in several] for several in (got, expected))
        assert got == expected, name
    assert [row.line for row in judged] == list(range(1, 10))
    assert [row.reason for row in judged] == [
        "", "", "speech_level", "repetition", "empty", "unfinished", "broken_row", "broken_row", "evaluation_overlap"
    ]  # fmt: skip
    assert judged[1].repairs == ("particles",) and judged[1].score < judged[0].score and len(judged[0].words) > 0


def test_results_come_in_the_order_of_the_input() -> None:
    for num_proc in (1, 2):
        with Workers(num_proc, int) as workers:
            assert list(workers.ordered_map(str, range(100))) == [str(number) for number in range(100)]
            assert workers.side_by_side(divmod, [(7, 2), (9, 4), (8, 3)]) == [(3, 1), (2, 1), (2, 2)]


# ------------------------------------------------------------------------------------- what a run does to rows, as a whole


def test_repairs_and_masks_stand_in_the_rows_and_in_the_report(tmp_path: Path) -> None:
    answers = {
        "kept": GOOD,
        "stray_markers": "답변: 책은 햇빛을 피해 세워 두시면 오래 깨끗하게 보실 수 있습니다. 습기도 피해 주세요.",
        "particles": "책를 햇빛이 드는 곳에 두시면 종이가 누렇게 바랩니다. 그늘에 세워 두시는 편이 좋습니다.",
        "personal_data": "도서관에 문의하시려면 010-2345-6789로 전화해 보세요. 책 보관법을 자세히 알려 드립니다.",
        "bad": "책를 보고 종이을 만지고 물를 마시고 사과을 먹고 나무을 심었습니다. 그래서 하루가 즐거웠습니다.",
    }
    rows = [
        {"messages": turns(f"책을 보관하는 {n}번째 방법은?", text), "source": "kullm_v2"}
        for n, text in enumerate(answers.values())
    ]
    facts, out = run(tmp_path, rows, eval_share=0.0)
    kept = {row["messages"][0]["content"][8]: row for row in read_jsonl(out / "train.jsonl")}
    assert {number: row["repairs"] for number, row in kept.items()} == {
        "0": [], "1": ["stray_markers"], "2": ["particles"], "3": ["personal_data"],
    }  # fmt: skip
    said = {number: row["messages"][1]["content"] for number, row in kept.items()}
    assert said["1"] == answers["stray_markers"].removeprefix("답변: ")
    assert said["2"] == answers["particles"].replace("책를", "책을")
    assert said["3"] == answers["personal_data"].replace("010-2345-6789", "[전화번호]")
    assert all(row["id"] == content_id(row["messages"]) for row in kept.values())  # of what is trained on
    assert facts["repairs"] == {"stray_markers": 1, "particles": 1} and facts["personal_data"] == {"masked": {"phone": 1}}
    assert [row["reason"] for row in read_jsonl(out / "rejected.jsonl")] == ["wrong_particle"]
    facts, out = run(tmp_path, rows, eval_share=0.0, repairs=(), personal_data="keep")
    assert sorted(row["reason"] for row in read_jsonl(out / "rejected.jsonl")) == [
        "template_leak",
        "wrong_particle",
        "wrong_particle",
    ]
    assert any("010-2345-6789" in row["messages"][1]["content"] for row in read_jsonl(out / "train.jsonl"))


def test_near_duplicates_fall_and_the_better_row_stays(tmp_path: Path) -> None:
    long = (
        GOOD
        + " 두부는 불을 끄기 오 분 전에 넣으셔야 모양이 살고, 대파는 마지막에 올리시면 향이 좋습니다. 고기는 목살이 어울려요."
    )
    asked = ["김치찌개는 어떻게 끓이나요?", "김치찌개는 어떻게 끓여요?", "된장찌개는 어떻게 끓이나요?"]
    texts = [GOOD, long, "된장은 체에 걸러 풀고 감자부터 익히세요. 두부와 애호박은 나중에 넣어야 물러지지 않습니다."]
    rows = [{"messages": turns(*pair), "source": "kullm_v2"} for pair in zip(asked, texts, strict=True)]
    facts, out = run(tmp_path, rows, eval_share=0.0, near_duplicates=NearDuplicateArgs())
    assert {row["messages"][0]["content"] for row in read_jsonl(out / "train.jsonl")} == {asked[1], asked[2]}
    [fallen] = read_jsonl(out / "rejected.jsonl")
    assert (fallen["reason"], fallen["line"]) == ("near_duplicate", 2)
    assert fallen["detail"].startswith("the question is 0.74 like that of ") and "dataset.json:3, " in fallen["detail"]
    told = facts["near_duplicates"]
    assert (told["question"], told["answer"]) == (1, 0)
    assert [pair[side]["messages"][0]["content"] for pair in told["examples"] for side in ("kept", "dropped")] == asked[1::-1]
    assert facts["funnel"]["kullm_v2"] == {
        "read": 3, "valid": 3, "length": 3, "natural": 3, "distinct": 2, "unseen": 2, "taken": 2,
    }  # fmt: skip


def test_the_recipe_says_which_rows_of_a_group_are_taken(tmp_path: Path) -> None:
    short, long = (
        "신 김치로 끓여야 맛이 깊어요.",
        GOOD + " 두부는 나중에 넣으셔야 모양이 삽니다. 고기는 목살이 잘 어울려요." + " 대파는 불을 끄기 직전에 올려 주세요.",
    )
    rows = [
        {"messages": turns(f"{n}번째 김치찌개 비결은?", long if n % 4 == 0 else short), "source": "kullm_v2"} for n in range(40)
    ]
    taken = {}
    for how in ("random", "quality"):
        facts, out = run(tmp_path, rows, eval_share=0.0, weights={"instruction": 1.0}, max_samples=8, selection=how)
        taken[how] = [len(row["messages"][1]["content"]) for row in read_jsonl(out / "train.jsonl")]
        assert facts["selection"]["how"] == how
    assert set(taken["quality"]) == {len(long)} and set(taken["random"]) == {len(short), len(long)}


def test_ctrl_c_says_what_became_of_the_work(capsys: pytest.CaptureFixture[str]) -> None:
    def stopped() -> None:
        raise KeyboardInterrupt

    with pytest.raises(SystemExit) as ended:
        run_script(stopped, "nothing was written")
    assert ended.value.code == 130 and capsys.readouterr().err == "interrupted; nothing was written\n"
