"""Several checkpoints as one: arcs and means of weights, which candidates are made, and which the gate takes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from conftest import make_llama

from align_ko.errors import UserError
from align_ko.models.load import load_mean
from align_ko.models.merge import slerp
from align_ko.pipeline.soup import candidates, make_soup
from align_ko.recipe import ExportRecipe, MergeRecipe, recipe_from
from align_ko.records import write_json, write_jsonl


def merge_recipe(folder: Path, models, **keys) -> MergeRecipe:
    write_jsonl(folder / "gate.jsonl", [{"messages": [{"role": "user", "content": "한국의 수도는 어디인가요?"}]}])
    gate = {"prompts_file": str(folder / "gate.jsonl"), "min_median_characters": 0}
    return recipe_from(MergeRecipe, models=models, output_dir=str(folder / "out"), gate=gate, **keys)


def test_an_arc_keeps_the_length_that_a_line_cuts():
    start, end = torch.tensor([1.0, 0.0]), torch.tensor([0.0, 1.0])
    torch.testing.assert_close(slerp(start, end, 0.5), torch.tensor([0.5**0.5, 0.5**0.5]))
    torch.testing.assert_close(slerp(start, end, 1 / 3), torch.tensor([0.75**0.5, 0.5]))
    torch.testing.assert_close(slerp(start, 3 * start, 0.5), 2 * start)  # one direction: a line
    torch.testing.assert_close(slerp(torch.zeros(2), end, 0.25), torch.tensor([0.0, 0.25]))


def test_the_mean_of_three(tmp_path):
    folders = []
    for number, value in enumerate((1.0, 2.0, 6.0)):
        tiny = make_llama(tmp_path / f"m{number}")
        model = tiny.model().float()
        with torch.no_grad():
            for weight in model.parameters():
                weight.fill_(value)
        model.save_pretrained(tiny.folder)
        folders.append(str(tiny.folder))
    model, _ = load_mean(folders, "float32")
    assert all(torch.allclose(weight, torch.tensor(3.0)) for weight in model.parameters())


def test_two_models_give_points_and_three_their_mean(tmp_path):
    two = candidates(merge_recipe(tmp_path, {"sft": "a", "dpo": "b"}, shares=[0.5, 0.8], spherical=True))
    assert list(two) == ["line-0.5", "line-0.8", "arc-0.5", "arc-0.8"]
    out = tmp_path / "out/arc-0.8/model"
    assert two["arc-0.8"] == ExportRecipe("b", str(out), interpolate_from="a", interpolation=0.8, spherical=True)
    [(name, made)] = candidates(merge_recipe(tmp_path, {"x": "a", "y": "b", "z": "c"})).items()
    assert (name, made.model_name_or_path, made.mean_with) == ("mean", "a", ("b", "c"))
    with pytest.raises(UserError, match="there is nothing to merge"):
        merge_recipe(tmp_path, {"sft": "a"})


@pytest.mark.parametrize(
    ("natural", "nll", "best"),
    [
        ({"line-0.5": 0.8, "dpo": 0.9}, {}, "dpo"),
        ({"line-0.5": 0.8, "dpo": 0.9}, {"dpo": 1.2}, "line-0.5"),  # the second breaks the limit on content
        ({"line-0.5": 0.9, "dpo": 0.9}, {"line-0.5": 0.99}, "line-0.5"),  # as natural, nearer to the references
        ({"line-0.5": 0.4, "dpo": 0.4}, {}, "sft"),
    ],
)
def test_the_gate_chooses(tmp_path, natural, nll, best):
    measures = {"natural": 0.5, "collapse": 0.0, "relevant": 1.0, "distinct": 1.0, "median_characters": 100}
    ran = []

    def run(stage):
        ran.append((stage.title, stage.script))
        if stage.script == "evaluate":
            [name] = stage.recipe.models
            row = {**measures, "model": name, "setting": "greedy", "natural": natural.get(name, 0.5)}
            write_json(stage.folder / "scores.json", {"results": [{**row, "reference_nll": nll.get(name, 1.0)}]})
        return True

    soup = make_soup(merge_recipe(tmp_path, {"sft": "a", "dpo": "b"}, shares=[0.5]), run)
    assert soup.best.name == best and [one.name for one in soup.outcomes] == ["sft", "dpo", "line-0.5"]
    assert ran == [("sft/gate", "evaluate"), ("dpo/gate", "evaluate"), ("line-0.5/model", "export"),
                   ("line-0.5/gate", "evaluate"), ("best", "export")]  # fmt: skip
