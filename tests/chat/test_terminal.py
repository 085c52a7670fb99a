"""The terminal: keys in, text out. The model is a stand-in, but where the test says otherwise."""

from __future__ import annotations

import io
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from rich.console import Console

from align_ko.chat.checkpoints import Answer, Checkpoint, Checkpoints
from align_ko.chat.conversation import Conversation
from align_ko.chat.terminal import Terminal
from align_ko.errors import UserError
from align_ko.records import read_conversations, read_pairs

SCRIPT = Path(__file__).parents[2] / "scripts/chat.py"


class Scripted:
    """Stands in for Checkpoints: each checkpoint answers with its name and how many turns it saw."""

    max_new_tokens = 8

    def __init__(self, monkeypatch, evil=""):
        self.asked, self.interrupt, self.evil = [], False, evil
        monkeypatch.setattr("align_ko.generation.local.stream_answer", self.stream)

    def get(self, name):
        if name == "없음":
            raise UserError("there is no folder 없음")
        return Checkpoint(name, name, None, 8)

    def stream(self, model, tokenizer, messages, longest, stopped):
        self.asked.append([message["content"] for message in messages])
        yield f"{model}{self.evil}의 "
        if self.interrupt:
            self.interrupt = False
            raise KeyboardInterrupt
        yield f"답 {len(messages)}."
        return True


@pytest.fixture
def session(monkeypatch, tmp_path):
    """Runs a session on lines (or exceptions) and returns what it printed."""

    def run(*lines, names=("가",), blind=False, scripted=None):
        waiting, out = iter([*lines, EOFError()]), io.StringIO()
        run.scripted = scripted or Scripted(monkeypatch)

        def read(label):
            out.write(f"<{label}>")
            line = next(waiting)
            if isinstance(line, BaseException):
                raise line
            return line

        console = Console(file=out, width=200, highlight=False)
        files = tmp_path / "votes.jsonl", tmp_path / "kept.jsonl"
        Terminal(run.scripted, Conversation(list(names), "", blind), *files, console, read).run()
        return out.getvalue()

    run.folder = tmp_path
    return run


def test_turns_follow_each_other_and_can_be_saved(session):
    out = session("첫째", "둘째", "/저장", f"/저장 {session.folder / 'mine.jsonl'}")
    assert "가의 답 1." in out and "가의 답 3." in out
    for name in ("kept.jsonl", "mine.jsonl"):
        [row] = read_conversations(session.folder / name)
        assert [m["content"] for m in row["messages"]] == ["첫째", "가의 답 1.", "둘째", "가의 답 3."]


def test_ctrl_c_ends_the_answer_and_not_the_program(session, monkeypatch):
    scripted = Scripted(monkeypatch)
    scripted.interrupt = True
    out = session("긴 질문", KeyboardInterrupt(), "짧은 질문", "/다시 다른 질문", scripted=scripted)
    assert "멈췄습니다" in out and scripted.asked == [["긴 질문"], ["짧은 질문"], ["다른 질문"]]


def test_commands(session):
    lines = ["/다시", "/시스템 짧게", "질문", "/시스템", "/다시", "/체크포인트 나", "/다시"]
    out = session(*lines, "/체크포인트 없음", "/저정", "/etc가 뭐죠?", "/처음", "/저장")
    asked = session.scripted.asked
    assert asked == [["짧게", "질문"], ["질문"], ["질문"], ["질문", "나의 답 1.", "/etc가 뭐죠?"]]
    said = ["아직 물으신", "나의 답 1.", "there is no folder 없음", "/저장 명령을", "지금 답하는 체크포인트: 나", "아직 저장할"]
    assert [text for text in said if text not in out] == []
    assert "/비교" in session("/도움")


def test_two_answers_and_a_vote(session):
    out = session("수도는?", "/비교 나", "2", "다음은?", "1", "/비교", "끝으로?")
    assert session.scripted.asked[-1] == ["수도는?", "나의 답 1.", "다음은?", "가의 답 3.", "끝으로?"]
    pairs = list(read_pairs(session.folder / "votes.jsonl"))
    assert [(p["chosen"][0]["content"], p["rejected"][0]["content"]) for p in pairs] == [
        ("나의 답 1.", "가의 답 1."), ("가의 답 3.", "나의 답 3."),
    ]  # fmt: skip
    assert out.count("어느 답변이 낫습니까?") == 2


def test_blind_names_come_after_the_vote(session):
    out = session("수도는?", "", names=("가", "나"), blind=True)
    before, _, after = out.partition("어느 답변이")
    assert "답변 1\n" in before and "답변 2\n" in before and "답변 1 = " in after
    assert not (session.folder / "votes.jsonl").exists()


def test_escape_sequences_and_markup_are_shown_not_obeyed(session, monkeypatch):
    evil = "\x1b[2J\x1b]0;제목\x07[red]빨강[/red]\u202e"
    out = session(f"질문 {evil}", "/비교 [b]나\x1b[2J", "1", scripted=Scripted(monkeypatch, evil))
    assert "\x1b" not in out and "\x07" not in out and "\u202e" not in out
    assert out.count("가[U+001B][2J[U+001B]]0;제목[U+0007][red]빨강[/red][U+202E]의 답 1.") == 2
    assert "[b]나[U+001B][2J" in out


def test_a_pasted_text_is_one_message_and_korean_is_edited_whole(monkeypatch, tmp_path):
    from prompt_toolkit.application import create_app_session
    from prompt_toolkit.input import create_pipe_input
    from prompt_toolkit.output import DummyOutput

    from align_ko.chat.terminal import prompt_reader

    monkeypatch.setenv("ALIGN_KO_CACHE", str(tmp_path))
    with create_pipe_input() as keys, create_app_session(input=keys, output=DummyOutput()):
        read = prompt_reader()
        keys.send_text("\x1b[200~첫 문단입니다.\r\n\r\n둘째 문단입니다.\x1b[201~\r")
        assert read("나") == "첫 문단입니다.\n\n둘째 문단입니다."
        keys.send_text("김치찌걔\x7f개\r")
        assert read("나") == "김치찌개"
        keys.send_text("\x1b[A\x1b[A\r")  # twice up
        assert read("나") == "첫 문단입니다.\n\n둘째 문단입니다."
        keys.send_text("한 줄\x1b\r두 줄\r")
        assert read("나") == "한 줄\n두 줄"
        keys.send_text("\x03")
        with pytest.raises(KeyboardInterrupt):
            read("나")
        keys.send_text("\x04")
        with pytest.raises(EOFError):
            read("나")


# -------------------- with a model


def test_a_checkpoint_tells_how_its_answer_ended(llama):
    checkpoint = Checkpoints(6).get(str(llama.folder))  # it has no fingerprint: nothing to check it against
    answer = Answer("x")
    assert "".join(checkpoint.write([{"role": "user", "content": "안녕하세요"}], answer)) == answer.text
    assert answer.state in ("finished", "cut") and answer.text
    stopped = Answer("x")
    stopped.stop.set()
    list(checkpoint.write([{"role": "user", "content": "안녕하세요"}], stopped))
    assert stopped.state == "stopped"
    failed = Answer("x")
    assert list(checkpoint.write([{"role": "user", "content": "가나다라마 " * 20_000}], failed)) == []
    assert failed.state == "failed" and "this model reads" in failed.problem
    left = checkpoint.write([{"role": "user", "content": "안녕하세요"}], left_answer := Answer("x"))
    next(left)
    left.close()
    assert left_answer.state == "stopped"
    list(checkpoint.write([{"role": "user", "content": "안녕하세요"}], again := Answer("x")))  # the turn was given back
    assert again.text == answer.text


def chat(folder, *lines):
    command = [sys.executable, str(SCRIPT), "--model-path", str(folder), "--max-new-tokens", "4"]
    return subprocess.run(command, input="\n".join(lines), capture_output=True, text=True)


def test_from_a_pipe_html_and_codes_work_and_too_long_a_question_is_one_message(llama):
    done = chat(llama.folder, "<script>alert(1)</script>\x1b[2J\x00", "", "가" * 100_000)
    assert done.returncode == 2 and done.stdout.strip() and "\x1b" not in done.stdout
    assert (
        [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        == [line for line in done.stderr.splitlines() if "this model reads 2,048" in line]
        != []
    )


def test_a_checkpoint_in_another_format_is_one_message(llama, tmp_path):
    shutil.copytree(llama.folder, tmp_path / "model")
    (tmp_path / "model" / "align_ko_format.json").write_text('{"eos": 7}')
    done = chat(tmp_path / "model", "안녕")
    assert done.returncode == 2 and "this checkpoint was trained in another chat format" in done.stderr
    done = chat(tmp_path / "nowhere", "안녕")
    assert done.returncode == 2 and done.stderr.startswith("error: --model-path: there is no folder")
