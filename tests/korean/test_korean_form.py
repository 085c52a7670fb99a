"""Pairs of a faulty and a clean text for each rule of form: language, leaks, cut ends, spelling, spacing, honorifics."""

from __future__ import annotations

import pytest

from align_ko.korean import assess
from align_ko.korean.english_words import english_words
from align_ko.korean.language import foreign, foreign_wanted, word_in_english
from align_ko.korean.leaks import no_answer
from align_ko.korean.particles import wrong_particles
from align_ko.korean.spelling import misspellings, wrong_spacing

# code, prompt, faulty, clean
PAIRS = [
    # English words where Korean belongs
    ("code_switching", None, "아침에 일어나면 tired한 느낌이 들 수 있습니다.", "아침에 일어나면 피곤한 느낌이 들 수 있습니다."),
    ("code_switching", None, "여행을 가기 전에 budget을 정해 두세요.", "여행을 가기 전에 예산을 정해 두세요."),
    ("code_switching", None, "이 방법은 매우 effective합니다.", "이 방법은 매우 효과적입니다."),
    ("code_switching", None, "냄비에 garlic 두 쪽을 넣고 볶아 주세요.", "냄비에 마늘 두 쪽을 넣고 볶아 주세요."),
    (
        "code_switching",
        None,
        "회의는 오후에 시작됩니다. However 장소는 아직 몰라요. 그래서 probably 늦어집니다.",
        "회의는 오후에 시작됩니다.",
    ),
    ("code_switching", None, "그 책은 재미있습니da. 꼭 읽어 보세요.", "그 책은 재미있습니다. 꼭 읽어 보세요."),
    (
        "code_switching",
        "좋은 습관을 알려 주세요.",
        "매일 걷는 것이 좋습니다. You should also drink a lot of water in the morning. 잠도 푹 주무시고, 짜게 드시지 마세요.",
        "매일 걷는 것이 좋습니다. 아침에는 물도 많이 드세요. 잠도 충분히 주무세요.",
    ),
    (
        "code_switching",
        "다음 글을 요약해 주세요.",
        "Here is a summary of the text in Korean:\n\n글쓴이는 숲을 지키자고 말합니다. 숲은 물을 모으고 공기를 맑게 합니다.",
        "글쓴이는 숲을 지키자고 말합니다. 숲은 물을 모으고 공기를 맑게 합니다.",
    ),
    # answers in English
    (
        "not_korean",
        "통역사가 되려면 무엇을 배워야 하나요?",
        "You need to study languages for many years.",
        "외국어를 오래 배워야 합니다.",
    ),
    (
        "not_korean",
        "자바 커피는 어디에서 나나요?",
        "Java coffee is grown on an island in Indonesia.",
        "인도네시아의 자바섬에서 납니다.",
    ),
    ("not_korean", "물은 몇 도에서 끓나요? 계산해 주세요.", "Water boils at one hundred degrees.", "물은 100도에서 끓어요."),
    ("not_korean", "이 주장이 맞나요?", "true", "네, 맞습니다."),
    ("not_korean", "어느 쪽으로 가야 하나요?", "Left.", "왼쪽으로 가세요."),
    (
        "not_korean",
        "기사를 JSON으로 요약해 줘.",
        '{"summary": "The article is about the history of tea in Asia."}',
        '{"요약": "차의 역사"}',
    ),
    # leaks
    (
        "template_leak",
        "환율이 뭔가요?",
        "<think>환율을 설명하자.</think>환율은 두 나라 돈의 교환 비율입니다.",
        "환율은 두 나라 돈의 교환 비율입니다.",
    ),
    (
        "template_leak",
        "환율이 뭔가요?",
        "Answer: 환율은 두 나라 돈의 교환 비율입니다.",
        "답은 간단합니다. 환율은 두 나라 돈의 교환 비율입니다.",
    ),
    ("template_leak", "환율이 뭔가요?", "환율은 두 나라 돈의 교환 비율입니다.[END]", "환율은 두 나라 돈의 교환 비율입니다."),
    ("template_leak", "환율이 뭔가요?", "환율은 돈의 교환 비율입니다.</끝>", "환율은 돈의 교환 비율입니다."),
    (
        "template_leak",
        "환율이 뭔가요?",
        "환율은 돈의 교환 비율입니다.<br/>날마다 바뀝니다.",
        "환율은 돈의 교환 비율입니다.\n날마다 바뀝니다.",
    ),
    (
        "template_leak",
        "환율이 뭔가요?",
        "환율은 돈의 교환 비율입니다.\\n\\n날마다 바뀝니다.",
        "환율은 돈의 교환 비율입니다.\n\n날마다 바뀝니다.",
    ),
    ("template_leak", "줄을 어떻게 바꾸나요? HTML에서요.", "<|im_end|>", "HTML에서는 <br> 태그로 줄을 바꿉니다."),
    ("template_leak", "가까운 병원을 알려 줘.", "[병원 이름]은 [동 이름]에 있습니다.", "큰길 건너편에 시립 병원이 있습니다."),
    # nothing said
    ("no_answer", "환율이 뭔가요?", "정말 좋은 질문이네요!", "좋은 질문이네요! 환율은 두 나라 돈의 교환 비율입니다."),
    (
        "no_answer",
        "환율이 뭔가요?",
        "네, 환율에 대해 자세히 설명해 드리겠습니다.",
        "설명해 드릴게요. 환율은 두 나라 돈의 교환 비율입니다.",
    ),
    ("no_answer", "환율을 설명해 줘.", "# 환율의 뜻과 종류", "# 환율\n\n환율은 두 나라 돈의 교환 비율입니다."),
    (
        "no_answer",
        "태양계의 행성을 설명해 줘.",
        "태양계의 행성은 두 가지로 나뉩니다.",
        "태양계의 행성은 암석 행성과 기체 행성으로 나뉩니다.",
    ),
    # cut ends
    ("unfinished", "준비물은?", "준비물은 다음과 같습니다.", "준비물은 다음과 같습니다.\n\n- 물통\n- 모자"),
    ("unfinished", "순서를 알려 줘.", "1. 재료를 씻으세요.\n2. 양념장:", "1. 재료 손질\n2. 양념장 만들기"),
    (
        "unfinished",
        "건강 비결은?",
        "물을 자주 마시고, 채소를 챙겨 먹으며, 날마다",
        "물을 자주 마시고, 채소를 챙겨 먹으며, 날마다 걸으세요.",
    ),
    (
        "unfinished",
        "무엇을 배우나요?",
        "트리는 자료 구조의 한 종류이고, 그래프는",
        "- 트리가 무엇인지\n- 그래프를 어떻게 그리는지",
    ),
    # spelling, which the code of the particles covers
    ("wrong_particle", None, "오랫만에 친구를 만나서 반가웠어요.", "오랜만에 친구를 만나서 반가웠어요."),
    ("wrong_particle", None, "약속을 어겨서 어떻해요.", "약속을 어겨서 어떡해요."),
    ("wrong_particle", None, "눈이 금새 녹았습니다.", "눈이 금세 녹았습니다."),
    ("wrong_particle", None, "왠만하면 걸어가세요.", "웬만하면 걸어가세요."),
    ("wrong_particle", None, "그 일은 쉽지 안습니다.", "그 일은 쉽지 않습니다. 아기를 안습니다."),
    ("wrong_particle", None, "내일 전화할께요.", "내일 전화할게요. 어른께 드립니다."),
    (
        "wrong_particle",
        None,
        "감기는 푹 쉬면 빨리 낳으실 거예요. 감기가 낳으면 연락 주세요.",
        "감기가 나으면 연락 주세요. 아이를 낳으면 축하해요.",
    ),
    ("wrong_particle", None, "이 문제는 친구에요.", "이 사람은 제 친구예요."),
    ("wrong_particle", None, "자기 역활을 다해야 합니다.", "지역활동에 참여해야 합니다."),
    ("wrong_particle", None, "김치찌게를 끓여 보세요.", "살이 찌게 하는 음식은 피하세요."),
    ("wrong_particle", None, "영화가 재미있었읍니다.", "영화가 재미있었습니다."),
    ("wrong_particle", None, "가던지 말던지 마음대로 하세요.", "얼마나 춥던지 손이 얼었어요."),
    # particles after what is read aloud
    ("wrong_particle", None, "파일은 JSON를 씁니다.", "파일은 JSON을 씁니다."),
    ("wrong_particle", None, "홀수에 5이 들어갑니다.", "홀수에 5가 들어갑니다."),
    ("wrong_particle", None, "전체의 30%은 물입니다.", "전체의 30%는 물입니다."),
    ("wrong_particle", None, "Python는 배우기 쉽습니다.", "Python은 배우기 쉽습니다."),
    ("wrong_particle", None, "GPU을 쓰면 빨라집니다.", "GPU를 쓰면 빨라집니다."),
    ("wrong_particle", None, "강남역로 오시면 됩니다.", "통로로 오시면 산책로가 보입니다."),
    # spacing
    ("spacing", None, "누구나 쉽게 배울수 있습니다.", "누구나 쉽게 배울 수 있습니다."),
    ("spacing", None, "물은 건강 에 좋습니다.", "물은 건강에 좋습니다."),
    ("spacing", None, "걷기는 몸에 좋 습니다.", "걷기는 몸에 좋습니다."),
    ("spacing", None, "비가 오기때문에 우산이 필요합니다.", "비가 오기 때문에 우산이 필요합니다."),
    (
        "spacing",
        None,
        "오늘은날씨가매우맑으니가까운공원에서산책을해보세요.",
        "오늘은 날씨가 매우 맑으니 가까운 공원에서 산책을 해 보세요.",
    ),
    # honorifics
    ("honorific", None, "주문하신 아메리카노 나오셨습니다.", "주문하신 아메리카노 나왔습니다."),
    ("honorific", None, "그 상품은 품절이세요.", "그 상품은 품절입니다."),
    ("honorific", None, "모두 만 이천 원이십니다.", "모두 만 이천 원입니다. 그분은 의원이십니다."),
    ("honorific", None, "교장 선생님 말씀이 계시겠습니다.", "교장 선생님 말씀이 있으시겠습니다."),
    ("honorific", None, "나는 서울에 삽니다. 저는 요리를 좋아합니다.", "저는 서울에 삽니다. 저는 요리를 좋아합니다."),
    # parts that do not go together
    ("grammar", None, "마당에 고양이 두 명이 있어요.", "마당에 고양이 두 마리가 있어요. 사람은 두 명입니다."),
    ("grammar", None, "도서관에서 책 세 마리를 빌렸습니다.", "도서관에서 책 세 권을 빌렸습니다."),
    ("grammar", None, "비록 비가 와서 소풍을 갔습니다.", "비록 비가 왔지만 소풍을 갔습니다."),
    ("grammar", None, "제 꿈은 요리사가 되고 싶습니다.", "제 꿈은 요리사가 되는 것입니다."),
    ("grammar", None, "일찍 잡니다. 왜냐하면 내일 일찍 일어납니다.", "일찍 잡니다. 왜냐하면 내일 일찍 일어나기 때문입니다."),
    # broken letters
    ("strange_characters", None, "이 ㅅㅏ람은 제 친구입니다.", "이 사람은 제 친구입니다."),
]


@pytest.mark.parametrize(("code", "prompt", "faulty", "clean"), PAIRS)
def test_the_fault_is_found_and_the_clean_text_stays_clean(code: str, prompt: str | None, faulty: str, clean: str) -> None:
    assert code in assess(faulty, prompt).codes
    assert not set(assess(clean, prompt).codes) - {"too_short"}


CLEAN = [
    # terms, units, brands, commands, file names
    (None, "터미널에서 git commit을 실행한 다음 push하면 됩니다. 서버에 반영되는지 확인하세요."),
    (None, "컴포넌트에 props를 전달하면 state가 바뀔 때마다 다시 렌더링됩니다."),
    (None, "물 500ml에 소금 5g을 넣고 10분쯤 끓이세요. 열량은 약 120kcal입니다."),
    (None, "설정은 config.yaml 파일에 있습니다. 경로는 /etc/app 입니다."),
    (None, "요즘은 iPhone이나 Galaxy로 사진을 찍어 Instagram에 올립니다."),
    (None, "DNA는 디옥시리보 핵산(deoxyribonucleic acid)의 약자입니다."),
    (None, "비틀스의 노래 Here Comes the Sun과 Let It Be를 추천합니다."),
    (None, "넓이는 a × b이고, 둘레는 2(a + b)입니다."),
    (None, "이메일은 help@example.com으로 보내시고, 자세한 내용은 https://example.com을 보세요."),
    (None, "| 이름 | role |\n|---|---|\n| 민수 | developer |\n\n위 표를 참고하세요."),
    (None, "'stress'는 우리말로 '긴장'이라고 옮길 수 있습니다."),
    ("'serendipity'는 무슨 뜻인가요?", "serendipity는 뜻밖의 행운을 발견하는 일을 뜻합니다."),
    ("오랜만을 영어로 뭐라고 해?", "Long time no see라고 합니다."),
    ("파이썬으로 두 수를 더하는 함수를 짜 줘.", "def add(a, b):\n    return a + b"),
    ("CSV로 정리해 줘. 민수 20, 영희 21", "name,age\nminsu,20\nyounghee,21"),
    ("회원 이름을 모두 뽑는 SQL을 써 줘.", "SELECT name FROM members;"),
    ("번역해 줘: 나는 학생입니다.", "I am a student at the university."),
    ("표의 제목을 지어 줘.", "**월별 강수량**"),
    ("몇 가지가 있나요?", "모두 세 가지가 있습니다."),
    ("확인해 줄 수 있어요?", "네, 확인해서 내일 알려 드리겠습니다."),
]


@pytest.mark.parametrize(("prompt", "text"), CLEAN)
def test_terms_formats_and_names_are_no_faults(prompt: str | None, text: str) -> None:
    found = set(assess(text, prompt).codes)
    assert not found & {"code_switching", "not_korean", "template_leak", "no_answer", "wrong_particle", "spacing", "honorific"}


def test_five_slips_of_spelling_are_too_many() -> None:
    two = "오랫만에 만나서 할수 있는 일을 했습니다."
    five = two + " 금새 끝났고 왠만하면 또 하겠습니다. 역활도 정했습니다."
    assert assess(two).natural and assess(two).codes == ["wrong_particle", "spacing"]
    assert not assess(five).natural


@pytest.mark.parametrize(
    ("prompt", "wanted"),
    [
        ("김치를 영어로 소개해 줘", True),
        ("다음을 번역해 줘: 나는 학생이다", True),
        ("다음을 번역해 줘: I am a student", False),
        ("번역가가 되려면?", False),
        ("영어 공부는 어떻게 시작하나요?", False),
        ("영어 인사말이 뭐야?", True),
        ("위 답변을 영어 문장 3개로 요약한 후 단어의 뜻을 풀어 줘", True),
        ("거래처에 보낼 영어 메일 좀 다듬어 줘", True),
        ("영어 단어 외운 걸 안 잊으려면 언제 복습하는 게 좋을까요?", False),
        ("영어 이메일을 잘 쓰려면 어떻게 해야 하나요?", False),
        ("영어 회화 학원 추천해 줘", False),
        ("영어 단어 외우는 방법을 알려 줘", False),
        ("자바의 수도는?", False),
        ("What is kimchi?", True),
        ("Explain kimchi in Korean.", False),
    ],
)
def test_foreign_output_is_wanted_only_where_it_is_asked_for(prompt: str, wanted: bool) -> None:
    assert foreign_wanted(prompt) is wanted


def test_spans_lie_on_the_words() -> None:
    text = "현대 warfare에서 잘informed된 결정"
    assert [text[span.start : span.end] for span in english_words(text)] == ["warfare", "informed"]
    assert foreign("Kimchi is a side dish of salted vegetables.").whole
    assert word_in_english("Yes", "맞나요?") and not word_in_english("Python", "어떤 언어가 좋아?")
    assert no_answer("좋은 질문입니다!", "뭐예요?") and not no_answer("좋은 질문입니다! 답은 물입니다.", "뭐예요?")


def test_each_slip_has_its_right_form() -> None:
    text = "금새 되요. 카드로 결재하고 문을 잠궈 주세요."
    for slip in reversed(misspellings(text)):
        text = text[: slip.start] + slip.right + text[slip.end :]
    assert text == "금세 돼요. 카드로 결제하고 문을 잠가 주세요."
    assert [(each.start, each.right) for each in wrong_particles("API을 부르면 JSON를 줍니다.")] == [(3, "를"), (13, "을")]
    assert wrong_spacing("할 수 있는 것은 많습니다.") == []


DRAFT = '"결혼을 진심으로 축하드려요. 두 분의 앞날에 행복이 가득하길 바랄게요."'
PARAPHRASED = (
    "비타민 C는 면역력에 좋습니다. 면역력을 높이는 데 비타민 C가 좋습니다. 비타민 C를 먹으면 면역력이 높아집니다. "
    "즉 면역력에는 비타민 C가 도움이 됩니다."
)
LEADER = (
    "좋은 리더가 되려면 다양한 노력이 필요합니다. "
    "상황에 맞는 방법을 찾는 것이 중요하며, 꾸준히 노력하면 좋은 결과를 얻을 수 있습니다."
)
NODES = (
    "부모 노드는 위에 있고 자식 노드를 거느립니다. "
    "자식 노드는 부모 노드 아래에 있으며, 자식 노드가 없는 노드를 잎 노드라고 합니다."
)


@pytest.mark.parametrize(
    ("prompt", "text", "code"),
    [
        ("그의 별명이 뭐야?", "그의 별명은 '그의 별명'입니다.", "echo"),
        ("25분 공부하고 5분 쉬는 공부법 이름이 뭐야?", '이름은 "25분 공부하고 5분 쉬는 공부법"입니다.', "echo"),
        ("남은 밥은 냉장이 나은가요, 냉동이 나은가요?", "냉장이 나은가요, 냉동이 나은가요? 냉장이 나은가요?", "echo"),
        ("냉장이 나은가요?", "어떤 음식인가요?", ""),
        ("그 책 제목이 뭐야?", '그 책 제목은 "어린 왕자"입니다.', ""),
        ("결혼 축하 문자를 두 가지 써 줘.", f"1. {DRAFT}\n2. {DRAFT}", "repetition"),
        ("결혼 축하 문자를 두 가지 써 줘.", f'1. {DRAFT}\n2. "두 분의 새로운 출발을 응원할게요. 늘 행복하세요."', ""),
        ("김치는 왜 시어지나요?", "김치의 발효", "no_answer"),
        ("이 현상의 이름은 뭐예요?", "김치의 발효", ""),
        ("비타민 C는 왜 필요해요?", PARAPHRASED, "repetition"),
        ("좋은 리더의 조건은?", LEADER, "filler"),
        ("부모 노드와 자식 노드는 뭐가 달라요?", NODES, ""),
    ],
)
def test_nothing_said_and_the_same_said_twice(prompt: str, text: str, code: str) -> None:
    found = set(assess(text, prompt).codes) & {"echo", "repetition", "no_answer", "filler"}
    assert found == ({code} if code else set())
