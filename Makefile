# `make` alone lists what there is. Paths are relative throughout, so the checkout's path may contain spaces.

PYTHON ?= python3
# More arguments for the installation of torch, for example the index with the builds you want.
TORCH_ARGS ?=

venv := .venv
python := $(venv)/bin/python
pip := $(python) -m pip --disable-pip-version-check --no-input -qq
# Names what was installed and where: another pin, another requirement or a moved checkout asks for a new installation.
ready := $(venv)/.ready-$(shell (cat setup.cfg constraints.txt; pwd) | cksum | cut -d ' ' -f 1)

.PHONY: help setup quickstart test test-slow check-wheel lint docs format bench-cpu bench-korean bench-curation bench-candidates bench-memory bench-batching align ablate-dpo decoding-gap compare-handbook gpu-check clean
.DEFAULT_GOAL := help

help: ## list the targets
	@echo "align_ko: make TARGET [PYTHON=python3.12] [TORCH_ARGS='--index-url …']"
	@awk -F ':[^#]*## ' '/^[a-z-]+:[^#]*## / { printf "  %-18s%s\n", $$1, $$2 }' Makefile

setup: ## create .venv with everything in it; does nothing when it is there already
	@set -eu; \
	say() { echo "setup: $$*"; }; \
	if [ -e "$(ready)" ] && $(python) -c "" 2>/dev/null; then say "$(venv) is ready"; exit 0; fi; \
	new_enough='import sys; sys.exit(sys.version_info < (3, 11))'; \
	if ! $(python) -c "$$new_enough" 2>/dev/null; then \
		if ! "$(PYTHON)" -c "" 2>/dev/null; then \
			say "'$(PYTHON)' does not run; name a Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; fi; \
		if ! "$(PYTHON)" -c "$$new_enough"; then \
			say "$$("$(PYTHON)" -V 2>&1) is too old; name a Python 3.11 or newer: make PYTHON=/path/to/python3.11" >&2; exit 2; fi; \
		if ! "$(PYTHON)" -c "import venv, ensurepip" 2>/dev/null; then \
			say "'$(PYTHON)' has no venv module; install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 2; fi; \
		say "creating $(venv) with $$("$(PYTHON)" -V)"; \
		"$(PYTHON)" -m venv --clear $(venv); \
	fi; \
	rm -f $(venv)/.ready-*; \
	say "installing $$(grep '^torch==' constraints.txt) (minutes on a first run)"; \
	$(pip) install $(TORCH_ARGS) "$$(grep '^torch==' constraints.txt)"; \
	say "installing align_ko and what it needs, in the versions of constraints.txt (minutes on a first run)"; \
	$(pip) install -c constraints.txt -e '.[all,dev,docs]'; \
	touch "$(ready)"; \
	say "$(venv) is ready"

quickstart: setup ## a real base model to natural Korean on this machine, with a report: 20 minutes
	@PYTHON=$(python) bash scripts/quickstart.sh

test: setup ## the tests, minutes
	@echo "test: pytest, without the slow tests"
	@$(python) -m pytest -q

test-slow: setup ## the slow tests: real training, several processes, every recipe of recipes/solar; then check-wheel
	@echo "test-slow: pytest -m slow"
	@$(python) -m pytest -q -m slow
	@$(MAKE) --no-print-directory check-wheel

check-wheel: setup ## the wheel in empty environments: curation without torch, SFT with [train]
	@PYTHON=$(python) TORCH_ARGS="$(TORCH_ARGS)" bash .ci/check-wheel

lint: setup ## style, types and the import rule
	@echo "lint: ruff check, ruff format --check, mypy, lint-imports, shellcheck"
	@$(python) -m ruff check
	@$(python) -m ruff format --check
	@$(python) -m mypy src scripts benchmarks docs
	@$(venv)/bin/lint-imports
	@$(venv)/bin/shellcheck launch/*.sh scripts/*.sh

docs: setup ## the documentation as a site in build/site, Korean and English; stops at a link that leads nowhere
	@PATH="$(CURDIR)/$(venv)/bin:$$PATH" NO_COLOR=1 $(python) docs/build_site.py

format: setup ## put every file into the project's format
	@$(python) -m ruff check --fix-only
	@$(python) -m ruff format

bench-cpu: setup ## tokens per second of training on the CPU, beside plain TRL
	@$(python) benchmarks/bench_cpu.py

bench-korean: setup ## precision and recall of the Korean checks on labelled text
	@$(python) benchmarks/bench_korean.py

bench-curation: setup ## 191,641 rows curated, beside datatrove on the same rows: time, memory, what is found
	@$(python) benchmarks/curation_bench/install_datatrove.py .venv-bench || true
	@$(python) benchmarks/bench_curation.py

bench-candidates: setup ## candidates per second, beside one prompt and one plain generate at a time, on the quickstart SFT model
	@PYTHON=$(python) bash scripts/quickstart.sh SFT
	@$(python) benchmarks/bench_candidates.py

align: setup ## a round of pairs, DPO and gate, then distillation, from the quickstart's SFT model; resumes
	@PYTHON=$(python) bash scripts/quickstart.sh SFT
	@$(python) scripts/align.py recipes/quickstart/align.yaml

ablate-dpo: setup ## DPO settings × seeds on the quickstart's pairs, an estimated hour and a half; resumes
	@PYTHON=$(python) bash scripts/quickstart.sh preferences
	@$(python) benchmarks/ablate_dpo.py recipes/quickstart/ablation.yaml

decoding-gap: setup ## greedy against a grid of 18 sampling settings, before and after DPO; resumes
	@PYTHON=$(python) bash scripts/quickstart.sh DPO
	@$(python) scripts/decoding_gap.py recipes/quickstart/evaluate.yaml

compare-handbook: setup ## our rounds beside the alignment-handbook's way on the same model; resumes
	@PYTHON=$(python) bash scripts/quickstart.sh SFT
	@$(python) benchmarks/compare_handbook.py recipes/quickstart/compare.yaml

bench-batching: setup ## shares of real tokens by way of batching on 191,641 lengths, and real tokens per second side by side
	@$(python) benchmarks/bench_batching.py

bench-memory: setup ## peak memory of training steps on the CPU, measured and planned
	@$(python) benchmarks/bench_memory.py
	@$(python) benchmarks/bench_reference.py

gpu-check: setup ## what only a GPU shows: SOLAR's shape, memory and speed beside --plan, 10 minutes, no download; ARGS=--tiny on the CPU
	@$(python) benchmarks/gpu_check.py $(ARGS)

clean: ## remove caches and builds; keeps .venv, data/ and outputs/
	@rm -rf build dist src/*.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
	@find src scripts benchmarks tests recipes -name __pycache__ -type d -prune -exec rm -rf {} +
	@echo "clean: caches and builds removed"
