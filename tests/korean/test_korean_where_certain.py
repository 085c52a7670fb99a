"""로서 and 로써 where certain, repeats that are none, and letters that are only talked about."""

from __future__ import annotations

import pytest

from align_ko.korean import assess, duplicate_sentences, first_loop
from align_ko.korean.characters import strange_characters
from align_ko.korean.particles import wrong_particles


@pytest.mark.parametrize(
    ("text", "wrong", "right"),
    [
        ("학생으로써 말씀드리면", "로써", "로서"),
        ("인간으로써의 존엄", "로써", "로서"),
        ("팀의 일원으로써 노력합니다.", "로써", "로서"),
        ("저로써는 알 수 없습니다.", "로써", "로서"),
        ("현재로써는 알 수 없습니다.", "로써", "로서"),
        ("대화로서 풀었습니다.", "로서", "로써"),
        ("대화로서 문제를 해결했습니다.", "로서", "로써"),
        ("꾸준히 노력함으로서 이뤘습니다.", "로서", "로써"),
        ("책을 많이 읽음으로서 얻습니다.", "로서", "로써"),
        ("이로서 모든 순서를 마칩니다.", "로서", "로써"),
    ],
)
def test_certain_roseo_and_rosseo(text: str, wrong: str, right: str) -> None:
    assert [(text[found.start : found.end], found.right) for found in wrong_particles(text)] == [(wrong, right)]


@pytest.mark.parametrize(
    "text",
    [
        "낱말으로 바꾸면 됩니다.",
        "학교으로 갑니다.",
        "튜플으로는 안 됩니다.",
        "의사으로서 말씀드립니다.",
        "서울으로부터 멀어요.",
        "집에서 부산으로, 부산에서 제주으로요.",
    ],
)
def test_euro_after_a_vowel_or_rieul(text: str) -> None:
    assert [(text[found.start : found.end], found.right) for found in wrong_particles(text)] == [("으로", "로")]


@pytest.mark.parametrize(
    "text",
    [
        "앞으로 집으로 가면 됩니다.",
        "말로, 학교로, 서울로요.",
        "힘으로만 하지 마세요.",
        "스스로 하세요.",
        "이으로운 물건",  # no word, but no particle either
        "'을'을 '으로'로 바꾸세요.",
    ],
)
def test_euro_after_a_consonant(text: str) -> None:
    assert wrong_particles(text) == []


@pytest.mark.parametrize(
    "text",
    [
        "학생으로서 말씀드리면",
        "꾸준히 노력함으로써 이뤘습니다.",
        "말로써 천 냥 빚을 갚는다.",
        "문자로써 남겼습니다.",
        "의사로써 뜻을 밝혔습니다.",
        "오늘로써 끝입니다.",
        "최초의 잠수함으로서 이름을 남겼습니다.",
        "음식으로서 훌륭합니다.",
        "대화로서 가치가 있습니다.",
        "하나로써 열을 압니다.",
    ],
)
def test_right_or_doubtful_roseo_is_left_alone(text: str) -> None:
    assert wrong_particles(text) == []


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("잠은 중요합니다. 잠은 정말 중요합니다. 잠은 아주 중요합니다.", ["잠은 아주 중요합니다."]),
        ("A는 늘 진실만 말하고 있습니다. B는 늘 진실만 말하고 있습니다.", []),
        (  # a sentence with numbers stands between: not next to each other
            "시그모이드 함수는 요즘 거의 쓰이지 않습니다. 값은 0과 1 사이입니다. 탄젠트 함수는 요즘 거의 쓰이지 않습니다. "
            "둘 다 기울기가 쉽게 사라지는 탓입니다. 그래서 지금은 계산이 빠른 다른 함수를 고릅니다. "
            "학습이 깊어져도 값이 잘 전해집니다.",
            [],
        ),
        (
            "고래는 바다에 사는 포유류입니다. 새끼를 낳아 젖을 먹입니다. 허파로 숨을 쉽니다.\n\n"
            "정리하자면, 고래는 포유류입니다. 새끼를 낳아 젖을 먹입니다.",
            [],
        ),
    ],
)
def test_repeats(text: str, repeats: list[str]) -> None:
    assert [text[span.start : span.end] for span in duplicate_sentences(text)] == repeats


def test_sums_are_no_loops() -> None:
    assert first_loop("3 x 3 x 3 x 3 x 3 x 3") is None
    assert first_loop("\n".join(f"- 3의 {i}제곱의 일의 자리 숫자 = {3**i % 10}" for i in range(1, 6))) is None
    assert first_loop("\n".join(f"{i}단계에서는 물을 넣고 끓입니다." for i in range(1, 6))) is not None


def test_letters_talked_about_may_be_conjoining_jamo() -> None:
    text = "\u1100은 \u110b으로 소리 납니다."
    assert strange_characters(text, "비음화가 무엇인지 발음과 함께 설명해 줘") == []
    assert [found.kind for found in strange_characters(text, "오늘 날씨는?")] == ["decomposed", "decomposed"]
    typed_apart = "\u1112\u1161\u11ab글"
    assert [found.kind for found in strange_characters(typed_apart, "한글 발음을 알려 줘")] == ["decomposed"]


def test_the_message_of_roseo_names_the_right_form() -> None:
    [fault] = assess("학생으로써 말씀드립니다.").faults
    assert (fault.code, fault.message) == ("wrong_particle", "'로써' 대신 '로서' 꼴로 써야 합니다.")
