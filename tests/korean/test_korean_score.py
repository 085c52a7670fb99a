"""The score: never higher for a further fault or mark, bounded by the verdict, and not to be won by padding."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_ko.korean import FAULT_CODES, assess
from align_ko.korean.naturalness import MOST_UNNATURAL, NATURAL, bounded, kept
from align_ko.korean.prose import sentences
from align_ko.korean.score import COSTS, MARKS, SLIPS, counted, graded, marks

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


def scored(values: dict[str, float]) -> float:
    """By the rules that `assess` goes by: the verdict from the codes, then the score within its bounds."""
    codes = {code: often for code, often in values.items() if code in FAULT_CODES and code != "translationese"}
    return bounded(graded(values), kept(codes) >= NATURAL, values)


def test_each_mark() -> None:
    assert found("비타민은 몸에 좋습니다.", "비타민이 왜 필요한지 설명해 주세요") == {"thin": 0.71, "flat": 0.77}
    assert found("비타민은 몸에 좋습니다.", None) == {}
    assert found("비타민은 몸에 좋습니다.", "비타민을 한 문장으로 설명해 주세요") == {}
    assert found("하루 두 번 물을 줍니다.\n" * 5, "선인장 키우기") == {"dull": 1.0, "worn": 0.8, "aside": 1.0}
    assert found("선인장은 물을 줍니다.", "선인장 키우기") == {"flat": 0.61}
    assert found("서울입니다. 다른 궁금한 점이 있으면 언제든지 물어보세요.", None) == {"closing": 1.0}
    assert found("물을 넉넉히 넣고 끓입니다. 소금을 칩니다. 물을 넉넉히 넣고 끓입니다.", None) == {
        "dull": 0.64, "worn": 0.4, "again": 1.0
    }  # fmt: skip
    assert (found(DULL)["dull"], found(DULL)["circling"]) == (0.98, 0.98)
    assert "circling" not in found(DULL, "잠을 잘 자려면?")


def test_costs_are_of_every_mark_and_code_and_none_is_under_zero() -> None:
    assert tuple(COSTS) == (*MARKS, *FAULT_CODES)
    assert all(cost >= 0 for cost in COSTS.values()) and max(COSTS.values()) <= 8
    assert graded({}) == 1.0 and graded(dict.fromkeys(COSTS, 1.0)) < 0.001


def test_one_more_fault_never_raises_the_score() -> None:
    for some in [(), *combinations(FAULT_CODES, 1), *combinations(FAULT_CODES, 2)]:
        before = dict.fromkeys(some, 1.0)
        for code in FAULT_CODES:
            assert scored({**before, code: before.get(code, 0) + (code not in before or code in SLIPS)}) <= scored(before)


@given(st.dictionaries(st.sampled_from(MARKS), st.floats(0, 1)), st.sampled_from(MARKS), st.floats(0, 1))
def test_a_stronger_mark_never_raises_the_score(values: dict[str, float], mark: str, more: float) -> None:
    before = {mark: 0.0} | values
    assert graded(before | {mark: min(1.0, before[mark] + more)}) <= graded(before)


def test_the_score_keeps_to_the_verdict() -> None:
    for some in [(), *combinations(FAULT_CODES, 1), *combinations(FAULT_CODES, 2)]:
        codes = counted(some)
        natural = kept(codes) >= NATURAL
        score = bounded(1.0, natural, codes)
        assert natural or score <= MOST_UNNATURAL < NATURAL
        assert score <= 0.3 or not {"empty", "not_korean", "repetition", "template_leak", "echo"} & {*some}


def test_slips_count_as_often_as_they_occur_up_to_five() -> None:
    assert counted(["spacing"] * 7 + ["filler"] * 3) == {"spacing": 5, "filler": 1}
    assert kept({"spacing": 2}) == 0.7225 and kept({"spacing": 3}) == 0.6141


def test_marks_alone_never_make_an_answer_unnatural() -> None:
    result = assess("쿠버네티스는 여러 도구입니다. 더 궁금한 점은 언제든지 물어보세요.", "김치를 담그는 방법을 설명해 줘")
    assert (result.natural, result.codes) == (True, []) and result.score < 0.2


def test_translationese_lowers_the_score_but_not_the_verdict() -> None:
    text = "책를 읽고 사과을 먹었어요. 이 방법이 자주 사용되어집니다."
    assert assess(text).natural and assess(text).score < assess("이 방법이 자주 사용되어집니다.").score < 1.0


@pytest.mark.parametrize(
    ("response", "prompt", "score"),
    [
        ("서울입니다.", None, 1.0),
        ("안녕하세요! 무엇을 도와드릴까요?", "안녕하세요", 0.9403),
        ("비타민은 몸에 좋습니다.", "비타민이 왜 필요한지 설명해 주세요", 0.5934),
        (GOOD, PROMPT, 0.629),
        (DULL, PROMPT, 0.0205),
    ],
)
def test_scores(response: str, prompt: str | None, score: float) -> None:
    assert assess(response, prompt).score == score


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


@pytest.mark.parametrize("padding", PADDING[1:])  # the first is a second piece of advice
def test_padding_never_raises_the_score_of_a_thin_answer(padding: str) -> None:
    thin = "자기 전에 방을 어둡게 하세요."
    assert assess(f"{thin} {padding}", PROMPT).score <= assess(thin, PROMPT).score


@settings(max_examples=100, deadline=None)
@given(st.text(max_size=300), st.one_of(st.none(), st.text(max_size=40)))
def test_marks_are_shares_of_any_text(text: str, prompt: str | None) -> None:
    values = marks(text, sentences(text), prompt)
    assert tuple(values) == MARKS
    assert all(0.0 <= value <= 1.0 for value in values.values())
