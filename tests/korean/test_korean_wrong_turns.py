"""Which letters of a faulty answer stand where something else should have been said."""

from __future__ import annotations

import pytest

from align_ko.korean import assess
from align_ko.korean.wrong_turns import wrong_turns


def turned(text: str, prompt: str | None = None, finished: bool = True) -> list[str]:
    """The rest of the text from each place on, to the end of its word."""
    places = wrong_turns(text, assess(text, prompt, finished), prompt)
    assert places == sorted(set(places))
    return [text[place:].split(" ")[0] for place in places]


@pytest.mark.parametrize(
    ("text", "prompt", "wanted"),
    [
        ("안녕하세요! 무엇을 도와드릴까요?", None, []),
        ("저는 학교에 갑니다. 근데 그건 아니야. 좋습니다.", None, ["야."]),
        ("물은 100도에서 끓는다. 얼음은 0도에서 녹는다.", "물은 몇 도에서 끓나요?", ["다.", "다."]),
        ("제가 도와드리겠습니다. 도와드리겠습니다.", None, ["도와드리겠습니다."]),
        ("나무를 심고 나무를 심고 나무를 심고 물을 줍니다.", None, ["나무를", "심고", "나무를", "심고"]),
        ("하늘이 짙은 짙은 색이라면 붉은 기운이 깃들어 있어요.", None, ["짙은"]),
        ("우리는 让我们使用 이것을 합니다.", None, ["让我们使用"]),
        ("안녕하세요.\n### User:\n안녕", "안녕하세요?", ["###"]),
        ("책를 읽었습니다.", None, ["를"]),
        ("사과는 빨갛고 맛있는 과일로서 사람들이 좋아하는", "사과가 뭐예요?", [""]),
        ("Hello, how are you?", "안녕?", []),
    ],
)
def test_where_an_answer_went_wrong(text, prompt, wanted):
    assert turned(text, prompt) == wanted


def test_an_answer_that_ended_too_soon_must_not_end():
    text = "사과는 빨갛고 맛있는 과일로서 사람들이 좋아하는"
    assert wrong_turns(text, assess(text)) == [len(text)]
