"""A process that has imported all a training run needs, and forks one run after another: 40 kills without 40 times the imports.

Reads lines `{"script": "run_sft", "argv": [...], "folder": "…", "kill_after": 1.5}` and answers each with the exit status,
-9 for a run that was killed. What a run printed lies in last.txt in its folder.
"""

from __future__ import annotations

import json
import os
import runpy
import signal
import sys
import threading
import time
from pathlib import Path

SCRIPTS = Path(__file__).parents[1] / "scripts"


def run_once(script: str, argv: list[str], folder: str, kill_after: float | None) -> int:
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        out = os.open("last.txt", os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(out, 1)
        os.dup2(out, 2)
        sys.argv = [f"{script}.py", *argv]
        code = 1
        try:
            runpy.run_path(str(SCRIPTS / f"{script}.py"), run_name="__main__")
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(code)
    if kill_after is not None:

        def kill() -> None:
            time.sleep(kill_after)
            os.kill(child, signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def main() -> None:
    import peft  # noqa: F401
    from trl import DPOConfig, DPOTrainer, SFTConfig, SFTTrainer  # noqa: F401

    import align_ko.training.finish
    import align_ko.training.seams  # noqa: F401

    print("ready", flush=True)
    for line in sys.stdin:
        print(run_once(**json.loads(line)), flush=True)


if __name__ == "__main__":
    main()
