"""A store keeps every whole line whatever interrupts it, and gives a row only to the key that it was stored under."""

from __future__ import annotations

import json
import threading
from dataclasses import replace

import pytest

from align_ko.chat_format import set_chat_template
from align_ko.errors import UserError
from align_ko.generation.requests import GREEDY, Request, answer_keys
from align_ko.recipe import CandidateArgs, DecodingArgs
from align_ko.stores import Store, append_row, row_key, shards

ROWS = {row_key(n=n): f"{n}번\u2028답 \ud55c" for n in range(6)}


def filled(file, ranks=(0, 1, 2)):
    for number, (key, text) in enumerate(ROWS.items()):
        Store(file, ranks[number % len(ranks)]).add(key, text=text)
    return file


def test_all_shards_are_read_as_one_and_other_rows_are_counted(tmp_path):
    file = filled(tmp_path / "deep" / "kept[1].jsonl")
    assert [path.name for path in shards(file)] == ["kept[1].jsonl", "kept[1].rank-1.jsonl", "kept[1].rank-2.jsonl"]
    store = Store(file, 1).load(ROWS)
    assert {key: store[key]["text"] for key in ROWS} == ROWS and store.unused == 0 and store.describe_unused() == ""
    some = Store(file).load([*list(ROWS)[:2], "missing"])
    assert list(some.rows) == list(ROWS)[:2] and "missing" not in some
    assert some.describe_unused() == f"{file}: 4 rows of other prompts, weights or settings are not used"


@pytest.mark.parametrize("cut", range(2, 50, 4))
def test_a_line_torn_anywhere_is_missing_and_the_next_one_is_whole(tmp_path, cut):
    file = filled(tmp_path / "kept.jsonl", ranks=(0,))
    file.write_bytes(file.read_bytes()[:-cut])
    store, last = Store(file).load(ROWS), list(ROWS)[-1]
    assert list(store.rows) == list(ROWS)[:-1]
    store.add(last, text="neu")
    assert [json.loads(line)["key"] for line in file.read_text(encoding="utf-8").split("\n")[:-1]] == list(ROWS)
    assert Store(file).load(ROWS)[last] == {"text": "neu"}


def test_a_whole_last_line_without_its_break_stays(tmp_path):
    file = filled(tmp_path / "kept.jsonl", ranks=(0,))
    file.write_bytes(file.read_bytes()[:-1])
    assert list(Store(file).load(ROWS).rows) == list(ROWS)
    append_row(file, {"key": "neu", "text": "\ud800"})
    assert [json.loads(line)["key"] for line in file.read_text(encoding="utf-8").split("\n")[:-1]] == [*ROWS, "neu"]


def test_a_line_broken_in_the_middle_is_reported(tmp_path):
    file = filled(tmp_path / "kept.jsonl", ranks=(0,))
    lines = file.read_text(encoding="utf-8").split("\n")
    file.write_text("\n".join([lines[0], lines[1][:30], *lines[2:]]), encoding="utf-8")
    with pytest.raises(UserError, match=r"kept\.jsonl:2: not valid JSON"):
        Store(file).load(ROWS)


def test_threads_share_a_store(tmp_path):
    store = Store(tmp_path / "kept.jsonl")
    threads = [threading.Thread(target=lambda n=n: store.add(f"{n}", text="가" * 999)) for n in range(40)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(Store(store.file).load([f"{n}" for n in range(40)]).rows) == sorted(f"{n}" for n in range(40))


# What a key depends on ------------------------------------------------------------------------------------------------------

ASKED = Request([{"role": "user", "content": "질문"}], DecodingArgs(0.7, 0.9, 1.1), 5)


def key(tokenizer, request=ASKED, **changed):
    made = {"weights": "abc", "max_new_tokens": 16, "dtype": "float32", **changed}
    return answer_keys([request], tokenizer, **made)[0]


def test_everything_that_an_answer_depends_on_changes_its_key(llama, tmp_path):
    tokenizer = llama.tokenizer()
    other_template, other_eos = llama.tokenizer(), llama.tokenizer()
    (tmp_path / "other.jinja").write_text(
        "{% for m in messages %}{{ m.content }}{{ eos_token }}{% endfor %}{% if add_generation_prompt %}질문:{% endif %}"
    )
    set_chat_template(other_template, str(tmp_path / "other.jinja"))
    other_eos.eos_token = "<s>"
    keys = [
        key(tokenizer),
        key(other_template),
        key(other_eos),
        *(key(tokenizer, replace(ASKED, **change)) for change in (
            {"prompt": [{"role": "user", "content": "질문?"}]},
            {"prompt": [{"role": "system", "content": "짧게"}, *ASKED.prompt]},
            {"decoding": DecodingArgs(0.8, 0.9, 1.1)},
            {"decoding": DecodingArgs(0.7, 0.8, 1.1)},
            {"decoding": DecodingArgs(0.7, 0.9, 1.2)},
            {"decoding": GREEDY},
            {"seed": 6},
        )),
        *(key(tokenizer, **change) for change in (
            {"weights": "def"}, {"max_new_tokens": 17}, {"dtype": "bfloat16"}, {"stop_loops": True}, {"server": "vllm tiny"},
        )),
    ]  # fmt: skip
    assert len(set(keys)) == len(keys) == 15
    assert all(len(each) == 16 for each in keys)


def test_what_an_answer_does_not_depend_on_does_not(llama):
    tokenizer = llama.tokenizer()
    sampled = CandidateArgs(0.7, 0.9, 1.1, samples=9)
    assert key(tokenizer) == key(llama.tokenizer(), replace(ASKED, decoding=sampled))
    greedy = [Request(ASKED.prompt, DecodingArgs(0.0, top_p), seed) for top_p, seed in ((1.0, 1), (0.9, 2))]
    assert len(set(answer_keys(greedy, tokenizer, "abc", 16))) == 1
