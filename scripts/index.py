"""One page for a project: curation, SFT, pairs, DPO and evaluation in order, each with its outcome, time, memory and reports.

    python scripts/index.py outputs/quickstart

Reads what the stages left in their folders, data folders outside included, and writes index.html; run it again at any time.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import tyro

from align_ko.errors import UserError, run_script


def main(folder: Annotated[Path, tyro.conf.Positional], /) -> None:
    """Write FOLDER/index.html.

    Args:
        folder: A folder of outputs, or a whole project.
    """
    if not folder.is_dir():
        raise UserError("there is no such folder", file=folder, expected="a folder of outputs, such as outputs/solar")

    from align_ko.report.index import write_index

    print(f"to read: {write_index(folder).resolve()}")


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
