"""Public data comes in many shapes: each becomes the conversation or the pair that it means, or a reason with its row."""

from __future__ import annotations

import gzip
import importlib.util
import json
import unicodedata
from dataclasses import replace
from pathlib import Path

import pyarrow
import pytest
from conftest import turns
from pyarrow import parquet

from align_ko.adapters import Pair, Rejection, adapt, adapt_pairs, split_of, unread_keys
from align_ko.curation.curate import curate
from align_ko.errors import UserError
from align_ko.recipe import DataRecipe, SftRecipe, check_inputs, hash_inputs, load_recipe
from align_ko.recipe.load import changed, recipe_from
from align_ko.records import content_id, parse_prompt, read_conversations, read_pairs, read_prompts, write_jsonl
from align_ko.sources import read_source

QA = turns("수도는 어디인가요?", "서울입니다.")
Q, A = QA[0]["content"], QA[1]["content"]
SYSTEM = {"role": "system", "content": "짧게 답하세요."}


@pytest.mark.parametrize(
    ("row", "messages"),
    [
        ({"prompt": Q, "completion": A}, QA),
        ({"prompt": QA[:1], "completion": QA[1:]}, QA),
        ({"질문": Q, "답변": A, "Unnamed: 0": 3}, QA),
        ({"질문 유형": "지리", "질문내용": Q, "답변내용": A}, QA),
        ({"user": Q, "assistant": A}, QA),
        ({"query": Q, "response": A}, QA),
        ({"messages": json.dumps(QA)}, QA),
        ({"messages": [{"role": m["role"], "content": [{"type": "text", "text": m["content"]}]} for m in QA]}, QA),
        ({"system_prompt": "짧게 답하세요.", "messages": QA}, [SYSTEM, *QA]),
        ({"system": "짧게 답하세요.", "question": Q, "answer": A}, [SYSTEM, *QA]),
        ({"instruction": Q, "input": "", "output": A, "history": [["가?", "나."]]}, [*turns("가?", "나."), *QA]),
        ({"row": {"instruction": Q, "output": A}, "row_idx": 7}, QA),
        ({"my_dialogue": [{"speaker": "usr", "text": Q}, {"speaker": "sys", "text": A}]}, QA),
        ({"session_id": 1, "utters": [Q, A]}, QA),
        ({"text": f"<usr> {Q}\n<bot> {A}"}, QA),
        ({"text": f"\n\nHuman: {Q}\n\nAssistant: {A}"}, QA),
        ({"text": f"<|im_start|>user\n{Q}<|im_end|>\n<|im_start|>assistant\n{A}<|im_end|>\n"}, QA),
        ({"text": f"<s>[INST] {Q} [/INST] {A}</s>"}, QA),
        (QA, QA),  # a row that is the list of messages
        ({"conversation": [{"human": Q, "assistant": A}]}, QA),
        ({"messages": [{"role": "유저", "content": {"text": Q}}, {"role": "어시스턴트", "content": A}]}, QA),
        ({"input": Q, "output": A}, QA),
        ({"inputs": Q, "targets": A}, QA),
        ({"instruction": Q, "input": float("nan"), "output": [A]}, QA),
        ({"messages": [*QA, {"role": "user", "content": "왜?"}, {"role": "assistant", "content": "음.", "weight": 0}]}, None),
    ],
)
def test_conversations_of_public_shapes(row, messages):
    assert adapt(row) == (messages or turns(Q, A))


def test_what_would_be_trained_wrongly_is_a_reason():
    off = {**QA[1], "weight": 0}
    assert adapt({"messages": [QA[0], off]}) == Rejection("weight", "every answer has weight 0")
    assert adapt({"messages": QA, "weight": 0}) == Rejection("weight", "the row's weight is 0")
    assert adapt({"messages": [{"role": "assistant", "content": None, "tool_calls": [1]}]}) == Rejection(
        "broken_row", "content of message 1 is null (it calls a tool), expected text"
    )


@pytest.mark.parametrize("mark", [{"weight": 0}, {"weight": "0"}, {"loss": False}, {"train": False}, {"training": 0}])
def test_an_answer_of_weight_0_is_read_and_not_trained_on(mark):
    """As OpenAI, ms-swift and axolotl mark it. Turns after the last answer that is trained on go."""
    why = turns("왜?", "강이 있어서요.")
    row = {"messages": [QA[0], {**QA[1], **mark}, *why, {"role": "user", "content": "음"}, {**QA[1], **mark}]}
    assert adapt(row) == [QA[0], {**QA[1], "weight": 0}, *why]
    assert adapt({"conversations": [QA[0], {"from": "gpt", "value": A, **mark}, *why]}) == [QA[0], {**QA[1], "weight": 0}, *why]
    assert parse_prompt(row).prompt[1] == QA[1]
    assert unread_keys(row) == [] and unread_keys({"messages": [QA[0], {**QA[1], "weight": 0.5}]}) == ["messages[].weight"]


def test_curation_keeps_the_weight_and_judges_only_what_is_trained_on(tmp_path):
    good = "네, 서울에는 한강이 있습니다. 강을 따라 공원이 이어집니다."
    bad = {"role": "assistant", "content": "ㅋㅋㅋㅋ 몰라", "weight": 0}
    row = {"messages": [QA[0], bad, *turns("강이 있나요?", good)]}
    write_jsonl(tmp_path / "rows.jsonl", [row, {"messages": [QA[0], {**bad, "weight": 1}, *row["messages"][2:]]}])
    recipe = recipe_from(
        DataRecipe, sources={"mine": {"path": str(tmp_path / "rows.jsonl"), "group": "dialogue"}}, weights={"dialogue": 1.0},
        output_dir=str(tmp_path / "out"), eval_share=0.0, preference_share=0.0,
    )  # fmt: skip
    curate(recipe)
    assert [kept["messages"] for kept in read_conversations(tmp_path / "out/train.jsonl")] == [row["messages"]]


def test_keys_that_nothing_reads_are_named():
    row = {"id": 1, "tools": [{}], "empty": "", "messages": [{**QA[0], "name": "kim"}, {**QA[1], "reasoning_content": "음"}]}
    assert unread_keys(row) == ["tools", "messages[].name", "messages[].reasoning_content"]
    assert unread_keys({"prompt": Q, "chosen": A, "rejected": "음", "margin": 2}, pair=True) == ["margin"]
    assert unread_keys({"질문": Q, "답변": A, "": 0}) == []


BAD = "모릅니다."
WHOLE = [*QA[:1], {"role": "assistant", "content": BAD}]


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": Q, "chosen": A, "rejected": BAD},
        {"질문": Q, "chosen": A, "rejected": BAD},
        {"chosen": QA, "rejected": WHOLE},
        {"prompt": QA[:1], "chosen": QA, "rejected": WHOLE},
        {"prompt": QA[:1], "chosen": QA[1:], "rejected": WHOLE[1:]},
        {"chosen": json.dumps({"messages": QA}), "rejected": json.dumps({"messages": WHOLE})},
        {"chosen": f"\n\nHuman: {Q}\n\nAssistant: {A}", "rejected": f"\n\nHuman: {Q}\n\nAssistant: {BAD}"},
        {"messages": QA, "rejected_response": BAD},
        {"질문": Q, "선호": A, "비선호": [BAD]},
        {"messages": QA, "rejected_response": [BAD]},
    ],
)
def test_pairs_of_public_shapes(row):
    assert adapt_pairs(row) == [Pair(QA[:1], QA[1:], WHOLE[1:])]


def test_pairs_with_more_in_them():
    long = [*QA, {"role": "user", "content": "왜요?"}]
    sides = [[*long, {"role": "assistant", "content": text}] for text in ("강이 있어서요.", "몰라요.")]
    assert adapt_pairs({"prompt": Q, "chosen": sides[0], "rejected": sides[1]}) == [Pair(long, *(side[3:] for side in sides))]
    assert adapt_pairs({"system": "짧게 답하세요.", "question": Q, "chosen": A, "rejected": BAD}) == [
        Pair([SYSTEM, QA[0]], QA[1:], WHOLE[1:])
    ]
    several = adapt_pairs({"messages": QA, "rejected_responses": [BAD, "음."]})
    assert [pair.rejected[0]["content"] for pair in several] == [BAD, "음."]
    parted = [*QA, *turns("왜?", "음.")]  # the sides part at the first answer and go on
    assert adapt_pairs({"chosen": parted, "rejected": WHOLE}) == [Pair(QA[:1], parted[1:], WHOLE[1:])]
    assert adapt_pairs({"prompt": Q, "chosen": parted[1:], "rejected": BAD}) == [Pair(QA[:1], parted[1:], WHOLE[1:])]
    assert adapt_pairs({"chosen": parted[:3], "rejected": WHOLE}).detail == (
        "the chosen side's turns after the prompt are not the assistant's and the user's, an answer the last"
    )
    empty = {"role": "assistant", "content": "."}
    assert adapt_pairs({"chosen": [*parted[:3], empty], "rejected": WHOLE}).detail == "the chosen side is empty"


@pytest.mark.parametrize(
    ("row", "rejection"),
    [
        ({"prompt": Q, "chosen": A, "rejected": A}, Rejection("equal", "both sides are the same")),
        ({"prompt": Q, "chosen": A, "rejected": " "}, Rejection("empty", "the rejected side is empty")),
        ({"prompt": Q, "chosen": None, "rejected": A}, Rejection("empty", "the chosen side is empty")),
        ({"prompt": Q, "chosen": A}, Rejection("broken_row", "'rejected' is missing; the keys are prompt, chosen")),
    ],
)
def test_pairs_that_teach_nothing(row, rejection):
    assert adapt_pairs(row) == rejection


def test_training_reads_every_shape_gives_ids_and_counts_what_it_leaves_out(tmp_path, capsys):
    rows = [
        {"instruction": Q, "output": A},
        {"id": 1, "messages": QA},
        {"id": 1, "question": "강은?", "answer": "한강.", "x": 1},
    ]
    write_jsonl(tmp_path / "sft.jsonl", [*rows, {"messages": QA[:1]}, {"question": Q, "answer": ""}])
    made = list(read_conversations(tmp_path / "sft.jsonl"))
    assert [row["id"] for row in made] == [content_id(QA), "1", "1#3"] and made[0]["messages"] == QA
    said = capsys.readouterr().err
    assert "2 of 5 rows are left out: the last turn is not the assistant's (1, first on line 4); an answer is empty" in said
    assert "keys that nothing reads: x (1 rows)" in said

    pairs = [{"prompt": Q, "chosen": A, "rejected": BAD}, {"prompt": Q, "chosen": A, "rejected": A}]
    (tmp_path / "pairs.json").write_text(json.dumps({"data": pairs}))
    (pair,) = read_pairs(tmp_path / "pairs.json")
    assert (pair["prompt"], pair["chosen"], len(pair["id"])) == (QA[:1], QA[1:], 16)
    assert "1 of 2 rows are left out: both sides are the same" in capsys.readouterr().err

    write_jsonl(tmp_path / "none.jsonl", [{"text": "가"}, {"text": "나"}])
    with pytest.raises(UserError, match=r"none\.jsonl:1: 2 of 2 rows cannot be trained on: no adapter fits the keys \(text\)"):
        list(read_conversations(tmp_path / "none.jsonl"))


def test_prompts_of_instruction_rows(tmp_path):
    write_jsonl(tmp_path / "p.jsonl", [{"instruction": Q, "output": A}, {"question": Q}])
    assert [(row.prompt, row.reference) for row in read_prompts(tmp_path / "p.jsonl")] == [(QA[:1], A), (QA[:1], None)]


# -------------------- files

ROWS = [{"instruction": Q, "output": A}, {"instruction": "강은?", "output": "한강이요."}]
TEXT = json.dumps(ROWS, ensure_ascii=False)


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("rows.json", json.dumps({"version": 1, "data": ROWS}, ensure_ascii=False, indent=1).encode()),
        ("rows.json", json.dumps({"result": {"data": ROWS}}, ensure_ascii=False).encode()),
        ("rows.json", f"[{json.dumps(ROWS[0])}]\n[{json.dumps(ROWS[1])}]".encode()),
        ("rows.json", "\n".join(json.dumps(row, indent=1) for row in ROWS).encode()),
        ("rows.json", TEXT.encode("utf-16-le")),
        ("rows.json.gz", gzip.compress(TEXT.encode("cp949"))),
        ("rows.jsonl.zst", bytes(pyarrow.compress("\n".join(map(json.dumps, ROWS)).encode(), "zstd", asbytes=True))),
        ("rows.csv", f"instruction;output\n{Q};{A}\n강은?;한강이요.\n".encode("cp949")),
        ("rows.csv", f"instruction\toutput\n{Q}\t{A}\n강은?\t한강이요.\n".encode("utf-16")),
        ("rows.csv", f"sep=;\r\ninstruction;output\r\n{Q};{A}\r\n강은?;한강이요.\r\n".encode("utf-8-sig")),
        ("rows.csv", f"instruction|output\n{Q}|{A}\n강은?|한강이요.\n".encode()),
        ("rows.json", TEXT.encode("utf-32")),
        ("rows.jsonl", "".join(f"\ufeff{json.dumps(row)}\n" for row in ROWS).encode()),
        ("rows.jsonl", gzip.compress(TEXT.encode())),  # the name does not say that it is packed
        ("rows.jsonl.gz", TEXT.encode()),
        ("rows.json", json.dumps({key: [row[key] for row in ROWS] for key in ROWS[0]}).encode()),  # Dataset.to_dict
        ("rows.json", json.dumps({key: {n: row[key] for n, row in enumerate(ROWS)} for key in ROWS[0]}).encode()),  # pandas
        (
            "rows.json",
            json.dumps({"columns": list(ROWS[0]), "index": [0, 1], "data": [list(row.values()) for row in ROWS]}).encode(),
        ),
    ],
)
def test_forms_of_files(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert [(row.value, row.problem) for row in read_source(str(tmp_path / name))] == [(row, "") for row in ROWS]


def test_rows_by_id_and_saved_data_sets(tmp_path):
    datasets = pytest.importorskip("datasets")
    (tmp_path / "ids.json").write_text(json.dumps({"a": ROWS[0], "b": ROWS[1]}))
    rows = [row.value for row in read_source(str(tmp_path / "ids.json"))]
    assert rows == [{"id": "a", **ROWS[0]}, {"id": "b", **ROWS[1]}]
    held_out = datasets.Dataset.from_list(ROWS[1:])
    datasets.DatasetDict({"train": datasets.Dataset.from_list(ROWS[:1]), "test": held_out}).save_to_disk(tmp_path / "saved")
    assert [row.value for row in read_source(str(tmp_path / "saved"))] == ROWS[:1]


def test_the_encoding_is_what_decodes_most_lines(tmp_path):
    lines = [f"질문 {n}번입니다.,답변 {n}번이에요.".encode("cp949") for n in range(20)]
    lines[7] = "이모지,😀 좋아요.".encode()
    lines[9] += b"\xff"
    (tmp_path / "rows.csv").write_bytes(b"\n".join([b"question,answer", *lines]))
    rows = list(read_source(str(tmp_path / "rows.csv")))
    assert [row.line for row in rows if row.problem] == [9, 11]
    assert rows[3].value == {"question": "질문 3번입니다.", "answer": "답변 3번이에요."}


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:1\n", "a Git LFS pointer"),
        (b"<!DOCTYPE html><html></html>", "an HTML page"),
        (b"PK\x03\x04....", "a zip archive or an Excel table"),
    ],
)
def test_what_is_no_file_of_rows_is_named(tmp_path, content, kind):
    for name in ("rows.jsonl", "rows.csv"):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(UserError, match=f"{name}: this is {kind}"):
            list(read_source(str(tmp_path / name)))


def test_a_quotation_mark_that_is_never_closed_costs_its_row(tmp_path):
    """A reader of CSV makes one field of everything up to the next quotation mark, which may be the end of the file."""
    lines = ["question,answer", "가,나", '"열린 것,답', "다,라", 'a,"두 줄\n마, 바"', '"잃은 것\n사, 아"', "자,차"]
    (tmp_path / "rows.csv").write_text("\n".join(lines), encoding="utf-8")
    found = list(read_source(str(tmp_path / "rows.csv")))
    assert [tuple(row.value.values()) for row in found if not row.problem] == [
        ("가", "나"),
        ("다", "라"),
        ("a", "두 줄\n마, 바"),
        ("자", "차"),
    ]
    assert [row.line for row in found if row.problem] == [3, 7, 8]


def test_turns_of_one_conversation_are_not_rows(tmp_path):
    talk = {"conversations": [{"user": Q, "assistant": A}, {"user": "왜?", "assistant": "강이 있어서요."}]}
    (tmp_path / "one.json").write_text(json.dumps(talk))
    assert [row["messages"] for row in read_conversations(tmp_path / "one.json")] == [[*QA, *turns("왜?", "강이 있어서요.")]]
    (tmp_path / "lines.jsonl").write_text("\n".join([json.dumps(QA), json.dumps([*QA, *QA])]))
    assert [len(row["messages"]) for row in read_conversations(tmp_path / "lines.jsonl")] == [2, 4]


def test_headers_twice(tmp_path):
    (tmp_path / "rows.csv").write_text("question,answer,answer\n가,나,다\nquestion,answer,answer\n라,마,바\n")
    rows = list(read_source(str(tmp_path / "rows.csv")))
    assert [row.problem for row in rows] == ["", "the header once more", ""]
    assert rows[0].value == {"question": "가", "answer": "나", "answer (2)": "다"}


def test_names_in_another_unicode_form_are_found(tmp_path):
    file = tmp_path / unicodedata.normalize("NFD", "학습") / unicodedata.normalize("NFD", "자료.jsonl")
    write_jsonl(file, ROWS)
    assert [row.value for row in read_source(str(tmp_path / "학습" / "자료.jsonl"))] == ROWS


def test_a_column_for_the_split():
    assert [split_of({"split": name}) for name in ("train", "validation", "test", "검증", "")] == [
        "train", "eval", "eval", "eval", "train",
    ]  # fmt: skip


# -------------------- the stages


def curation(tmp_path, content, **source):
    file = tmp_path / "rows.jsonl"
    write_jsonl(file, content)
    return recipe_from(
        DataRecipe,
        sources={"mine": {"path": str(file), "group": "dialogue", **source}},
        output_dir=str(tmp_path / "out"),
        eval_share=0.0,
        filters=["echo"],
        near_duplicates={"question": 1.1, "long_question": 1.1, "answer": 1.1},
    )


def test_a_wrong_column_names_those_of_the_file(tmp_path):
    rows = [{"Question": Q, "Reply text": A}]
    with pytest.raises(
        UserError, match=r"no column 'Qestion'; expected one of its columns: Question, Reply text; did you mean"
    ):
        curate(curation(tmp_path, rows, columns={"question": "Qestion", "answer": "Reply text"}))
    with pytest.raises(UserError, match=r"columns.anser: is no name of ours; .* did you mean 'answer'"):
        curate(curation(tmp_path, rows, columns={"question": "Question", "anser": "Reply text"}))


def test_curation_notes_unread_keys_and_a_shared_ending_and_respects_the_split(tmp_path):
    names = ("김치", "파스타", "두부", "감자", "호박", "당근")
    rows = [
        {"question": f"{name} 보관은 어떻게 하나요?", "answer": f"{name} 칸에 두세요. </끝>", "tools": [1]} for name in names
    ]
    facts = curate(curation(tmp_path, [*rows, {"question": "고추 물은요?", "answer": "자주 주세요.", "split": "valid"}]))
    assert facts["rows"]["train"] == 6 and facts["rows"]["eval"] == 1
    assert facts["notes"] == [
        "mine: keys that nothing reads: tools (6 rows)",
        "6 of 6 training answers end with '</끝>': a marker of the data that will be learnt",
    ]


def test_recipes_find_names_in_another_unicode_form_and_refuse_windows_paths(tmp_path):
    on_disk = tmp_path / unicodedata.normalize("NFD", "자료.jsonl")
    write_jsonl(on_disk, ROWS)
    keys = {"output_dir": str(tmp_path / "out")}
    sources = {"mine": {"path": str(tmp_path / "자료.jsonl"), "group": "dialogue"}}
    recipe = recipe_from(DataRecipe, sources=sources, **keys)
    assert recipe.sources["mine"].path == str(on_disk)
    assert [item.path for item in hash_inputs(recipe)] == [str(on_disk)]
    for written in ("data\\mine\\rows.csv", "data\\mine\rows.csv"):
        with pytest.raises(UserError, match=r"sources.mine.path: .* expected forward slashes: data/mine/rows.csv"):
            recipe_from(DataRecipe, sources={"mine": {"path": written}}, **keys)


def test_typographic_quotation_marks_around_a_path_are_told():
    with pytest.raises(UserError, match="output_dir: “out” has typographic quotation marks"):
        recipe_from(DataRecipe, sources={"mine": {"path": "rows.jsonl"}}, output_dir="“out”")


def test_a_broken_escape_in_a_recipe_says_how_to_write_paths(tmp_path):
    (tmp_path / "data.yaml").write_text('output_dir: "C:\\users\\kim"\n')
    with pytest.raises(UserError, match=r"data\.yaml:1: broken YAML: .*expected forward slashes in paths, or single quotes"):
        load_recipe(DataRecipe, [str(tmp_path / "data.yaml")])


def assessed(capsys, *argv):
    script = importlib.util.spec_from_file_location("assess", Path(__file__).parents[1] / "scripts" / "assess.py")
    module = importlib.util.module_from_spec(script)
    script.loader.exec_module(module)
    module.main(*argv)
    return capsys.readouterr()


def test_assess_reads_what_curation_reads(tmp_path, capsys):
    answers = [{"prompt_id": "1", "prompt": QA[:1], "response": A, "finished": True}, {"question": Q, "answer": A}]
    write_jsonl(tmp_path / "responses.jsonl", answers)
    assert "answers 2   natural 2" in assessed(capsys, str(tmp_path / "responses.jsonl")).out
    (tmp_path / "rows.csv").write_bytes(f"질문;답변\n{Q};{A}\n{Q};\xff\n".encode("cp949", "replace").replace(b"?\n", b"\xff\n"))
    said = assessed(capsys, str(tmp_path / "rows.csv"))
    assert "answers 1   natural 1" in said.out and "rows.csv:3: left out: contains bytes" in said.err


@pytest.mark.parametrize("name", ["nope.jsonl", "outputs/eval", "answers.txt", "내 답변.csv"])
def test_assess_never_judges_the_name_of_a_file(capsys, name):
    with pytest.raises(UserError, match="file not found"):
        assessed(capsys, name)


def test_a_folder_of_files_is_read_for_training_as_curation_reads_it(tmp_path, capsys):
    (tmp_path / "rows/part").mkdir(parents=True)
    write_jsonl(tmp_path / "rows/a.jsonl", [{"id": 1, "question": Q, "answer": A}])
    write_jsonl(
        tmp_path / "rows/part/a.jsonl", [{"question": "가?"}, {"id": 1, "prompt": "하늘은 왜 파란가요?", "completion": A}]
    )
    found = list(read_conversations(tmp_path / "rows"))
    assert [(row["id"], row["messages"][0]["content"]) for row in found] == [("1", Q), ("1#3", "하늘은 왜 파란가요?")]
    assert "1 of 3 rows are left out: 'answer' is missing (1, first on line 1 of a.jsonl)" in capsys.readouterr().err


def test_a_folder_as_train_file_is_hashed_file_by_file_and_a_stages_own_is_refused(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for folder in ("rows", "rows/part", "curated", "base"):
        Path(folder).mkdir()
    Path("base/config.json").write_text("{}")
    for file in ("rows/a.jsonl", "rows/part/a.jsonl", "curated/train.jsonl", "eval.jsonl"):
        write_jsonl(file, [{"question": Q, "answer": file}])
    recipe = recipe_from(
        SftRecipe, model={"model_name_or_path": "base"}, data={"train_file": "rows", "eval_file": "eval.jsonl"},
        training={"output_dir": "out"},
    )  # fmt: skip
    check_inputs(recipe)
    keys = [each.key for each in hash_inputs(recipe) if each.key.startswith("data")]
    assert keys == ["data.train_file: a.jsonl", "data.train_file: part/a.jsonl", "data.eval_file"]
    Path("curated/manifest.json").write_text("{}")
    with pytest.raises(UserError, match=r"curated is what a stage wrote, .*; name curated/train.jsonl"):
        check_inputs(changed(recipe, data=replace(recipe.data, train_file="curated")))


def test_a_bad_byte_in_a_header_or_in_arrows_text_costs_its_name_or_its_row(tmp_path):
    (tmp_path / "rows.csv").write_bytes(b"\x80uestion,answer\na,b\n")
    assert [row.value for row in read_source(str(tmp_path / "rows.csv"))] == [{"�uestion": "a", "answer": "b"}]
    texts = pyarrow.array([b"\x80", Q.encode()], pyarrow.binary()).view(pyarrow.string())
    parquet.write_table(pyarrow.table({"question": texts}), tmp_path / "rows.parquet")
    bad, good = read_source(str(tmp_path / "rows.parquet"))
    assert bad.problem.startswith("a value of this row cannot be read") and good.value == {"question": Q}
