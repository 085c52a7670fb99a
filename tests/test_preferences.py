"""Pairs follow from judgements alone."""

from __future__ import annotations

import pytest

from align_ko.preferences import pairing
from align_ko.preferences.candidates import Candidate, Task
from align_ko.preferences.judges import Judgement, closeness, variety
from align_ko.preferences.pairing import make_pairs
from align_ko.preferences.report import split
from align_ko.recipe import PairingArgs

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


def test_without_a_reference_only_a_candidate_is_chosen(monkeypatch):
    nothing, dropped, _ = pairs_of(monkeypatch, {LOOP: BAD, GOOD: rating(natural=False)}, reference=None)
    assert nothing == [] and dropped == {"no natural candidate, and no reference": 1}
    [pair], _, _ = pairs_of(monkeypatch, {LOOP: BAD, GOOD: rating()}, reference=None)
    assert pair.chosen[0]["content"] == GOOD


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
