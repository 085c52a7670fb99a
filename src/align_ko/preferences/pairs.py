"""What every pair has in common, whatever its origin: its id and its lengths."""

from __future__ import annotations

import hashlib
from typing import Any

from align_ko.recipe import PairingArgs
from align_ko.records import Message, PreferencePair

LENGTH = "rejected side much shorter: DPO would learn length"


def long_enough(rejected: str, chosen: str, args: PairingArgs) -> bool:
    """Whether the rejected side is within the tolerance: at 1.0 half as long as the chosen one, or longer."""
    return len(rejected) >= len(chosen) / (1 + args.length_tolerance)


def make_pair(task_id: str, prompt: list[Message], chosen: str, rejected: str, **facts: Any) -> PreferencePair:
    """A pair whose id hangs on its prompt's id and both texts; scores are rounded to four places."""
    facts |= {name: round(facts[name], 4) for name in ("chosen_score", "rejected_score")}
    return PreferencePair(
        prompt=prompt,
        chosen=[{"role": "assistant", "content": chosen}],
        rejected=[{"role": "assistant", "content": rejected}],
        id=hashlib.sha256(f"{task_id}\x1e{chosen}\x1e{rejected}".encode("utf-8", "surrogatepass")).hexdigest()[:16],
        **facts,
    )
