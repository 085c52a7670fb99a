"""What a prompt asks for, answers that say nothing, and sequences that go nowhere."""

from __future__ import annotations

import pytest

from align_ko.korean import assess
from align_ko.korean.genre import asked_for


@pytest.mark.parametrize(
    ("prompt", "level"),
    [
        ("반말로 대답해 줘. 오늘 뭐 먹을까?", "plain"),
        ("존댓말 쓰지 말고 편하게 말해 줘.", "plain"),
        ("반말로 바꿔 줘: 안녕하세요.", "any"),
        ("해적 말투로 인사해 줘.", "any"),
        ("친환경 제품 슬로건을 만들어 줘.", "any"),
        ("루트 2가 무리수임을 증명해 줘.", "any"),
        ("편지 쓰는 방법을 알려 줘.", "polite"),
        ("비타민의 역할을 알려 줘.", "polite"),
        ("장점에 대해 이야기해 줘.", "polite"),
        ("반말 말고 존댓말로 대답해 줘.", "polite"),
        ("판소리에서 고수는 무슨 역할을 해요?", "polite"),
        ("영어 빈칸 문제는 어떻게 접근해야 해?", "polite"),
        ("글쓰기 모임에 갔다 왔어요. 벽지는 뭐가 좋아요?", "polite"),
        ("강의 노트는 손으로 쓰는 게 나아?", "polite"),
        ("문에서 소리 나는 건 어떻게 고쳐?", "polite"),
        ("다음 문장을 반말로 고쳐 줘.", "any"),
        ("북극성은 어떻게 찾아? 반말로, 세 단계로 알려 줘.", "plain"),
        ("지진은 왜 나? 반말로 두 문장만.", "plain"),
        ("보온병 설명을 '-습니다'체로 써 줘.", "polite"),
        ("'-요'로 끝나는 말투로 설명해 줘.", "any"),
    ],
)
def test_level_that_is_asked_for(prompt: str, level: str) -> None:
    assert asked_for(prompt).level == level


@pytest.mark.parametrize(
    ("prompt", "response", "code"),
    [
        ("반말로 말해 줘. 우울할 땐 뭐 하지?", "산책을 해 보세요. 햇볕을 쬐면 기분이 나아질 거예요.", "wrong_register"),
        ("'예'나 '아니요'로만 답해 줘. 7은 소수야?", "맞아. 나누어지지 않아.", "wrong_register"),
        ("가장 긴 강은 뭐야?", "나일강이야", "wrong_register"),
        ("관성이 뭐야?", "관성은 물체가 관성을 가지고 있는 성질을 말합니다.", "filler"),
        ("왜 하늘은 파란가요?", "하늘이 파란 이유는 하늘이 파랗기 때문입니다.", "filler"),
        (
            "면접은 어떻게 준비하나요?",
            "면접 준비에는 다양한 방법이 있습니다. 각자의 상황에 맞는 방법을 선택하는 것이 중요합니다. "
            "꾸준히 노력하면 좋은 결과를 얻을 수 있습니다.",
            "filler",
        ),
        (
            "저축은 왜 하나요?",
            "저축은 미래를 준비하기 위해 합니다. 저축을 하면 미래를 준비할 수 있습니다. 미래를 준비하려면 저축을 해야 합니다.",
            "repetition",
        ),
        ("'가'가 뭐야?", '"가"는 "가"로만 쓰면 "가"가 "가"로만 맞습니다.', "filler"),
        ("과일을 추천해 줘.", "1. 사과\n2. 배\n3. 사과\n4. 배\n5. 사과\n6. 배", "repetition"),
        ("동물을 말해 줘.", "곰\n곰과 소\n곰과 소와 말\n곰과 소와 말과 양\n곰과 소와 말과 양과 범", "repetition"),
        ("5 더하기 3은?", "5 + 3 + 0 + 0 + 0 + 0 + 0 = 8입니다.", "repetition"),
        ("10을 나눠 줘.", "1 + 0 = 10\n2 + 0 = 10\n3 + 0 = 10", "repetition"),
        ("자기소개를 해 줘.", "저는 저는 서울에 사는 학생입니다.", "repetition"),
        (
            "다음 두 문장을 한 문장으로 이어 주세요. 막차를 놓쳤습니다. 집까지 걸었습니다.",
            "막차를 놓친다는 뜻은 늦게까지 걷는다는 뜻이에요. 걷는다는 뜻은 걷는다는 뜻과 같아서, 늦게까지 걷는다는 뜻도 "
            "함께 합니다. 걷는다는 뜻이 늦게 시작하는 뜻이라, 걷는다는 뜻이 늦게 시작하는 뜻이라 부릅니다.",
            "filler",
        ),
    ],
)
def test_faults_of_content_and_level(prompt: str, response: str, code: str) -> None:
    assert code in assess(response, prompt).codes


_SEVERAL = "질문이 두 개 있어요.\n1. 강아지 이야기를 써 주세요.\n2. GDP가 뭐예요?"


@pytest.mark.parametrize(
    ("answer", "odd"),
    [
        ("1. 옛날에 강아지가 살았어. 행복하게 지냈지.\n\n2. GDP는 한 나라에서 만든 값을 더한 금액입니다. 자주 쓰여요.", ""),
        (
            "1. 옛날에 강아지가 살았어요.\n\n2. GDP는 한 나라에서 만든 값을 더한 금액이다. 자주 쓰여요.",
            "GDP는 한 나라에서 만든 값을 더한 금액이다.",
        ),
        ("1. 옛날에 강아지가 살았어요.\n\n3. GDP는 한 나라에서 만든 값을 더한 금액이다. 자주 쓰여요.", ""),
    ],
)
def test_a_text_asked_for_in_one_question_excuses_only_its_own_answer(answer: str, odd: str) -> None:
    faults = [fault for fault in assess(answer, _SEVERAL).faults if fault.code == "mixed_register"]
    assert [answer[fault.start : fault.end] for fault in faults] == [odd] * bool(odd)


@pytest.mark.parametrize(
    ("prompt", "response"),
    [
        ("관성이 뭐야?", "관성은 물체가 지금의 운동 상태를 그대로 유지하려는 성질입니다."),
        ("감사 인사를 써 줘.", "정말 정말 감사합니다. 하나하나 챙겨 주신 덕분에 잘 마쳤습니다."),
        (
            "다음 문장을 고쳐 줘. 사과를 깎아 사과를 먹고 사과를 나누고 사과를 담았습니다.",
            "이렇게 고치면 됩니다. 사과를 깎아 먹고 사과를 나누고 남은 사과를 담았습니다. 사과를 네 번 쓰지 마세요.",
        ),
        ("합을 구해 줘.", "1 + 2 = 3\n3 + 3 = 6\n6 + 4 = 10\n따라서 답은 10입니다."),
        ("단풍은 왜 드나요?", "가을이 되면 왜 나뭇잎이 물들까? 답은 엽록소에 있습니다. 기온이 내려가면 분해됩니다."),
        ("투자는 어떻게 시작하나요?", "어디서부터 시작할지 모르겠다면? 비상금부터 마련하세요."),
        ("명언을 알려 줘.", "명언을 소개합니다.\n\n> 천 리 길도 한 걸음부터 시작된다.\n> 실패는 성공의 어머니다.\n\n힘내세요."),
        ("해적 말투로 인사해 줘.", "어이, 친구! 이 몸은 바다를 누비는 선장이다! 돛을 올려라!"),
        ("낮이 가장 긴 절기는? 한 단어로 답해 줘.", "하지"),
        ("'기쁘다'의 반대말을 한 낱말로만 말해 줘.", "슬프다"),
        ("O나 X로만 답해 주세요. 빛은 소리보다 빠르다.", "O"),
        ("'예' 또는 '아니요'로만 대답해 줘. 17은 소수야?", "예"),
        ("이 글은 시, 소설, 수필 가운데 무엇인지 그 말만 적어 줘.", "시"),
        ("반말로 대답해 줘. 뭐 먹을까?", "비도 오는데 칼국수 어때? 따뜻하게 한 그릇 먹으면 기분이 좋아질 거야."),
        (
            "컴포넌트가 뭐예요?",
            "부모 컴포넌트가 자식 컴포넌트에 값을 전달하면 자식 컴포넌트는 그 값을 읽습니다. 자식 컴포넌트는 값을 직접 바꾸지 "
            "못하며, 바꾸려면 부모 컴포넌트에 이벤트를 보내 부모 컴포넌트가 상태를 고치게 합니다.",
        ),
    ],
)
def test_no_fault_where_a_reader_sees_none(prompt: str, response: str) -> None:
    assert assess(response, prompt).codes == []


@pytest.mark.parametrize(
    ("prompt", "letters", "long"),
    [("한 문장으로 말해 줘.", 310, True), ("안녕?", 4010, True), ("보고서를 써 줘.", 4010, False)],
)
def test_how_long_an_answer_may_be_depends_on_the_prompt(prompt: str, letters: int, long: bool) -> None:
    words = "".join(chr(0xAC00 + place * 7 % 11172) + (" " if place % 3 == 2 else "") for place in range(letters))
    assert ("too_long" in assess(words[:letters], prompt, morphology=False).codes) == long
