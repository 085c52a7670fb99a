"""The processes of `accelerate launch`: which one this is, and waiting for the others."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta

from align_ko.errors import UserError


@dataclass(frozen=True)
class Processes:
    """`rank` of `count`; `wait` returns when every process has called it, `leave` ends the connection between them."""

    rank: int = 0
    count: int = 1
    wait: Callable[[], None] = lambda: None
    leave: Callable[[], None] = lambda: None


def launched_processes() -> Processes:
    """What `accelerate launch` started; a plain `python …` is one process, and nothing is set up for it."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Processes()
    import torch
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.accelerator.is_available()
    # The usual limit is half an hour: one process may well have that much more to do than another.
    state = PartialState(cpu=cpu, timeout=timedelta(days=30))
    if state.num_processes != int(os.environ["WORLD_SIZE"]):  # then each would draw everything
        raise UserError(f"{os.environ['WORLD_SIZE']} processes were launched and cannot find each other: {state}")
    return Processes(state.process_index, state.num_processes, state.wait_for_everyone, state.destroy_process_group)
