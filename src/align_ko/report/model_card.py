"""README.md of a training run's folder: the model card, in Korean and in English, with the curves and the greedy table.

Only numbers, names and settings stand in it: no path above the folder's own name, no prompt, no answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from huggingface_hub import ModelCard, ModelCardData

from align_ko.records import atomic_write
from align_ko.report.curves import draw_curves
from align_ko.training.gate import gate_rounds
from align_ko.training.overfitting import evaluations

_HUB_ID = re.compile(r"[\w-][\w.-]*/[\w-][\w.-]*", re.ASCII)
_STAGE = {
    "sft": ("SFT(지도 미세 조정)", "supervised fine-tuning (SFT)"),
    "dpo": ("DPO(선호 최적화)", "preference optimisation (DPO)"),
    "distill": ("디코딩 설정 증류", "distillation of a decoding knob"),
}
_VERDICT = {"normal": "정상", "caution": "주의", "overfit": "과적합", "": "–"}
_SETTINGS = (
    "learning_rate", "num_train_epochs", "max_steps", "per_device_train_batch_size", "gradient_accumulation_steps",
    "lr_scheduler_type", "warmup_steps", "weight_decay", "max_length", "beta", "loss_type", "loss_weights", "seed",
)  # fmt: skip


def write_card(folder: str | Path, manifest: Mapping[str, Any], log: Sequence[Mapping[str, Any]], base: str) -> Path:
    """Write README.md and curves.png. `log`: the trainer's log_history; `base`: the base model's id or folder."""
    place = Path(folder)
    stage = str(manifest["stage"])
    seen = evaluations(log, with_verdict=stage == "sft")
    has_curves = draw_curves(place / "curves.png", log, seen)
    text = card_text(place.resolve().name, manifest, seen, gate_rounds(log), base, has_curves)
    with atomic_write(place / "README.md") as out:
        out.write(text)
    return place / "README.md"


def hub_id(base: str) -> str | None:
    """`base` where it names a model on the hub, None where it is a folder here.

    >>> hub_id("upstage/SOLAR-10.7B-v1.0"), hub_id("/data/models/solar"), hub_id("outputs/solar/sft")
    ('upstage/SOLAR-10.7B-v1.0', None, None)
    """
    first = base.split("/")[0]
    return base if _HUB_ID.fullmatch(base) and not Path(first).is_dir() and first not in ("outputs", "data") else None


def card_text(
    name: str,
    manifest: Mapping[str, Any],
    seen: Sequence[Mapping[str, Any]],
    rounds: Sequence[Mapping[str, Any]],
    base: str,
    has_curves: bool,
) -> str:
    stage, recipe = str(manifest["stage"]), manifest["recipe"]
    merged = bool(recipe.get("merge_adapter")) or not manifest.get("adapter", True)
    known = hub_id(base)
    data = ModelCardData(
        language="ko",
        library_name="transformers" if merged else "peft",
        pipeline_tag="text-generation",
        base_model=known,
        model_name=name,
        tags=["align-ko", "korean", "trl", stage],
    )
    korean, english = _STAGE[stage]
    shown = known or Path(base).name
    values = recipe["training"]
    settings = [(key, _plain(values[key])) for key in _SETTINGS if values.get(key) is not None]
    if stage == "distill":
        settings += [(f"distill.{key}", _plain(value)) for key, value in recipe["distill"].items()]
    curves = "![curves](curves.png)\n" if has_curves else ""
    parts = [
        f"---\n{data.to_yaml()}\n---\n",
        f"# {name}\n",
        "[한국어](#한국어) · [English](#english)\n",
        "## 한국어\n",
        f"`{shown}` 모델을 {korean} 방식으로 학습한 한국어 모델입니다. 생성 옵션을 조정하지 않고 기본 탐욕적 디코딩으로 "
        "사용하도록 만들었습니다. temperature, top_p, repetition_penalty를 지정할 필요가 없습니다.\n",
        _usage(merged),
        "### 학습 방법\n",
        _table(("항목", "값"), [*_made(manifest, KOREAN), *settings]),
        f"### 학습 곡선\n\n{curves}" if seen or has_curves else "",
        _table(("스텝", "학습 손실", "평가 손실", "판정"), [(*_losses(row), _VERDICT[row["verdict"]]) for row in seen]),
        f"저장된 가중치: {_weights(manifest['weights'], KOREAN)}\n",
        _greedy(rounds, "### 기본 디코딩 결과", _GREEDY_KO),
        "자연스러움은 규칙과 형태소 분석으로 결함을 찾지 못한 답변의 비율이며, 쏠림은 서로 다른 질문의 답변에 같은 표현이 "
        "되풀이되는 정도입니다. 소수의 프롬프트로 학습 중에 잰 값이므로 최종 평가를 대신하지 않습니다.\n" if rounds else "",
        "### 유의 사항\n\n이 모델은 사실과 다른 내용을 말할 수 있습니다. 중요한 내용은 반드시 따로 확인하시기 바랍니다. 사용 "
        "조건은 기반 모델의 라이선스를 따릅니다.\n",
        "## English\n",
        f"A Korean model: `{shown}` after {english}. It is meant for plain greedy decoding: no temperature, top_p or "
        "repetition_penalty has to be set. How to call it stands above.\n",
        "### How it was made\n",
        _table(("what", "value"), [*_made(manifest, ENGLISH), *settings]),
        f"### Curves\n\n{curves}" if seen or has_curves else "",
        _table(("step", "train loss", "eval loss", "verdict"), [(*_losses(row), row["verdict"] or "–") for row in seen]),
        f"Weights saved: {_weights(manifest['weights'], ENGLISH)}\n",
        _greedy(rounds, "### Under default decoding", _GREEDY_EN),
        "Natural is the share of answers in which rules and morphology find no fault; collapse is how much answers to "
        "different prompts say the same. Measured on a few prompts during training, not the final evaluation.\n"
        if rounds
        else "",
        "### Limits\n\nThe model can be wrong; check what matters. The licence of the base model applies.\n",
    ]  # fmt: skip
    text = "\n".join(part for part in parts if part)
    ModelCard(text)  # what cannot be parsed must not be published
    return text


KOREAN = {
    "rows": "학습 데이터", "unit": "{}행", "pairs": "{}쌍", "parent": "이전 단계", "packages": "패키지", "machine": "하드웨어",
    "commit": "코드", "format": "대화 형식 지문", "cores": "CPU {}코어",
    "best": "평가에서 가장 좋았던 {step}스텝의 체크포인트입니다({metric} {value:.4g}).",
    "last": "마지막 스텝({step})의 가중치입니다.",
    "not_best": "평가 손실이 가장 낮았던 체크포인트가 아니라 마지막 스텝({step})의 가중치입니다.",
}  # fmt: skip
ENGLISH = {
    "rows": "training data", "unit": "{} rows", "pairs": "{} pairs", "parent": "stage before", "packages": "packages",
    "machine": "hardware", "commit": "code", "format": "chat format fingerprint", "cores": "CPU, {} cores",
    "best": "the checkpoint of step {step}, the best ({metric} {value:.4g}).", "last": "the last ones, of step {step}.",
    "not_best": "the last ones, of step {step}; not those with the lowest eval loss.",
}  # fmt: skip
_GREEDY_KO = ("스텝", "자연스러움", "스스로 끝맺음", "반복", "평균 글자 수", "쏠림", "프롬프트 수")
_GREEDY_EN = ("step", "natural", "stopped by itself", "loops", "mean characters", "collapse", "prompts")


def _made(manifest: Mapping[str, Any], words: Mapping[str, str]) -> list[tuple[str, str]]:
    unit = words["pairs"] if manifest["stage"] == "dpo" else words["unit"]
    files = [f"{Path(path).name} `sha256:{digest[:12]}`" for path, digest in manifest["inputs"].items()]
    machine = manifest["machine"]
    gpus = machine.get("gpus") or []
    rows = [
        (words["rows"], ", ".join([unit.format(f"{manifest['rows']:,}"), *files])),
        (words["packages"], ", ".join(f"{name} {version}" for name, version in list(manifest["packages"].items())[:5])),
        (words["machine"], ", ".join(gpus) if gpus else words["cores"].format(machine["cores"])),
    ]
    if isinstance(parent := manifest.get("parent"), dict):  # else the start was made elsewhere and has no manifest
        rows.append((words["parent"], f"{Path(parent['folder']).name} `sha256:{parent['manifest_sha256'][:12]}`"))
    if manifest.get("format"):
        rows.append((words["format"], f"`{manifest['format']}`"))
    if manifest.get("git_commit"):
        rows.append((words["commit"], f"align_ko `{manifest['git_commit'][:12]}`"))
    return rows


def _weights(taken: Mapping[str, Any], words: Mapping[str, str]) -> str:
    if taken["from"] == "best":
        return words["best"].format(**taken)
    return words["not_best" if taken.get("warning") else "last"].format(**taken)


def _losses(row: Mapping[str, Any]) -> tuple[str, str, str]:
    train = row["train_loss"]
    return f"{row['step']:,}", "–" if train is None else f"{train:.3f}", f"{row['eval_loss']:.3f}"


def _greedy(rounds: Sequence[Mapping[str, Any]], title: str, head: Sequence[str]) -> str:
    if not rounds:
        return ""
    rows = [
        (f"{row['step']:,}", f"{row['natural']:.1%}", f"{row['stopped']:.1%}", f"{row['loops']:.1%}",
         f"{row['characters']:.0f}", f"{row['collapse']:.3f}", f"{row['answered']:.0f}")
        for row in rounds
    ]  # fmt: skip
    return f"{title}\n\n{_table(head, rows)}"


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in line) + " |" for line in lines) + "\n"


def _plain(value: Any) -> str:
    return (
        f"{value:g}" if isinstance(value, float) else ", ".join(map(_plain, value)) if isinstance(value, list) else str(value)
    )


def _usage(merged: bool) -> str:
    load = "AutoModelForCausalLM" if merged else "AutoPeftModelForCausalLM"
    return f"""```python
from transformers import {"AutoModelForCausalLM, " if merged else ""}AutoTokenizer
{"" if merged else "from peft import AutoPeftModelForCausalLM" + chr(10)}
folder = "…"
tokenizer = AutoTokenizer.from_pretrained(folder)
model = {load}.from_pretrained(folder)
inputs = tokenizer.apply_chat_template(
    [{{"role": "user", "content": "안녕하세요"}}], add_generation_prompt=True, return_tensors="pt", return_dict=True
)
output = model.generate(**inputs, max_new_tokens=512)
print(tokenizer.decode(output[0, inputs["input_ids"].shape[1]:], skip_special_tokens=True))
```
"""
