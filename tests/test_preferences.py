"""Candidates are drawn once and kept; pairs follow from judgements alone."""

from __future__ import annotations

import json

import pytest
from conftest import turns

from align_ko.generation.local import Generated
from align_ko.preferences import candidates as drawing
from align_ko.preferences import pairing
from align_ko.preferences.candidates import Candidate, Task, draw_candidates, tasks_from_rows
from align_ko.preferences.judges import Judgement, closeness, variety
from align_ko.preferences.pairing import make_pairs
from align_ko.preferences.report import split
from align_ko.recipe import DecodingArgs, GenerationArgs, PairingArgs

TASKS = [Task(f"t{n}", [{"role": "user", "content": f"{n}번 질문"}], f"{n}번 모범 답입니다.") for n in range(5)]
SETTINGS = {"cool": DecodingArgs(0.7, 0.9, 1.1)}
GENERATION = GenerationArgs(max_new_tokens=16, batch_size=2, seed=3)
MADE = {"checkpoint": "abc"}


@pytest.fixture
def calls(monkeypatch):
    """Every prompt the stand-in model is asked, as (setting, question); batches of two, as the real one tells them."""
    asked = []

    def generate(model, tokenizer, prompts, decoding, max_new_tokens, batch_size, seed, stop_loops, on_batch):
        assert stop_loops  # a loop is cut in the pair anyway
        name = "cool" if decoding.temperature else "greedy"
        for start in range(0, len(prompts), batch_size):
            indices = list(range(start, min(start + batch_size, len(prompts))))
            asked.extend((name, prompts[i][0]["content"]) for i in indices)
            if model == "dies after two batches" and len(asked) > 4:
                raise KeyboardInterrupt
            on_batch(indices, [Generated(f"{name}: {prompts[i][0]['content']}", i % 2 == 0, 7) for i in indices])

    monkeypatch.setattr(drawing, "generate_answers", generate)
    return asked


def draw(file, model="", made=MADE, tasks=TASKS, settings=SETTINGS):
    return draw_candidates(model, None, tasks, settings, GENERATION, file, made)


def test_one_greedy_and_one_of_each_setting(calls, tmp_path):
    drawn = draw(tmp_path / "candidates.jsonl")
    assert len(calls) == 10 and list(drawn) == [task.id for task in TASKS]
    assert drawn["t1"] == [
        Candidate("greedy", "greedy", "greedy: 1번 질문", False, 7),
        Candidate("cool", "temperature=0.7 top_p=0.9 repetition_penalty=1.1", "cool: 1번 질문", False, 7),
    ]
    assert len((tmp_path / "candidates.jsonl").read_text().splitlines()) == 10


def test_a_rerun_asks_nothing(calls, tmp_path):
    first = draw(tmp_path / "c.jsonl")
    calls.clear()
    assert draw(tmp_path / "c.jsonl") == first and calls == []


def test_it_goes_on_after_an_interruption_and_a_torn_line(calls, tmp_path, capsys):
    file = tmp_path / "c.jsonl"
    with pytest.raises(KeyboardInterrupt):
        draw(file, "dies after two batches")
    assert len(file.read_text().splitlines()) == 4  # two finished batches
    text = file.read_bytes()
    file.write_bytes(text[:-20])  # killed while the fourth answer was being written
    calls.clear()
    drawn = draw(file)
    assert calls == [("greedy", "3번 질문"), ("greedy", "4번 질문"), *(("cool", f"{n}번 질문") for n in range(5))]
    assert "3 answers are there already, 7 to go" in capsys.readouterr().out
    assert [candidate.text for candidate in drawn["t3"]] == ["greedy: 3번 질문", "cool: 3번 질문"]
    assert [json.loads(line)["id"] for line in file.read_text().splitlines()].count("t3") == 2
    calls.clear()
    draw(file)
    assert calls == []


@pytest.mark.parametrize("made", [{"checkpoint": "other"}, {"checkpoint": "abc", "settings": {"cool": "hotter"}}])
def test_another_checkpoint_starts_afresh(calls, tmp_path, capsys, made):
    draw(tmp_path / "c.jsonl")
    calls.clear()
    draw(tmp_path / "c.jsonl", made=made)
    assert len(calls) == 10 and "another checkpoint or setting: starting afresh" in capsys.readouterr().out
    assert len((tmp_path / "c.jsonl").read_text().splitlines()) == 10


def test_more_prompts_ask_only_for_the_new_ones(calls, tmp_path):
    draw(tmp_path / "c.jsonl", tasks=TASKS[:3])
    calls.clear()
    draw(tmp_path / "c.jsonl")
    assert calls == [(name, f"{n}번 질문") for name in ("greedy", "cool") for n in (3, 4)]


def test_tasks_keep_their_order_when_rows_come(tmp_path):
    rows = [{"id": f"r{n}", "messages": turns(f"질문 {n}", f"답 {n}")} for n in range(30)]
    rows.append({"id": "open", "messages": turns("질문", "답")[:1]})  # no answer: not a task
    tasks = tasks_from_rows(rows)
    assert len(tasks) == 30 and [t.id for t in tasks] != sorted(t.id for t in tasks)
    assert tasks_from_rows(rows, 10) == tasks[:10] == tasks_from_rows(rows[::-1], 10)
    fewer = [task for task in tasks if task.id != "r7"]
    assert tasks_from_rows([row for row in rows if row["id"] != "r7"]) == fewer
    assert (tasks[0].prompt[-1]["content"], tasks[0].reference) == tuple(text + tasks[0].id[1:] for text in ("질문 ", "답 "))


# Pairs: judgements written by hand -----------------------------------------------------------------------------------------

GOOD = "경복궁은 조선의 으뜸 궁궐로, 1395년에 세워졌습니다. 지금은 누구나 둘러볼 수 있습니다."
OTHER = "광화문을 지나면 근정전이 나오며, 안내 해설은 매일 네 번 무료로 진행됩니다. 화요일에는 쉽니다."
ROUND = "경복궁은 경복궁입니다. "
LOOP = ROUND * 12


def rating(natural=True, score=0.9, relevant=True, naturalness=1.0, variety=1.0, faults=()):
    return Judgement(natural, list(faults), naturalness, relevant, 0.2, variety, score)


def pairs_of(monkeypatch, judged, finished=True, reference=OTHER, **options):
    """make_pairs on one prompt whose candidates (the first greedy) are given as {text: judgement}."""
    return many(monkeypatch, [judged], finished, reference, **options)


def many(monkeypatch, prompts, finished=True, reference=OTHER, **options):
    known = {text: judgement for judged in prompts for text, judgement in judged.items()}
    monkeypatch.setattr(pairing, "judge", lambda question, text, *rest: known[text])
    tasks = [Task(f"t{n}", [{"role": "user", "content": "경복궁은?"}], reference) for n in range(len(prompts))]
    candidates = {
        f"t{n}": [
            Candidate(*(("greedy", "greedy") if not k else ("warm", "temperature=1")), text, bool(k) or finished, 9)
            for k, text in enumerate(judged)
        ]
        for n, judged in enumerate(prompts)
    }
    return make_pairs(tasks, candidates, PairingArgs(**options))


BAD = rating(natural=False, score=0.2, naturalness=0.1, faults=["repetition"])


def test_a_loop_is_repaired_cut_and_left_open(monkeypatch):
    [pair], dropped, judged = pairs_of(monkeypatch, {LOOP: BAD, GOOD: rating(score=0.8), OTHER: rating(score=0.9)}, False)
    assert pair.origin == "repair" and pair.chosen[0]["content"] == OTHER  # the better of the two
    assert pair.rejected[0]["content"] == (ROUND * 3).strip() and pair.rejected_finished is False
    assert (pair.chosen_score, pair.rejected_score) == (0.9, 0.2)
    assert (pair.chosen_by, pair.rejected_by) == ("temperature=1", "greedy")
    assert (pair.chosen_faults, pair.rejected_faults) == ([], ["repetition"])
    assert not dropped and [row["text"] for row in judged] == [LOOP, GOOD, OTHER]


def test_a_loop_that_was_cut_is_open_even_if_the_model_ended_it(monkeypatch):
    [pair], _, _ = pairs_of(monkeypatch, {LOOP: BAD, GOOD: rating()}, finished=True)
    assert pair.rejected_finished is False


def test_a_faulty_answer_that_ended_stays_closed(monkeypatch):
    [pair], _, _ = pairs_of(monkeypatch, {OTHER: BAD, GOOD: rating()}, finished=True)
    assert pair.rejected[0]["content"] == OTHER and pair.rejected_finished is True


def test_a_long_rejected_side_is_cut_at_a_word_and_open(monkeypatch):
    long = " ".join(f"{n}째 이야기는 다릅니다." for n in range(100))
    [pair], _, _ = pairs_of(monkeypatch, {long: BAD, GOOD: rating()})
    rejected = pair.rejected[0]["content"]
    assert len(rejected) <= 2 * len(GOOD) and long.startswith(rejected + " ") and pair.rejected_finished is False


def test_an_irrelevant_answer_is_faulty_too(monkeypatch):
    [pair], _, _ = pairs_of(monkeypatch, {OTHER: rating(relevant=False), GOOD: rating()})
    assert pair.origin == "repair" and pair.rejected_faults == ["irrelevant"]


def test_a_clearly_better_candidate_makes_a_contrast(monkeypatch):
    [pair], _, _ = pairs_of(monkeypatch, {OTHER: rating(score=0.6), GOOD: rating(score=0.8)}, contrast_margin=0.15)
    assert pair.origin == "contrast" and pair.chosen[0]["content"] == GOOD
    nothing, dropped, _ = pairs_of(monkeypatch, {OTHER: rating(score=0.7), GOOD: rating(score=0.8)}, contrast_margin=0.15)
    assert nothing == [] and dropped == {"greedy answer is as good": 1}


@pytest.mark.parametrize(
    "unfit", [rating(natural=False), rating(relevant=False), rating(variety=0.5), rating(naturalness=0.75)]
)
def test_only_a_fit_candidate_is_chosen_else_the_reference(monkeypatch, unfit):
    [pair], _, _ = pairs_of(monkeypatch, {LOOP: BAD, GOOD: unfit}, reference_share=1.0)
    assert (pair.chosen[0]["content"], pair.chosen_by, pair.chosen_score) == (OTHER, "reference", 1.0)


def test_references_stay_a_share(monkeypatch):
    loops = [{f"{n} " + LOOP: BAD} for n in range(3)]
    pairs, dropped, _ = many(monkeypatch, loops, False, reference_share=0.5)
    assert [pair.chosen_by for pair in pairs] == ["reference"]
    assert dropped == {"no natural candidate, and the share of references is full": 2}


def test_sides_that_are_nearly_the_same_or_much_shorter_are_dropped(monkeypatch):
    nothing, dropped, _ = pairs_of(monkeypatch, {GOOD + " 네.": BAD, GOOD: rating()})
    assert nothing == [] and dropped == {"both sides nearly the same": 1}
    nothing, dropped, _ = pairs_of(monkeypatch, {"몰라요.": BAD, GOOD: rating()})
    assert nothing == [] and dropped == {"rejected side much shorter: DPO would learn length": 1}


def test_the_same_pair_has_the_same_id(monkeypatch):
    [one], [two] = (pairs_of(monkeypatch, {LOOP: BAD, GOOD: rating()}, False)[0] for _ in range(2))
    [three] = pairs_of(monkeypatch, {LOOP: BAD, OTHER: rating()}, False)[0]
    assert one.id == two.id != three.id and len(one.id) == 16


def test_the_split_keeps_every_pair_once(monkeypatch):
    pairs, _, _ = many(monkeypatch, [{f"{n} " + LOOP: BAD, f"{n}. " + GOOD: rating()} for n in range(20)], False)
    train, held_out = split(pairs, 0.1)
    assert (len(train), len(held_out)) == (18, 2)
    assert {pair.id for pair in [*train, *held_out]} == {pair.id for pair in pairs}
    assert split(pairs[::-1], 0.1) == (train, held_out)


# Judges --------------------------------------------------------------------------------------------------------------------


def test_the_real_judge_tells_a_loop_from_an_answer():
    loop = pairing.judge("경복궁은 언제 세워졌나요?", LOOP, False, GOOD)
    good = pairing.judge("경복궁은 언제 세워졌나요?", GOOD, True, GOOD)
    assert (loop.natural, good.natural, good.relevant) == (False, True, True)
    assert {"repetition", "unfinished"} <= set(loop.faults) and good.faults == []
    assert good.score > 0.9 > 0.5 > loop.score


def test_closeness_and_variety():
    assert closeness(GOOD, GOOD) == 1.0 and closeness(GOOD, "") == 0.0
    assert closeness("가나다라", "가나다마") == 0.5
    assert variety("네, 좋아요.") == 1.0 and variety(LOOP) == 0.0 and variety(GOOD) == 1.0
