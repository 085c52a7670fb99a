"""`accelerate launch` for a cluster: SIGTERM reaches the processes it starts, and their exit code comes back.

    python scripts/launch.py --config_file accelerate_configs/zero2.yaml scripts/run_sft.py recipes/solar/sft.yaml

All options are accelerate's. Its own launcher exits 1 whatever happened, ends its processes 30 s after SIGTERM, and alone where
it has one. Here they have the time that the scheduler leaves them: training saves a whole checkpoint, every stage exits 143,
which asks for a restart with the same command; 2 is a mistake to mend (launch/, docs/machines.md).
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys

import psutil

from align_ko.errors import RESTART


def pass_on(number: int, frame: object) -> None:
    """To the processes that were started, which are children of this one; before there are any, end."""
    children = psutil.Process().children()
    for child in children:
        child.send_signal(number)
    if not children:
        sys.exit(RESTART)


def main() -> None:
    if sys.argv[1:2] in ([], ["-h"], ["--help"]):
        print(__doc__)
        return
    signal.signal(signal.SIGTERM, pass_on)
    # torch.distributed.run takes its options from PET_…; SIGTERM is left to `pass_on`
    os.environ.setdefault("PET_SIGNALS_TO_HANDLE", "SIGINT,SIGHUP,SIGQUIT")
    from accelerate.commands.launch import launch_command, launch_command_parser
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError

    args = launch_command_parser().parse_args()
    args.quiet = False  # with it the code of a single process is lost
    try:
        launch_command(args)
    except subprocess.CalledProcessError as error:
        code = error.returncode
    except ChildFailedError as error:
        code = error.get_first_failure()[1].exitcode
    else:
        return
    sys.exit(code if code >= 0 else 128 - code)


if __name__ == "__main__":
    main()
