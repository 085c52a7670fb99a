"""Parts of benchmarks/bench_curation.py: the rows and their answer key, the two runs, and what is counted."""

import sys
from pathlib import Path

# for damage.py: that folder is not a package, it holds a recipe's data
sys.path.append(str(Path(__file__).parents[2] / "recipes/quickstart/data"))
