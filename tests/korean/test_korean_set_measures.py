"""Set measures over small sets whose values can be worked out by hand."""

from __future__ import annotations

import subprocess
import sys

from align_ko.korean import SetMeasures, measure
from align_ko.korean.words import content_pieces

EMPTY = "다양한 주제에 대해 정보를 제공하고 있습니다."


def test_the_same_answer_to_everything_has_collapsed() -> None:
    prompts = ["김치 만드는 법", "서울 날씨", "피아노 배우기", "우주 이야기"]
    assert measure(prompts, [EMPTY] * 4) == SetMeasures(
        answers=4, distinct=0.0, collapse=1.0, median_characters=float(len(EMPTY))
    )


def test_specific_answers_have_not() -> None:
    prompts = ["김치 만드는 법", "서울 날씨", "피아노 배우기", "우주 이야기"]
    answers = [
        "김치는 배추를 절여 담급니다.",
        "서울은 맑습니다.",
        "피아노는 자세부터 익힙니다.",
        "우주는 넓고 어둡습니다.",
    ]
    assert measure(prompts, answers) == SetMeasures(4, 1.0, 0.0, 14.0)


def test_two_answers_to_one_prompt_may_be_alike() -> None:
    assert measure(["김치", "김치"], [EMPTY, EMPTY]).distinct == 1.0


def test_content_pieces_leave_out_asking_words() -> None:
    assert content_pieces("서울의 맛집을 추천해 주세요") == {"서울", "맛집"}


def test_korean_needs_no_torch() -> None:
    code = "import sys, align_ko.korean; print('torch' in sys.modules, 'kiwipiepy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False False"
