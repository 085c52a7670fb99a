"""datatrove in an environment of its own (.venv-bench), for the comparison only: the package never needs it.

    python benchmarks/curation_bench/install_datatrove.py .venv-bench

Of datatrove's `multilingual` extra only Kiwi is installed, the tokenizer that it uses for Korean; its model comes with the
package, so nothing is downloaded at run time. Exit code 1 and one message where it cannot be installed.
"""

from __future__ import annotations

import subprocess
import sys
import venv
from pathlib import Path

REQUIREMENTS = ("datatrove[processing]==0.10.1", "kiwipiepy==0.21.0", "kiwipiepy_model==0.21.0", "orjson==3.13.0")


def main(folder: Path) -> int:
    python, ready = folder / "bin/python", folder / ".ready"
    wanted = "\n".join(REQUIREMENTS)
    if ready.is_file() and ready.read_text() == wanted:
        return 0
    print(f"bench-curation: installing {REQUIREMENTS[0]} into {folder}/ (a minute, 400 MB)", flush=True)
    venv.create(folder, with_pip=True, clear=True)
    pip = [str(python), "-m", "pip", "--disable-pip-version-check", "--no-input", "-qq", "install", *REQUIREMENTS]
    done = subprocess.run(pip, capture_output=True, text=True, check=False)
    if done.returncode:
        python.unlink(missing_ok=True)  # so that the benchmark skips datatrove and says so
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        print(f"bench-curation: datatrove cannot be installed here and is left out ({last})", file=sys.stderr)
        return 1
    ready.write_text(wanted)
    return 0


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
