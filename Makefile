# Every target makes the virtual environment by itself when it is missing or its pins changed.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
STAMP  := $(VENV)/.installed
export RAY_USAGE_STATS_ENABLED = 0
# The tests start many processes: each would compile the sources anew if Python might not keep its bytecode.
export PYTHONDONTWRITEBYTECODE =

.PHONY: help setup demo run test check check-all format bench bench-detection clean

help:            ## Lists the targets.
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:[^#]*## */\t/' | expand -t 18

$(STAMP): requirements-dev.txt pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r requirements-dev.txt
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
	@touch $(STAMP)

setup: $(STAMP)  ## Makes the virtual environment with the pinned dependencies.

demo: $(STAMP)   ## Replays 94 US airports of 2001 through Ray and prints what mlma did.
	$(BIN)/mlma demo

run: $(STAMP)    ## Runs the daemon on configs/watch-directory.yaml.
	$(BIN)/mlma run --config configs/watch-directory.yaml

test: setup check  ## Set-up, then everything that `make check` checks.

check: $(STAMP)  ## Format, lint, strict types, import contracts, tests, doctests, docs.
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadgroup -m "not slow"

check-all: check ## The same, and the slow tests.
	$(BIN)/python -m pytest -m slow

format: $(STAMP) ## Formats the code and mends what the linter can mend.
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

bench: $(STAMP)  ## Runs the benchmarks and prints ratios against baselines of the same run.
	$(BIN)/python -m benchmarks

bench-detection: $(STAMP)  ## Compares the loss tests with other detectors at matched budgets of false alarms.
	$(BIN)/python -m benchmarks.detection

clean:           ## Removes the virtual environment and caches.
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache
