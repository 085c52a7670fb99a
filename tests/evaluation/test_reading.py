"""A blind reading: the same answers in the same order, every verdict kept at once, nothing in an answer obeyed."""

from __future__ import annotations

import os
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from align_ko.errors import UserError
from align_ko.evaluation.verdicts import READER_FILE, answers_to_read
from align_ko.records import read_jsonl, write_jsonl

SCRIPT = Path(__file__).parents[2] / "scripts/read.py"


def answer(number, model, response, setting="greedy", kind="heldout"):
    prompt = [{"role": "user", "content": f"질문 {number}번"}]
    return {"model": model, "setting": setting, "kind": kind, "prompt": prompt, "response": response}


@pytest.fixture
def folder(tmp_path):
    """Three questions and two models; to question 0 both give the same answer."""
    rows = [answer(n, model, "같은 답" if n == 0 else f"{model}의 답 {n}") for model in ("sft", "dpo") for n in range(3)]
    rows += [answer(0, "sft", "표본", "sampling_cool"), answer(9, "sft", "탐침", kind="probe")]
    write_jsonl(tmp_path / "responses.jsonl", rows)
    return tmp_path


def session(keys, *words):
    """What the script prints with `keys` in its pipe."""
    command = [sys.executable, str(SCRIPT), *map(str, words)]
    done = subprocess.run(command, input=keys, capture_output=True, text=True, env=os.environ | {"COLUMNS": "80"})
    assert done.returncode == 0, done.stderr
    return done.stdout


def kept(folder):
    return {row["response"]: row["verdict"] for row in read_jsonl(folder / READER_FILE)}


def test_equal_answers_are_read_once_in_an_order_of_the_seed(folder, tmp_path):
    read = answers_to_read([folder], 0, 7)
    assert sorted(one.response for one in read) == ["dpo의 답 1", "dpo의 답 2", "sft의 답 1", "sft의 답 2", "같은 답"]
    assert next(one.given_by for one in read if one.response == "같은 답") == [(folder, "sft"), (folder, "dpo")]
    write_jsonl(tmp_path / "other/responses.jsonl", reversed(list(read_jsonl(folder / "responses.jsonl"))))
    again = answers_to_read([tmp_path / "other"], 0, 7)
    assert [one.key for one in again] == [one.key for one in read]
    assert len({tuple(one.key for one in answers_to_read([folder], 0, seed)) for seed in range(8)}) > 4
    fewer, more = ({one.prompt[0]["content"] for one in answers_to_read([folder], n, 7)} for n in (1, 2))
    assert len(fewer) == 1 and len(more) == 2 and fewer < more
    assert {who for one in answers_to_read([folder], 0, 7, ["dpo"]) for who in one.given_by} == {(folder, "dpo")}


def test_what_cannot_be_read_is_named(folder):
    with pytest.raises(UserError, match=r"models: no greedy answer of dop; expected dpo, sft"):
        answers_to_read([folder], 0, 0, ["dop"])
    with pytest.raises(UserError, match=r"nowhere/responses\.jsonl: there are no answers here; expected the output folder of"):
        answers_to_read([folder / "nowhere"], 0, 0)
    with pytest.raises(UserError, match="no evaluation is named"):
        answers_to_read([], 0, 0)


def test_a_session_from_a_pipe_hides_the_models_until_its_end(folder):
    order = [one.response for one in answers_to_read([folder], 0, 0)]
    out = session("2 1 x 0 b 2 q", folder)  # x is no key; the third answer is judged twice
    assert "sft" not in out.replace("sft의", "") and "독자 판정" not in out and "3 / 5. 같은 명령으로" in out
    assert kept(folder) == dict(zip(order, (2, 1, 2), strict=False))  # the last verdict of each
    out = session("s0", folder)  # the fourth answer is skipped
    assert [line for line in out.splitlines() if "────" in line][:2] == [f"{'─' * 36} {n} / 5 {'─' * 37}" for n in (3, 3)]
    verdicts = kept(folder)
    assert verdicts == {text: verdict for text, verdict in zip(order, (2, 1, 2, None, 0), strict=True) if verdict is not None}
    table = {cells[0]: cells[1:] for line in out.splitlines() if (cells := line.split()) and cells[0] in ("sft", "dpo")}
    for model in ("sft", "dpo"):
        mine = [verdict for text, verdict in verdicts.items() if text.startswith((model, "같은"))]
        assert table[model][:4] == [str(n) for n in (len(mine), mine.count(2), mine.count(1), mine.count(0))]
        assert re.fullmatch(r"\d+ \(\d+-\d+\)", " ".join(table[model][4:]))


def test_two_evaluations_are_read_together_and_each_keeps_its_verdicts(folder, tmp_path):
    other = tmp_path / "other"
    write_jsonl(other / "responses.jsonl", [answer(1, "third", "셋째 답"), answer(0, "third", "같은 답")])
    session("222222", folder, other)
    assert kept(other) == {"셋째 답": 2, "같은 답": 2} and len(kept(folder)) == 5
    (folder / READER_FILE).unlink()
    out = session("2222", folder, other)  # what was read for the other evaluation is not read again
    assert "같은 답" not in out and "third" in out and "…" not in out and kept(folder)["같은 답"] == 2


def test_killed_it_goes_on_with_the_next_answer(folder):
    order = [one.response for one in answers_to_read([folder], 0, 0)]
    reading = subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    reading.stdin.write(b"20")
    reading.stdin.flush()
    file = folder / READER_FILE
    while not file.is_file() or file.read_bytes().count(b"\n") < 2:
        assert reading.poll() is None
        time.sleep(0.01)
    reading.kill()
    reading.wait()
    with file.open("ab") as out:
        out.write(b'{"key": "torn')
    out = session("1q", folder)
    assert order[2] in out and order[0] not in out and order[1] not in out
    assert kept(folder) == dict(zip(order, (2, 0, 1), strict=False))


def test_codes_and_markup_in_an_answer_are_shown_not_obeyed(tmp_path):
    evil = "\x1b[2J\x1b]0;제목\x07[red]빨강[/red] [/b] \u202e뒤\r끝"
    row = answer(1, "[bold]m\x1b[2J", evil) | {"prompt": [{"role": evil, "content": evil}]}
    write_jsonl(tmp_path / "responses.jsonl", [row])
    out = session("2", tmp_path)
    assert not re.search("[\x00-\x09\x0b-\x1f\u202e]", out)
    shown = "".join(out.split())
    assert shown.count("[U+001B][2J[U+001B]]0;제목[U+0007][red]빨강[/red][/b][U+202E]뒤[U+000D]끝") == 3
    assert "[bold]m[U+001B][2J" in out


@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
def test_in_a_terminal_one_key_is_enough_and_an_arrow_is_none(folder, request):
    import pty
    import termios

    ours, theirs = pty.openpty()
    reading = subprocess.Popen([sys.executable, str(SCRIPT), str(folder)], stdin=theirs, stdout=subprocess.PIPE)
    seen = b""
    request.addfinalizer(reading.kill)
    for then, key in (("그만", "\x1b[2~"), ("가운데", "2"), ("1 / 5", "ㅠ"), ("앞서 2", "1"), ("1 / 5", "ㅂ"), ("1 / 5.", "")):
        while then.encode() not in seen:
            assert select.select([reading.stdout], [], [], 60)[0], (
                then,
                seen.decode(),
            )
            seen += os.read(reading.stdout.fileno(), 4096)
        while key and termios.tcgetattr(theirs)[3] & termios.ICANON:
            time.sleep(0.01)  # until it waits for a key
        os.write(ours, key.encode())
        seen = b""
    assert reading.wait() == 0
    assert [row["verdict"] for row in read_jsonl(folder / READER_FILE)] == [2, 1]


def test_checkpoints_are_asked_first_and_read_like_an_evaluation(tmp_path, llama, gemma):
    write_jsonl(tmp_path / "asked.jsonl", [{"prompt": f"{n}번 질문"} for n in range(3)])
    out, words = tmp_path / "reading", ["--asked", tmp_path / "asked.jsonl", "--output-dir", tmp_path / "reading"]
    first = session("2q", llama.folder, gemma.folder, *words, "--prompts", "2")
    assert "1 / " in first and len(kept(out)) == 1
    assert {row["model"] for row in read_jsonl(out / "responses.jsonl")} == {"llama", "gemma"}
    second = session("0" * 9, llama.folder, gemma.folder, *words, "--prompts", "2")  # nothing is answered again
    assert "answers in" not in second and {line.split()[0] for line in second.splitlines()[-4:-1]} >= {"llama", "gemma"}
    verdicts = [row["verdict"] for row in read_jsonl(out / READER_FILE)]
    assert verdicts[0] == 2 and set(verdicts[1:]) == {0}
