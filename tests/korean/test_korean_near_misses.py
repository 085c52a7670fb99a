"""Correct sentences that come close to a rule, and the wrong ones beside them that the rule is for."""

from __future__ import annotations

import pytest

from align_ko.korean import assess

RIGHT = """
내일 뵈면 좋겠습니다.
배우 금새록이 출연한 드라마를 봤어요.
금새우난초는 봄에 꽃이 핍니다.
무슨 말인지 한번 들어나 봅시다.
햇빛에 색이 바램을 막으려면 커튼을 치세요.
둘째를 더 낳은 가정에는 지원금을 더 드립니다.
스트랜드를 세 가닥으로 꼬아 줍니다.
꼬깔콘은 옥수수로 만든 과자입니다.
벽에 종이를 대고 눌러붙이면 됩니다.
마당에서 댓가지를 꺾어 울타리를 만들었어요.
껍질채소는 깨끗이 씻어 드세요.
그 단체는 인권비정부기구로 등록되어 있습니다.
포스터에 제작년도를 적어 주세요.
아이가 제꺼덕 일어나 문을 열었습니다.
그때 그곳이 어디던가요?
나물은 소금으로 간간히 무칩니다.
새 도서관은 가을께 문을 엽니다.
하늘에 연을 띄웁니다. 아이가 미소를 띄우게 하는 장난감입니다.
종이에 손에 베인 자국이 남았어요.
이 마을 이름은 유래를 찾기 어렵습니다.
전쟁의 상처가 낳은 비극을 다룬 소설입니다.
아기를 빨리 낳으시라는 말은 실례가 될 수 있어요.
축제가 한참 진행되던 중에 비가 내렸습니다.
온라인 결재 시스템으로 기안을 올렸습니다.
그는 아무것도 모르는 채 하루를 보냈습니다.
쌀가루는 굵은 체로 내려 주세요.
얼마나 춥던지 손발이 다 얼었습니다.
아버지는 가수 업을 이어받지 않으셨습니다.
숙제를 잃어버려서 다시 했어요.
비가 올 가능성은 작습니다. 사람은 작은 배려에 감동합니다.
우리에게는 다른 방법이 없었으니 별수 없습니다.
그는 말수 없는 사람이지만 속이 깊습니다.
자격을 갖춘 안마시술소에서만 안마를 받으세요.
악보에는 도 레 미 파 솔 라 시 도 순서로 적혀 있습니다.
갑과 을 사이의 계약은 서면으로 체결합니다.
옛 법령 이름은 금융기관부실자산등의효율적처리및한국자산관리공사의설립에관한법률 등이 있습니다.
직장 동료가 나오셔서 함께 식사했습니다. 동료가 나오셨습니다.
어머니는 우리 가족의 기둥이자 일원이십니다.
일정은 계시는 동안 바뀔 수 있습니다.
궁금한 점은 선생님께 언제든지 여쭤보세요.
박물관 직원분께 여쭤보시면 친절히 알려 주십니다.
제가 부르자 선생님께서 오셨습니다.
비록 죽을지언정 굽히지 않겠다고 했습니다.
비록 몸은 멀리 나가도 마음은 늘 곁에 있습니다.
그 결과는 결코 우연이 아닌 노력의 산물입니다.
무슨 일이 있어도 결코 포기하지 마세요.
도저히 견디기 힘든 더위였습니다.
제가 이 일을 좋아하는 이유는 사람을 만날 수 있기 때문입니다.
실패한 까닭은 여러 가지가 있다고 생각합니다.
제 취미는 등산이지만 요즘은 집에서 책을 읽습니다.
"""

WRONG = """
금새 비가 그쳤어요. 그 일은 금새 끝납니다. 금새 또 옵니다.
저의 바램은 하나입니다. 우리 바램대로 됐어요. 모두의 바램이에요.
이쪽이 더 낳은 것 같아요. 저게 더 낳은 방법이에요. 더 낳은 답입니다.
어디던 갑니다. 누구던 환영합니다. 언제던 오세요.
유래 없는 더위예요. 유래 없는 일이에요. 유래없는 성과예요.
인원이 작습니다. 수량이 작아요. 경험이 작으면 어려워요.
두사람이 세마리를 네군데에 나눴어요.
제가 어제 댁에 가셨습니다. 제가 직접 하셨습니다. 제가 먼저 드셨습니다.
제가 열심히 하는 이유는 부자가 된다고 생각합니다. 비록 돈이 많아서 좋아요. 결코 쉽습니다.
"""


@pytest.mark.parametrize("text", RIGHT.strip().split("\n"))
def test_what_only_comes_close_to_a_fault_is_clean(text: str) -> None:
    assert [fault for fault in assess(text).faults if fault.code != "translationese"] == []


@pytest.mark.parametrize("text", WRONG.strip().split("\n"))
def test_what_the_rules_are_for_is_still_found(text: str) -> None:
    assert sum(fault.code in ("wrong_particle", "spacing", "honorific", "grammar") for fault in assess(text).faults) >= 3


def test_parts_of_a_dialogue_that_was_asked_for_are_no_leak() -> None:
    script = "사용자: 오늘 날씨 어때요?\n챗봇: 맑고 따뜻합니다."
    assert "template_leak" in assess(script, "오늘 날씨를 알려 줘").codes
    assert "template_leak" not in assess(script, "챗봇과 나누는 대화를 써 줘").codes
    assert "template_leak" not in assess("사용자: 시스템을 이용하는 사람입니다.", "용어를 설명해 줘").codes


@pytest.mark.parametrize(
    ("prompt", "answer"),
    [
        ("주말에 등산을 갈까 하는데 어때요?", "좋은 생각입니다!"),
        ("세계에서 가장 높은 산을 알려 줘", "**에베레스트산**"),
        ("발표 첫 문장을 써 줘", "지금부터 인공지능의 역사를 알아보겠습니다."),
    ],
)
def test_a_short_answer_that_answers_is_one(prompt: str, answer: str) -> None:
    assert "no_answer" not in assess(answer, prompt).codes


@pytest.mark.parametrize(
    "text",
    [
        "props는 부모가 넘겨주는 값이고, state는 컴포넌트가 스스로 관리하는 값입니다.",
        "kubelet은 노드마다 pod을 띄우고, replica 수가 모자라면 새로 만들어 줍니다.",
        "인터페이스를 구현할 때는 extends 절이 아니라 implements 절을 씁니다.",
        "이 식은 nullish가 되지 않습니다.",
        "모든 typedef를 타입스크립트 형식으로 바꿉니다.",
        "해당하는 각 파일에 sourcemap을 생성합니다.",
    ],
)
def test_developers_terms_are_no_code_switching(text: str) -> None:
    assert assess(text).codes == []


@pytest.mark.parametrize(
    "text",
    [
        "야채 broth 1컵을 넣으세요.",
        "정말 useful한 함수입니다.",
        '{"조언": "일 task list 작성하고 시작하세요."}',
        "행사를 합니다 (until 3/20).",
    ],
)
def test_english_where_a_korean_word_belongs_is_still_found(text: str) -> None:
    assert "code_switching" in assess(text, "알려 주세요").codes


def test_german_sentences_are_found() -> None:
    german = "인공 지능은 유용합니다. Sie kann auf viele Arten helfen und ist nicht für eine Aufgabe gemacht."
    assert assess(german).codes == ["not_korean"]


@pytest.mark.parametrize(
    "text",
    [
        "올바른 이미지를 업로드하세요. 업로드하신 파일은 이미지 파일이 아니거나 파일이 깨져 있습니다.",
        "슬라이드를 숨기려면 슬라이드 창에서 대화 상자를 엽니다. 대화 상자에서 숨김을 고르면 슬라이드 쇼에서 빠지고, "
        "대화 상자를 닫으면 슬라이드 쇼를 시작할 수 있습니다.",
    ],
)
def test_terms_that_come_back_in_instructions_are_no_filler(text: str) -> None:
    assert assess(text).codes == []


def test_a_passage_may_end_where_a_code_block_followed_but_an_answer_may_not() -> None:
    text = "설치가 끝나면 터미널을 열고 다음 명령을 실행하세요:"
    assert assess(text).codes == []
    assert assess(text, "어떻게 실행하나요?").codes == ["unfinished"]


@pytest.mark.parametrize(
    ("prompt", "answer", "codes"),
    [
        ("제품 슬로건을 지어 줘", "하루를 여는 따뜻한 한 잔의 여유", ()),
        ("가을을 주제로 시를 써 줘", "단풍잎 하나\n발끝에 내려앉아\n\n늦지 않았다고\n아직 붉다고", ()),
        ("비타민을 설명해 줘", "비타민은 우리 몸에 꼭 필요한 하루를 여는 영양소", ("unfinished",)),
    ],
)
def test_verse_and_slogans_need_no_predicate(prompt: str, answer: str, codes: tuple[str, ...]) -> None:
    assert tuple(code for code in assess(answer, prompt).codes if code != "wrong_register") == codes


LONG = [
    (
        "참고할 만한 논문을 알려 주세요.",
        "다음 논문을 읽어 보세요.\n\n- Foster, D. P., & Stine, R. A. (2008). Alpha-investing: a procedure for "
        "sequential control of expected false discoveries. 70(2), 429-444.\n\n조기 중단을 다룬 대표적인 논문입니다.",
    ),
    (
        "이 오류는 왜 나나요?",
        "오류 메시지는 다음과 같습니다.\n\nTypeError: x.map is not a function\n\n배열이 아닌 객체에 map을 호출했기 때문입니다.",
    ),
    (
        "루아로 인벤토리를 만들어 줘",
        "아래 함수를 쓰세요.\n\nfunction Get(player)\n    if not player or not player.Name then return nil end\n"
        "    return inventory[player.Name]\nend\n\n플레이어가 없으면 nil을 돌려줍니다.",
    ),
    ("그래프를 그리는 방법은?", "matplotlib이나 plotly를 사용하여 데이터를 그래프로 그릴 수 있습니다."),
    ("캐릭터 카드를 써 줘", "- 주사위: 1d8 per 레벨\n- 생명력: 70"),
    (
        "걷는 데 얼마나 걸릴까?",
        "353 ÷ 60 ≈ 5.88이므로\n즉 약 5시간 53분 정도 걸립니다.\n\n**답변:** 약 5시간 53분 정도 걸립니다.",
    ),
    (
        "클로저 트레이트를 설명해 줘",
        "- Fn: 여러 번 호출할 수 있습니다. 상태를 바꿀 수 없음.\n- FnOnce: 소유권을 가져갑니다. 한 번만 호출할 수 있음.",
    ),
    (
        "연구 서론 초안을 작성해 줘",
        "아래는 서론 초안입니다.\n\n본 연구는 토양이 개화에 미치는 영향을 다룬다. 개화에 가장 큰 영향을 미치는 변수는 무엇인가?"
        " 이를 밝히기 위해 다섯 해 동안 자료를 모았다.\n\n더 고치고 싶은 곳이 있으면 말씀해 주세요.",
    ),
    (
        "설치 방법을 알려 줘",
        "[Pcap.Net](https://www.nuget.org/packages/Pcap.Net/) 라이브러리를 프로젝트에 추가하고 다시 빌드합니다.",
    ),
    (
        "VNC를 설치하는 방법은?",
        "서버를 설치합니다.\n- `sudo apt-get update` (우분투 기반)\n- `sudo apt-get install tightvnc` (우분투 기반)\n"
        "- `sudo apt-get install xterm` (우분투 기반)\n\n그다음 서버를 켭니다.",
    ),
]


@pytest.mark.parametrize(("prompt", "answer"), LONG)
def test_kinds_of_long_answers_that_were_flagged_wrongly(prompt: str, answer: str) -> None:
    assert assess(answer, prompt).codes == []


CODE = "번호가 필요하면 enumerate를 씁니다.\n```python\nfor i, name in enumerate(names, start=1):\n    print(i, name)\n```\n"


@pytest.mark.parametrize(
    ("prompt", "answer", "said"),
    [
        ("번호와 함께 돌려면요?", f"{CODE}start를 빼면 0부터 세기 시작해요.", True),
        ("번호와 함께 돌려면요?", f"{CODE}길어지면 보통의 for문으로 풀어 쓰세요.", True),
        ("겹치는 것을 빼려면요?", "순서가 상관없다면 set(fruits)만으로도 충분합니다.", True),
        ("겹치는 것을 빼려면요?", "`start`와 `stop`을 줍니다. start를 빼면 0입니다.", True),
        ("수능 영어 빈칸 문제는 어떻게 접근해요?", "however나 for example 앞뒤에서 단서를 찾으세요.", True),
        ("수능 영어 빈칸 문제는 어떻게 접근해요?", "무엇보다 꾸준히 practice하는 것이 important합니다.", False),
        ("채소 국은 어떻게 끓여요?", "냄비에 야채 broth 1컵을 붓고 끓이세요.", False),
        ("번호와 함께 돌려면요?", f"{CODE}however 번호가 밀릴 수 있습니다.", False),
    ],
)
def test_names_of_code_and_words_that_are_spoken_of_are_no_code_switching(prompt: str, answer: str, said: bool) -> None:
    assert ("code_switching" not in [fault.code for fault in assess(answer, prompt).faults]) is said


LISTED = "아래 질문에 하나씩 답해 주세요.\n1. 틀린 문제는 다시 풀어야 해요?\n2. 김밥이 자꾸 터져요."


@pytest.mark.parametrize(
    ("answer", "leaks"),
    [
        (f"질문: {LISTED}\n답변: 1. 틀린 문제는 꼭 다시 풀어 보세요.\n\n2. 밥을 얇게 펴세요.", 1),
        ("1. 틀린 문제는 꼭 다시 풀어 보세요.\n\n2. 밥을 얇게 펴세요.\n\n질문: 다음은요?\n답변: 네.", 0),
    ],
)
def test_a_question_of_several_lines_said_again_is_a_leak(answer: str, leaks: int) -> None:
    assert sum(fault.code == "template_leak" for fault in assess(answer, LISTED).faults) == leaks


def test_to_ask_a_question_is_not_to_ask_for_a_dialogue() -> None:
    answer = "밥을 얇게 펴고 이음매를 아래로 두세요.\n\nHuman: 고마워요.\n\nAssistant: 네."
    for prompt, leaks in (("아래 질문에 하나씩 답해 주세요. 김밥이 자꾸 터져요.", 2), ("김밥집의 대화를 써 주세요.", 0)):
        assert sum(fault.code == "template_leak" for fault in assess(answer, prompt).faults) == leaks


def test_an_apostrophe_alone_in_brackets_opens_no_quotation() -> None:
    answer = "셀 서식을 '텍스트'로 바꾸세요. 작은따옴표(')를 앞에 찍어도 됩니다. '텍스트'로 바꾼 뒤 0은 다시 적어야 합니다."
    assert not assess(answer, "전화번호의 0이 사라져요.").faults
