"""The graded part of the score: bounded, never a verdict of its own, and not to be won by padding."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_ko.korean import assess
from align_ko.korean.polish import MARK_WEIGHTS, grade, marks
from align_ko.korean.prose import sentences

PROMPT = "잠을 잘 자는 방법을 설명해 주세요."
GOOD = (
    "매일 같은 시간에 눕고 일어나 보세요. 침실은 조금 서늘하고 어둡게 두는 편이 좋습니다. "
    "커피는 점심 전까지만 마시고, 늦은 저녁 식사도 피하세요. "
    "스마트폰 화면의 밝은 빛은 졸음을 쫓으니 한 시간 전에 내려놓습니다. "
    "그래도 뒤척인다면 가벼운 책을 읽다가 졸릴 때 다시 누우면 됩니다."
)
DULL = (
    "잠을 잘 자는 것은 중요합니다. 잠을 잘 자면 몸이 좋아지고 몸이 좋아지면 기분도 좋아집니다. "
    "잠을 못 자면 몸이 나빠지고 기분도 나빠집니다. "
    "그래서 잠을 잘 자는 방법이 중요합니다. 좋은 잠은 좋은 몸을 만들고 좋은 몸은 좋은 잠을 만듭니다."
)


def found(response: str, prompt: str | None = PROMPT) -> dict[str, float]:
    return {name: round(value, 2) for name, value in marks(response, sentences(response), prompt).items() if value}


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("한국의 수도를 알려 줘", "서울입니다."),
        ("2 + 2는?", "4"),
        ("안녕하세요", "안녕하세요! 무엇을 도와드릴까요?"),
        ("물이 몇 도에서 끓나요?", "섭씨 100도에서 끓습니다."),
        ("'설명서'를 영어로 번역해 줘", '"manual"이라고 합니다.'),
        (None, "비타민은 몸에 좋습니다."),
        (PROMPT, GOOD),
    ],
)
def test_good_and_short_right_answers_keep_the_whole_score(prompt: str | None, response: str) -> None:
    assert assess(response, prompt).score == 1.0


def test_each_mark() -> None:
    assert found("비타민은 몸에 좋습니다.", "비타민이 왜 필요한지 설명해 주세요") == {"thin": 0.71}
    assert found("비타민은 몸에 좋습니다.", None) == {}
    assert found("비타민은 몸에 좋습니다.", "비타민을 한 문장으로 설명해 주세요") == {}
    assert found("하루 두 번 물을 줍니다.", "선인장 키우기") == {"aside": 1.0}
    assert found("서울입니다. 다른 궁금한 점이 있으면 언제든지 물어보세요.", None) == {"closing": 1.0}
    assert found("이 방법은 속도와 performance가 좋습니다.", None) == {"foreign": 0.95}
    assert found("이 방법은 performance가 좋습니다.", "파이썬 코드를 봐 줘") == {"aside": 1.0}
    assert found("물을 넉넉히 넣고 끓입니다. 소금을 칩니다. 물을 넉넉히 넣고 끓입니다.", None) == {"dull": 0.64, "again": 1.0}
    assert found(DULL)["dull"] == 0.98


def test_a_long_text_in_one_block_is_a_wall() -> None:
    part = "가나다라마바사아자차 카타파하거너더러머버 서어저처커터퍼허고노. "
    assert found(part * 20, None)["wall"] == 0.8  # 600 letters want five lines
    assert "wall" not in found((part * 4 + "\n") * 5, None)


def test_marks_step_down_and_stop() -> None:
    none = dict.fromkeys(MARK_WEIGHTS, 0.0)
    assert grade(none) == 1.0
    assert grade(none | {"aside": 1.0, "foreign": 1.0}) == 1.0
    assert grade(none | {"thin": 1.0}) == 0.9
    assert grade(none | {"thin": 1.0, "dull": 0.5}) == 0.8
    assert grade(dict.fromkeys(MARK_WEIGHTS, 1.0)) == 0.8


def test_marks_alone_never_make_an_answer_unnatural() -> None:
    answer = "쿠버네티스는 여러 container와 image를 다루는 도구입니다. 더 궁금한 점은 언제든지 물어보세요."
    result = assess(answer, "김치를 담그는 방법을 설명해 줘")
    assert (result.natural, result.codes, result.score) == (True, [], 0.8)


def test_translationese_lowers_the_score_but_not_the_verdict() -> None:
    text = "책를 읽고 사과을 먹었어요. 이 방법이 자주 사용되어집니다."
    assert (assess(text).natural, assess(text).score) == (True, 0.7)  # 0.85² · 0.95 is less, but the verdict is the faults'
    assert assess("이 방법이 자주 사용되어집니다.").score == 0.95


PADDING = [
    "매일 같은 시간에 눕고 일어나 보세요.",
    "졸릴 때 다시 누우면 됩니다. 졸릴 때 다시 누우면 됩니다.",
    "이처럼 다양한 방법이 있으며 다양한 방법을 통해 다양한 효과를 얻을 수 있고 다양한 도움을 받을 수 있습니다. "
    "다양한 노력이 중요합니다.",
    "잠은 중요합니다. 잠은 정말 중요합니다. 잠은 아주 중요합니다. 그러니까 잠은 매우 중요합니다. 잠은 늘 중요합니다.",
    "다른 궁금한 점이 있으면 언제든지 물어보세요. 더 궁금한 점이 있으면 언제든지 물어보세요.",
]


@pytest.mark.parametrize("padding", PADDING)
def test_padding_lowers_the_score(padding: str) -> None:
    assert assess(GOOD + " " + padding, PROMPT).score < assess(GOOD, PROMPT).score


@pytest.mark.parametrize("padding", PADDING)
def test_padding_never_raises_the_score_of_a_thin_answer(padding: str) -> None:
    thin = "자기 전에 방을 어둡게 하세요."
    assert assess(f"{thin} {padding}", PROMPT).score <= assess(thin, PROMPT).score


def test_a_dull_answer_scores_lower_than_a_rich_one() -> None:
    assert assess(DULL, PROMPT).score < assess(GOOD, PROMPT).score


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.one_of(st.none(), st.text(max_size=40)))
def test_marks_are_shares_of_any_text(text: str, prompt: str | None) -> None:
    values = marks(text, sentences(text), prompt)
    assert set(values) == set(MARK_WEIGHTS)
    assert all(0.0 <= value <= 1.0 for value in values.values())
    assert 0.8 <= round(grade(values), 9) <= 1.0
