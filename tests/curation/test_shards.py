"""Rows on disk: in shards the same near-duplicates are found as in memory. No engine is needed."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pytest

from align_ko.curation import shard_pairs
from align_ko.curation.judge import Judged
from align_ko.curation.near_duplicates import near_duplicates
from align_ko.curation.select import Features, goodness, quotas, select
from align_ko.curation.shard_pairs import find_pairs, rank_rows, repeats_among, write_keys
from align_ko.curation.shards import Shards, ShardWriter, Sketches
from align_ko.curation.sketches import duplicate_key, sketch
from align_ko.recipe import NearDuplicateArgs
from align_ko.records import content_id

NOUNS = ("사과", "바나나", "자전거", "도서관", "냉장고", "고양이", "감나무", "지하철", "비행기", "수영장", "운동화", "우체국")
VERBS = ("고르는", "씻는", "그리는", "옮기는", "찾는", "파는", "고치는", "빌리는", "기르는", "만드는")
LIMITS = NearDuplicateArgs()


def judged(question: str, answer: str, line: int, score: float = 1.0) -> Judged:
    messages = [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    place = ("mine", "mine", "dialogue", "rows.jsonl", line, "", "")
    facts = (f'{{"n": {line}}}', content_id(messages), duplicate_key(messages), score, (len(answer),))
    return Judged(*place, *facts, question_sketch=sketch(question), answer_sketch=sketch(answer), words=b"\x01\x02\x03\x04")


def made_rows(count: int) -> list[Judged]:
    """Short questions, answers short and long, a fifth of both nearly the same as others, some repeated word for word."""
    draw = random.Random(7)

    def sentence() -> str:
        return f"{draw.choice(NOUNS)} {draw.choice(NOUNS)} {draw.choice(VERBS)} {draw.choice(NOUNS)} {draw.choice(VERBS)} 일"

    texts = [(f"{sentence()}을 알려 주세요.", ". ".join(sentence() for _ in range(draw.randint(2, 12)))) for _ in range(count)]
    texts += [(question + "요", answer + " 끝입니다.") for question, answer in draw.sample(texts, count // 5)]
    texts += draw.sample(texts, 5)
    return [judged(*text, line, 1.0 - line % 3 / 10) for line, text in enumerate(texts)]


def written(folder: Path, rows: list[Judged], shards: int) -> Shards:
    for rank in range(shards):
        with ShardWriter(folder, rank) as shard:
            for row in rows[rank::shards]:
                shard.add(row.line, row)
    return Shards(folder)


def test_a_row_is_read_as_it_was_written(tmp_path: Path) -> None:
    row = judged("수도가 어디예요?", "서울이에요.\n" + "한강이 흐르죠. " * 60, 3)._replace(
        repairs=("nfc",), masked=("전화번호",)
    )
    shards = written(tmp_path, [judged("가", "나", 1), row], 2)
    empty = sketch("")
    assert shards.judged(1) == row._replace(key=b"", question_sketch=empty, answer_sketch=empty)
    assert row.question_sketch.runs and row.answer_sketch.signature and shards.starts == [0, 1, 2]
    for side, one in (("question", row.question_sketch), ("answer", row.answer_sketch)):
        texts = Sketches(shards, shards.texts(side, np.array([1, 0])))
        own = np.array([0])
        assert texts.facts(own).tobytes() == one.facts and texts.has_runs(own).tolist() == [bool(one.runs)]
        assert (
            texts.runs(own)[1].tobytes() == one.runs
            and texts.signatures(own[texts.has_signature(own)]).tobytes() == one.signature
        )


@pytest.mark.parametrize("at_once", [300, 10_000_000])
def test_shards_have_the_near_duplicates_of_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int) -> None:
    monkeypatch.setattr(shard_pairs, "KEYS_AT_ONCE", at_once)
    rows = made_rows(300)
    alive = list({row.key: row for row in reversed(rows)}.values())[::-1]  # the first of those that say the same
    order = [goodness(row.score, sum(row.lengths), row.id) for row in alive]
    found = near_duplicates([row.question_sketch for row in alive], [row.answer_sketch for row in alive], order)
    expected = {alive[row].line: (alive[one.kept].line, one.side, one.similarity) for row, one in found.items()}

    shards, folder = written(tmp_path / "shards", rows, 3), tmp_path / "pairs"
    rank_rows(shards, folder, LIMITS)
    for shard in range(3):
        write_keys(shards, folder, shard, LIMITS)
    for part in range(2):
        find_pairs(shards, folder, part, 2, LIMITS)
    lines = [shards.judged(number).line for number in range(len(rows))]
    got = {lines[row]: (lines[one.kept], one.side, one.similarity) for row, one in repeats_among(folder, LIMITS).items()}
    assert got == expected
    assert {side for _, side, _ in got.values()} == {"question", "answer"} and len(got) > 60 and len(rows) - len(alive) == 5


def test_a_side_that_is_switched_off(tmp_path: Path) -> None:
    limits = NearDuplicateArgs(2.0, 2.0, 0.7)
    shards, folder = written(tmp_path / "shards", made_rows(60), 1), tmp_path / "pairs"
    rank_rows(shards, folder, limits)
    write_keys(shards, folder, 0, limits)
    find_pairs(shards, folder, 0, 1, limits)
    assert {one.side for one in repeats_among(folder, limits).values()} == {"answer"}


def test_parts_of_the_rows_take_their_share_of_each_group() -> None:
    groups = ["a"] * 10 + ["b"] * 4
    parts = quotas(groups, {"a": 7, "b": 4, "c": 0}, 3)
    assert [sum(part[group] for part in parts) for group in "ab"] == [7, 4]
    for part, taken in enumerate(parts):
        own = groups[part::3]
        assert all(count <= own.count(group) for group, count in taken.items())
        assert len(select([Features(f"{n}", group, 1.0, 200) for n, group in enumerate(own)], taken, 42)) == sum(taken.values())
