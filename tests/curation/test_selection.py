"""Selection within a group: at random, the best, or the best spread over topics."""

from __future__ import annotations

import random
from collections import Counter
from typing import get_args

import pytest

from align_ko.curation.select import Features, goodness, select, spread, topic_words
from align_ko.recipe import Selection
from align_ko.workers import Workers

SUBJECTS = ("김치찌개", "자전거", "파이썬", "세탁기", "고양이", "제주도", "이력서", "우쿨렐레")


def made_rows(crowd: int = 300, others: int = 10) -> list[Features]:
    """`crowd` rows about the first subject, `others` about each other one; a few with a lower score or a poor length."""
    questions = [f"{SUBJECTS[0]} 질문 {n} 알려 주세요" for n in range(crowd)]
    questions += [f"{subject} 고민 {n}" for subject in SUBJECTS[1:] for n in range(others)]
    return [
        Features(f"{n:08x}", "a", 0.8 if n % 10 == 9 else 1.0, 90 if n % 5 == 4 else 300, topic_words(question))
        for n, question in enumerate(questions)
    ]


def subjects(rows: list[Features], chosen: list[int]) -> Counter[str]:
    names = {topic_words(name): name for name in SUBJECTS}
    return Counter(names[rows[place].words[:4]] for place in chosen)


def test_goodness_is_score_then_length_then_tie() -> None:
    keys = [goodness(0.9, 300, "a"), goodness(0.853, 149, "b"), goodness(0.9, 501, "c"), goodness(0.94, 500, "d"),
            goodness(1.0, 10, "e"), goodness(0.9, 0, "f")]  # fmt: skip
    assert [key[2] for key in sorted(keys)] == ["e", "a", "d", "c", "b", "f"]


@pytest.mark.parametrize("how", get_args(Selection))
@pytest.mark.parametrize("count", [1, 50, 370, 400, 800])
def test_same_rows_whatever_their_order(how: Selection, count: int) -> None:
    rows = made_rows()
    shuffled = random.Random(1).sample(rows, len(rows))
    chosen = [rows[place].id for place in select(rows, {"a": count}, 42, how)]
    assert chosen == [shuffled[place].id for place in select(shuffled, {"a": count}, 42, how)]
    assert chosen != [rows[place].id for place in select(rows, {"a": count}, 43, how)]
    times = Counter(chosen)
    assert len(chosen) == count and set(times.values()) <= {count // 370, count // 370 + 1}


def test_the_same_rows_with_the_groups_side_by_side() -> None:
    rows = [row._replace(group=group, id=f"{number}{row.id}") for number, group in enumerate("abc") for row in made_rows()]
    taken = {"a": 40, "b": 377, "c": 25}
    with Workers(2, int) as workers:
        chosen = select(rows, taken, 42, "quality_diverse", workers)
    assert chosen == select(rows, taken, 42, "quality_diverse")
    assert Counter(rows[place].group for place in chosen) == taken


def test_quality_takes_the_best() -> None:
    rows = made_rows()
    best = select(rows, {"a": 296}, 42, "quality")
    assert Counter((rows[place].score, rows[place].answer_characters) for place in best) == {(1.0, 300): 296}
    more = select(rows, {"a": 340}, 42, "quality")
    assert Counter((rows[place].score, rows[place].answer_characters) for place in more) == {(1.0, 300): 296, (1.0, 90): 37,
                                                                                              (0.8, 90): 7}  # fmt: skip


def test_diverse_at_the_same_score_lets_no_topic_crowd_out_the_rest() -> None:
    rows = made_rows()
    best, diverse = (select(rows, {"a": 64}, 42, how) for how in ("quality", "quality_diverse"))
    assert {rows[place].score for place in [*best, *diverse]} == {1.0}
    assert subjects(rows, best)["김치찌개"] >= 45
    spread = subjects(rows, diverse)
    assert len(spread) == 8
    assert spread["김치찌개"] <= 24


def test_what_was_taken_makes_its_like_worth_less() -> None:
    words = [topic_words(f"{SUBJECTS[n % 2]} 질문") for n in range(20)]
    quality = [1.0 if n % 2 == 0 else 0.9 for n in range(20)]  # as frequent, a little better
    taken = Counter(n % 2 for n in spread(words, quality, 10))
    assert taken[0] in (5, 6, 7) and taken[1] == 10 - taken[0]


def test_groups_apart_and_odd_rows() -> None:
    rows = [
        Features("a1", "a", 1.0, 200),
        Features("b1", "b", 0.0, 0),
        Features("b2", "b", 1.0, 200, topic_words("ㅋㅋ 🙂\ud800")),
    ]
    for how in get_args(Selection):
        assert sorted(select(rows, {"b": 2, "c": 0}, 42, how)) == [1, 2]
        assert select([], {}, 42, how) == []
    assert select(rows, {"b": 1}, 42, "quality_diverse") == [2]


def test_topic_words() -> None:
    assert topic_words("김치찌개를 끓이는 법") == topic_words("김치찌개는 끓이나요?")
    assert topic_words("Python 3.11") == topic_words("python")
    assert topic_words("") == b""
    assert len(topic_words("가나 " * 10)) == 4
    assert len(topic_words(" ".join(chr(0xAC00 + n) * 2 for n in range(99)))) == 4 * 32
