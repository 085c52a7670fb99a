"""What the pages tell people to type works: scripts, recipes, flags, targets, links and quoted messages all exist."""

from __future__ import annotations

import ast
import importlib.util
import json
import re
import shlex
from itertools import pairwise
from pathlib import Path

import pytest

from ablate_dpo import AblationRecipe
from align_ko import recipe
from align_ko.cli import COMMANDS
from align_ko.errors import UserError
from align_ko.planning.settings import take_plan_flags
from align_ko.recipe import load_recipe
from align_ko.recipe.keys import dotted_names, keys_of
from align_ko.recipe.schema import RECIPES as RECIPES_BY_NAME
from align_ko.records import write_jsonl
from compare_handbook import CompareRecipe

ROOT = Path(__file__).parents[1]
RECIPE_CLASSES = {**vars(recipe), "AblationRecipe": AblationRecipe, "CompareRecipe": CompareRecipe}
READMES = sorted([*ROOT.glob("README*.md"), *ROOT.glob("recipes/*/README.md")])
PAGES = [*READMES, ROOT / "AGENTS.md", ROOT / "CHANGELOG.md", *sorted(ROOT.glob("docs/*.md"))]
RECIPES = sorted(ROOT.glob("recipes/*/*.yaml"))
TARGETS = re.search(r"^\.PHONY: (.+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.M)[1].split()
STARTS = ("python scripts/", "python benchmarks/", "python recipes/", "make ", "accelerate launch ", "align-ko ")


def name_of(path: Path) -> str:
    return str(path.relative_to(ROOT))


def blocks(path: Path, language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", path.read_text(encoding="utf-8"), re.M | re.S)


def commands(path: Path) -> list[str]:
    """Every command line of a page: shell blocks, then commands in `code` (but not templates with … in them)."""
    text = path.read_text(encoding="utf-8")
    if path.suffix == ".yaml":  # its header
        lines = "\n".join(line.removeprefix("#").split(" # ")[0].strip() for line in text.splitlines() if line.startswith("#"))
    else:
        prose = re.sub(r"^```.*?^```", "", text, flags=re.M | re.S)
        lines = "\n".join([*blocks(path, "bash"), *re.findall(r"`([^`\n]+)`", prose)])
    joined = re.sub(r"\\\n\s*", "", lines)
    return [line.split(" # ")[0].strip() for line in joined.splitlines() if line.startswith(STARTS) and "…" not in line]


CASES = {line: f"{name_of(page)}: {line}" for page in [*PAGES, *RECIPES] for line in commands(page)}
TWINS = [page for page in PAGES if page.with_suffix(".ko.md").exists()]


@pytest.fixture
def workplace(tmp_path, monkeypatch):
    """The repository as a reader has it who wrote the recipes that a page shows (```yaml, first line `# its/path.yaml`)."""
    for part in ("scripts", "benchmarks", "accelerate_configs"):
        (tmp_path / part).symlink_to(ROOT / part)
    (tmp_path / "recipes").mkdir()
    for folder in (ROOT / "recipes").iterdir():
        (tmp_path / "recipes" / folder.name).symlink_to(folder)
    for page in PAGES:
        for text in blocks(page, "yaml"):
            if not text.startswith("# recipes/"):
                continue
            path = tmp_path / text.splitlines()[0].removeprefix("# ")
            path.parent.mkdir(exist_ok=True)
            path.write_text(text, encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def check(line: str) -> None:
    """AssertionError or UserError for a command that cannot run."""
    words = shlex.split(line)
    if words[0] == "make":
        assert [word for word in words[1:] if "=" not in word and word not in TARGETS] == []
        return
    if words[0] == "align-ko":
        if words[1] in ("--help", "COMMAND", "completion") or (words[1] in COMMANDS and words[2:] == ["--help"]):
            return
        words[:2] = ["python", f"scripts/{COMMANDS[words[1]][0]}.py"]
    at = next(number for number, word in enumerate(words) if word.endswith(".py"))
    for flag, value in pairwise(words[: at + 1]):
        assert flag != "--config_file" or Path(value).is_file(), value
    source = Path(words[at]).read_text(encoding="utf-8")
    if stage := re.search(
        r"(?:load_recipe\((\w+), sys\.argv|begin_training\((\w+), __doc__)", source
    ):  # not a script that loads a recipe of its own choice
        load_recipe(RECIPE_CLASSES[stage[1] or stage[2]], take_plan_flags(words[at + 1 :])[1])
        return
    for word in words[at + 1 :]:
        if word.startswith("--"):
            name, *below = word.removeprefix("--").split("=")[0].split(".")
            argument = re.search(rf'\b{name.replace("-", "_")}: (\w*)|"--{name}"', source)
            assert argument, f"{words[at]} has no {word}"
            for key in below:  # tyro's flags of a record: --endpoint.server
                assert key in keys_of(RECIPE_CLASSES[argument[1]]), f"{argument[1]} has no {key}"


@pytest.mark.parametrize("line", CASES, ids=CASES.values())
def test_commands_can_run(line, workplace):
    check(line)


def test_commands_were_found():
    assert {name_of(page) for page in READMES if len(commands(page)) < 5} == {"recipes/suites/README.md"}
    assert len(CASES) > 100


@pytest.mark.parametrize(
    "line",
    [
        "make quickstrat",
        "python scripts/run_stf.py recipes/quickstart/sft.yaml",
        "python scripts/run_sft.py recipes/quickstart/stf.yaml",
        "python scripts/run_sft.py recipes/quickstart/sft.yaml --training.learnin_rate 1e-4",
        "python scripts/chat.py --model outputs/quickstart/dpo",
        "align-ko sft recipes/quickstart/sft.yaml --training.learnin_rate 1e-4",
        "align-ko chat --model outputs/quickstart/dpo",
        "align-ko diagnose http://localhost:8080/v1 --endpoint.sever vllm",
        "align-ko charr --model-path outputs/quickstart/dpo",
        "accelerate launch --config_file accelerate_configs/zero9.yaml scripts/run_sft.py recipes/solar/sft.yaml",
    ],
)
def test_wrong_commands_are_noticed(line, workplace):
    with pytest.raises((AssertionError, UserError, FileNotFoundError, KeyError)):
        check(line)


@pytest.mark.parametrize("page", TWINS, ids=name_of)
def test_both_languages_say_the_same(page):
    twin = page.with_suffix(".ko.md")
    for language in ("bash", "yaml", "python"):
        assert blocks(page, language) == blocks(twin, language)
    assert commands(page) == commands(twin)
    assert cited_tests(page) == cited_tests(twin)
    here = {page.name.removesuffix(".md"), twin.name.removesuffix(".md")}
    told = [{link.split("#")[0].replace(".ko.", ".") for link in links(side)} for side in (page, twin)]
    assert {name for name in told[0] ^ told[1] if name.removesuffix(".md") not in here} == set()
    assert not [link for link in links(page) if ".ko.md" in link and link != twin.name]


def test_both_languages_are_there():
    assert {page.name for page in TWINS} >= {"README.md", "story.md", "own_data.md", "symptoms.md", "support.md", "checks.md"}
    assert messages(ROOT / "docs/checks.md") == messages(ROOT / "docs/checks.ko.md")
    for readme in (ROOT / "README.md", ROOT / "README.ko.md"):
        assert len(readme.read_text(encoding="utf-8").splitlines()) <= 120


def cited_tests(page: Path) -> list[tuple[str, str]]:
    return re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", page.read_text(encoding="utf-8"))


def test_what_is_said_to_be_tested_is_tested():
    cited = cited_tests(ROOT / "docs/support.md")
    assert len(cited) >= 20
    assert [(file, name) for file, name in cited if f"def {name}(" not in (ROOT / file).read_text(encoding="utf-8")] == []


def links(path: Path) -> set[str]:
    return set(re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8")))


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    local = [link.split("#")[0] for link in links(page) if not link.startswith(("http", "#"))]
    assert [link for link in local if not (page.parent / link).exists()] == []
    assert sorted(anchors_of_links(page) - anchors_of_headings(page)) == []


def anchors_of_links(page: Path) -> set[str]:
    return {link[1:] for link in links(page) if link.startswith("#")}


def anchors_of_headings(page: Path) -> set[str]:
    """As GitHub makes them: `## What is it? (negative)` → `what-is-it-negative`."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_experiments_are_newest_first():
    dates = re.findall(r"^## (\d{4}-\d\d-\d\d): ", (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8"), re.M)
    assert len(dates) > 30 and dates == sorted(dates, reverse=True)


def messages(path: Path) -> list[str]:
    """The second column of the table of faults, the only table whose cells end with whole messages of code."""
    table = re.search(r"^\| (?:fault|결함) \|.*?\n\n", path.read_text(encoding="utf-8"), re.M | re.S)[0]
    return re.findall(r"\| `([^\n]+)` \|$", table, re.M)


def test_quoted_messages_are_real():
    said = set()
    for file in (ROOT / "src").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                said.add("".join(part.value if isinstance(part, ast.Constant) else "…" for part in node.values))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                said.add(node.value)
    found = messages(ROOT / "docs/checks.md")
    assert len(found) >= 10
    for message in found:
        fixed = message.replace(", in the row that begins …", "…").split("…")
        pieces = [piece.strip() for piece in fixed if len(piece.strip()) > 2]
        assert any(all(piece in text for piece in pieces) for text in said), message


def load(name: str):
    spec = importlib.util.spec_from_file_location(Path(name).stem, ROOT / name)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("language", ["en", "ko"])
def test_the_reference_has_every_key_and_the_site_every_page(language, tmp_path):
    site = load("docs/build_site.py")
    for name, owner in RECIPES_BY_NAME.items():
        rows = re.findall(r"^\| `(\S+)` \| .+ \| .+ \| ", site.keys_page(name, language), re.M)
        groups = {key.rpartition(".")[0] for key in dotted_names(owner) if "." in key}
        assert set(dotted_names(owner)) - groups <= set(rows) and len(rows) == len(set(rows)), name
    page = site.keys_page("data", language)
    assert (
        "| `sources.NAME.path` | text | **" in page
        and "| `eval_share` | a share from 0 up to, but not including, 1 | `0.05` |" in page
    )
    assert "| `per_round.N.dpo` | a mapping | `{}` |" in site.keys_page("align", language)
    site.copy_pages(language, tmp_path)
    names = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*.md")}
    settings = site.configuration(language, names)
    assert sorted(page for section in settings["nav"] for pages in section.values() for page in pages) == sorted(names)
    assert {name_of(page) for page in [*READMES, *ROOT.glob("docs/*.md")] if not page.name.endswith(".ko.md")} < names
    assert ("추론할 때" in (tmp_path / "README.md").read_text(encoding="utf-8")) is (language == "ko")


SHARES = dict.fromkeys(("loops", "filler", "unfinished"), 0.05) | {"distinct": 1.0, "relevant": 0.95, "collapse": 0.0214}
RESULT = {
    **SHARES, "model": "dpo", "setting": "greedy", "decoding": "greedy", "n": 60, "natural": 0.85,
    "natural_low": 0.74, "natural_high": 0.92, "median_characters": 121.5, "chrf": 14.26, "reference_nll": None,
    "reader": {"judged": 60, "signed": 0.083, "signed_low": 0.036, "signed_high": 0.181, "partly": 0.2, "split": None},
}  # fmt: skip


def test_a_reader_s_verdict_orders_answers_before_their_likeness():
    rows = [{"prompt_id": str(n), "response": "가나다라마"[: 5 - n], "reference": "가나다라마"} for n in range(4)]
    ranks = load("benchmarks/readme_numbers.py").best_first
    assert [row["prompt_id"] for row in ranks(rows)[1]] == ["0", "1", "2", "3"]
    for row, llm in zip(rows, ([0, 0], [2, 0], [1, 1], [2, 2]), strict=True):
        row["llm"] = llm
    assert (ranks(rows)[0], [row["prompt_id"] for row in ranks(rows)[1]]) == ("llm", ["3", "2", "0", "1"])
    rows[0]["reader"], rows[1]["reader"] = [1], [2]
    assert (ranks(rows)[0], [row["prompt_id"] for row in ranks(rows)[1]]) == ("reader", ["1", "0"])


def test_numbers_are_written_into_both_pages(tmp_path, capsys):
    numbers = load("benchmarks/readme_numbers.py")
    (tmp_path / "docs").mkdir()
    for name in numbers.CAPTIONS:
        (tmp_path / name).write_text((ROOT / name).read_text(encoding="utf-8"), encoding="utf-8")
    with pytest.raises(UserError, match=r"scores\.json, times\.tsv, .*run that first"):
        numbers.main(tmp_path)
    outputs = tmp_path / "outputs" / "quickstart"
    answers = [
        {"model": model, "setting": "greedy", "kind": "heldout", "prompt": [{"role": "user", "content": f"{n}번\n질문"}],
         "prompt_id": str(n), "reference": "가나다라마바사", "response": f"{'가나다라마바사'[:n]}\n{model}"}
        for model in ("sft", "dpo") for n in range(5)
    ]  # fmt: skip
    manifest = {"machine": {"cores": 2}, "peak_memory_gib": 2.345}
    scores = {"results": [RESULT], "decoding_gap": {"dpo": {"points": 3.3333}}}
    for name, content in {
        "evaluation/scores.json": scores,
        "sft/manifest.json": manifest,
        "dpo/manifest.json": manifest,
        "distilled/manifest.json": manifest,
        "evaluation/manifest.json": manifest,
        "../../data/quickstart/preferences/manifest.json": manifest,
    }.items():
        (outputs / name).parent.mkdir(parents=True, exist_ok=True)
        (outputs / name).write_text(json.dumps(content), encoding="utf-8")
    write_jsonl(outputs / "evaluation/responses.jsonl", answers)
    (outputs / "times.tsv").write_text("1 curate\t3\n2 SFT\t999\n2 SFT\t237\n", encoding="utf-8")
    for _ in range(2):  # written twice, the same
        numbers.main(tmp_path)
        texts = {name: (tmp_path / name).read_text(encoding="utf-8") for name in numbers.CAPTIONS}
        for name, text in texts.items():
            assert "| dpo | greedy | 85 (74-92) | 95 | not judged | 8 (4-18) of 60 | 5 | 5 | 5 | 122 | 100 |" in text
            said = [f"{n}번 질문\n\n> {'가나다라마바사'[:n]}\n> dpo\n" for n in (4, 2)] + ["0번 질문\n\n> dpo\n"]
            assert all(part in text for part in said) and [text.index(part) for part in said] == sorted(map(text.index, said))
            assert "| 1 curate | 2 SFT |\n| ---: | ---: |\n| 3 | 237 |\n" in text
            assert "sft 2.3, preferences 2.3, dpo 2.3, distil 2.3, evaluate 2.3" in text and "dpo 3." in text
            assert "python benchmarks/readme_numbers.py" in text
            before, after = ((ROOT / name).read_text(encoding="utf-8").split(mark) for mark in numbers.MARKS)
            assert text.startswith(before[0]) and text.endswith(after[1])
    assert "4 minutes in all without" in texts["docs/quickstart.md"] and "합해 4분" in texts["docs/quickstart.ko.md"]
