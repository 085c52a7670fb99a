"""Speech levels on tests/data/speech_levels.jsonl: 237 sentences and 123 short documents written for this project.

The first 235 were run once before any rule was changed for them (35 of 152 sentences and 10 of 83 documents were wrong),
the last 125 once after that (3 of 85 sentences and no document of 40): the second pair says what unseen text would give.
"""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from align_ko.korean import document_level, sentence_level
from align_ko.korean.genre import asked_for

ROWS: list[dict[str, Any]] = [
    json.loads(line)
    for line in (Path(__file__).parents[1] / "data" / "speech_levels.jsonl").read_text(encoding="utf-8").split("\n")
    if line
]
SENTENCES = [row for row in ROWS if "level" in row]
DOCUMENTS = [row for row in ROWS if "verdict" in row]


def test_the_set_is_what_it_says() -> None:
    assert (len(SENTENCES), len(DOCUMENTS)) == (237, 123)
    assert len({row["text"] for row in ROWS}) == len(ROWS)
    levels = {"hapsyo", "haeyo", "hae", "haera", "hao", "hage", "neutral", "fragment", "unknown"}
    assert set(Counter(row["level"] for row in SENTENCES)) == levels
    assert set(Counter(row["verdict"] for row in DOCUMENTS)) == {"polite", "plain", "archaic", "neutral", "mixed", "unknown"}


@pytest.mark.parametrize("row", SENTENCES, ids=lambda row: row["text"])
def test_level_of_a_sentence(row: dict[str, Any]) -> None:
    assert sentence_level(row["text"]) == row["level"]


@pytest.mark.parametrize("row", DOCUMENTS, ids=lambda row: row["text"][:30])
def test_verdict_on_a_document(row: dict[str, Any]) -> None:
    """The verdict, and where it is mixed exactly the sentence that does not fit."""
    level = document_level(row["text"], prompt=row.get("prompt"))
    assert level.verdict == row["verdict"]
    assert [row["text"][odd.start : odd.end] for odd in level.odd] == row.get("odd", [])


def test_switching_between_polite_levels_is_no_fault() -> None:
    level = document_level("확인했습니다. 내일 보내 드릴게요. 감사합니다.")
    assert (level.verdict, level.odd) == ("polite", ())


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("다들 바쁘시다고 해서. 제가 대신 왔습니다.", "polite"),  # honorific 시
        ("저는 집에 있었는데. 전화가 왔어요.", "polite"),  # 저는
        ("아직 못 정해서… 조금만 더 기다려 주세요.", "polite"),  # trails off
        ("다들 바쁘다고 해서. 제가 대신 왔습니다.", "mixed"),
        ("혹시 누구를 찾으시는지..?", "polite"),
        ("저는 아까부터 기다리고 있는데", "polite"),
        ("아까부터 기다리고 있는데", "plain"),
    ],
)
def test_trailing_connective(text: str, verdict: str) -> None:
    assert document_level(text).verdict == verdict


def test_many_short_fragments_take_no_time() -> None:
    """Kiwi is asked about the first lines only."""
    text = "\n".join(f"우리 동네 {i}번지 나라" for i in range(5000))
    assert document_level(text + ".").verdict == "unknown"


@pytest.mark.parametrize(
    ("text", "odd"),
    [
        # an item with a polite sentence is speech
        (
            "1. 반죽을 얇게 펴 주세요. 한 번만 뒤집는 게 요령이다.\n2. 익으면 접시에 담으세요.",
            ["한 번만 뒤집는 게 요령이다."],
        ),
        ("- 창문을 열어 두세요. 십 분이면 충분해.\n- 걸레는 꼭 짜서 쓰세요.", ["십 분이면 충분해."]),
        ("1. 소금은 조금만 넣어라. 나중에 더 넣을 수 있어요.\n\n2. 불은 약하게 줄이세요.", ["소금은 조금만 넣어라."]),
        ("- 표를 먼저 끊으세요. 자리는 금방 찬다.\n```\n예매\n```", ["자리는 금방 찬다."]),
        # so is the one plain item of a list that is said politely
        ("1. 물을 끓이세요.\n2. 면을 넣는다.\n3. 달걀을 풀어 드세요.", ["면을 넣는다."]),
        # notes: all items alike, too few polite ones to tell, nominal endings
        ("이렇게 하세요.\n- 물을 끓인다. 소금을 넣는다.\n- 면을 삶는다. 찬물에 헹군다.\n맛있게 드세요.", []),
        ("장단점이에요.\n- 값이 싸다.\n- 배송이 빨라요.", []),
        ("순서예요.\n1. 물을 끓이세요.\n2. 면을 넣음\n3. 달걀을 풀어 드세요.", []),
        # titles, labelled material, rewritten sentences and options are shown
        ("1. 목표를 정한다. 작을수록 지키기 쉬워요.\n2. 날마다 적는다. 한 줄이면 돼요.", []),
        ("- 예문: 나는 학교에 간다. 지금의 일을 나타냅니다.\n- 저는 학교에 가요. 높임말입니다.", []),
        ("- 나는 학교에 간다. → 저는 학교에 갑니다.\n- 밥을 먹는다. → 밥을 먹습니다.", []),
        ("B) 기차는 비행기보다 느리다. 둘째 문단에 그렇게 나와 있습니다.", []),
    ],
)
def test_list_items_are_notes_or_speech(text: str, odd: list[str]) -> None:
    level = document_level(text)
    assert level.verdict == ("mixed" if odd else "polite")
    assert [text[item.start : item.end] for item in level.odd] == odd


POLITE_SENTENCES = "거미는 세로줄을 딛고 다닙니다. 끈끈한 줄은 가로줄뿐이에요. "


@pytest.mark.parametrize(
    ("prompt", "text", "odd"),
    [
        ("거미 이야기를 해 주세요.", POLITE_SENTENCES * 9 + "먹이가 걸리면 줄이 떨린다.", ["먹이가 걸리면 줄이 떨린다."]),
        (None, POLITE_SENTENCES + "떨림만으로 먹이가 걸렸는지 알아채.", ["떨림만으로 먹이가 걸렸는지 알아채."]),
    ],
)
def test_one_plain_sentence_among_many_polite_ones_is_odd(prompt: str | None, text: str, odd: list[str]) -> None:
    assert [text[each.start : each.end] for each in document_level(text, prompt=prompt).odd] == odd


@pytest.mark.parametrize(
    ("prompt", "level"),
    [
        ("번역가 일을 시작했어요. 1은 왜 소수가 아니에요?", "polite"),
        ("소 잃고 외양간 고친다는 속담을 설명해 주세요.", "polite"),
        ("친구와 이야기가 나왔는데요, 처음 사는 화분은 뭐가 좋아요?", "polite"),
        ("신문 기사를 써야 하는데 구성을 알려줘.", "polite"),
        ("친구에게 편지를 써야 하는데 대신 써 줘.", "any"),
        ("우정에 관한 속담을 하나 지어 줘.", "any"),
        ("다음 글을 번역해 줘.", "any"),
    ],
)
def test_a_kind_of_text_that_is_only_named_is_not_asked_for(prompt: str, level: str) -> None:
    assert asked_for(prompt).level == level
