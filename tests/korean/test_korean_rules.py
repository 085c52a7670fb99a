"""The detectors one by one: exact values on Korean written for the purpose."""

from __future__ import annotations

import pytest

from align_ko.korean import cut_loop, document_level, duplicate_sentences, filler, first_loop, sentence_level
from align_ko.korean.characters import strange_characters
from align_ko.korean.ending import unfinished
from align_ko.korean.leaks import template_leak
from align_ko.korean.particles import wrong_particles
from align_ko.korean.prose import own_words, sentences
from align_ko.korean.repetition import Loop, character_runs


@pytest.mark.parametrize(
    ("sentence", "level"),
    [
        ("알겠습니다.", "hapsyo"),
        ("이쪽으로 오십시오.", "hapsyo"),
        ("그렇게 해 주십쇼", "hapsyo"),
        ("알겠어요!", "haeyo"),
        ("정말 좋죠~", "haeyo"),
        ("원목인가요 플라스틱인가요 다용도 선반이", "haeyo"),
        ("저도 좋아해용 ㅎㅎ", "haeyo"),
        ("알겠어.", "hae"),
        ("밥 먹었냐?", "haera"),
        ("그만 좀 해라.", "haera"),
        ("알겠소.", "hao"),
        ("문을 여시오.", "hao"),
        ("내 그리 하리다.", "hao"),
        ("창을 가리다", "neutral"),
        ("오래 기다렸다네.", "hage"),
        ("이보게, 잠시 나 좀 보세.", "hage"),
        ("물은 높은 곳에서 낮은 곳으로 흐른다.", "neutral"),
        ("금붕어용 사료", "fragment"),
        ("아주 중요", "fragment"),
        ("대한민국 서울", "fragment"),
    ],
)
def test_sentence_level(sentence: str, level: str) -> None:
    assert sentence_level(sentence) == level


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("네, 맞습니다. 도와드릴게요.", "polite"),
        ("응, 맞아. 도와줄게.", "plain"),
        ("그렇소. 짐은 안무가요.", "archaic"),
        ("고래는 포유류다. 바다에 산다.", "neutral"),
        ("네, 맞습니다. 근데 그건 아니야.", "mixed"),
        ("서울", "unknown"),
        ('그는 "빨리 가자."라고 말했습니다.', "polite"),
        ("다음과 같이 고칩니다:\n나는 자동차를 보았다.\n감사합니다.", "polite"),
        ("- 값이 싸다\n- 가볍다\n이런 장점이 있습니다.", "polite"),
    ],
)
def test_document_level(text: str, verdict: str) -> None:
    assert document_level(text).verdict == verdict


def test_odd_sentence_has_its_span() -> None:
    text = "네, 맞습니다. 근데 그건 아니야. 감사합니다."
    assert [text[odd.start : odd.end] for odd in document_level(text).odd] == ["근데 그건 아니야."]


@pytest.mark.parametrize(
    ("text", "loop"),
    [
        ("가자 나무 가자 나무 가자 나무", Loop(0, 6, 3)),
        ("네. 노력하고 있습니다. 노력하고 있습니다. 노력하고 있습니다.", Loop(3, 11, 3)),
        ("1단계를 천천히 합니다. 2단계를 천천히 합니다. 3단계를 천천히 합니다. 4단계를 천천히 합니다.", Loop(0, 14, 4)),
        ("하하하하하하하하 가나다가나다가나다가나다", Loop(0, 2, 4)),
        ("고래는 포유류입니다. 상어는 어류입니다.", None),
        ("1월: 31일\n2월: 28일\n3월: 31일\n4월: 30일", None),
        ("", None),
    ],
)
def test_first_loop(text: str, loop: Loop | None) -> None:
    assert first_loop(text) == loop


def test_cut_loop_keeps_the_rounds_asked_for() -> None:
    assert cut_loop("좋은 아침 " * 9, 3) == "좋은 아침 좋은 아침 좋은 아침"
    assert cut_loop("좋은 아침입니다.", 3) == "좋은 아침입니다."


@pytest.mark.parametrize(
    ("text", "repeats"),
    [
        ("제가 도와드리겠습니다. 도와드리겠습니다.", ["도와드리겠습니다."]),
        ("우리는 물을 아껴 써야 합니다. 우리는 불을 아껴 써야 합니다.", ["우리는 불을 아껴 써야 합니다."]),
        ("'봄'은 계절을 뜻하는 명사입니다. '강'은 계절을 뜻하는 명사입니다.", []),
        ("지아가 연필 3자루를 빌려 갔습니다. 현수가 연필 2자루를 빌려 갔습니다.", []),
        ("사과는 빨갛습니다. 바나나는 노랗습니다.", []),
        ("물감의 경우 두 색을 섞으면 색이 어두워집니다. 빛의 경우 두 색을 섞으면 색이 밝아집니다.", []),
        ("고객을 경우에 따라 나누어 봅니다. 가족을 경우에 따라 나누어 봅니다.", ["가족을 경우에 따라 나누어 봅니다."]),
        (
            "낮은 데서는 물이 높은 온도에서 끓어 밥이 잘 익습니다. "
            "반면에 높은 데서는 물이 낮은 온도에서 끓어 밥이 덜 익습니다.",
            [],
        ),
        (
            "반면에 밤에는 기온이 크게 내려갑니다. 반면에 낮에는 기온이 크게 내려갑니다.",
            ["반면에 낮에는 기온이 크게 내려갑니다."],
        ),
        (
            "반면에 밤에는 기온이 크게 내려가고 바람도 많이 붑니다. 반면에 낮에는 기온이 크게 내려가고 바람도 조금 붑니다.",
            ["반면에 낮에는 기온이 크게 내려가고 바람도 조금 붑니다."],
        ),
    ],
)
def test_duplicate_sentences(text: str, repeats: list[str]) -> None:
    assert [text[span.start : span.end] for span in duplicate_sentences(text)] == repeats


def test_filler_finds_the_crowding_word() -> None:
    text = "건강에 좋은 음식은 다양합니다. 다양한 음식을 먹으면 다양한 영양소를 얻고, 다양한 효과를 볼 수 있습니다."
    span = filler(text)
    assert span is not None
    assert text[span.start : span.end] == "다양한 음식을 먹으면 다양한 영양소를 얻고, 다양한"
    assert filler("걷기는 관절에 부담이 적고, 수영은 온몸을 고루 쓰며, 달리기는 심폐 기능을 높여 줍니다.") is None


IRONING = (
    "다림질은 옷감에 맞는 온도를 고르는 데서 시작합니다. 면은 물을 뿌려 뜨겁게, 모는 젖은 천을 덮고 미지근하게 누르세요. "
    "셔츠라면 깃, 소매, 등판 순서로 펴야 먼저 편 자리가 다시 구겨지지 않습니다."
)
BREAD = (
    "식빵이 남으면 한 장씩 나누어 냉동실에 넣어 두세요. 먹기 전날 꺼낼 필요 없이 언 채로 구워도 속이 촉촉합니다. "
    "냉장고에 두면 녹말이 굳어 오히려 빨리 퍽퍽해져요."
)
LAYOUTS = ["{0}\n\n{1}\n\n{2}", "1. {0}\n\n2. {1}\n\n3. {2}", "- {0}\n- {2}\n- {1}"]
CLOSET = "철이 지난 옷은 빨아서 말린 다음에 넣어야 누런 얼룩이 생기지 않아요."
STUFFED = "옷장은 다양한 옷과 다양한 소품을 다양한 기준으로 나누세요. 또한 다양한 상자에 다양한 이름표를 붙이면 좋습니다."
PRESSED = "정리는 정말 소중합니다. 무척 소중하고 아주 소중합니다. 소중한 것이 정리라서 소중하게 여기는 마음이 소중합니다."


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize(
    ("stuffed", "crowd"),
    [
        (STUFFED, "다양한 옷과 다양한 소품을 다양한 기준으로 나누세요. 또한 다양한 상자에 다양한"),
        (PRESSED, "소중합니다. 무척 소중하고 아주 소중합니다. 소중한 것이 정리라서 소중하게 여기는 마음이 소중합니다"),
    ],
)
def test_filler_in_one_paragraph_of_a_long_answer(layout: str, stuffed: str, crowd: str) -> None:
    text = layout.format(IRONING, f"{CLOSET} {stuffed}", BREAD)
    span = filler(text)
    assert span is not None
    assert text[span.start : span.end] == crowd
    assert filler(layout.format(IRONING, CLOSET, BREAD)) is None


def test_an_empty_word_crowds_a_line_not_a_list() -> None:
    """`다양한` five times in one paragraph is too many, once in each of five items is not."""
    each = [f"다양한 {what} 살펴보세요." for what in ("옷감을", "다리미를", "세제를", "빗자루를", "옷걸이를")]
    rest = [
        IRONING,
        BREAD,
        CLOSET,
        "욕실 거울은 마른 신문지로 닦으면 자국이 남지 않아요. 물때는 식초를 적신 휴지로 덮어 두었다가 문지르세요.",
    ]
    assert filler("\n".join([*rest, *(f"- {line}" for line in each)])) is None
    assert filler("\n".join([*rest, " ".join(each)])) is not None


def test_character_runs() -> None:
    text = "좋아요ㅋㅋㅋㅋㅋㅋㅋ 정말!!!!! 네..."
    assert [text[run.start : run.end] for run in character_runs(text)] == ["ㅋㅋㅋㅋㅋㅋㅋ", "!!!!!"]


@pytest.mark.parametrize(
    ("text", "prompt", "kinds"),
    [
        ("이 기능은 纯净한 물을", None, ["han"]),
        ("한강(漢江)은 서울을 지납니다.", None, []),
        ("(기능과纯净한 물)", None, ["han"]),
        ("你好는 안녕이라는 뜻입니다.", "중국어 인사말을 알려줘", []),
        ("오늘은です 비가 옵니다.", None, ["kana"]),
        ("새로운 производ 함수", None, ["script"]),
        ("환경 보호\ufffd식", None, ["broken"]),
        ("안\u200b녕하세요", None, ["invisible"]),
        ("\u1112\u1161\u11ab글", None, ["decomposed"]),
        ("좋은ㅏ하루 되세요", None, ["jamo"]),
        ("축하해요 🎉👨‍👩‍👧 CPU와 α값", None, []),
    ],
)
def test_strange_characters(text: str, prompt: str | None, kinds: list[str]) -> None:
    assert [strange.kind for strange in strange_characters(text, prompt)] == kinds


@pytest.mark.parametrize(
    ("text", "tail"),
    [
        ("비타민은 몸에 꼭 필요한 영양소로, 음식을 통해", "통해"),
        ("좋습니다. 먼저 물을 끓이고 나서", "나서"),
        ("장점은 다음과 같습니다(예를 들면", "들면"),
        ("감사합니다. 행복한 하루 되세요", None),
        ("서울", None),
        ("사과, 배, 포도, 귤, 감", None),
        ("준비물은 다음과 같습니다.\n- 연필\n- 지우개\n- 공책", None),
    ],
)
def test_unfinished(text: str, tail: str | None) -> None:
    span = unfinished(text)
    assert (None if span is None else text[span.start : span.end]) == tail


@pytest.mark.parametrize(
    "leak", ["### User:", "### Assistant:", "<|im_end|>", "<|eot_id|>", "<end_of_turn>", "[INST]", "</s>", "### 질문:"]
)
def test_template_leak(leak: str) -> None:
    text = f"네.\n\n{leak}\n"
    assert [text[span.start : span.end].strip() for span in template_leak(text)] == [leak]


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("책를 읽고 사과을 먹었어요", ["을", "를"]),
        ("학생는 학교을 갑니다", ["은", "를"]),
        ("정부은 물가이 오른다고 했습니다", ["는", "가"]),
        ("더 나은 내일을 찾는 국가와 가을 마을", []),
        ("효과가 있는 사과와 아이의 나이 차이", []),
        ("잘 됬어요. 몇일 걸릴까요?", ["됐", "며칠"]),
    ],
)
def test_wrong_particles(text: str, right: list[str]) -> None:
    assert [wrong.right for wrong in wrong_particles(text)] == right


def test_masking_keeps_offsets() -> None:
    text = '그는 "가자"라고 `x = 1` 했습니다.'
    assert own_words(text) == "그는     라고         했습니다."
    assert len(own_words(text)) == len(text)


def test_sentences_have_kinds_and_offsets() -> None:
    text = "# 제목\n안녕하세요. 반가워요!\n- 첫째\n| 가 | 나 |"
    assert [(part.kind, text[part.start : part.end]) for part in sentences(text)] == [
        ("heading", "# 제목"),
        ("prose", "안녕하세요."),
        ("prose", "반가워요!"),
        ("item", "첫째"),
        ("table", "| 가 | 나 |"),
    ]
