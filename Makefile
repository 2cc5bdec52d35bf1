# `make demo` and `make test` are all a newcomer needs; both set everything up by themselves.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready

.PHONY: help setup demo test test-peer test-kill test-crash test-index soak fuzz test-limits bench bench-reading bench-library lint types check format clean

help: ## this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 20

setup: $(STAMP) ## a virtual environment with clew and its development tools

$(STAMP): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit("clew needs Python 3.11 or later; this is " + sys.version.split()[0] + ". Set PYTHON=…") if sys.version_info < (3, 11) else None'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "pip>=25.1"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt --editable . --group dev
	@touch $@

demo: $(STAMP) ## the main job, with the offline model and local files
	$(BIN)/clew demo

test: $(STAMP) ## the test suite, in parallel
	$(BIN)/python -m pytest

test-peer: $(STAMP) ## clew and the real Codex on the same threads (installs it through npm into .peer)
	$(BIN)/python -m pytest -m peer tests/peer

test-kill: $(STAMP) ## 200 kills at random moments, each followed by a reply; about 5 minutes (KILLS=…, SEED=…)
	$(BIN)/python tests/endurance/kill_loop.py --kills $(or $(KILLS),200) $(if $(SEED),--seed $(SEED))
	$(BIN)/python -m pytest -m slow tests/endurance

fuzz: $(STAMP) ## damaged homes thrown at the reader for 5 minutes (FUZZ_SECONDS=…, SEED=…); findings go to fuzz-findings
	@$(BIN)/python -c 'import atheris' 2>/dev/null \
	  || $(BIN)/python -m pip install --quiet --disable-pip-version-check --only-binary :all: atheris \
	  || echo "Without coverage guidance: atheris does not install here."
	$(BIN)/python tests/fuzz/fuzz_reader.py --seconds $(or $(FUZZ_SECONDS),300) $(if $(SEED),--seed $(SEED))

test-limits: $(STAMP) ## lines, files, chains and folders far beyond what anybody has; some minutes
	$(BIN)/python -m pytest -n0 -m slow tests/fuzz

test-crash: $(STAMP) ## every fault and kill of one story, then random ones for 5 minutes (CRASH_SECONDS=…, SEED=…)
	$(BIN)/python -m pytest -n0 -m slow tests/crash
	$(BIN)/python tests/crash/run.py --seconds $(or $(CRASH_SECONDS),300) $(if $(SEED),--seed $(SEED))

test-index: $(STAMP) ## random stories of a home, its index and its trash, with kills, for 5 minutes (INDEX_SECONDS=…, SEED=…)
	$(BIN)/python tests/store/stories.py --seconds $(or $(INDEX_SECONDS),300) $(if $(SEED),--seed $(SEED))

soak: $(STAMP) ## an hour on one core: 45 minutes of random crash stories, 300 kills of a real server (SEED=…)
	$(BIN)/python tests/crash/run.py --seconds 2700 $(if $(SEED),--seed $(SEED))
	$(BIN)/python tests/endurance/kill_loop.py --kills 300 $(if $(SEED),--seed $(SEED))

bench: $(STAMP) ## start, turns and big threads, beside the real Codex where it is installed; a table
	$(BIN)/python benchmarks/run.py

bench-reading: $(STAMP) ## big threads read and appended to, beside the machine's own limits and the real Codex; a table
	$(BIN)/python benchmarks/reading.py

bench-library: $(STAMP) ## lists of homes with many threads, with and without an index (HOMES="DIR DIR")
	$(BIN)/python benchmarks/library.py $(HOMES)

lint: $(STAMP) ## style and the direction of imports
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: $(STAMP) ## pyright, strict
	$(BIN)/pyright

check: lint types test ## everything CI runs

format: $(STAMP) ## bring the code into shape
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## remove what the targets made
	rm -rf $(VENV) .peer fuzz-findings benchmarks/results .pytest_cache .ruff_cache .hypothesis .import_linter_cache
