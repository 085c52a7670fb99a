"""Near-duplicates: what counts as a repeat, which of two rows stays, and that no order or crowd changes it."""

from __future__ import annotations

import math
import random
import struct
from collections import Counter

import pytest

from align_ko.curation.alike import CROWD, RARE
from align_ko.curation.near_duplicates import ANSWER_THRESHOLD, QUESTION_THRESHOLD, Duplicate, near_duplicates
from align_ko.curation.select import goodness
from align_ko.curation.sketches import FEW, sketch
from align_ko.overlap import PromptIndex

NOTHING = sketch("")
LONG = (
    "무지개는 비가 갠 뒤 공기 중에 남은 물방울에 햇빛이 꺾이고 튕겨 나오면서 생깁니다. 빛은 색마다 꺾이는 각도가 조금씩 "
    "달라서 빨강부터 보라까지 나뉘어 보여요. 해를 등지고 서서 물방울이 떠 있는 쪽을 보아야 하며, "
    "해가 낮게 뜬 아침이나 저녁에 더 크게 보입니다."
)
NOUNS = ("사과", "바나나", "자전거", "도서관", "냉장고", "고양이", "감나무", "지하철", "비행기", "수영장", "운동화", "우체국")
VERBS = ("고르는", "씻는", "그리는", "옮기는", "찾는", "파는", "고치는", "빌리는", "기르는", "만드는")


def questions(*texts: str) -> dict[int, Duplicate]:
    return near_duplicates([sketch(text) for text in texts], [NOTHING] * len(texts), range(len(texts)))


def similarity(one: str, other: str) -> float:
    """Of two short texts, from the runs in their sketches."""
    first, second = (set(struct.iter_unpack("=I", sketch(text).runs)) for text in (one, other))
    return round(len(first & second) / len(first | second), 2)


@pytest.mark.parametrize(
    ("one", "other", "alike"),
    [
        ("사과는 왜 빨간가요?", "사과는 왜 빨개요?", 0.59),
        ("한국의 수도는 어디인가요?", "한국의 수도는 어디야?", 0.74),
        ("김치찌개는 어떻게 끓이나요?", "김치찌개는 어떻게 끓여요?", 0.74),
        ("김치찌개는 어떻게 끓이나요?", "된장찌개는 어떻게 끓이나요?", 0.46),
        ("사과는 왜 빨간가요?", "고추는 왜 빨간가요?", 0.36),
    ],
)
def test_similarity_of_two_questions(one: str, other: str, alike: float) -> None:
    assert similarity(one, other) == alike
    assert bool(questions(one, other)) == (alike >= QUESTION_THRESHOLD)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("다음 낱말을 영어로 옮겨 주세요: 사과", "다음 낱말을 영어로 옮겨 주세요: 바나나"),
        ("아래 문장을 존댓말로 바꿔 주세요.\n밥 먹었어?", "아래 문장을 존댓말로 바꿔 주세요.\n뭐 먹었어?"),
        ("1970년대 한국 경제를 짧게 설명해 주세요.", "1980년대 한국 경제를 짧게 설명해 주세요."),
        ("'배'라는 낱말의 뜻을 모두 알려 주세요.", "'눈'이라는 낱말의 뜻을 모두 알려 주세요."),
    ],
)
def test_one_template_two_questions(one: str, other: str) -> None:
    assert questions(one, other) == {}
    assert questions(one, one.replace(" ", "  ")) == {1: Duplicate(0, "question", 1.0)}


def test_a_template_of_many_rows_counts_little() -> None:
    draw = random.Random(5)
    words = ["".join(chr(0xAC00 + draw.randrange(11_172)) for _ in range(3)) for _ in range(120)]
    rows = [f"{word}의 좋은 점과 나쁜 점을 아주 쉽게 설명해 주시면 정말 고맙겠습니다" for word in words]
    assert questions(*rows[:2]) == {1: Duplicate(0, "question", 0.696)}  # two rows show no template
    assert questions(*rows) == {}


def test_short_texts_say_too_little() -> None:
    greetings = [sketch("안녕하세요!")] * 3
    answers = [
        sketch(text) for text in ("반갑습니다. 무엇을 도와드릴까요?", "어서 오세요, 오늘 하루는 어떠셨어요?", "네, 안녕하세요!")
    ]
    assert near_duplicates(greetings, answers, range(3)) == {}
    asked = [sketch("부산은 어느 바다에 닿아 있나요?"), sketch("울릉도는 어느 바다에 있는 섬인가요?")]
    assert near_duplicates(asked, [sketch("동해입니다.")] * 2, range(2)) == {}
    assert near_duplicates(asked, [sketch(LONG)] * 2, range(2)) == {1: Duplicate(0, "answer", 1.0)}
    assert (greetings[0].letters, NOTHING.letters) == (5, 0)


def test_answers_nearly_the_same_across_questions() -> None:
    asked = [sketch("무지개는 왜 생기나요?"), sketch("비 온 뒤 하늘에 뜨는 일곱 빛깔 띠가 궁금해요.")]
    changed = [sketch(LONG), sketch(LONG.replace("나뉘어 보여요", "갈라져 보입니다"))]
    found = near_duplicates(asked, changed, range(2))
    assert found == {1: Duplicate(0, "answer", pytest.approx(0.89, abs=0.1))}  # estimated
    half = LONG[:80] + " " + " ".join(f"{noun} 이야기도 해 볼까요?" for noun in NOUNS[:6])
    assert near_duplicates(asked, [sketch(LONG), sketch(half)], range(2)) == {}
    assert ANSWER_THRESHOLD == 0.7


@pytest.mark.parametrize("seed", range(12))
def test_candidates_miss_no_pair_of_short_texts(seed: int) -> None:
    """What comparing every pair gives, best row first; of fewer than RARE texts every run weighs the same."""
    draw = random.Random(seed)
    texts = [
        f"{draw.choice(NOUNS[:4])} {draw.choice(VERBS[:4])} 법을 {draw.choice(('알려 주세요', '알려 줘요'))}"
        for _ in range(RARE)
    ]
    runs = [{one for (one,) in struct.iter_unpack("=I", sketch(text).runs)} for text in texts]
    kept: list[int] = []
    dropped = set()
    for row in range(len(texts)):
        alike = any(len(runs[row] & runs[other]) / len(runs[row] | runs[other]) >= QUESTION_THRESHOLD for other in kept)
        (dropped.add if alike else kept.append)(row)
    assert set(questions(*texts)) == dropped
    assert 0 < len(dropped) < len(texts)


@pytest.mark.parametrize(("seed", "threshold"), [(1, 0.5), (2, 0.55), (3, 0.6)])
def test_candidates_miss_no_pair_where_runs_differ_in_weight(seed: int, threshold: float) -> None:
    """Three hundred texts that mix common words with rare ones, against every pair compared by the rule."""
    draw = random.Random(seed)
    rare = ["".join(chr(0xAC00 + draw.randrange(11_172)) for _ in range(3)) for _ in range(60)]
    words = [*NOUNS, *VERBS, *rare]
    texts = [" ".join(draw.choices(words, k=draw.randint(3, 9))) for _ in range(200)]
    texts += [" ".join([*draw.sample(rare, 1 + n % 2), *text.split()[1 + n % 2 :]]) for n, text in enumerate(texts[:100])]
    sketches = {(one.key, one.facts): one for one in map(sketch, texts)}
    runs = [set(struct.unpack(f"={len(one.runs) // 4}I", one.runs)) for one in sketches.values()]
    seen = Counter(run for several in runs for run in several)
    weight = {run: max(round(4 / (1 + math.log(max(count / RARE, 1)))), 1) for run, count in seen.items()}
    kept: list[int] = []
    expected = {}
    for row in range(len(runs)):
        alike = []
        for other in kept:
            both, either = (sum(weight[run] for run in found) for found in (runs[row] & runs[other], runs[row] | runs[other]))
            alike += [(both / either, -other)] if both / either >= threshold else []
        if alike:
            expected[row] = Duplicate(-max(alike)[1], "question", round(max(alike)[0], 3))
        else:
            kept.append(row)
    rows = list(sketches.values())
    assert near_duplicates(rows, [NOTHING] * len(rows), range(len(rows)), threshold) == expected
    assert len(expected) > 10 and set(weight.values()) >= {3, 4} and all(0 < len(one) <= FEW for one in runs)


def test_of_a_crowd_each_meets_the_best_and_the_ones_before_it() -> None:
    """Endings that no other text has, so that all they share is what all share: every one is like the best."""
    texts = [
        f"오늘 저녁에 먹을 만한 따뜻한 국물 요리를 하나만 골라 알려 주세요 {chr(0xAC00 + 28 * n)}" for n in range(4 * CROWD)
    ]
    assert {row: one.kept for row, one in questions(*texts).items()} == dict.fromkeys(range(1, len(texts)), 0)


def test_the_better_row_stays_and_a_chain_is_not_followed() -> None:
    texts = ["김치찌개는 어떻게 끓이나요?", "김치찌개는 어떻게 끓여요?", "김치찌개는 언제 어떻게 끓여요?"]
    assert [similarity(texts[one], texts[other]) for one, other in ((0, 1), (1, 2), (0, 2))] == [0.74, 0.68, 0.51]
    sketches = [sketch(text) for text in texts]
    order = [goodness(0.9, 300, "a"), goodness(1.0, 300, "b"), goodness(0.8, 300, "c")]
    found = near_duplicates(sketches, [NOTHING] * 3, order)
    assert {row: one.kept for row, one in found.items()} == {0: 1, 2: 1}  # the best is the middle one: both ends fall
    order[1] = goodness(0.85, 300, "b")
    found = near_duplicates(sketches, [NOTHING] * 3, order)
    assert {row: one.kept for row, one in found.items()} == {1: 0}  # the middle falls: nothing is left for the last to repeat
    same_score = [goodness(1.0, 40, "a"), goodness(1.0, 200, "b"), goodness(1.0, 40, "c")]
    assert 1 not in near_duplicates(sketches, [NOTHING] * 3, same_score)


def made_rows(count: int) -> list[tuple[str, str]]:
    draw = random.Random(7)

    def sentence() -> str:
        return f"{draw.choice(NOUNS)} {draw.choice(NOUNS)} {draw.choice(VERBS)} {draw.choice(NOUNS)} {draw.choice(VERBS)} 일"

    rows = [(f"{sentence()}을 알려 주세요.", ". ".join(sentence() for _ in range(draw.randint(2, 12)))) for _ in range(count)]
    copies = [(question + "요", answer + " 끝입니다.") for question, answer in draw.sample(rows, count // 5)]
    return rows + copies


def test_neither_order_nor_crowds_change_the_outcome() -> None:
    rows = made_rows(400)
    keys = [goodness(1.0 - (place % 3) / 10, len(answer), f"{place:04}") for place, (_, answer) in enumerate(rows)]
    outcomes = []
    for seed in range(4):
        order = list(range(len(rows)))
        if seed:
            random.Random(seed).shuffle(order)
        found = near_duplicates(
            [sketch(rows[place][0]) for place in order],
            [sketch(rows[place][1]) for place in order],
            [keys[place] for place in order],
        )
        outcomes.append({order[row]: (order[one.kept], one.side, one.similarity) for row, one in found.items()})
    assert outcomes[0] == outcomes[1] == outcomes[2] == outcomes[3]
    assert all(kept not in outcomes[0] and keys[kept] < keys[row] for row, (kept, *_) in outcomes[0].items())
    assert sum(row >= 400 for row in outcomes[0]) + sum(kept >= 400 for kept, *_ in outcomes[0].values()) >= 80  # each copy


def test_a_crowd_is_divided_and_its_pairs_are_found() -> None:
    opening = (
        "다음 글을 읽고 중심 생각을 한 문장으로 간추린 다음 알맞은 제목을 세 가지 붙이고 그 까닭도 밝혀 적어 주시기 바랍니다 "
    )
    draw = random.Random(3)
    bodies = ["".join(chr(0xAC00 + draw.randrange(11_172)) for _ in range(40)) for _ in range(6 * 32)]
    texts = [opening + body for body in bodies] + [opening + body + "요" for body in bodies]
    found = questions(*texts)
    assert {row: one.kept for row, one in found.items()} == {row: row - len(bodies) for row in range(len(bodies), len(texts))}


def test_a_crowd_of_nearly_the_same_long_text_leaves_a_few() -> None:
    rows = [sketch(f"{LONG * 2} 끝{chr(0xAC00 + number)}") for number in range(16 * 32)]
    found = near_duplicates([NOTHING] * len(rows), rows, list(range(len(rows))))
    assert 0 not in found and len(rows) - len(found) <= 0.03 * len(rows)  # not every pair of a crowd is compared


@pytest.mark.parametrize(
    "text", ["", "\x00", "\ud800", "ㅋ" * 100_000, "가", "!?", "🙂" * 50, "𠮷" * 200, "\ud800가나다라마바사아자차"]
)
def test_odd_text_does_not_raise(text: str) -> None:
    rows = [sketch(text), sketch(text + " "), sketch(LONG)]
    assert set(near_duplicates(rows, rows, [1, 2, 3])) <= {1}
    assert near_duplicates([], [], []) == {}


def test_thousands_of_evaluation_prompts() -> None:
    prompts = [f"{one} 옆에서 {other} {verb} 법은?" for one in NOUNS for other in NOUNS for verb in VERBS]
    index = PromptIndex(prompts)
    assert index.nearest(prompts[777] + "요") == (prompts[777], pytest.approx(28 / 31))
    assert index.nearest("Zzz") == ("", 0.0)
    assert PromptIndex([]).nearest("무엇이든") == ("", 0.0)
    assert PromptIndex(["네", "네!"]).nearest("네") == ("네", 1.0)
