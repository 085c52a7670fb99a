"""What is wrong with a checkpoint, and what to do: somebody's folder, adapter, hub model or server.

    align-ko diagnose outputs/mine/sft
    align-ko diagnose Qwen/Qwen2.5-1.5B-Instruct --lang en --prompts my_prompts.jsonl
    align-ko diagnose outputs/mine/sft --static
    align-ko diagnose http://localhost:8080/v1 --endpoint.server llama_cpp

First the files are read: template, special tokens, generation settings, weights. Then 40 prompts are answered greedily and
under two tuned settings, which tells a fault of decoding from one of the model. Answers are kept: a second run draws none.
Of a server behind an OpenAI-compatible address only the answers are judged, and every run asks for them.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro
import yaml

from align_ko.errors import run_script, visible
from align_ko.recipe import EndpointArgs
from align_ko.sources import folder_of

if TYPE_CHECKING:
    from align_ko.evaluation.blame import Verdict
    from align_ko.evaluation.file_faults import Checkpoint, Finding

TEXTS = Path(__file__).with_suffix(".yaml")
OF_DPO = ("repetition", "echo", "filler", "unfinished", "too_long")
"""Faults that a model's own failures teach it to avoid; the others are missing knowledge of Korean or of the format."""
FIT = 0.2
"""Natural share from which pairs are built: below it a model gives too few answers to choose, and SFT comes first."""
RECIPES = {
    "gemma3": "gemma3_4b",
    "qwen3": "qwen3_8b",
    "qwen2_5": "qwen2_5_1_5b",
    "llama3_1": "llama3_1_8b",
    "llama3": "llama3_1_8b",
}


def show_findings(findings: list[Finding], texts: dict[str, Any]) -> None:
    from align_ko.evaluation.file_faults import NOTES

    faults = [finding for finding in findings if finding.code not in NOTES]
    print(texts["words"]["found"].format(count=len(faults)) if faults else texts["words"]["none"])
    for number, finding in enumerate([*faults, *(finding for finding in findings if finding.code in NOTES)], 1):
        problem, remedy = (visible(text.format(**finding.facts)) for text in texts["findings"][finding.code])
        heading = texts["words"]["note"] if finding.code in NOTES else f"{number}."
        print(f"{heading} [{finding.code}] {problem}\n   → {remedy}")


def stage_of(verdict: Verdict, findings: list[Finding]) -> str:
    """The stage that mends what the answers show; a key of `stages`."""
    if verdict.kind != "model":
        return "distil"
    learnt = verdict.results[0]["natural"] >= FIT and not any(each.code == "template_missing" for each in findings)
    return "dpo" if learnt and verdict.faults[0][0] in OF_DPO else "sft"


def recipes_of(checkpoint: Checkpoint) -> str:
    """The folder of recipes/ that trained it, else its family's, else SOLAR's."""
    from align_ko.evaluation.file_faults import family_templates

    file = checkpoint.folder / "manifest.json"
    own = re.search(r"recipes/(\w+)/\w+\.yaml", file.read_text(encoding="utf-8")) if file.is_file() else None
    return own[1] if own else next((RECIPES[name] for name in family_templates(checkpoint) if name in RECIPES), "solar")


def recipes_named(model: str) -> str:
    """The folder of recipes/ for a served model: Qwen/Qwen3-8B → qwen3_8b; SOLAR's where the name tells none."""
    known = {place.name: place.name for place in sorted(folder_of("recipes").iterdir())} | RECIPES
    plain = {re.sub(r"\W|_", "", name).lower(): folder for name, folder in known.items()}
    return next((folder for name, folder in plain.items() if name in re.sub(r"\W|_", "", model).lower()), "solar")


def show_verdict(verdict: Verdict, folder: Path, stage: str, model: str, texts: dict[str, Any]) -> None:
    words = texts["words"]
    print("\n" + words["asked"].format(count=verdict.results[0]["n"], folder=folder))
    for result in verdict.results:
        shares = (100 * share for share in (result["natural"], result["natural_low"], result["natural_high"]))
        print(f"  {result['decoding']:<52} {words['natural'].format(*shares)}")
    if verdict.faults:
        print("  " + words["faults"].format(faults=", ".join(f"{code} {count}" for code, count in verdict.faults[:3])))
    knob = next(result["decoding"] for result in verdict.results if result["setting"] == verdict.knob)
    print("\n" + words[verdict.kind].format(knob=knob, mended=verdict.mended, spoilt=verdict.spoilt, faulty=verdict.faulty))
    if verdict.kind != "sound":
        data = model if (folder_of("recipes") / model / "data.yaml").is_file() else "solar"  # whose rows serve the others
        for line in (stage, "init"):
            print(f"   → {texts['stages'][line].format(model=model, data=data)}")


def main(
    model: Annotated[str, tyro.conf.Positional],
    /,
    prompts: str = "core",
    lang: Literal["ko", "en"] = "ko",
    static: bool = False,
    strict: bool = False,
    max_prompts: int = 40,
    max_new_tokens: int = 512,
    batch_size: int = 32,
    trust_remote_code: bool = False,
    endpoint: EndpointArgs = EndpointArgs("-", "auto"),  # noqa: B008
) -> None:
    """Say what is wrong with a checkpoint.

    Args:
        model: A checkpoint folder (adapter or full model), a hub id, or the address of an OpenAI-compatible server.
        prompts: A suite of evaluation prompts (core, multi_turn, instructions) or a prompt file.
        lang: Language of the output.
        static: Read the files only, no answers.
        strict: Exit 1 where something is wrong.
        max_prompts: How many prompts are answered, spread over the file; 0 = all.
        max_new_tokens: Longest answer in tokens.
        batch_size: Prompts at once.
        trust_remote_code: Run the Python code that a model from elsewhere brings.
        endpoint: How MODEL is asked where it is an address; `auto` is the only model that the server has.
    """
    from align_ko.process import quiet_known_noise

    quiet_known_noise()
    from align_ko.evaluation.blame import answer_prompts, ask_endpoint, judge_answers
    from align_ko.evaluation.file_faults import NOTES, UNUSABLE, find_faults, read_checkpoint
    from align_ko.evaluation.suites import read_suites
    from align_ko.generation.endpoint import only_model
    from align_ko.models.quickstart import cache_folder
    from align_ko.models.source import check_named, model_source, weights_hash
    from align_ko.recipe import GenerationArgs
    from align_ko.records import evenly, write_jsonl
    from align_ko.stores import row_key

    texts = yaml.safe_load(TEXTS.read_text(encoding="utf-8"))[lang]
    rows, generation = evenly(read_suites([prompts]), max_prompts), GenerationArgs(max_new_tokens, batch_size)
    findings: list[Finding] = []
    if is_address := model.startswith(("http://", "https://")):
        endpoint = replace(endpoint, base_url=model, send="messages")
        if endpoint.model == "auto":
            endpoint = replace(endpoint, model=only_model(endpoint))
        print(texts["words"]["endpoint"].format(model=visible(endpoint.model)))
        recipes, folder = recipes_named(endpoint.model), row_key(base_url=model, model=endpoint.model)
    else:
        check_named(model)
        source = model_source(model, trust_remote_code=trust_remote_code)
        checkpoint = read_checkpoint(source)
        findings = find_faults(checkpoint)
        show_findings(findings, texts)
        recipes, folder = recipes_of(checkpoint), weights_hash(source)
    is_faulty = any(finding.code not in NOTES for finding in findings)
    if not static and any(finding.code in UNUSABLE for finding in findings):
        print("\n" + texts["words"]["skipped"])
    elif not static:
        place = cache_folder() / "diagnosis" / folder
        print()
        answers = ask_endpoint(endpoint, rows, generation) if is_address else answer_prompts(source, rows, generation, place)
        write_jsonl(place / "responses.jsonl", answers)
        verdict = judge_answers(answers)
        show_verdict(verdict, place, stage_of(verdict, findings), recipes, texts)
        is_faulty = is_faulty or verdict.kind != "sound"
    if strict and is_faulty:
        raise SystemExit(1)


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
