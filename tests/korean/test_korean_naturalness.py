"""What `assess` says of whole answers: score, verdict, codes and spans."""

from __future__ import annotations

import pytest

from align_ko.korean import FAULT_CODES, Assessment, Fault, assess

GOOD = [
    ("안녕하세요", "안녕하세요! 무엇을 도와드릴까요?"),
    ("안녕하세요", "안녕하세요"),
    ("한국의 수도는?", "서울입니다."),
    ("2+2는?", "4"),
    (
        "김치볶음밥 레시피",
        "1. 김치를 잘게 썹니다.\n2. 팬에 기름을 두르고 볶습니다.\n3. 밥을 넣습니다.\n4. 달걀을 올려 완성합니다.",
    ),
    ("운동 추천", "걷기와 수영을 추천합니다. 걷기는 관절에 부담이 적습니다. 수영은 온몸을 고루 씁니다."),
    (
        "인사하는 코드",
        "이렇게 씁니다.\n\n```python\nprint('안녕')\nprint('안녕')\nprint('안녕')\n```\n\n인사가 세 번 나옵니다.",
    ),
    ("밥 먹었어를 존댓말로 바꿔줘", '"식사하셨어요?"라고 바꿀 수 있습니다.'),
    ("친구에게 생일 편지를 반말로 써줘", "민지야, 생일 축하해! 올해도 건강하길 바라. 늘 고마워."),
    ("3단 구구단", "3 x 1 = 3\n3 x 2 = 6\n3 x 3 = 9\n3 x 4 = 12"),
    ("월별 일수를 알려줘", "1월: 31일\n2월: 28일\n3월: 31일\n4월: 30일\n5월: 31일"),
    (
        "토끼 동화를 써줘",
        "짧은 동화를 들려드릴게요.\n\n옛날에 토끼 한 마리가 살았다. 토끼는 매일 숲을 뛰어다녔다. "
        "어느 날 길을 잃었다. 어디로 가야 할까? 그때 거북이가 나타났다.\n\n재미있게 읽으셨나요?",
    ),
]


@pytest.mark.parametrize(("prompt", "response"), GOOD)
def test_good_answers_have_no_fault(prompt: str, response: str) -> None:
    assert assess(response, prompt).faults == ()


BAD = [
    ("", "질문", ["empty"]),
    ("...!?", "질문", ["empty"]),
    ("안녕하세요. 안녕하세요. 제가 도와드리겠습니다. 도와드리겠습니다.", "안녕", ["repetition"]),
    (
        "다양한 주제에 대해 다양한 정보를 제공하고 있습니다. 또한, 다양한 주제에 대해 다양한 의견을 나눌 수 있습니다.",
        "취미가 뭐예요?",
        ["filler"],
    ),
    ("고객을 위해 늘 노력하고 있습니다. 가족을 위해 늘 노력하고 있습니다.", "회사 소개", ["repetition"]),
    ("네, 도와드리겠습니다. 근데 그건 좀 어렵다. 다른 방법을 찾아보겠습니다.", "도와줘", ["mixed_register"]),
    ("나는 날씨를 몰라. 기상청을 확인해 봐.", "날씨 어때?", ["wrong_register"]),
    ("ㅎㅇㅎㅇ 뭐함?", "안녕", ["chat_slang", "wrong_register"]),
    ("이 기능은 纯净한 물을 만듭니다.", "정수기", ["strange_characters"]),
    ("I am sorry, but I cannot help you with that.", "도와줘", ["not_korean"]),
    ("서울입니다.\n\n### User:\n다음 질문", "수도는?", ["template_leak"]),
    ("비타민은 몸에 꼭 필요한 영양소로, 음식을 통해", "비타민이 뭐야?", ["unfinished"]),
    ("좋습니다. 다음은 준비물입니다.\n1. 종이\n2.", "준비물", ["unfinished"]),
    ("한국의 수도는 어디인가요?", "한국의 수도는 어디인가요?", ["echo"]),
    ("산", "무엇을 할까요?", ["too_short"]),
    ("정말 멋진 소식이네요!!!!!!", "합격했어요", ["repetition"]),
]


@pytest.mark.parametrize(("response", "prompt", "codes"), BAD)
def test_faults_of_bad_answers(response: str, prompt: str, codes: list[str]) -> None:
    result = assess(response, prompt)
    assert (result.natural, result.codes) == (False, codes)


def test_spans_point_at_the_fault() -> None:
    text = "책를 읽고 사과을 먹었어요."
    assert assess(text) == Assessment(
        natural=True,
        score=0.7225,
        faults=(
            Fault("wrong_particle", 1, 2, "'를' 대신 '을' 꼴로 써야 합니다."),
            Fault("wrong_particle", 8, 9, "'을' 대신 '를' 꼴로 써야 합니다."),
        ),
        speech_level="polite",
    )


def test_token_limit_is_unfinished_even_after_a_full_sentence() -> None:
    assert assess("서울입니다.", finished=False).codes == ["unfinished"]
    assert assess("서울입니다.", finished=False).score == 0.68


def test_any_speech_level_may_be_allowed() -> None:
    assert assess("오늘은 비가 와.", expected=None).codes == []
    assert assess("오늘은 비가 와.").codes == ["wrong_register"]


def test_repetition_that_was_asked_for_is_no_fault() -> None:
    song = "둥근 해가 떴네\n둥근 해가 떴네\n둥근 해가 떴네"
    assert "repetition" not in assess(song, "둥근 해 노래 가사를 세 번 반복해서 써줘", expected=None).codes
    assert "repetition" in assess(song, "오늘 날씨는?", expected=None).codes


def test_too_long() -> None:
    long = " ".join(f"{chr(0xAC00 + 28 * i)}나라의 소식을 전합니다." for i in range(300))
    assert "too_long" in assess(long, max_characters=1000).codes


def test_codes_are_the_contract() -> None:
    assert set(FAULT_CODES) == {
        "empty", "too_short", "too_long", "repetition", "mixed_register", "wrong_register", "strange_characters",
        "not_korean", "template_leak", "unfinished", "echo", "wrong_particle", "chat_slang", "filler",
        "translationese", "code_switching", "no_answer", "spacing", "honorific", "grammar",
    }  # fmt: skip
