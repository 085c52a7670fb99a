"""A benchmark's measurement in a process of its own, so that one does not leave memory or threads to the next."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from typing import Any

from align_ko.errors import UserError

_MARK = "RESULT "


def hand_back(result: Any) -> None:
    """Print what was measured, for `measure_apart` to read."""
    print(_MARK + json.dumps(result))


def measure_apart(script: str, name: str, *flags: str) -> Any:
    """Run `script` with `flags`, which measures and hands back. Raises UserError with the end of its output if it fails."""
    environment = {**os.environ, "PYTHONWARNINGS": "ignore", "TRANSFORMERS_VERBOSITY": "error"}
    done = subprocess.run([sys.executable, script, *flags], env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        raise UserError(f"{name} failed: {(done.stderr or done.stdout).strip()[-600:]}")
    return json.loads(done.stdout.rsplit(_MARK, 1)[1])
