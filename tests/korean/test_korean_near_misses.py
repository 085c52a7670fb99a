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
