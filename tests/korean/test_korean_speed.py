"""What makes `assess` fast must not change what it says: no detector that could fire is skipped, no ending read otherwise."""

from __future__ import annotations

import json
import random
import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_ko.korean import assess, assess_each, filler, first_loop, tagger
from align_ko.korean.sentence_endings import without_tail

HAND_WRITTEN = [
    (row["response"], row["prompt"])
    for row in map(
        json.loads, filter(None, (Path(__file__).parents[1] / "data" / "naturalness.jsonl").read_text("utf-8").split("\n"))
    )
]
WORDS = (
    "사과를 사과는 사과 먹습니다. 먹어요. 다양한 정보를 제공합니다. 그리고 또한 첫 번째 두 3개를 4개를 좋습니다! 음, 어… "
    "털이 털을 국내외국내외국내외국내외 ㅋㅋㅋㅋㅋㅋㅋ !!!!! "
    "되요 몇일 않 할께요 학생으로써 사과을 이예요 책이예요 - # User: [INST] "
    "네가 가요 그래. 했냐? 하오. (웃음) \n \n\n 1. English words that go on ### 답변: `x` \"가자\" '가자' 0.5 000,000,000"
).split(" ")


def loopy(seed: int) -> str:
    """Words drawn with the wish to come back: loops, near-duplicates, stuttering and crowds of all sizes."""
    rng = random.Random(seed)
    stock = rng.sample(WORDS, rng.randint(2, 14))
    said: list[str] = []
    while len(said) < rng.randint(5, 60):
        if said and rng.random() < 0.3:  # again what was said just now, perhaps with a word changed
            again = said[-rng.randint(1, 7) :] * rng.randint(1, 3)
            if rng.random() < 0.5:
                again[rng.randrange(len(again))] = rng.choice(WORDS)
            said += again
        else:
            said.append(rng.choice(stock))
    return " ".join(said)


CASES = [*HAND_WRITTEN, *((loopy(seed), None) for seed in range(600))]


def test_screens_hide_nothing() -> None:
    """`filler` first asks cheaply whether it can find anything at all."""
    found = 0
    for text, prompt in CASES:
        result = filler(text, None, prompt)
        assert result == filler(text, None, prompt, screen=False), text
        found += bool(result)
    assert found > 50


@given(st.lists(st.sampled_from(WORDS), max_size=60), st.integers(1, 4))
@settings(deadline=None)
def test_screens_hide_nothing_in_drawn_words(words: list[str], times: int) -> None:
    text = " ".join(words * times)
    assert filler(text) == filler(text, screen=False)


@given(st.integers(2, 40), st.integers(3, 5), st.lists(st.sampled_from("가나다라마"), max_size=5, unique=True))
def test_loops_of_every_period_are_found(period: int, rounds: int, before: list[str]) -> None:
    phrase = [chr(0xAC00 + 28 * place) + "말" for place in range(period)]
    loop = first_loop(" ".join(before + phrase * rounds))
    assert loop is not None and loop.repeats >= 3


@pytest.mark.parametrize(
    "text", ["국내외" * 5, "가나 " + "다라마바" * 4, "좋아요ㅋㅋㅋㅋㅋㅋㅋㅋ", "아" * 7, "와!!!!!", "끝" + "\n" * 70 + "가"]
)
def test_runs_within_a_word_are_found(text: str) -> None:
    assert assess(text, morphology=False).codes.count("repetition") >= 1


@given(st.lists(st.sampled_from([*'가요다.!?~ ()（）\n"*ㅋㅎ:;,-=]한1a', "니다.", "(웃음)", "ᄒ"]), max_size=12).map("".join))
def test_the_tail_is_what_the_pattern_takes_off(sentence: str) -> None:
    """Read forwards, the tail is the longest end of the sentence that is made of signs and of words in parentheses."""
    ends = re.compile(r"(?:[\s.,!?~\-;:)\]\"*ㅋㅎ=]|[(（][^()（）]*[)）])+$")
    assert without_tail(sentence) == ends.sub("", sentence)


def test_rules_alone_never_ask_kiwi(monkeypatch: pytest.MonkeyPatch) -> None:
    assert assess("저는 사과을 먹었어요.").codes == ["wrong_particle"]
    monkeypatch.setattr(tagger, "_analysis", lambda text: pytest.fail(f"Kiwi was asked: {text}"))
    assert assess("저는 사과을 먹었어요.", morphology=False).codes == []
    assert assess("저는 책를 읽었어요.", morphology=False).codes == ["wrong_particle"]
    with pytest.raises(pytest.fail.Exception):
        assess("저는 사과을 먹었어요.")


# --------------------------------------------------------------------------------------------------------- many at once


def test_many_answers_at_once_are_judged_as_one_by_one() -> None:
    """Twice the hand-written ones are more than what is looked at together; silent ones stand between."""
    rows = [*HAND_WRITTEN, ("…", "왜요?"), ("", None), *HAND_WRITTEN, ("사과을 먹", None)]
    answers, prompts = [answer for answer, _ in rows], [prompt for _, prompt in rows]
    finished = [place % 7 > 0 for place in range(len(rows))]
    found = assess_each(answers, prompts, finished, expected=None)
    assert len(rows) > 3 * 200
    assert found == [assess(*row, ended, expected=None) for row, ended in zip(rows, finished, strict=True)]
    assert [found[len(HAND_WRITTEN)].codes, found[-1].codes] == [["empty"], ["wrong_particle"]]


def test_many_answers_at_once_by_rules_alone_and_without_prompts() -> None:
    answers = ["사과을 먹어요.", "안녕하세요! 무엇을 도와드릴까요?"]
    assert [one.codes for one in assess_each(answers)] == [["wrong_particle"], []]
    assert [one.codes for one in assess_each(answers, morphology=False)] == [[], []]
    assert assess_each([]) == []


@pytest.mark.parametrize("wrong", [{"prompts": ["왜요?"]}, {"finished": [True]}])
def test_as_many_prompts_as_answers(wrong: dict[str, list[object]]) -> None:
    with pytest.raises(ValueError, match="zip"):
        assess_each(["네, 맞습니다.", "아니요."], **wrong)  # type: ignore[arg-type]
