"""Every stage reads prompt files through one reader: the same rows are taken everywhere, a bad one is named with its line."""

from __future__ import annotations

import json

import pytest
from conftest import turns

from align_ko.curation.curate import evaluation_prompts
from align_ko.errors import UserError
from align_ko.preferences.candidates import read_tasks
from align_ko.records import PromptRow, content_id, read_jsonl, read_prompts, write_jsonl
from align_ko.training.gate import gate_prompts

ASKED = turns("떡볶이를 덜 맵게 하려면?", "답")[:1]
ROWS = [
    {"id": 7, "messages": turns("질문", "답"), "group": "instruction", "topic": "음식"},
    {"prompt": "떡볶이를 덜 맵게 하려면?"},
    {"prompt": ASKED, "reference": "고추장을 반으로 줄이세요."},
    {"messages": ASKED},
    {"prompt_id": "9f2c", "prompt": ASKED, "response": "네.", "reference": None, "group": "probe"},
]
PROMPTS = [
    PromptRow("7", turns("질문", "답")[:1], "답", "instruction", "음식"),
    PromptRow(content_id(ASKED), ASKED),
    PromptRow(content_id(ASKED), ASKED, "고추장을 반으로 줄이세요."),
    PromptRow(content_id(ASKED), ASKED),
    PromptRow("9f2c", ASKED, None, "probe"),
]
ENCODINGS = ("utf-8", "utf-8-sig", "cp949", "utf-16")


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("form", ["lines", "array"])
def test_every_form_and_encoding_gives_the_same_prompts(tmp_path, encoding, form):
    file = tmp_path / "prompts.jsonl"
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS) + "\n"
    file.write_bytes((lines if form == "lines" else json.dumps(ROWS, ensure_ascii=False, indent=1)).encode(encoding))
    assert list(read_prompts(file)) == PROMPTS
    assert list(evaluation_prompts(str(file))) == ["질문", *["떡볶이를 덜 맵게 하려면?"] * 4]
    assert gate_prompts(str(file), 0) == [row.prompt for row in PROMPTS]
    assert len(read_tasks(str(file))[0]) == 3  # each prompt once under one id


BAD = [
    {"text": "질문"},
    {"text_only": "질문"},
    {"messages": []},
    {"prompt": ""},
    {"prompt": " "},
    {"prompt": 3},
    {"messages": turns("질문", "답")[1:]},
    {"messages": [{"role": "user"}]},
    {"messages": [{"content": "질문"}]},
    {"messages": [{"role": "user", "content": None}]},
    {"messages": [*turns("질문", "답"), 5]},
    {"messages": [{"role": "system", "content": "짧게"}]},
    {"prompt": "질문", "reference": 5},
    ["질문"],
    "질문",
    None,
]


@pytest.mark.parametrize("row", BAD, ids=json.dumps)
@pytest.mark.parametrize(
    "read",
    [
        lambda file: list(read_prompts(file, "prompts_file")),
        lambda file: list(evaluation_prompts(file)),
        lambda file: gate_prompts(file, 4),
        read_tasks,
        lambda file: read_tasks(file.replace("prompts", "good"), [file]),
    ],
)
def test_a_malformed_row_is_named_with_file_line_and_key(tmp_path, row, read):
    for name, rows in {"good": [ROWS[0]], "prompts": [ROWS[0], ROWS[1], row]}.items():
        write_jsonl(tmp_path / f"{name}.jsonl", rows)
    with pytest.raises(UserError, match=r"prompts\.jsonl:3: [a-z._]+: this row has no prompt; expected"):
        read(str(tmp_path / "prompts.jsonl"))


def test_what_is_no_json_is_named_with_its_line(tmp_path):
    (tmp_path / "prompts.jsonl").write_bytes("prompt\n떡볶이를 덜 맵게?\n".encode("cp949"))
    with pytest.raises(UserError, match=r"prompts\.jsonl:1: not valid JSON"):
        list(read_prompts(tmp_path / "prompts.jsonl"))
    (tmp_path / "prompts.csv").write_bytes("prompt\n떡볶이를 덜 맵게?\n".encode("cp949"))
    assert [row.prompt[0]["content"] for row in read_prompts(tmp_path / "prompts.csv")] == ["떡볶이를 덜 맵게?"]
    with pytest.raises(UserError, match=r"nowhere\.jsonl: file not found"):
        list(read_prompts(tmp_path / "nowhere.jsonl"))
    (tmp_path / "rows.jsonl").write_text('{"a": 1}\n[2]\n')
    with pytest.raises(UserError, match=r"rows\.jsonl:2: this row is no JSON object"):
        list(read_jsonl(tmp_path / "rows.jsonl"))


def test_two_prompts_under_one_id_stay_two(tmp_path):
    write_jsonl(tmp_path / "p.jsonl", [{"id": "1", "prompt": "가"}, {"id": "1", "prompt": "나"}, {"id": "1", "prompt": "가"}])
    first, second, again = read_prompts(tmp_path / "p.jsonl")
    assert first == again == PromptRow("1", first.prompt) and second == PromptRow(content_id(second.prompt), second.prompt)
