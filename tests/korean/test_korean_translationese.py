"""Translationese: what is marked, and the right Korean beside it that is not."""

from __future__ import annotations

import pytest

from align_ko.korean.prose import own_words, sentences
from align_ko.korean.translationese import translationese


def found(text: str, prompt: str | None = None) -> list[str]:
    masked = own_words(text)
    return [text[span.start : span.end] for span in translationese(masked, sentences(text, masked=masked), prompt)]


@pytest.mark.parametrize(
    ("text", "marked"),
    [
        ("이 기능은 개발자에 의해 자주 사용되어집니다.", ["사용되어집니다"]),
        ("영어로 쓰여진 책이 잘 보여집니다.", ["쓰여진", "보여집니다"]),
        ("여기서 사진을 찍는 것이 가능합니다.", ["는 것이 가능합니다"]),
        ("지금 자료를 모으고 있는 중입니다.", ["고 있는 중입니다"]),
        ("당신은 훌륭한 학생입니다. 공부를 계속하세요.", ["당신은"]),
        ("좋은 영화입니다. 그것은 감동적입니다.", ["그것은"]),
        (
            "이 말은 뜻을 가지고 있고, 저 말은 맛을 가지고 있으며, 그 말은 힘을 가지고 있습니다.",
            ["을 가지고 있고", "을 가지고 있으며", "을 가지고 있습니다"],
        ),
    ],
)
def test_marked(text: str, marked: list[str]) -> None:
    assert found(text) == marked


@pytest.mark.parametrize(
    "text",
    [
        "이 사실은 널리 알려져 있고 곧 밝혀질 것입니다.",
        "행사는 세 부분으로 이루어집니다. 옷은 손으로 만들어졌습니다.",
        "사진을 찍을 수 있습니다. 실현 가능한 계획입니다.",
        "오래된 전통을 가지고 있는 마을입니다.",
        "먼저 씻습니다. 다음에 썹니다. 그것은 따로 둡니다. 불을 켭니다. 볶습니다.",
        '"당신은 누구십니까?"라고 물었습니다.',
        "`사용되어집니다`라는 말은 고쳐 써야 합니다.",
    ],
)
def test_right_korean_is_not_marked(text: str) -> None:
    assert found(text) == []


def test_words_of_the_prompt_are_not_marked() -> None:
    assert found("그것은 사과입니다.", "그것이 무엇인지 알려 줘") == []
    assert found("당신은 내 하루의 빛이에요.", "연인에게 줄 편지를 써 줘") == []
