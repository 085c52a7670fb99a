"""Batches by way of batching: shares of real tokens, and an order that shows all lengths from the first steps on."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
import torch

from align_ko.errors import UserError
from align_ko.planning.lengths import ROWS, SOURCES, Row, epoch_batches, real_share, reference_rows
from align_ko.recipe import SftRecipe, load_recipe
from align_ko.training.prepare import LENGTH_CLASSES, ShuffledLengthGroupedSampler
from bench_batching import drift


@pytest.fixture(scope="module")
def table():
    """A tenth of the reference table, what is over 2,048 tokens left out."""
    return [row for row in reference_rows(ROWS // 10) if row.longest <= 2048]


def test_the_table_has_the_users_rows():
    counts = {"smol_koreantalk": 88_752, "kowiki_qa": 48_699, "kullm_v2": 33_422, "koalpaca": 20_768}
    assert {source.name: source.rows for source in SOURCES} == counts and ROWS == 191_641
    made = reference_rows(19_164)
    assert Counter(row.source for row in made) == {name: round(count * 19_164 / ROWS) for name, count in counts.items()}
    assert made == reference_rows(19_164) != reference_rows(19_164, seed=1)
    assert all(0 < row.trained < row.longest for row in made)
    koalpaca = sorted(row.longest for row in made if row.source == "koalpaca")
    assert koalpaca[len(koalpaca) // 2] == pytest.approx((60 + 390) * 1.19 + 14, rel=0.05)


def test_every_way_computes_every_row_once(table):
    real, trained = sum(row.real for row in table), sum(row.trained for row in table)
    for way in ("max_length", "random", "group_by_length", "packing"):
        batches = epoch_batches(table, way, 8, 16, 2048)
        assert (sum(b.real for b in batches), sum(b.trained for b in batches)) == (real, trained), way
        assert all(0 < batch.real <= batch.computed for batch in batches)


def shapes(batches):
    return Counter((batch.sequences, batch.width) for batch in batches)


def test_a_small_case_by_hand():
    rows = [Row(n, n, 1) for n in (1, 2, 3, 4)]
    assert shapes(epoch_batches(rows, "max_length", 2, 2, 10)) == {(2, 10): 2}
    assert shapes(epoch_batches(rows, "group_by_length", 2, 2, 10)) == {(2, 2): 1, (2, 4): 1}
    assert real_share(epoch_batches(rows, "group_by_length", 2, 2, 10)) == 10 / 12
    assert shapes(epoch_batches(rows, "group_by_length", 2, 2, 10, multiple=4)) == {(2, 4): 2}  # pad_to_multiple_of
    [packed] = epoch_batches(rows, "packing", 2, 2, 10)
    assert (packed.sequences, packed.width, packed.real) == (1, 10, 10)
    pair = Row(longest=10, real=15, trained=6, sequences=2)
    assert real_share(epoch_batches([pair], "random", 1, 1, 10)) == 15 / 20


def test_best_fit_packs_as_trl_does(table):
    """The same number of packs as TRL's own bfd on the same lengths."""
    from datasets import Dataset
    from trl.data_utils import pack_dataset

    some = table[:300]
    dataset = Dataset.from_dict({"input_ids": [[0] * row.longest for row in some]})
    packs = len(pack_dataset(dataset, 2048, "bfd"))
    assert sum(batch.sequences for batch in epoch_batches(some, "packing", 4, 4, 2048)) == packs


def test_the_aims_hold_on_the_reference_lengths(table):
    """97 % real tokens grouped, 99 % packed; half is padding in random batches, three quarters in the original script's."""
    share = {
        way: real_share(epoch_batches(table, way, 8, 16, 2048))
        for way in ("max_length", "random", "group_by_length", "packing")
    }
    assert share["max_length"] < 0.3 and 0.4 < share["random"] < 0.6
    assert share["group_by_length"] >= 0.97 and share["packing"] >= 0.99


def test_the_first_steps_are_like_the_rest(table):
    worst = max(abs(drift(epoch_batches(table, "group_by_length", 8, 16, 2048, seed), 100)) for seed in range(10))
    assert worst < 0.1


def test_every_round_holds_every_class_of_lengths():
    lengths = torch.randperm(LENGTH_CLASSES * 4 * 8, generator=torch.Generator().manual_seed(1)).tolist()  # no two alike
    order = list(ShuffledLengthGroupedSampler(lengths, 4, seed=1))
    means = [sum(lengths[i] for i in order[start : start + 4]) / 4 for start in range(0, len(order), 4)]
    ranked = sorted(range(len(means)), key=means.__getitem__)
    classes = {position: rank // 8 for rank, position in enumerate(ranked)}  # eight batches in each class
    for start in range(0, len(means), LENGTH_CLASSES):
        assert {classes[position] for position in range(start, start + LENGTH_CLASSES)} == set(range(LENGTH_CLASSES))
    first = [classes[position] for position in range(LENGTH_CLASSES)]
    assert first != sorted(first) and first != sorted(first, reverse=True)


def test_packing_without_flash_attention_is_refused():
    root = Path(__file__).parents[2]
    packing = [str(root / "recipes/solar/sft.yaml"), "--training.packing", "true"]
    with pytest.raises(
        UserError, match=r"training\.packing: packed rows attend to each other without FlashAttention; expected .*flash"
    ):
        load_recipe(SftRecipe, packing)
    flash = ["--model.attn_implementation", "flash_attention_2"]
    assert load_recipe(SftRecipe, [*packing, *flash]).training["packing"] is True
    with pytest.raises(UserError, match=r"training\.padding_free: packed rows attend to each other"):
        load_recipe(SftRecipe, [packing[0], "--training.padding_free", "true"])
    with pytest.raises(UserError, match=r"training\.packing_strategy: 'wrapped' cuts conversations in two; expected bfd"):
        load_recipe(SftRecipe, [*packing, *flash, "--training.packing_strategy", "wrapped"])
