"""Sentences that vary a row: who asks and why, the words between two questions, the words around an answer.

`fill("{food}(을/를) 먹다가", rng)` → "칼국수를 먹다가": a slot takes a word of its list, a particle the form that fits it.
"""

from __future__ import annotations

import random
import re

SLOTS = {
    "place": "서울 부산 대구 인천 광주 대전 울산 수원 춘천 원주 강릉 속초 청주 충주 천안 전주 군산 목포 여수 순천 포항 경주 "
    "안동 진주 창원 통영 제주 서귀포 세종 파주 김포 용인 이천 평택 안산 남양주 구미 김해 공주 익산",
    "job": "간호사 교사 회계사 요리사 약사 택배기사 공무원 디자이너 개발자 미용사 은행원 사서 경찰관 소방관 농부 제빵사 "
    "바리스타 통역사 물리치료사 유치원교사 건축사 편집자 기자 상담사 정비사 승무원 연구원 번역가 사진사 영양사",
    "age": "스물세 스물다섯 스물일곱 스물아홉 서른한 서른세 서른다섯 서른여덟 마흔 마흔두 마흔다섯 마흔일곱 "
    "쉰 쉰세 쉰여섯 예순 예순두",
    "person": "엄마|아빠|남편|아내|여동생|남동생|언니|누나|이모|고모|삼촌|조카|친구|룸메이트|옆집 이웃|사촌 동생|"
    "후배|선배|동창|큰딸|막내아들|동네 형|학교 친구|군대 친구",
    "colleague": "팀장님|부장님|과장님|대리님|신입 사원|옆자리 동료|거래처 담당자|인턴|실장님|점장님|사장님",
    "food": "칼국수 냉면 떡볶이 순대 김밥 비빔밥 삼겹살 갈비탕 설렁탕 짜장면 짬뽕 돈가스 초밥 쌀국수 만두 파전 국밥 콩국수 "
    "닭갈비 족발 치킨 피자 붕어빵 호떡 수박 참외 복숭아 단감 귤 딸기 옥수수 고구마",
    "hobby": "등산|뜨개질|베이킹|수영|요가|낚시|사진|그림|서예|피아노|기타|자전거|달리기|배드민턴|탁구|볼링|캠핑|텃밭 가꾸기|"
    "퍼즐|바둑|독서|글쓰기|도예|목공",
    "months": "보름|한 달|두 달|석 달|넉 달|반년|일곱 달|열 달|일 년|이 년|삼 년|오 년",
    "day": "어제|그제|지난주|지난 주말|며칠 전|지난 월요일|지난 화요일|지난 수요일|지난 목요일|"
    "지난 금요일|추석 때|설 때|휴가 때",
    "time": "내일|모레|이번 주말|다음 주|다음 달|보름 뒤|이달 말|다음 주 토요일|다음 주 일요일|열흘 뒤",
    "weather": "비 오는 날이|눈 오는 날이|바람 부는 날이|미세 먼지가 심한 날이|푹푹 찌는 날이|"
    "꽃샘추위가 온 날이|장마철이|쉬는 날이",
    "number": "5 7 10 12 15 18 20 25 30 35 40 45",
}

CONTEXTS = (  # (polite, plain)
    ("저는 {place}에서 {job}(으로/로) 일하고 있어요.", "나는 {place}에서 {job}(으로/로) 일하고 있어."),
    ("{place}(으로/로) 이사 온 지 {months} 됐어요.", "{place}(으로/로) 이사 온 지 {months} 됐어."),
    (
        "{person}(이랑/랑) {food}(을/를) 먹다가 이야기가 나왔는데 둘 다 잘 몰랐어요.",
        "{person}(이랑/랑) {food}(을/를) 먹다가 이야기가 나왔는데 둘 다 몰랐어.",
    ),
    (
        "{person}(이/가) {place}에서 전화해 물어봤는데 대답을 못 해 줬어요.",
        "{person}(이/가) {place}에서 전화해 물어봤는데 대답을 못 해 줬어.",
    ),
    ("{age} 살 {job}인데요, {months} 전부터 궁금했던 게 있어요.", "{age} 살 {job}인데 {months} 전부터 궁금했던 게 있어."),
    ("{weather}라 {place} 집에만 있다가 문득 궁금해졌어요.", "{weather}라 {place} 집에만 있다가 문득 궁금해졌어."),
    ("{place} 가는 길에 {number}분쯤 짬이 나서 여쭤봐요.", "{place} 가는 길에 {number}분쯤 짬이 나서 물어봐."),
    ("{months} 전부터 {hobby}에 빠져 지내느라 다른 건 잘 몰라요.", "{months} 전부터 {hobby}에 빠져 지내느라 다른 건 잘 몰라."),
    (
        "{time} {place}에서 {person}(을/를) 만나는데 그 전에 알아 두고 싶어요.",
        "{time} {place}에서 {person}(을/를) 만나는데 그 전에 알아 두고 싶어.",
    ),
    ("{place}에 사는 {person}에게 설명해 줘야 해요.", "{place}에 사는 {person}에게 설명해 줘야 해."),
    (
        "{job} 일을 시작한 지 {months}밖에 안 돼서 모르는 게 많아요.",
        "{job} 일을 시작한 지 {months}밖에 안 돼서 모르는 게 많아.",
    ),
    ("{place}에 사는 {person}(이/가) 부탁해서 대신 여쭤봅니다.", "{place}에 사는 {person}(이/가) 부탁해서 대신 물어봐."),
    ("{place}에서 {food} 먹다가 생각났어요.", "{place}에서 {food} 먹다가 생각났어."),
    ("{place} 도서관에서 {number}쪽쯤 읽다가 막혔어요.", "{place} 도서관에서 {number}쪽쯤 읽다가 막혔어."),
    (
        "{day} {place} 시장에서 {food}(을/를) 사 오다가 생각난 건데요.",
        "{day} {place} 시장에서 {food}(을/를) 사 오다가 생각난 건데.",
    ),
    (
        "{colleague}(이/가) {place} 출장길에 물어봤는데 얼버무리고 말았어요.",
        "{colleague}(이/가) {place} 출장길에 물어봤는데 얼버무리고 말았어.",
    ),
    ("{age} 살에 {hobby}(을/를) 시작한 {job}입니다.", "{age} 살에 {hobby}(을/를) 시작한 {job}(이야/야)."),
    ("{place} 소식을 듣다가 {person} 생각이 나서 여쭤봐요.", "{place} 소식을 듣다가 {person} 생각이 나서 물어봐."),
    (
        "{person}(이랑/랑) 내기를 했는데 진 사람이 {food}(을/를) 사기로 했어요.",
        "{person}(이랑/랑) 내기를 했는데 진 사람이 {food}(을/를) 사기로 했어.",
    ),
    (
        "{time} {place}(으로/로) 여행을 가는데 그 전에 정리해 두려고요.",
        "{time} {place}(으로/로) 여행을 가는데 그 전에 정리해 두려고.",
    ),
    ("{hobby} 모임에서 만난 {job} 한 분이 물어보셨어요.", "{hobby} 모임에서 만난 {job} 한 분이 물어보셨어."),
    ("{person}(이/가) {months}째 같은 걸 물어봐요.", "{person}(이/가) {months}째 같은 걸 물어봐."),
)
LIFE = (  # said in passing, before something that is not a question of knowledge
    ("저는 {place}에서 {job}(으로/로) 일하고 있어요.", "나는 {place}에서 {job}(으로/로) 일하고 있어."),
    ("{place}(으로/로) 이사 온 지 {months} 됐어요.", "{place}(으로/로) 이사 온 지 {months} 됐어."),
    ("방금 {person}(이랑/랑) {food}(을/를) 먹고 들어왔어요.", "방금 {person}(이랑/랑) {food}(을/를) 먹고 들어왔어."),
    ("{weather}라 {place} 집에서 {food} 먹으며 쉬고 있어요.", "{weather}라 {place} 집에서 {food} 먹으며 쉬고 있어."),
    (
        "{months} 전부터 {hobby}(을/를) 배우면서 {job} 일도 하고 있어요.",
        "{months} 전부터 {hobby}(을/를) 배우면서 {job} 일도 하고 있어.",
    ),
    ("{place} 가는 길이에요. 도착하려면 {number}분쯤 남았어요.", "{place} 가는 길이야. 도착하려면 {number}분쯤 남았어."),
    ("{age} 살이고 {place}에 살아요.", "{age} 살이고 {place}에 살아."),
    ("{time} {person}(을/를) 만나러 {place}에 가요.", "{time} {person}(을/를) 만나러 {place}에 가."),
    ("{day} {place}에 다녀왔어요. {food}(이/가) 맛있더라고요.", "{day} {place}에 다녀왔어. {food}(이/가) 맛있더라."),
    ("{hobby} 모임에 갔다가 {number}분 전에 돌아왔어요.", "{hobby} 모임에 갔다가 {number}분 전에 돌아왔어."),
    ("오늘 {colleague}(이랑/랑) {place}까지 출장을 다녀왔어요.", "오늘 {colleague}(이랑/랑) {place}까지 출장을 다녀왔어."),
    ("점심에 {food}(을/를) {number}분이나 기다렸다 먹었어요.", "점심에 {food}(을/를) {number}분이나 기다렸다 먹었어."),
)
LINKS = (
    ("그리고", "그리고"),
    ("또", "또"),
    ("하나 더 여쭤볼게요.", "하나 더 물어볼게."),
    ("이것도 궁금해요.", "이것도 궁금해."),
    ("다른 것도 하나 있어요.", "다른 것도 하나 있어."),
    ("이왕 여쭤보는 김에 하나 더요.", "물어보는 김에 하나 더."),
)
TURNS = (  # before a later question of a conversation that is on something else
    ("그렇군요.", "그렇구나."),
    ("고맙습니다. 다른 것도 여쭤볼게요.", "고마워. 다른 것도 물어볼게."),
    ("참,", "참,"),
    ("그건 그렇고,", "그건 그렇고,"),
    ("알겠어요. 그럼 이건요?", "알겠어. 그럼 이건?"),
    ("말이 나온 김에 또 여쭤봐요.", "말이 나온 김에 또 물어봐."),
    ("이야기가 바뀌는데요,", "이야기가 바뀌는데,"),
    ("덕분에 하나 풀렸어요.", "덕분에 하나 풀렸어."),
)
LISTS = (("아래 질문에 하나씩 답해 주세요.", "아래 질문에 하나씩 답해 줘."), ("궁금한 걸 모아 봤어요.", "궁금한 걸 모아 봤어."))
HEADS = ("{topic}부터 말씀드릴게요.", "먼저 {topic} 이야기예요.", "{topic}(은/는) 이렇습니다.", "{topic}부터 볼게요.")
NEXT_HEADS = ("다음은 {topic}입니다.", "이어서 {topic} 이야기예요.", "{topic}(은/는) 이렇습니다.", "{topic} 쪽도 말씀드릴게요.")
CLOSINGS = (
    "더 궁금한 점이 있으면 편하게 물어보세요.",
    "도움이 되었으면 좋겠습니다.",
    "막히는 데가 있으면 다시 말씀해 주세요.",
    "필요하면 더 자세히 알려 드릴게요.",
    "천천히 해 보시고 결과도 들려주세요.",
    "상황을 더 알려 주시면 거기에 맞춰 답해 드릴게요.",
)


_LISTS = {name: tuple(text.split("|" if "|" in text else " ")) for name, text in SLOTS.items()}
_PARTICLE = re.compile(r"(.)\(([가-힣]+)/([가-힣]+)\)")


def fill(template: str, rng: random.Random, **given: str) -> str:
    """The template with its slots filled and its particles chosen."""
    chosen = re.sub(r"\{(\w+)\}", lambda slot: given.get(slot[1]) or rng.choice(_LISTS[slot[1]]), template)
    return _PARTICLE.sub(lambda found: found[1] + particle(found[1], found[2], found[3]), chosen)


def particle(before: str, closed: str, open_: str) -> str:
    """The form after this character: 밥 → 을, 죽+으로, 나무 → 를; after ㄹ 로, not 으로.

    >>> particle("울", "으로", "로"), particle("국", "을", "를"), particle("수", "이랑", "랑")
    ('로', '을', '랑')
    """
    final = (ord(before) - 0xAC00) % 28 if "가" <= before <= "힣" else 0
    return open_ if not final or (closed == "으로" and final == 8) else closed
