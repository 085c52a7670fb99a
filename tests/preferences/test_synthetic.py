"""Spoilt copies: each holds the fault that was meant, and the same seed spoils the same way."""

from __future__ import annotations

import random

import pytest
from test_pairing import user

from align_ko.korean import assess
from align_ko.preferences import synthetic
from align_ko.preferences.synthetic import Good, Spoilt, spoil, synthetic_pairs, to_plain
from align_ko.recipe import SYNTHETIC_FAULTS, PairingArgs

QUESTION = "된장찌개를 맛있게 끓이려면 어떻게 해야 하나요?"
ANSWER = (
    "멸치 육수를 먼저 우려내면 맛이 깊어집니다. 된장은 체에 걸러 풀고 감자와 호박을 넣어 주세요. "
    "두부는 부서지기 쉬우니 마지막에 넣는 편이 좋아요."
)


@pytest.mark.parametrize(
    ("polite", "handa", "hae"),
    [
        ("한국의 수도는 서울입니다.", "한국의 수도는 서울이다.", "한국의 수도는 서울이야."),
        ("밥을 먹습니다.", "밥을 먹는다.", "밥을 먹어."),
        ("물을 끓여요.", "물을 끓인다.", "물을 끓여."),
        ("벌써 다 했습니다.", "벌써 다 했다.", "벌써 다 했어."),
        ("날씨가 좋지 않습니다.", "날씨가 좋지 않다.", "날씨가 좋지 않아."),
        ("집에 가지 않습니다.", "집에 가지 않는다.", "집에 가지 않아."),
        ("천천히 걸어요.", "천천히 걷는다.", "천천히 걸어."),
        ("찬물에 씻으세요.", "찬물에 씻어라.", "찬물에 씻어."),
        ("연락해 주십시오.", "연락해 줘라.", "연락해 줘."),
        ("같이 갑시다!", "같이 가자!", "같이 가자!"),
        ("왜 그런가요?", "왜 그런가?", "왜 그런가?"),
        ("맛이 어떻습니까?", "맛이 어때?", "맛이 어때?"),
        ("제가 도와드릴게요.", "제가 도와드릴게.", "제가 도와드릴게."),
        ("그건 사과가 아니에요.", "그건 사과가 아니다.", "그건 사과가 아니야."),
        ("정말 그렇죠?", "정말 그렇지?", "정말 그렇지?"),
        ("안녕하세요!", "안녕!", "안녕!"),
    ],
)
def test_speech_is_flipped_by_its_morphemes(polite, handa, hae):
    assert (to_plain(polite, "handa"), to_plain(polite, "hae")) == (handa, hae)


@pytest.mark.parametrize("sentence", ["이미 반말이다.", "편히 주무세요.", "참고 사항", "", "```python\nprint(1)\n```"])
def test_what_is_not_known_is_left_alone(sentence):
    assert to_plain(sentence, "hae") is None


@pytest.mark.parametrize("fault", SYNTHETIC_FAULTS)
def test_every_spoiler_puts_its_fault_in(fault):
    assert fault not in assess(ANSWER, QUESTION).codes
    for seed in range(3):
        spoilt = spoil(fault, ANSWER, QUESTION, random.Random(seed))
        assert fault in assess(spoilt.text, QUESTION).codes
        assert spoil(fault, ANSWER, QUESTION, random.Random(seed)) == spoilt
        assert spoilt.finished == (fault not in ("repetition", "unfinished", "echo"))


def test_how_far_each_spoiler_goes():
    whole = spoil("wrong_register", ANSWER, QUESTION, random.Random(0)).text
    assert assess(whole, QUESTION).speech_level == "plain" and whole.count(".") == 3
    parts = [part in spoil("mixed_register", ANSWER, QUESTION, random.Random(0)).text for part in ANSWER.split(". ")]
    assert sum(parts) == 2  # one sentence of three
    cut = spoil("unfinished", ANSWER, QUESTION, random.Random(0)).text
    assert ANSWER.startswith(cut + " ") and len(cut) >= 0.6 * len(ANSWER) - 1
    padded = spoil("filler", ANSWER, QUESTION, random.Random(0)).text
    assert padded.startswith(ANSWER + " ")
    assert spoil("echo", ANSWER, QUESTION, random.Random(0)).text == " ".join([QUESTION] * round(len(ANSWER) / len(QUESTION)))
    loop = spoil("repetition", ANSWER, QUESTION, random.Random(0)).text
    again = [sentence for sentence in ANSWER.replace(". ", ".|").split("|") if loop.count(sentence) == 4]
    assert len(again) == 1 and loop.endswith(f"{again[0]} {again[0]}")


@pytest.mark.parametrize(
    ("fault", "answer"),
    [("wrong_register", "감자, 호박, 두부"), ("mixed_register", "네, 그렇습니다."), ("unfinished", "네."),
     ("repetition", "네."), ("strange_characters", "네, 그렇습니다."), ("filler", "```x\n```"), ("echo", ANSWER * 9)],
)  # fmt: skip
def test_an_answer_that_does_not_lend_itself_is_left(fault, answer):
    assert spoil(fault, answer, QUESTION, random.Random(0)) is None


def good(n, text=ANSWER):
    return Good(f"t{n}", user(f"{QUESTION} ({n})"), text, "reference", 1.0)


def test_faults_come_by_turns_and_the_same_way_again():
    faults = ("wrong_register", "repetition", "filler")
    pairs, dropped = synthetic_pairs([good(n) for n in range(9)], 6, PairingArgs(synthetic_faults=faults))
    assert [pair.rejected_by for pair in pairs] == [f"spoilt: {fault}" for fault in faults * 2] and not dropped
    assert pairs == synthetic_pairs([good(n) for n in range(9)], 6, PairingArgs(synthetic_faults=faults))[0]
    other = synthetic_pairs([good(n) for n in range(9)], 6, PairingArgs(synthetic_faults=faults, seed=1))[0]
    assert [pair.id for pair in pairs] != [pair.id for pair in other]
    loop = pairs[1]
    assert (loop.origin, loop.chosen_by, loop.chosen_score) == ("synthetic", "reference", 1.0)
    assert (loop.rejected_faults, loop.rejected_finished) == (["repetition", "unfinished"], False)
    assert loop.chosen[0]["content"] == ANSWER and loop.rejected_score < 0.5


def test_a_copy_in_which_assess_finds_nothing_is_thrown_away_and_counted(monkeypatch):
    monkeypatch.setitem(synthetic._SPOILERS, "filler", lambda answer, question, rng: Spoilt(answer + " 참 쉽지요.", True))
    pairs, dropped = synthetic_pairs([good(1)], 1, PairingArgs(synthetic_faults=("filler",)))
    assert pairs == [] and dropped == {"synthetic: assess finds no filler in the spoilt copy": 1}


def test_lengths_stay_within_the_tolerance_and_faulty_answers_are_not_spoilt():
    args = PairingArgs(synthetic_faults=("filler",), length_tolerance=0.1)
    pairs, dropped = synthetic_pairs([good(1)], 1, args)
    assert pairs == [] and dropped == {"synthetic: rejected side much shorter: DPO would learn length": 1}
    pairs, dropped = synthetic_pairs([good(1, "이미 반말이다. 그래도 된다.")], 1, PairingArgs())
    assert pairs == [] and dropped == {"synthetic: the answer to spoil is not natural itself": 1}
