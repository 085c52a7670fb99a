"""The curation report: what stands in it, and that no row can break it. The dataset card, read as `datasets` reads it."""

from __future__ import annotations

import io
import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from html_page import Page, in_language
from jinja2 import UndefinedError
from rich.console import Console

from align_ko.errors import visible
from align_ko.report.curation import (
    LICENCE,
    MAX_SOURCES,
    bar_pairs,
    by_source,
    dataset_card,
    render_html,
    show,
    size_category,
    tables,
    write_report,
)  # fmt: skip
from align_ko.report.curation_examples import (
    BUDGET,
    differences,
    dropped_card,
    duplicate_chats,
    offending,
    show_white_space,
)  # fmt: skip
from align_ko.report.korean import FAULT_NAMES, REASON_NAMES
from align_ko.report.page import Part, pieces
from align_ko.report.tables import escape_markdown, markdown_table

GOOD = "김치찌개는 잘 익은 신김치를 먼저 볶아야 맛이 깊어집니다."
EVIL = "<script>alert(1)</script><img src=x onerror=alert(2)> [/red] | \"'& `*_"


def turns(*texts: str) -> list[dict[str, str]]:
    return [{"role": ("user", "assistant")[place % 2], "content": text} for place, text in enumerate(texts)]


def row(*texts: str, source: str = "koalpaca", number: int = 0) -> dict[str, Any]:
    return {"messages": turns(*texts), "source": source, "group": "instruction", "id": f"{number:016x}"}


def dropped(reason: str, detail: str, raw: Any) -> dict[str, Any]:
    return {"reason": reason, "detail": detail, "source": "koalpaca", "file": "raw/koalpaca.jsonl", "line": 7, "row": raw}


def plain_facts() -> dict[str, Any]:
    """What a run reports that repaired nothing and found no near-duplicates."""
    lengths = [{"characters": "0-9", "before": 4, "after": 0}, {"characters": "1500 and more", "before": 12, "after": 8}]
    return {
        "rows": {"read": 20, "kept": 10, "taken": 8, "train": 7, "eval": 1, "preferences": 0},
        "seconds": 0.5,
        "rows_per_second": 40,
        "funnel": {
            "koalpaca": {"read": 16, "valid": 12, "length": 12, "natural": 9, "distinct": 8, "unseen": 7, "taken": 5},
            "kowiki_qa": {"read": 4, "valid": 4, "length": 3, "natural": 3, "distinct": 3, "unseen": 3, "taken": 3},
        },
        "reasons": {
            "koalpaca": {"broken_row": 4, "repetition": 3, "duplicate": 1, "evaluation_overlap": 1},
            "kowiki_qa": {"too_short": 1},
        },
        "mixture": {
            "groups": [{"group": "instruction", "wanted": 9, "available": 10, "taken": 8, "share": 1.0}],
            "decision": "instruction: 9 rows wanted, 10 there.",
        },
        "answer_characters": lengths,
        "speech_levels": {"before": {"polite": 9, "mixed": 3}, "after": {"polite": 8}},
        "kept_examples": [row("김치찌개 비결은?", GOOD)],
        "dropped_examples": {
            "broken_row": [dropped("broken_row", "not valid JSON: …", '{"instruc')],
            "repetition": [
                dropped("repetition", "되풀이됩니다. …네. 네.…", {"instruction": "맞나요?", "output": "네. 네. 네."})
            ],
        },
        "filters": ["roles", "empty", "repetition", "duplicate"],
        "recipe": "",
        "steps": [{"step": "read and judge", "seconds": 41.2, "rows": 191641, "rows_per_second": 4650}],
        "near_duplicates": {"question": 0, "answer": 0, "examples": []},
        "repairs": {},
        "repair_examples": [],
        "personal_data": {"masked": {}},
        "selection": {"how": "random", "score_before": 0.93, "score_after": 0.93},
        "scores": {"before": {}, "after": {}},
        "answer_characters_by_group": {},
    }


def full_facts() -> dict[str, Any]:
    """The same with all that a run may add."""
    return plain_facts() | {
        "near_duplicates": {
            "question": 812,
            "answer": 0,
            "examples": [
                {
                    "kept": row("연어는 어떻게 강으로 돌아와요?", GOOD),
                    "dropped": row("연어는 어떻게 강으로 돌아오나요?", GOOD),
                    "side": "question",
                    "similarity": 0.914,
                }
            ],
        },
        "repairs": {"white_space": 1200, "particles": 31},
        "repair_examples": [{"repair": "particles", "before": "물를 끓여요.", "after": "물을 끓여요."}],
        "personal_data": {"masked": {"phone": 3}},
        "selection": {"how": "quality_diverse", "score_before": 0.93, "score_after": 0.97},
        "scores": {"before": {"0.8-0.9": 5, "0.9-1.0": 15}, "after": {"0.9-1.0": 8}},
        "answer_characters_by_group": {"instruction": plain_facts()["answer_characters"]},
        "recipe": "recipes/solar/data.yaml",
    }


def evil_facts() -> dict[str, Any]:
    """Everything that comes from data or a path is hostile."""
    facts = full_facts()
    odd = f"{EVIL}\ud83d\x00\u202e"
    facts["funnel"] = {EVIL: facts["funnel"]["koalpaca"], "": facts["funnel"]["kowiki_qa"]}
    facts["reasons"] = {EVIL: {EVIL: 3, "repetition": 2}}
    facts["kept_examples"] = [row(odd, odd, source=EVIL), row()]
    raws = [
        None,
        3,
        [],
        {},
        odd,
        {"messages": [None]},
        {"messages": turns(odd, odd)},
        {"messages": [{"role": odd, "content": odd}]},
    ]
    facts["dropped_examples"] = {EVIL: [dropped(EVIL, f"…{odd}…", raw) for raw in raws]}
    facts["mixture"]["decision"] = facts["recipe"] = EVIL
    facts["near_duplicates"]["examples"].append(
        {"kept": row(odd, "가"), "dropped": {}, "side": "answer", "similarity": 1}
    )  # fmt: skip
    facts["repair_examples"].append({"repair": EVIL, "before": odd, "after": ""})
    return facts


# ------------------------------------------------------------------------------------------------------------- numbers


def test_the_bar_of_a_source_adds_up() -> None:
    facts = plain_facts()
    facts["funnel"]["nothing"] = dict.fromkeys(facts["funnel"]["koalpaca"], 0)
    bars = [re.findall(r'class="s-(\w+)" style="width:([\d.]+)%" title="\S.*? (\d+)행', part)
            for part in render_html(facts).split('<div class="flow')[1:]]  # fmt: skip
    assert {stage: int(count) for stage, _, count in bars[1]} == {
        "taken": 5, "spare": 2, "valid": 4, "natural": 3, "distinct": 1, "unseen": 1,
    }  # fmt: skip
    assert sum(float(width) for _, width, _ in bars[1]) == pytest.approx(100)
    assert len(bars) == 4 and bars[3] == []


def test_pairs_are_shares_of_their_own_sum() -> None:
    first, last = bar_pairs({"0-9": 4, "1500 and more": 12}, {"0-9": 0, "1500 and more": 8}).values()
    assert [bar.share for bar in first] == [0.25, 0]
    assert [(bar.share, bar.width) for bar in last] == [(0.75, 75.0), (1.0, 100.0)]


def test_many_sources_are_folded_and_lose_no_row() -> None:
    names = [f"s{number}" for number in range(40)]
    facts = {"funnel": {name: {"read": number} for number, name in enumerate(names)}}
    facts |= {"reasons": {name: {"echo": 1} for name in names}}
    funnels, reasons = by_source(facts)
    assert [*funnels] == [*names[-MAX_SOURCES:], "25 more"] == [*reasons]
    assert sum(left["read"] for left in funnels.values()) == sum(range(40))
    assert reasons["25 more"] == {"echo": 25}


def test_tables_of_what_is_there_only() -> None:
    plain, full = ([sheet.title for sheet in tables(facts)] for facts in (plain_facts(), full_facts()))
    assert [title for title in full if title not in plain] == [
        "Near-duplicates dropped", "Repaired rows", "Personal data masked",
    ]  # fmt: skip
    by_title = {sheet.title: sheet.rows for sheet in tables(full_facts())}
    assert by_title["Near-duplicates dropped"] == [("question", 812)]
    assert by_title["Length of answers"][1] == ["1500 and more", 12, 8]
    assert by_title["Why rows were dropped"][0] == ["broken_row", 4, 0, 4]
    assert by_title["Rows left after each stage"][-1] == ["all", 20, 16, 15, 12, 11, 10, 8]


# ------------------------------------------------------------------------------------------------------------ examples


@pytest.mark.parametrize(
    ("reason", "detail", "said", "marked"),
    [
        ("speech_level", "섞여 있습니다. …같다.…", ("차례는?", "먼저예요. 늘 같다."), [[], ["같다."]]),
        ("repetition", "되풀이됩니다. …네.…", ("맞나요?", "네. 네. 네."), [[], ["네."] * 3]),
        ("unfinished", "끝나지 않았습니다. …집…", ("어디?", "집 앞 가게 집"), [[], ["집"]]),
        ("wrong_particle", "조사가 틀렸습니다. …를…", ("뭘?", "차를 마시고 물를 끓여요."), [[], []]),  # which of them?
        ("wrong_particle", "조사가 틀렸습니다. …를…", ("뭘?", "물를 끓여요."), [[], ["를"]]),
        ("echo", "answer 2: 질문과 같습니다. …왜?…", ("왜?", "왜?", "왜?", "왜? 왜?"), [[], [], [], ["왜?", "왜?"]]),
        ("profanity", "'바보' is on the list of swear words", ("?", "이 바보야."), [[], ["바보"]]),
        ("off_topic", "answer 1 shares no word with its question: …네…", ("왜?", "네"), [[], []]),
        ("personal_data", "전화번호입니다. …010…", ("010으로 전화해?", "네."), [["010"], []]),  # in the question
        ("too_short", "answer of 4 characters, at least 40 wanted", ("왜?", "그냥요."), [[], []]),
        ("repetition", "…", ("왜?", "…"), [[], []]),
        ("repetition", "…………", ("왜?", "왜……"), [[], ["……"]]),
    ],
)
def test_what_the_detail_quotes_is_marked(reason: str, detail: str, said: tuple[str, ...], marked: list[list[str]]) -> None:
    messages = turns(*said)
    parts = offending(reason, detail, messages)
    assert [[part.text for part in message if part.marked] for message in parts] == marked
    assert ["".join(part.text for part in message) for message in parts] == list(said)


def test_unfinished_is_marked_at_the_end() -> None:
    (_, said) = offending("unfinished", "끝나지 않았습니다. …집…", turns("어디?", "집 앞 가게 집"))
    assert said == [Part("집 앞 가게 ", False), Part("집", True)]


def test_what_is_marked_in_the_text_is_not_told_again() -> None:
    raw = {"messages": turns("가", "나", "다", "네 方法입니다.")}
    assert dropped_card(dropped("x", "answer 2: 한글이 아닙니다. …方法…", raw)).detail.ko == "2번째 답변: 한글이 아닙니다."
    assert dropped_card(dropped("x", "한글이 아닙니다. …漢字…", raw)).detail.ko == "한글이 아닙니다. …漢字…"


def test_differences_by_character_and_by_word() -> None:
    before, after = differences("물를 끓여요.", "물을 끓여요.")
    assert (before[1], after[1]) == (Part("를", True), Part("을", True))
    twins = duplicate_chats(full_facts()["near_duplicates"]["examples"][0])
    marked = [[part.text for b in card.bubbles for p in b.pieces for part in p.parts if part.marked] for card in twins]
    assert marked == [["돌아와요?"], ["돌아오나요?"]]  # of the questions; the answers are left alone
    long = "가" * 5000
    assert differences(long, "나") == ([Part(long, False)], [Part("나", False)])


def test_what_cannot_be_seen_is_shown() -> None:
    assert visible("가\u200b나\x00\ufeff\n\t\u202e") == "가[U+200B]나[U+0000][U+FEFF]\n\t[U+202E]"
    assert visible("👨\u200d👩 \ud83d") == "👨\u200d👩 \ufffd"
    assert show_white_space([Part("가 나", False), Part(" \n", True)]) == [Part("가 나", False), Part("␣↵\n", True)]


def test_long_texts_fold_around_the_mark_and_nothing_is_lost() -> None:
    def shape(parts: list[Part]) -> list[tuple[bool, int]]:
        shown, missing = pieces(parts)
        assert "".join(p.text for piece in shown for p in piece.parts) == "".join(p.text for p in parts)
        assert missing == 0
        return [(piece.folded, piece.characters) for piece in shown]

    assert shape([Part("가" * 400, False)]) == [(False, 400)]
    assert shape([Part("가" * 1000, False)]) == [(False, 340), (True, 660)]
    assert shape([Part("가" * 1000, False), Part("나", True)]) == [(False, 120), (True, 780), (False, 101)]
    middle = [Part("가" * 1000, False), Part("나", True), Part("다" * 1000, False)]
    assert shape(middle) == [(False, 120), (True, 780), (False, 340), (True, 761)]
    shown, missing = pieces([Part("가" * 100_000, False)], BUDGET)
    assert (missing, sum(piece.characters for piece in shown)) == (100_000 - BUDGET, BUDGET)
    shown, missing = pieces([Part("가" * 100_000, False), Part("나", True)], BUDGET)
    assert [part.text for piece in shown for part in piece.parts if part.marked] == ["나"]


# ------------------------------------------------------------------------------------------------------------ the page


@pytest.mark.parametrize("facts", [plain_facts(), full_facts(), evil_facts()], ids=["plain", "full", "evil"])
def test_page_is_whole_and_needs_nothing_else(facts: dict[str, Any]) -> None:
    page = render_html(facts)
    parsed = Page(page)
    tags = {tag for tag, _ in parsed.tags}
    assert [tag for tag, _ in parsed.tags].count("script") == 1  # ours, and the page's policy lets no other run
    assert not tags & {"img", "link", "iframe", "object", "form", "a"}
    assert not any({"src", "href", "srcset", "data", "action"} & attributes.keys() for _, attributes in parsed.tags)
    assert not any(name.startswith("on") for _, attributes in parsed.tags for name in attributes)
    assert not re.search(r"https?://|url\(|@import", page)
    assert page.lstrip().startswith("<!doctype html>")
    assert not re.search("[\ud800-\udfff\x00\u202e]", page)


def test_page_shows_all_that_the_run_said() -> None:
    page = in_language(render_html(full_facts()))
    told = ["읽은 행의 <b>50%</b>", "읽기와 심사", "4,650", "질문 유사 <b>812</b>행", "유사도 0.91", "조사 <b>31</b>행"]
    told += ["전화번호 가림 <b>3</b>건", "품질과 다양성", "0.930 → 0.970", "지시 그룹만 보기", "답변의 점수"]
    told += ["지시 그룹은 9행이 필요한데 10행이 있습니다.", "recipes/solar/data.yaml", "raw/koalpaca.jsonl:7", "{&#34;instruc"]
    for text in told:
        assert text in page, text
    english = in_language(render_html(full_facts()), "en")
    assert "instruction: 9 rows wanted, 10 there." in english
    for text in (
        "<b>50%</b> of the rows read",
        "alike in question <b>812</b>",
        "only instruction",
        "phone masked <b>3</b>",
    ):
        assert text in english, text
    assert Page(page).marks == ["를", "을", "돌아와요?", "돌아오나요?", "네. 네."]
    plain = in_language(render_html(plain_facts()))
    for text in ("바로잡은 행", "거의 같은 행", "답변의 점수", "레시피</dt>", "그룹만 보기"):
        assert text not in plain, text


def test_page_stays_small_whatever_the_rows() -> None:
    facts = plain_facts()
    huge = row(*["가나다라 " * 400] * 14)
    huge["source"] = "출처" * 50_000
    facts["kept_examples"] = [huge] * 30
    reasons = [f"reason_{number}" for number in range(25)]
    facts["dropped_examples"] = {
        reason: [dropped(reason, "열쇠" * 50_000, {"messages": huge["messages"]})] * 5 for reason in reasons
    }
    page = render_html(facts)
    assert len(page.encode()) < 3 * 2**20
    page = in_language(page)
    assert "이어지는 발화 2개는" in page and "이하 1,000자는" in page


def test_every_fault_has_its_korean_name() -> None:
    assert FAULT_NAMES.keys() <= REASON_NAMES.keys()


# -------------------------------------------------------------------------------------------------- Markdown, terminal


def test_markdown_keeps_data_out_of_the_markup() -> None:
    assert escape_markdown("a_b _c_ <b> | [x](y) `z` 5*3\n# 가") == r"a_b \_c\_ \<b\> \| \[x\](y) \`z\` 5\*3 # 가"
    page = dataset_card(evil_facts(), "sft")
    assert not re.search(r"(?<!\\)<(?!!--)", re.sub("`.*?`", "", page.split("---\n", 2)[2]))
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", line)) for line in rows if "alert" in line and "read" not in line} <= {4, 5, 9}
    table = markdown_table(["name", "n", "share"], [["가", 1200, "3.5%"]])
    assert table == "| name | n | share |\n| --- | ---: | ---: |\n| 가 | 1,200 | 3.5% |\n"


def test_terminal_shows_the_tables_and_takes_no_markup_from_data() -> None:
    console = Console(width=80, record=True, file=io.StringIO())
    show(evil_facts(), console)
    text = console.export_text()
    assert "[/red]" in text and "read and judge  191,641     41.2   4,650" in text
    assert "Repaired rows: white_space 1,200, particles 31." in text
    assert "20 rows read, 10 kept, 8 taken: 7 to train on, 1 for eval loss. 0.5 s, 40 rows/s." in text
    assert "Length of answers" not in text


# ------------------------------------------------------------------------------------------------- files, dataset card


def test_all_files_are_written_or_none(tmp_path: Path) -> None:
    facts = full_facts()
    write_report(tmp_path, facts)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "report.html", "report.json"]
    assert json.loads((tmp_path / "report.json").read_text(encoding="utf-8")) == facts
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    with pytest.raises(UndefinedError):
        write_report(tmp_path, {key: value for key, value in evil_facts().items() if key != "filters"})
    assert {path: path.read_bytes() for path in tmp_path.iterdir()} == before
    write_report(tmp_path, evil_facts())  # half a surrogate pair too
    assert "\ufffd" in (tmp_path / "report.json").read_text(encoding="utf-8")


def write_rows(folder: Path, train: int, held_out: int) -> None:
    for name, count in (("train", train), ("eval", held_out)):
        lines = [json.dumps(row("질문", GOOD, number=number), ensure_ascii=False) + "\n" for number in range(count)]
        (folder / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    (folder / "rejected.jsonl").write_text(json.dumps(dropped("roles", "", None)) + "\n", encoding="utf-8")
    (folder / "manifest.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize("held_out", [1, 0])  # an eval.jsonl with no rows is not offered: `datasets` will not read it
def test_datasets_reads_the_folder_by_its_card(tmp_path: Path, held_out: int) -> None:
    from datasets import load_dataset

    folder = tmp_path / "sft"
    folder.mkdir()
    write_rows(folder, 7, held_out)
    facts = full_facts()
    facts["rows"]["eval"] = held_out
    write_report(folder, facts)
    loaded = load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))
    assert {split: len(rows) for split, rows in loaded.items()} == {"train": 7} | ({"eval": 1} if held_out else {})
    assert list(loaded["train"].features) == ["messages", "source", "group", "id"]
    assert loaded["train"][3] == row("질문", GOOD, number=3)


def test_card_for_the_hub() -> None:
    from huggingface_hub import DatasetCardData

    card = dataset_card(full_facts(), "sft: ko")
    _, front, body = card.split("---\n", 2)
    about = yaml.safe_load(front)
    assert DatasetCardData(**about).to_dict() == about | {"license": "unknown"}
    assert (about["language"], about["size_categories"], about["pretty_name"]) == (["ko"], ["n<1K"], "sft: ko")
    assert "| koalpaca | 5 | FILL IN |\n| kowiki_qa | 3 | FILL IN |" in body
    assert "`python scripts/build_sft_data.py recipes/solar/data.yaml`" in body
    assert "| repetition | 3 | 0 | 3 |" in body and "instruction: 9 rows wanted, 10 there." in body
    evil = dataset_card(evil_facts(), EVIL)
    assert yaml.safe_load(evil.split("---\n")[1])["pretty_name"] == EVIL
    assert not re.search(r"(?<!\\)<(?!!--)", re.sub("`.*?`", "", evil.split("---\n", 2)[2]))
    assert [size_category(rows) for rows in (999, 1000, 99_999, 100_000)] == ["n<1K", "1K<n<10K", "10K<n<100K", "100K<n<1M"]


def test_a_licence_filled_in_is_kept_and_a_strangers_readme_too(tmp_path: Path) -> None:
    write_report(tmp_path, plain_facts())
    readme = tmp_path / "README.md"
    first = readme.read_text(encoding="utf-8")
    filled = re.sub("license: unknown.*", "license: cc-by-sa-4.0", first).replace("5 | FILL IN", "5 | Apache-2.0")
    readme.write_text(filled, encoding="utf-8")
    write_report(tmp_path, full_facts())
    again = readme.read_text(encoding="utf-8")
    assert yaml.safe_load(again.split("---\n")[1])["license"] == "cc-by-sa-4.0"
    assert "| koalpaca | 5 | Apache-2.0 |" in again and again.count(LICENCE[0]) == 1
    assert "white_space" in again and "white_space" not in filled
    readme.write_text("---\n: broken [\n---\n" + first, encoding="utf-8")  # edited by hand, and wrong
    write_report(tmp_path, plain_facts())
    assert readme.read_text(encoding="utf-8") == first
    readme.write_text("# 내 데이터\n", encoding="utf-8")
    write_report(tmp_path, plain_facts())
    assert readme.read_text(encoding="utf-8") == "# 내 데이터\n"
    assert (tmp_path / "dataset_card.md").read_text(encoding="utf-8") == first


def test_the_report_needs_no_torch() -> None:
    heavy = "{'torch', 'datasets', 'matplotlib'} & {*sys.modules}"
    subprocess.run([sys.executable, "-c", f"import sys, align_ko.report.curation; sys.exit(bool({heavy}))"], check=True)
