"""The public API: every name of `align_ko`, with the examples that document it."""

from __future__ import annotations

import doctest
import inspect
import re
import subprocess
import sys
from pathlib import Path

import pytest

import align_ko
from align_ko.errors import UserError
from align_ko.records import read_jsonl, write_jsonl

ROOT = next(folder for folder in Path(__file__).parents if (folder / "setup.cfg").is_file())


@pytest.fixture
def workplace(llama, tmp_path, monkeypatch):
    """rows.jsonl, prompts.jsonl and the model folder `tiny`."""
    rows = list(read_jsonl(ROOT / "recipes/quickstart/data/raw/smol_koreantalk.jsonl"))[:39]
    short = [{"role": "user", "content": "오늘 점심은 무엇이 좋을까요?"}, {"role": "assistant", "content": "네."}]
    write_jsonl(tmp_path / "rows.jsonl", [*rows, {"messages": short, "source": "smol_koreantalk"}])
    write_jsonl(tmp_path / "prompts.jsonl", [{"prompt": "한국의 수도는?"}, {"prompt": "비가 오면?"}])
    (tmp_path / "tiny").symlink_to(llama.folder)
    monkeypatch.chdir(tmp_path)


def test_examples_of_the_package_run():
    (example,) = doctest.DocTestFinder(recurse=False).find(align_ko)
    assert doctest.DocTestRunner().run(example) == (0, 3)


@pytest.mark.parametrize("name", [name for name in align_ko.__all__ if not name.startswith("assess")])
def test_examples_run(name, workplace):
    function = getattr(align_ko, name)
    (example,) = doctest.DocTestFinder(recurse=False).find(function, name, globs=vars(align_ko).copy())
    assert example.examples
    assert doctest.DocTestRunner(optionflags=doctest.ELLIPSIS).run(example).failed == 0


def test_example_of_the_docs_runs(capsys):
    text = (ROOT / "docs/install.md").read_text(encoding="utf-8")
    examples = re.findall(r"^```python\n(import align_ko\n.*?)^```", text, re.M | re.S)
    assert len(examples) == 1
    exec(examples[0], {})
    assert capsys.readouterr().out == "True ()\n"


def test_names_are_imported_on_first_use():
    assert set(align_ko.__all__) == {"assess", "assess_each"} | {
        name
        for name, value in vars(align_ko).items()
        if inspect.isfunction(value) and value.__module__ == "align_ko" and not name.startswith("_")
    }
    code = "import sys, align_ko; print(sorted({'torch', 'numpy', 'align_ko.korean'} & set(sys.modules)))"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout == "[]\n"


def test_a_wrong_setting_is_named():
    with pytest.raises(UserError, match=r"pairing.min_chosen_scor: unknown key; did you mean 'min_chosen_score'"):
        align_ko.build_pairs([], min_chosen_scor=0.5)
    with pytest.raises(UserError, match="row 0 has no answers"):
        align_ko.build_pairs([{"prompt": "안녕하세요"}])


def test_every_setting_of_an_evaluation_counts(workplace):
    """`relevance_model`, `endpoints` and `trust_remote_code` were checked, and then ignored."""
    settings = {"sampling": {}, "probes": [], "generation": {"max_new_tokens": 4}}
    summary = align_ko.evaluate({"tiny": "tiny"}, "prompts.jsonl", "evaluation", relevance_model=None, **settings)
    assert summary["results"][0]["relevant"] is None


def test_no_pair_is_an_empty_list():
    assert align_ko.build_pairs([{"prompt": "한국의 수도는 어디인가요?", "answers": ["한국의 수도는 서울입니다."]}]) == []


def test_pairs_are_written_where_wanted(tmp_path):
    row = {"prompt": "한국의 수도는 어디인가요?", "reference": "한국의 수도는 한강이 흐르는 서울입니다."}
    cut = {"text": "한국의 수도는 예로부터 사람이 많이 모여 사는 큰 도시로 알려져 있고 또", "finished": False}
    pairs = align_ko.build_pairs([row | {"answers": [cut]}], str(tmp_path), reference_share=1.0, length_tolerance=2.0)
    assert [(pair["chosen"][0]["content"], pair["rejected_faults"]) for pair in pairs] == [(row["reference"], ["unfinished"])]
    assert list(read_jsonl(tmp_path / "train.jsonl")) == pairs


def test_other_names_do_not_exist():
    with pytest.raises(AttributeError, match="module 'align_ko' has no attribute 'asess'"):
        align_ko.asess  # noqa: B018
