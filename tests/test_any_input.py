"""Whatever a file contains, its readers give rows, reasons or one UserError: no other exception, and always an end."""

from __future__ import annotations

import contextlib
import csv
import gzip
import io
import json
import unicodedata
from pathlib import Path

import pyarrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from align_ko.adapters import OURS, Rejection, adapt, adapt_pairs, adapt_prompt, split_of, unread_keys
from align_ko.errors import UserError
from align_ko.records import parse_prompt, read_conversations, read_jsonl, read_pairs, read_prompts
from align_ko.sources import SUFFIXES, read_source

FEW = settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
MANY = settings(FEW, max_examples=1000)

texts = st.text(max_size=8) | st.sampled_from(
    ["안녕?", "네.", "\ud83d", "ㄱㅏ", "", " ", "user", "assistant", "system", "tool", "[]", "[{", '{"messages": [1]}', "\0",
     "<usr> 가\n<bot> 나", "\n\nHuman: 가\n\nAssistant: 나", "### User:\n가\n\n### Assistant:\n나"]
)  # fmt: skip
scalars = st.none() | st.booleans() | st.integers() | st.floats() | texts
message_keys = ["role", "from", "speaker", "content", "value", "text", "weight", "tool_calls", "type"]
keys = st.sampled_from([*OURS, *message_keys, "질문", "답변", "conversations", "rejected_responses", "prompt_id"]) | texts
messages = st.fixed_dictionaries(
    {"role": texts | st.sampled_from(["user", "assistant"]), "content": texts}, optional={"weight": scalars}
)
"""Right messages too, so that the rows come past the first look."""
values = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(keys, inner, max_size=4) | st.lists(messages, max_size=4),
    max_leaves=12,
)
rows = st.dictionaries(keys, values | st.lists(messages, max_size=4), max_size=5) | values


def every(read, path):
    """The rows that `read` gives; where it refuses the file, its one line."""
    with contextlib.redirect_stderr(io.StringIO()):
        try:
            return list(read(path)), ""
        except UserError as error:
            return [], str(error)


def read_all(file: Path) -> None:
    given_rows, refused = every(read_source, str(file))
    assert all(isinstance(row.problem, str) for row in given_rows)
    for row in given_rows:
        check_row(row.value)
    for read in (read_conversations, read_pairs, read_prompts, read_jsonl):
        made, problem = every(read, file)
        assert made or problem or not given_rows
        assert not refused or problem
        if read is not read_jsonl:  # which gives what is in the file, half surrogate pairs too
            json.dumps(made, default=vars, ensure_ascii=False).encode()


def well_formed(turns) -> None:
    for turn in turns:
        assert turn.keys() - {"weight"} == {"role", "content"}
        for text in (turn["role"], turn["content"]):
            assert text == unicodedata.normalize("NFC", text)
            text.encode()


def check_row(row: object) -> None:
    conversation, pairs, prompt = adapt(row), adapt_pairs(row), adapt_prompt(row)
    if not isinstance(conversation, Rejection):
        well_formed(conversation)
    if not isinstance(pairs, Rejection):
        assert pairs
        for pair in pairs:
            well_formed([*pair.prompt])
            assert pair.prompt[-1]["role"] == "user" and pair.chosen != pair.rejected
    if prompt:
        well_formed(prompt[0])
    assert split_of(row) in ("train", "eval")
    assert all(isinstance(key, str) for pair in (False, True) for key in unread_keys(row, pair=pair))
    parse_prompt(row)


def write(folder: Path, name: str, content: bytes) -> Path:
    file = folder / name
    file.write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    return file


def any_bytes(folder, content, name):
    read_all(write(folder, name, content))


def any_row(folder, row):
    check_row(row)


def any_rows(folder, content, form, encoding):
    """JSON of any rows, as people save it."""
    lines = [json.dumps(row, ensure_ascii=False) for row in content]
    text = {"lines": "\n".join(lines), "array": f"[{', '.join(lines)}]", "pretty": json.dumps(content, indent=1)}[form]
    read_all(write(folder, "rows.json", text.encode(encoding, "replace")))


def any_table(folder, content, delimiter, encoding):
    text = io.StringIO()
    with contextlib.suppress(csv.Error):  # what the writer itself refuses
        csv.writer(text, delimiter=delimiter).writerows(content)
    read_all(write(folder, "rows.csv", text.getvalue().encode(encoding, "replace")))


def any_damage(folder, name, content, place, bad, cut):
    """A good file with some bytes changed, or cut off."""
    file = folder / name
    if name.endswith(".parquet"):
        parquet.write_table(pyarrow.Table.from_pylist(content), file)
    elif name.endswith(".zst"):
        packed = pyarrow.Codec("zstd").compress("\n".join(map(json.dumps, content)).encode(), asbytes=True)
        file.write_bytes(packed)
    else:
        write(folder, name, "\n".join(map(json.dumps, content)).encode())
    whole = file.read_bytes()
    at = place % len(whole)
    file.write_bytes(whole[:at] if cut else whole[:at] + bad + whole[at + len(bad) :])
    read_all(file)


good = st.lists(
    st.fixed_dictionaries({"question": st.text(max_size=20), "answer": st.text(max_size=20)}), min_size=1, max_size=4
)
names = st.sampled_from([f"rows{suffix}" for suffix in (*SUFFIXES, ".txt", ".jsonl.gz", ".csv.gz", ".jsonl.zst")] + ["rows"])
encodings = st.sampled_from(["utf-8", "utf-8-sig", "cp949", "utf-16", "utf-16-le", "latin-1"])
CASES = {
    any_bytes: (st.binary(max_size=300) | rows.map(lambda row: repr(row).encode("utf-8", "replace")), names),
    any_row: (rows,),
    any_rows: (st.lists(rows, max_size=4), st.sampled_from(["lines", "array", "pretty"]), encodings),
    any_table: (st.lists(st.lists(texts | keys, max_size=5), max_size=5), st.sampled_from(",;\t"), encodings),
    any_damage: (
        st.sampled_from(["rows.jsonl", "rows.csv", "rows.jsonl.gz", "rows.jsonl.zst", "rows.parquet"]), good,
        st.integers(0, 5000), st.binary(min_size=1, max_size=4), st.booleans(),
    ),
}  # fmt: skip


def run(case, profile, folder):
    profile(given(st.tuples(*CASES[case]))(lambda drawn: case(folder, *drawn)))()


@pytest.mark.parametrize("case", CASES)
def test_no_input_ends_in_a_traceback(case, tmp_path):
    run(case, FEW, tmp_path)


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES)
def test_no_input_ends_in_a_traceback_however_long_one_tries(case, tmp_path):
    run(case, MANY, tmp_path)
