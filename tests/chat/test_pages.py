"""The pages in headless Chromium; slow, and skipped where no browser is installed."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from align_ko.chat.serve import check_port
from align_ko.errors import UserError
from align_ko.evaluation.verdicts import READER_FILE
from align_ko.records import read_conversations, read_jsonl, read_pairs, write_jsonl

HERE = Path(__file__).parent


def test_an_occupied_port_is_named():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(UserError, match=rf"--port: port {port} cannot be used: Address already in use; expected another"):
            check_port(port)
    check_port(port)
    with pytest.raises(UserError, match="port 70000 cannot be used"):
        check_port(70_000)


# -------------------- with a browser


def wait_until(condition, what, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, what
        time.sleep(0.05)


@pytest.fixture
def start(request):
    """Starts a page server in a folder and returns its address."""

    def start(which, folder):
        folder.mkdir(parents=True, exist_ok=True)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        # NiceGUI behaves differently where it thinks that it runs in pytest
        environment = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST")}
        command = [sys.executable, str(HERE / "page_server.py"), which, str(port), str(folder)]
        server = subprocess.Popen(command, env=environment)
        request.addfinalizer(lambda: (server.kill(), server.wait()))

        def answers():
            assert server.poll() is None
            with socket.socket() as tried:
                return tried.connect_ex(("127.0.0.1", port)) == 0

        wait_until(answers, "the server does not start", 300)
        return f"http://127.0.0.1:{port}/"

    return start


@pytest.fixture
def page(browser, request):
    """A page that may load nothing from another machine and log no error."""
    page = browser.new_page(viewport={"width": 1200, "height": 800})
    foreign, errors = [], []
    page.on("request", lambda asked: None if asked.url.startswith(("http://127.0.0.1", "data:")) else foreign.append(asked.url))
    page.on("pageerror", lambda error: errors.append(str(error)))
    yield page
    page.close()
    assert (foreign, errors) == ([], [])


def ask(page, text):
    page.get_by_label("질문").fill(text)
    page.get_by_label("질문").press("Enter")


@pytest.mark.slow
def test_type_stream_vote_reload_and_go_on(start, page, tmp_path):
    page.goto(start("chat", tmp_path))
    ask(page, "수도는 <img src=x onerror=alert(1)> 어디인가요?\x1b[2J")
    page.get_by_text("끝입니다.").wait_for()
    left, right = page.locator(".answer").all()
    assert "out/sft" in left.inner_text() and "out/dpo" in right.inner_text()
    assert "<b>굵게</b> [U+001B][2J" in right.inner_text() and right.locator("b").count() == 0
    assert "<img src=x onerror=alert(1)>" in page.locator(".question").inner_text() and page.locator("img").count() == 0
    left.locator("mark").first.wait_for()  # the repetition is underlined, and named below
    assert "서울입니다." in left.locator("mark").first.inner_text() and left.locator(".faults").inner_text().strip()
    right.get_by_role("button", name="이 답변이 낫습니다").click()
    page.locator(".answer.better").wait_for()
    [pair] = read_pairs(tmp_path / "votes.jsonl")
    assert pair["chosen"][0]["content"].startswith("한국의 수도는") and pair["rejected"][0]["content"].startswith(
        "서울입니다. 서울"
    )
    page.reload()
    page.locator(".answer.better").wait_for()
    assert page.get_by_role("button", name="이 답변이 낫습니다").locator("visible=true").count() == 0
    ask(page, "둘째")
    page.locator(".answer").nth(3).get_by_text("끝입니다.").wait_for()
    page.get_by_role("button", name="저장").click()
    wait_until((tmp_path / "kept.jsonl").exists, "not saved")
    [row] = read_conversations(tmp_path / "kept.jsonl")
    assert [m["content"][:3] for m in row["messages"]] == ["수도는", "한국의", "둘째", "서울입"]
    page.get_by_role("button", name="새 대화").click()
    page.get_by_text("질문을 적어 보세요").wait_for()


@pytest.mark.slow
def test_stop_ends_the_answers_and_so_does_a_closed_browser(start, page, browser, tmp_path):
    address = start("chat", tmp_path)
    page.goto(address)
    ask(page, "끝없이")
    page.locator(".answer").nth(1).get_by_text("끝입니다.").first.wait_for()
    assert page.get_by_text("쓰는 중…").count() == 2
    page.get_by_role("button", name="멈추기").click()
    page.get_by_text("멈췄습니다").first.wait_for()
    assert page.get_by_role("button", name="보내기").is_visible()
    other = browser.new_page()
    other.goto(address)
    ask(other, "끝없이 씁니다")
    writing = tmp_path / "writing.txt"
    wait_until(lambda: writing.read_text() == "2", "two answers are written")
    other.close()
    wait_until(lambda: writing.read_text() == "0", "nobody reads them any more")
    ask(page, "다시")
    page.locator(".answer").nth(3).get_by_text("끝입니다.").wait_for()


@pytest.mark.slow
def test_a_reload_in_the_middle_goes_on_writing(start, page, tmp_path):
    page.goto(start("chat", tmp_path))
    ask(page, "끝없이")
    page.locator(".answer").nth(1).get_by_text("끝입니다.").first.wait_for()
    page.reload()
    page.get_by_role("button", name="멈추기").click()
    page.get_by_text("멈췄습니다").first.wait_for()


@pytest.mark.slow
def test_blind_names_and_faults_come_after_the_vote(start, page, tmp_path):
    page.goto(start("chat", tmp_path / "blind"))
    ask(page, "수도는?")
    page.get_by_role("button", name="이 답변이 낫습니다").first.wait_for()
    text = page.locator("body").inner_text()
    assert "답변 1" in text and "out/" not in text and page.locator("mark").count() == 0
    page.get_by_role("button", name="고르지 않습니다").click()
    page.get_by_text("out/dpo").wait_for()
    page.locator("mark").first.wait_for()
    assert not (tmp_path / "blind" / "votes.jsonl").exists()


@pytest.mark.slow
def test_a_long_question_and_a_phone(start, page, tmp_path):
    page.set_viewport_size({"width": 360, "height": 740})
    page.goto(start("chat", tmp_path))
    ask(page, "가나다라마바사아자 " * 10_000)
    page.locator(".answer").nth(1).get_by_text("끝입니다.").wait_for()
    assert page.locator(".question").inner_text().endswith("모두 99,999자")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    first, second = page.evaluate("[...document.querySelectorAll('.answer')].map(one => [one.offsetTop, one.offsetHeight])")
    assert second[0] >= first[0] + first[1]  # below each other


@pytest.mark.slow
def test_a_name_of_another_site_gets_no_answer(start, tmp_path):
    import http.client

    port = int(start("chat", tmp_path).rsplit(":", 1)[1].strip("/"))
    connection = http.client.HTTPConnection("127.0.0.1", port)
    connection.request("GET", "/", headers={"Host": "evil.example"})
    assert connection.getresponse().status == 400


def write_evaluation(folder):
    """Two questions and two models."""
    texts = {("sft", 0): "부산입니다.", ("dpo", 0): "서울입니다. <b>x</b>\x1b[2J", ("sft", 1): "같은 답", ("dpo", 1): "같은 답"}
    rows = []
    for (model, n), response in texts.items():
        prompt = [{"role": "user", "content": f"질문 {n}번 <i>y</i>"}]
        rows.append({"model": model, "setting": "greedy", "kind": "heldout", "prompt": prompt, "response": response})
    write_jsonl(folder / "responses.jsonl", rows)


@pytest.mark.slow
def test_a_blind_reading_by_keys_and_clicks(start, page, tmp_path):
    write_evaluation(tmp_path)
    address = start("read", tmp_path)
    page.goto(address)
    read = {}

    def shown():
        return page.locator(".answer .text").inner_text()

    for number, verdict in enumerate((2, 0, 1)):
        page.get_by_text(f"{number} / 3").wait_for()
        text = page.locator("body").inner_text()
        assert "sft" not in text and "dpo" not in text and "<i>y</i>" in text
        read[shown()] = verdict
        if number == 1:
            page.keyboard.press("b")
            page.get_by_text("앞서 2점").wait_for()
            page.keyboard.press("s")
            page.get_by_text("앞서 2점").wait_for(state="detached")
            page.keyboard.press("0")
        else:
            page.get_by_role("button", name=f"{verdict} ").click()
        if number == 0:
            page.get_by_text("1 / 3").wait_for()
            page.reload()
    page.locator("table").wait_for()
    assert any("<b>x</b>[U+001B][2J" in text for text in read)
    kept = {row["response"]: row["verdict"] for row in read_jsonl(tmp_path / READER_FILE)}
    assert {text.replace("[U+001B]", "\x1b"): verdict for text, verdict in read.items()} == kept
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator("tbody tr").all()]
    assert [row[:2] for row in rows] == [["dpo", "2"], ["sft", "2"]] and all("(" in row[5] for row in rows)


@pytest.mark.slow
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("which", ["chat", "read"])
def test_axe_finds_no_serious_fault(start, browser, tmp_path, which, scheme):
    axe = Path(pytest.importorskip("axe_playwright_python").__file__).parent / "axe.min.js"
    page = browser.new_page(color_scheme=scheme)
    write_evaluation(tmp_path)
    page.goto(start(which, tmp_path))
    if which == "chat":
        ask(page, "수도는?")
        page.locator("mark").first.wait_for()
    page.locator(".answer").first.wait_for()
    page.add_script_tag(path=str(axe))
    found = page.evaluate("axe.run()")["violations"]
    page.close()
    serious = [
        (one["id"], [node["html"] for node in one["nodes"]]) for one in found if one["impact"] in ("serious", "critical")
    ]
    assert serious == [], json.dumps(serious, ensure_ascii=False, indent=1)
