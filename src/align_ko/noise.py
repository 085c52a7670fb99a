"""Silence what dependencies say on every start and nobody can act on; their errors and every other warning stay."""

from __future__ import annotations

import logging
import os
import warnings

# (message pattern, category) → said by transformers 5.23 and TRL 1.16 about their own internals
_KNOWN = (
    (r".*is_gradient_checkpointing.*deprecated", FutureWarning),
    (r".*gradient_checkpointing.*deprecated", FutureWarning),
    (r".*use_cache.*", UserWarning),
)


def quiet_known_noise() -> None:
    """Call before torch, transformers or trl are imported."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    for pattern, category in _KNOWN:
        warnings.filterwarnings("ignore", message=pattern, category=category)
    # bitsandbytes: an optional CPU kernel is missing; DeepSpeed: "Setting accelerator to CPU", whether it is used or not
    for name in ("bitsandbytes", "bitsandbytes.backends.cpu.ops", "DeepSpeed"):
        logging.getLogger(name).setLevel(logging.ERROR)
