"""Repairs of many conversations at once: what `repair` makes of each, clean or not, and none that it would change missed."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from align_ko.curation import code_points, repairs_of_many
from align_ko.curation.personal_data import LABELS, find
from align_ko.curation.repairs import AFTER_ASSESSMENT, REPAIRS, repair
from align_ko.curation.repairs_of_many import repair_each

NAMES = [name for name in REPAIRS if name not in AFTER_ASSESSMENT]
CLEAN = "서울은 넓어요.\n\n2024년 5월 1일까지 3,000원이에요!"
ODD = [
    "", " ", "\n", "\0", "\0\0 가", "가\0", "\ud800", "서울은  넓어요.", "네. \n아니요.", "가\n\n\n나", "가\n\n나", "가 ",
    "\n가", "가\t나", "가\u00a0나", "가\u3164나", "가\u200b나", "가\r\n나", "가\x85", "\x1c가", "가\x1f", "ㅎㅏㄴ",
    "\u1112\u1161\u11ab", "e\u0301", "ＡＢＣ，１２시", "네、그래요。", "답변: 서울이에요.", "“서울이에요. 넓어요.”",
    "서울이에요.</s>", "010-1234-5678로 전화 주세요.", "a@b.co.kr", "여권 번호는 M12345678", "여\n권",
    "전화 ０２-３４５-６７８９", "123456789",
    "12345678", "2024.5.1 12:30", "`a  b` 그리고\n```\n\n\n\n```", "1\u0660\u06612345678", "🙂 \u200d", CLEAN,
]  # fmt: skip
TEXTS = st.one_of(
    st.sampled_from([*ODD, CLEAN]),
    st.text(max_size=40),
    st.text("가나 .\n\t\0`:1２０-@여권：，”“a\u200b\u00a0\u3164\r", max_size=60),
)
ROWS = st.lists(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXTS), max_size=5), max_size=6)


def messages(row: list[tuple[str, str]]) -> list[dict[str, str]]:
    return [{"role": role, "content": text} for role, text in row]


@pytest.mark.parametrize("size", [code_points.GROUP, 20])
@pytest.mark.parametrize("names", [NAMES, *([name] for name in NAMES), []], ids="+".join)
def test_odd_texts_together(names: list[str], size: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(code_points, "GROUP", size)
    rows = [messages([("user", one), ("assistant", other)]) for one, other in product(ODD, ODD)]
    assert repair_each(rows, names) == [repair(row, names) for row in rows]
    assert repair_each([], names) == []


@given(ROWS, st.sets(st.sampled_from(NAMES)))
@settings(deadline=None)
def test_each_is_repaired_as_on_its_own(drawn: list[list[tuple[str, str]]], names: set[str]) -> None:
    rows = [messages(row) for row in drawn]
    assert repair_each(rows, sorted(names)) == [repair(row, sorted(names)) for row in rows]


def test_clean_rows_are_not_looked_at_twice(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[object] = []
    monkeypatch.setattr(repairs_of_many, "repair", lambda row, names: asked.append(row) or (list(row), ()))
    clean, other = messages([("user", CLEAN), ("assistant", CLEAN)]), messages([("user", "네  네."), ("assistant", "네.")])
    wide = messages([("user", "ＡＢＣ는?"), ("assistant", "네.")])  # full_width is for answers only
    assert repair_each([clean, other, wide], NAMES) == [(clean, ()), (other, ()), (wide, ())]
    assert asked == [other]


def test_every_code_point_that_a_repair_may_change() -> None:
    texts = [f"가{chr(code)}나" for code in range(0x10000)] + [chr(code) for code in range(0x3200)]
    for name in ("nfc", "white_space", "full_width"):
        rows = [messages([("assistant", text)]) for text in texts]
        assert repair_each(rows, [name]) == [repair(row, [name]) for row in rows]


def test_the_shortest_of_each_kind_of_personal_data_is_seen() -> None:
    for text in ("02-345-6789", "계좌번호 12-3456789", "여권 M12345678", "a@b.co", "면허 서울 11-123456-78", "0212345678 전화"):
        [row] = repair_each([messages([("user", text)])], ["personal_data"])
        assert row == repair(messages([("user", text)]), ["personal_data"])
        assert bool(row[1]) == bool(find(text))
    assert set(LABELS) >= {one.kind for text in ODD for one in find(text)}
