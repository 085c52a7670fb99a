"""GPUs by name: memory, bandwidth and peak bfloat16 rate, dense, as the vendor's sheets named beside them have it.

The sheets could not be opened where this was written: the numbers are from memory (L40S and RTX 4090 were seen on other pages).
"""

from __future__ import annotations

from dataclasses import dataclass

from align_ko.errors import UserError, nearest


@dataclass(frozen=True)
class Gpu:
    """`flops`: dense bfloat16 with float32 accumulation, a second; sheets that print the sparse rate are halved."""

    name: str
    gib: float
    """Usable memory: what the driver reports, a little under the label."""
    bandwidth: float
    flops: float
    source: str


_A100 = "NVIDIA A100 Tensor Core GPU data sheet"
GPUS = {
    gpu.name: gpu
    for gpu in (
        Gpu("A100-40", 39.4, 1.555e12, 312e12, _A100),
        Gpu("A100-80", 79.2, 2.039e12, 312e12, _A100 + " (SXM)"),
        Gpu("H100-80", 79.1, 3.35e12, 989e12, "NVIDIA H100 Tensor Core GPU data sheet (SXM)"),
        Gpu("RTX4090", 23.5, 1.008e12, 165.2e12, "NVIDIA Ada GPU architecture white paper, table of the GeForce RTX 4090"),
        Gpu("RTX3090", 23.6, 0.936e12, 71e12, "NVIDIA Ampere GA102 white paper, table of the GeForce RTX 3090"),
        Gpu("L40S", 44.5, 0.864e12, 362e12, "NVIDIA L40S data sheet"),
    )
}
THIS = "this"
"""Stands for the machine the plan runs on: its speed is measured, not looked up."""


def find_gpu(name: str) -> Gpu:
    """By name, case and spaces ignored. UserError with the nearest name."""
    wanted = name.lower().replace(" ", "").replace("_", "-")
    for gpu in GPUS.values():
        if wanted in (gpu.name.lower(), gpu.name.lower().replace("-", "")):
            return gpu
    close = nearest(name.upper(), [*GPUS, THIS])
    raise UserError(f"no GPU {name} in the table", key="--plan_gpu", expected=", ".join([*GPUS, THIS]), nearest=close)
