"""What a CPU cannot show: memory and speed of SOLAR's shape on this machine's GPU, beside what `--plan` says.

    python benchmarks/gpu_check.py            # make gpu-check: one GPU, at most 10 minutes, no download
    python benchmarks/gpu_check.py --tiny     # the same parts with a tiny shape on the CPU (in make test-slow)
    python benchmarks/gpu_check.py --only generation

Random weights and tokens: neither speed nor memory depends on them. A part whose package or GPU is missing is skipped with a
sentence, and each ends in its own time box. Prints one table and writes --output. Target: the plan within 20 %.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import tyro
from rich.console import Console
from rich.table import Table

from align_ko.errors import run_script

TARGET = 0.2
FLASH = "flash_attention_2"
# part → seconds of its time box, what runs it with which settings, packages beside torch
PARTS: dict[str, tuple[int, str, dict[str, Any], tuple[str, ...]]] = {
    "SFT, SDPA": (80, "train_sft", {}, ("bitsandbytes",)),
    "SFT, FlashAttention": (70, "train_sft", {"attention": FLASH}, ("bitsandbytes", "flash_attn")),
    "SFT, packing": (70, "train_sft", {"attention": FLASH, "packing": True}, ("bitsandbytes", "flash_attn")),
    "SFT, Liger kernels": (70, "train_sft", {"use_liger_kernel": True}, ("bitsandbytes", "liger_kernel")),
    "DPO, the adapter as reference": (90, "train_dpo", {}, ("bitsandbytes",)),
    "generation": (80, "generate", {}, ()),
    "merge in bfloat16": (60, "merge", {}, ()),
    "SFT and DPO as on the CPU": (70, "equal_losses", {}, ()),
}


class TimeBox(Exception):
    """A part took longer than its share."""


@contextmanager
def time_box(seconds: int) -> Iterator[None]:
    """Raises TimeBox inside when `seconds` are over (POSIX, main thread)."""

    def end(*_: object) -> None:
        raise TimeBox(f"stopped after its {seconds} s")

    before = signal.signal(signal.SIGALRM, end)
    signal.alarm(seconds)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def missing(packages: tuple[str, ...], tiny: bool) -> str:
    """Why a part cannot run here; empty where it can. The tiny shape takes plain attention for a missing FlashAttention."""
    import torch

    if not tiny and not torch.cuda.is_available():
        return f"no GPU that torch {torch.__version__} can use"
    lacking = [name for name in packages if not find_spec(name) and not (tiny and name == "flash_attn")]
    return f"{lacking[0]} is not installed" if lacking else ""


def run_part(
    name: str, part: Callable[..., dict[str, Any]], seconds: int, settings: dict[str, Any], tiny: bool
) -> dict[str, Any]:
    """What the part measured, or why it did not. A failing part never ends the others."""
    import torch

    try:
        with time_box(seconds):
            return {"part": name, **part(tiny=tiny, **settings)}
    except TimeBox as over:
        return {"part": name, "skipped": str(over)}
    except Exception as error:  # out of memory, a kernel that this GPU lacks: this part's result
        reason = str(error).strip().splitlines() or [""]
        return {"part": name, "failed": f"{type(error).__name__}: {reason[0][:300]}"}
    finally:
        gc.collect()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def main(tiny: bool = False, only: str = "", output: str = "outputs/gpu_check.json") -> int:
    """Run the parts.

    Args:
        tiny: a tiny shape, on the CPU too.
        only: parts whose name holds this.
        output: the JSON file.
    """
    import torch
    import transformers

    import gpu_check_parts as parts
    from align_ko.process import quiet_known_noise
    from align_ko.records import write_json

    quiet_known_noise()
    transformers.logging.set_verbosity_error()
    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "CPU"
    results = []
    for name, (seconds, function, settings, packages) in PARTS.items():
        if only and only not in name:
            continue
        reason = missing(packages, tiny)
        run: Callable[..., dict[str, Any]] = getattr(parts, function)
        results.append({"part": name, "skipped": reason} if reason else run_part(name, run, seconds, settings, tiny))
        print(f"{name}: {results[-1].get('skipped') or results[-1].get('failed') or 'done'}", flush=True)
    Console(width=118).print(table(results, f"{device}{', tiny shape' * tiny}"))
    Path(output).parent.mkdir(parents=True, exist_ok=True)
    write_json(output, {"device": device, "torch": torch.__version__, "tiny": tiny, "parts": results})
    print(f"wrote {output}")
    return int(any("failed" in result for result in results))


def table(results: list[dict[str, Any]], title: str) -> Table:
    """One row a part: what was measured, what the plan says of it, whether that is near enough."""
    made = Table("part", "measured", "planned", f"within {TARGET:.0%}", title=f"gpu-check: {title}", title_justify="left")
    for result in results:
        state = "failed" if "failed" in result else "skipped"
        if state in result:
            made.add_row(result["part"], f"{state}: {result[state]}")
            continue
        measured, planned, verdicts = [], [], []
        for key, unit in (("gib", "GiB"), ("seconds", "s a step")):
            if real := result.get(key):
                measured.append(f"{real:.2f} {unit}")
                plan = result.get(f"planned_{key}")
                planned.append(f"{plan:.2f} {unit}" if plan else "")
                verdicts.append("" if not plan else "yes" if abs(plan / real - 1) <= TARGET else f"no ({plan / real:.2f})")
        made.add_row(result["part"], *("\n".join(lines) for lines in ([*measured, *result.get("told", ())], planned, verdicts)))
    return made


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    run_script(lambda: sys.exit(tyro.cli(main, description=__doc__)))
