"""Parts of scripts/bench_curation.py: the rows and their answer key, the two runs, and what is counted."""
