"""Repairs: what each changes, what it leaves alone, and that doing it twice changes nothing more."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from align_ko.curation import repairs
from align_ko.curation.repairs import (
    DEFAULT_REPAIRS,
    REPAIRS,
    format_tokens,
    full_width,
    nfc,
    particles,
    repair,
    stray_markers,
    white_space,
)
from align_ko.korean import assess

CODE = "쓰는 법:\n```python\nprint('Ａ，Ｂ')  \n\n\n\nx =  1\u00a0\n```\n그리고 `a  b`도요."


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("서울은\u00a0 넓어요. \n\n\n\n한강도요.\u200b", "서울은 넓어요.\n\n한강도요."),
        ("\ufeff첫 줄\r\n둘째\u2028셋째\u3000끝\n", "첫 줄\n둘째\n셋째 끝"),
        ("한\u00ad국\u200d어 \u2060답변", "한국어 답변"),
        ("가족 👨‍👩‍👧과 ❤️", "가족 👨‍👩‍👧과 ❤️"),  # joined emoji and variation selectors
        (
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645\u200f",
            "\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645\u200f",
        ),  # Persian
        ("- 하나\n  - 둘\n    - 셋", "- 하나\n  - 둘\n    - 셋"),
        ("이름  나이\n철수  10\n영희  11", "이름  나이\n철수  10\n영희  11"),  # columns
        ("그래요.  그럼요.", "그래요. 그럼요."),
        (CODE, CODE),
        ("", ""),
    ],
)
def test_white_space(before: str, after: str) -> None:
    assert white_space(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("ＡＢＣ마트는 １２시，월요일에", "ABC마트는 12시, 월요일에"),
        ("정말！네。그럼요？！", "정말! 네. 그럼요?!"),
        ("１０：３０에 （주）한국（Ｋｏｒｅａ）", "10:30에 (주)한국(Korea)"),
        ("시간：５０％　정도", "시간: 50%　정도"),  # the space is white_space's
        ("中文：你好，ＡＢＣ", "中文：你好，ＡＢＣ"),
        ("カタカナ、ひらがな。", "カタカナ、ひらがな。"),
        ("（＾▽＾） ～～", "（＾▽＾） ～～"),
        ("‘따옴표’ “그대로” … ·", "‘따옴표’ “그대로” … ·"),
        (CODE, CODE),
    ],
)
def test_full_width(before: str, after: str) -> None:
    assert full_width(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("답변: 서울이에요.", "서울이에요."),
        ("**[답변]** 서울이에요.", "서울이에요."),
        ("[답변]\n서울이에요.", "서울이에요."),
        ("A: 서울이에요.", "서울이에요."),
        ("Answer：\n\n서울이에요.", "서울이에요."),
        ("서울이에요.\n\n---", "서울이에요."),
        ("서울이에요.\n질문:", "서울이에요."),
        ("서울이에요.\n\n###\n답변:", "서울이에요."),
        ('"서울이에요. 한강이 흐르죠."', "서울이에요. 한강이 흐르죠."),
        ('답변: "서울이에요. 한강이 흐르죠."', "서울이에요. 한강이 흐르죠."),
        ("“서울이에요. 한강이 흐르죠.”", "서울이에요. 한강이 흐르죠."),
        ('"서울이에요."', '"서울이에요."'),  # one sentence may be the one that was asked for
        ('"가자."라고 했어요. "좋아."', '"가자."라고 했어요. "좋아."'),
        ("A: 어디야?\nB: 집이야.", "A: 어디야?\nB: 집이야."),
        ("질문: 수도는?\n답변: 서울이에요.", "질문: 수도는?\n답변: 서울이에요."),
        ("답변드릴게요: 서울이에요.", "답변드릴게요: 서울이에요."),
        ("A:B의 비는 2:3이에요.", "A:B의 비는 2:3이에요."),
        ("답변:", "답변:"),  # nothing would remain
        ("```\n답\n---", "```\n답\n---"),
    ],
)
def test_stray_markers(before: str, after: str) -> None:
    assert stray_markers(before) == after


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("서울이에요.<|im_end|>", "서울이에요."),
        ("<|im_start|>assistant\n서울이에요.<|im_end|>\n", "서울이에요."),
        ("### Assistant:\n서울이에요.</s>", "서울이에요."),
        ("### 응답:\n서울이에요.", "서울이에요."),
        ("서울이에요.\n### Assistant:", "서울이에요."),
        ("서울이에요. [/INST]", "서울이에요."),
        ("<s>서울이에요.</s>", "서울이에요."),
        ("서울이에요.<end_of_turn>\n<start_of_turn>user", "서울이에요."),
        ("서울이에요.<|im_end|>\n<|im_start|>user\n그럼 다음은요?", "서울이에요.<|im_end|>\n<|im_start|>user\n그럼 다음은요?"),
        ("서울이에요.\n\n### User:\n고마워요.", "서울이에요.\n\n### User:\n고마워요."),
        ("[INST] 수도는? [/INST] 서울이에요.", "[INST] 수도는? [/INST] 서울이에요."),
        ("# 서울\n\n## 한강", "# 서울\n\n## 한강"),
    ],
)
def test_format_tokens(before: str, after: str) -> None:
    assert format_tokens(before) == after


def test_particles_by_themselves_and_with_what_assess_found() -> None:
    wrong, right = "책를 읽고 사과을 먹으면 되요.", "책을 읽고 사과를 먹으면 돼요."
    assert particles(wrong) == particles(wrong, assess(wrong).faults) == right
    assert particles(right, assess(right).faults) == right
    assert particles("`책를` 그대로, '사과을'도 그대로예요.") == "`책를` 그대로, '사과을'도 그대로예요."


def test_clean_answers_do_not_ask_kiwi_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(repairs, "wrong_particles", lambda text: asked.append(text) or [])
    assert repair(turns("수도는?", "책를 읽으세요."), ("particles",), faults=[()])[1] == ()
    assert asked == []
    repair(turns("수도는?", "책를 읽으세요."), ("particles",))
    assert asked == ["책를 읽으세요."]


def test_nfc() -> None:
    assert nfc(unicodedata.normalize("NFD", "한국어 답변")) == "한국어 답변"
    code = f"`{unicodedata.normalize('NFD', '값')}`"
    assert nfc(f"{unicodedata.normalize('NFD', '값')}은 {code}") == f"값은 {code}"


def test_repair_says_what_it_changed_and_leaves_questions_as_typed() -> None:
    messages = turns("ＡＢＣ 책를  추천해\u200b 줘", "답변: ＡＢＣ 책를 읽으면 되요. ")
    repaired, changed = repair(messages)
    assert repaired == turns("ＡＢＣ 책를 추천해 줘", "ABC 책을 읽으면 돼요.")
    assert changed == ("white_space", "full_width", "stray_markers", "particles")
    assert messages == turns("ＡＢＣ 책를  추천해\u200b 줘", "답변: ＡＢＣ 책를 읽으면 되요. ")  # a new list
    assert repair(repaired) == (repaired, ())
    assert repair(messages, ()) == (messages, ())
    assert repair(turns("안녕", "서울이에요.</s>"))[1] == ()  # not on by default
    masked, changed = repair(turns("010-1234-5678로 전화해 줘", "네, 010-1234-5678이군요."), ("personal_data",))
    assert (masked, changed) == (turns("[전화번호]로 전화해 줘", "네, [전화번호]이군요."), ("personal_data",))


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("다음 문장의 맞춤법을 고쳐 줘", "책를 읽으면 되요."),
        ("전각 문자로 써 줘", "ＡＢＣ입니다."),
        ("'답변: '으로 시작해서 답해 줘", "답변: 서울이에요."),
        ("명언을 두 문장으로 들려줘", '"천천히 가라. 그러나 멈추지 마라."'),
    ],
)
def test_what_was_asked_for_stays(question: str, answer: str) -> None:
    assert repair(turns(question, answer)) == (turns(question, answer), ())


PIECES = (
    "서울은|넓어요.|책를|되요| |  |   |\n|\n\n|    x = 1|\t|\u00a0|\u3000|\u200b|\u200d|👩|🚀|`x  y`"
    "|```\nＡ  b \n\n\n\n```|```|~~~|ＡＢＣ"
    "|１２|，|：|（|）|！|。|％|～|漢字|か|답변:| A: |B:|\"|“|”|'|\n---|\n질문:|###|</s>|</im_end>|### Assistant:"
    "|\n### User:|[/INST]"
    "|\r\n|\u2028|\x00|\ud83d|ᄒ|ᅡ|ᆫ|**|[답변]|ㅋ|a|1|.|\u0627|\u200f|010-1234-5678|a@b.kr"
)
TEXT = st.lists(st.sampled_from(PIECES.split("|")) | st.text(max_size=5), max_size=14).map("".join)


@settings(max_examples=300, deadline=None, suppress_health_check=list(HealthCheck))
@given(TEXT)
def test_twice_is_once_and_code_survives(text: str) -> None:
    for name, function in REPAIRS.items():
        if name != "particles":
            once = function(text)
            assert function(once) == once, name
    messages = turns("책", text)
    once, _ = repair(messages, tuple(REPAIRS), faults=[()])
    assert repair(once, tuple(REPAIRS), faults=[()]) == (once, ())
    fenced = f"설명이에요.\n```\n{text.replace('`', '')}\n```\n끝이에요."
    assert repair(turns("책", fenced), tuple(REPAIRS), faults=[()])[0] == turns("책", fenced)


@pytest.mark.parametrize(
    "piece", ["A: ", "\n---", " ", "\n ", "  가", "（가", "</s>", "`", "```\n", "\u200d", '"', "Ａ，", "가 \n"]
)
def test_long_odd_text(piece: str) -> None:
    text = piece * (100_000 // len(piece)) + "끝"
    names = (*DEFAULT_REPAIRS[:-1], "format_tokens", "personal_data")
    once, _ = repair(turns("안녕", text), names)
    assert repair(once, names) == (once, ())
