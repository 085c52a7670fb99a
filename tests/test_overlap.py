"""Prompts compared with a set of prompts: the index gives what a comparison with each of them gives; keys of conversations."""

from __future__ import annotations

import unicodedata
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_ko.curation.sketches import duplicate_key
from align_ko.overlap import PromptIndex, normalize

ODD = [
    "", " ", "\n", "\0", "\0\0", "가\0나", "!?", "…", "네", "a", "ㅎㅏㄴ", "12\00034", "\x01가\x01",
    unicodedata.normalize("NFD", "사과는 왜 빨간가요?"), "Ａｐｐｌｅ ㎏ ㈜ ﬁ ß İ", "é ñ ǖ が プ", "\u0301가", "\ud800",
    "\ud800가나다라마바사아자차", "\udc00\ud800", "🙂" * 50, "𠮷" * 200, "한국의 수도: 서울", "다음 낱말\n배", "١٢٣ １２ ² ½ ⅷ",
]  # fmt: skip
TEXTS = st.lists(
    st.one_of(
        st.text(max_size=60), st.text("가각힣나다라요ㄱㅏ각 0１2:\n.\0éÉ\u0301ＡaA🙂", max_size=100), st.sampled_from(ODD)
    ),
    max_size=12,
)


def compare_with_each(prompts: list[str], text: str) -> tuple[str, float]:
    def bigrams(text: str) -> set[tuple[str, str]]:
        return set(pairwise(["", *filter(str.isalnum, unicodedata.normalize("NFKC", text).casefold()), ""]))

    own, best = bigrams(text), ("", 0.0)
    for prompt in dict.fromkeys(prompts):
        other = bigrams(prompt)
        if (dice := 2 * len(own & other) / (len(own) + len(other))) > best[1]:
            best = prompt, dice
    return best


@given(TEXTS, TEXTS, st.sampled_from([0.0, 0.3, 0.5, 0.56, 1.0]))
@settings(deadline=None)
def test_nearest_prompt_is_the_best_of_all(prompts: list[str], texts: list[str], threshold: float) -> None:
    index = PromptIndex(prompts)
    for text in texts + [text[: len(text) // 2] for text in prompts]:
        expected = compare_with_each(prompts, text)
        assert index.nearest(text) == expected
        assert index.nearest(text, threshold) == (expected if expected[1] >= threshold else ("", 0.0))


def test_an_index_of_odd_prompts_and_of_none() -> None:
    index = PromptIndex(ODD)
    assert [index.nearest(text) for text in ODD] == [compare_with_each(ODD, text) for text in ODD]
    assert [PromptIndex([]).nearest(text, 0.56) for text in ("무엇이든", "")] == [("", 0.0)] * 2


@given(st.lists(st.lists(st.tuples(st.sampled_from(["user", "assistant", "é"]), st.sampled_from(ODD)), max_size=3), max_size=6))
@settings(deadline=None)
def test_keys_are_equal_where_the_normalised_text_is(drawn: list[list[tuple[str, str]]]) -> None:
    rows = [[{"role": role, "content": text} for role, text in row] for row in drawn]
    rows += [[{**message, "content": f" {message['content'].upper()}!"} for message in row] for row in rows]
    plain = ["\x1e".join(f"{m['role']}\x1f{normalize(m['content'])}" for m in row) for row in rows]
    keys = [duplicate_key(row) for row in rows]
    assert {len(key) for key in keys} <= {16}
    assert len(set(plain)) == len(set(keys)) == len(set(zip(plain, keys, strict=True)))


@pytest.mark.parametrize(("one", "other"), [("수도가 어디?", "수도가  어디"), ("ＡＢＣ 마트", "abc마트!")])
def test_spacing_width_and_case_do_not_matter(one: str, other: str) -> None:
    assert normalize(one) == normalize(other)
    assert PromptIndex([one]).nearest(other) == (one, 1.0)
