"""The filters that look at words alone: wrong refusals, off-topic answers, swear words, personal data; and their order."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pytest

from align_ko.adapters import adapt
from align_ko.curation.filters import FILTERS, Candidate, Rules, choose_filters, first_rejections
from align_ko.curation.off_topic import is_off_topic
from align_ko.curation.profanity import find_profanity, load_list
from align_ko.curation.refusals import wrong_refusal_in
from align_ko.errors import UserError
from align_ko.recipe import LengthBounds
from align_ko.records import Conversation

RAW = Path(__file__).parents[2] / "recipes" / "quickstart" / "data" / "raw"
POTATO = "감자조림이 자꾸 부서져요. 모양을 살리려면 어떻게 하죠?"
CELADON = (
    "고려청자의 푸른빛은 유약에 든 철분에서 나옵니다. "
    "가마 안에 공기를 적게 넣고 구우면 철이 청록색을 띠지요. 비취색이라고도 불러요. 상감 무늬는 흙을 파내고 메운 것이에요."
)


def row_of(*texts: str) -> Candidate:
    messages = [{"role": ("user", "assistant")[i % 2], "content": text} for i, text in enumerate(texts)]
    return Candidate(Conversation(messages, "smol", "dialogue"))


def verdict(*texts: str, **rules: Any) -> str:
    bounds = {"dialogue": LengthBounds(2, 500, 2, 1500)}
    found = first_rejections([row_of(*texts)], Rules(bounds, **rules), choose_filters())[0]
    return found.reason if found else ""


@pytest.fixture(scope="module")
def pairs() -> list[tuple[str, str]]:
    """The first question and answer of each of the quickstart's own rows."""
    rows: list[Any] = json.loads((RAW / "kullm_v2.json").read_text(encoding="utf-8"))
    for path in sorted(RAW.glob("*.jsonl")):
        rows += map(json.loads, path.read_text(encoding="utf-8").splitlines())
    messages = [adapt(row) for row in rows]
    return [(said[0]["content"], said[1]["content"]) for said in messages]


# ------------------------------------------------------------------------------------------------------------ refusals


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("김치찌개 끓이는 법을 알려 주세요.", "죄송하지만 그 질문에는 답변드릴 수 없습니다."),
        ("광합성이 뭐야?", "저는 AI 언어 모델로서 답변을 드릴 수 없습니다."),
        ("조선의 네 번째 임금은 누구인가요?", "죄송합니다만, 해당 정보를 제공해 드리기 어렵습니다."),
        ("미적분이 뭐예요?", "죄송합니다. 질문을 이해하지 못했습니다. 다시 질문해 주시겠어요?"),
        ("가을에 어울리는 시를 써 줘", "미안하지만 저는 시를 쓸 수 없어요."),
        ("무지개는 왜 생기나요?", "안타깝게도 그 부분은 잘 모르겠습니다. 다른 질문이 있으시면 언제든 말씀해 주세요."),
        (
            "파이썬에서 리스트를 뒤집는 방법은?",
            "인공지능 언어 모델이기 때문에 해당 질문에 대한 답변을 제공할 수 없습니다. 양해 부탁드립니다.",
        ),
    ],
)
def test_wrong_refusals(question: str, answer: str) -> None:
    assert wrong_refusal_in(question, answer)
    assert verdict(question, answer) == "wrong_refusal"


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("오늘 서울 날씨 어때?", "죄송하지만 실시간 날씨는 알 수 없습니다."),
        ("삼성전자 주가가 얼마야?", "죄송하지만 주가 정보는 제공해 드릴 수 없습니다."),
        ("식당 예약해 줘", "죄송하지만 예약을 대신해 드릴 수 없습니다."),
        ("이 사진에 뭐가 보여?", "죄송하지만 저는 사진을 볼 수 없습니다."),
        ("머리가 아픈데 무슨 병일까?", "죄송하지만 진단은 해 드릴 수 없습니다. 병원에 가 보세요."),
        ("다음 글을 요약해 주세요.", "죄송하지만 글이 빠져 있어 요약해 드릴 수 없습니다."),
        ("폭탄 만드는 법을 알려 줘", "죄송하지만 도와드릴 수 없습니다."),
        ("내 이름이 뭐게?", "죄송하지만 성함을 알 수 없어요."),
        ("넌 뭘 먹고 살아?", "저는 AI라서 음식을 먹을 수 없어요."),
        ("빛보다 빨리 갈 수 있나요?", "아니요, 질량이 있는 물체는 빛의 속도에 이를 수 없습니다."),
        ("물건을 두고 왔는데 사과는 어떻게 하죠?", "'죄송하지만 다시 들러도 될까요?'라고 여쭤보세요."),
        (
            "조선 시대 평민의 하루는 어땠나요?",
            "죄송하지만 자세한 내용은 알 수 없습니다. 다만 대개 해가 뜨기 전에 일어나 밭일을 했고, 하루 두 끼를 먹었습니다. "
            "저녁에는 새끼를 꼬거나 길쌈을 했고, 장날에는 읍내에 나가 곡식을 소금과 바꾸었습니다.",
        ),
    ],
)
def test_right_refusals_and_answers_that_help_stay(question: str, answer: str) -> None:
    assert wrong_refusal_in(question, answer) == ""


def test_a_reason_to_refuse_may_stand_in_an_earlier_question() -> None:
    refusal = "죄송하지만 알려 드릴 수 없습니다."
    assert verdict("오늘 서울 날씨 어때?", "하늘을 한번 내다보세요.", "그럼 부산은요?", refusal) == ""
    assert verdict("서울은 어떤 도시예요?", "한강이 흐르는 큰 도시예요.", "그럼 부산은요?", refusal) == "wrong_refusal"


def test_refusals_on_our_own_rows(pairs: list[tuple[str, str]]) -> None:
    assert [pair for pair in pairs if wrong_refusal_in(*pair)] == []
    refusal = "죄송하지만 그 질문에는 답변드릴 수 없습니다."
    found = sum(bool(wrong_refusal_in(question, refusal)) for question, _ in pairs)
    assert 0.65 <= found / len(pairs) <= 0.85  # the other questions give some reason to refuse


# ----------------------------------------------------------------------------------------------------------- off topic


@pytest.mark.parametrize(
    ("question", "answer", "expected"),
    [
        (POTATO, CELADON, True),
        (
            POTATO,
            "썬 감자를 찬물에 담가 겉의 전분을 빼세요. 조릴 때는 숟가락으로 휘젓는 대신 냄비를 흔들어 섞는 것이 비결입니다. "
            * 2,
            False,
        ),
        ("친한 동료가 첫 아기를 낳았는데 뭐가 좋을까요?", CELADON, True),
        ("밭에 콩을 심으면 땅심이 좋아지나요?", CELADON.replace("비취색", "콩 색"), False),  # a word of one syllable
        ("지하철에 물건을 두고 내렸어요. 연락할 곳은요?", CELADON.replace("구우면", "내린 다음"), False),  # a verb's stem
        ("Excel에서 합계를 구하려면 어떻게 하나요?", CELADON.replace("비취색", "excel"), False),
        ("심심해요.", CELADON, False),  # nothing to take up
        (POTATO, CELADON[:40], False),  # too short to tell
        ("다음을 영어로 번역해 줘: 감자조림이 자꾸 부서져요. 모양을 살리려면요?", CELADON, False),
        (POTATO, CELADON + "\n```python\nprint(1)\n```", False),
    ],
)
def test_off_topic(question: str, answer: str, expected: bool) -> None:
    assert is_off_topic(question, answer) is expected


def test_off_topic_sees_the_whole_conversation() -> None:
    assert verdict(POTATO, CELADON) == "off_topic"
    # the same answer, where celadon was what the talk was about
    assert verdict("고려청자는 왜 푸른가요?", CELADON, POTATO, CELADON.replace("철분", "쇳가루")) == ""


def test_off_topic_on_our_own_rows(pairs: list[tuple[str, str]]) -> None:
    assert [pair for pair in pairs if is_off_topic(*pair)] == []
    answers = [answer for _, answer in pairs]
    random.Random(0).shuffle(answers)
    dealt = sum(is_off_topic(question, answer) for (question, _), answer in zip(pairs, answers, strict=True))
    assert 0.38 <= dealt / len(pairs) <= 0.55  # what can be told: somewhat less than half of all


# ------------------------------------------------------------------------------------------- profanity, personal data


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("이런 씨발, 또 틀렸네요.", "씨발"),
        ("그 개새끼가 또 왔어요.", "개새끼"),
        ("ㅅㅂ 모르겠어요.", "ㅅㅂ"),
        ("What the FUCK입니다.", "FUCK"),
        ("변화의 시발점이 되었습니다. 시발역에서 타세요.", ""),
        ("병신년에 태어났고, 등신대 사진을 세웠습니다.", ""),
        ("새끼 고양이가 개새벽부터 울어요.", ""),
        ("보지 않고 자지도 않았어요. 미친 듯이 웃었죠.", ""),
        ("아저씨발 밑에 shiitake가 있어요.", ""),
    ],
)
def test_profanity(text: str, word: str) -> None:
    assert find_profanity(text) == word


def test_profanity_where_it_is_talked_about() -> None:
    answer = "'지랄'은 마구 법석을 떠는 짓을 낮잡아 이르는 말이에요."
    assert find_profanity(answer) == "지랄"
    assert find_profanity(answer, "'지랄'이 무슨 뜻이에요?") == ""
    assert verdict("이런 씨발, 왜 안 돼?", "많이 답답하셨겠어요. 어디에서 막히셨는지 말씀해 주세요.") == ""
    assert verdict("왜 안 돼요?", "이런 씨발, 저도 모르겠어요.") == "profanity"


def test_a_list_of_ones_own(tmp_path: Path) -> None:
    words = tmp_path / "words.txt"
    words.write_text("\ufeff# 우리 것\n멍청이\n*바보\n-바보온달\n-멍청이풀\n\n", encoding="utf-8")
    assert find_profanity("이 멍청이야", file=str(words)) == "멍청이"
    assert find_profanity("왕바보예요", file=str(words)) == "바보"
    assert find_profanity("멍청이풀이 자라요. 씨발", file=str(words)) == ""
    assert verdict("왜요?", "멍청이라서 그래요.", profanity_file=str(words)) == "profanity"
    words.write_text("# 없음\n-시발점\n", encoding="utf-8")
    load_list.cache_clear()
    with pytest.raises(UserError, match=r"words.txt: profanity list: no word in it"):
        load_list(str(words))
    with pytest.raises(UserError, match=r"none.txt: profanity list: cannot be read"):
        load_list(str(tmp_path / "none.txt"))


def test_personal_data_is_dropped_only_where_that_is_wanted() -> None:
    texts = ("제 번호는 010-9876-5432예요. 저장해 주세요.", "네, 말씀하신 번호를 기억해 둘게요.")
    assert [verdict(*texts, personal_data=mode) for mode in ("drop", "mask", "keep")] == ["personal_data", "", ""]
    found = FILTERS["personal_data"](row_of(*texts), Rules(personal_data="drop"))
    assert found is not None and found.detail == "message 1 (user): phone"  # the number itself is not written down


# --------------------------------------------------------------------------------------------------- order and speed


def test_standard_order() -> None:
    assert list(FILTERS) == [
        "length", "personal_data", "profanity", "wrong_refusal", "template_leak", "strange_characters", "not_korean",
        "chat_slang", "repetition", "unfinished", "speech_level", "echo", "filler", "off_topic", "wrong_particle",
    ]  # fmt: skip


def test_cheap_filters_spare_the_assessment() -> None:
    row = row_of("김치찌개 끓이는 법을 알려 주세요.", "죄송하지만 그 질문에는 답변드릴 수 없습니다.")
    found = first_rejections([row], Rules({"dialogue": LengthBounds(2, 500, 2, 1500)}), choose_filters())[0]
    assert found is not None and found.reason == "wrong_refusal"
    assert "assessments" not in row.__dict__


def test_wrong_particles_up_to_what_the_repair_puts_right() -> None:
    texts = ("책은 어떻게 읽어요?", "책를 먼저 훑어보고 사과을 먹으면서 천천히 읽으세요.")
    assert [verdict(*texts, wrong_particles=most) for most in (0, 1, 2)] == ["wrong_particle", "wrong_particle", ""]


@pytest.mark.parametrize("piece", ["죄송 없", "감자 ", "제가 ", "씨", "a1 ", "인공지능 "])
def test_long_odd_text(piece: str) -> None:
    text = piece * (100_000 // len(piece))
    wrong_refusal_in(text, text[:600])
    assert wrong_refusal_in("광합성이 뭐야?", text) == ""  # too long to be a mere refusal
    assert not is_off_topic(text, CELADON, text)
    is_off_topic(POTATO, text[:4000], text)
    find_profanity(text)
