# Two commands: `make demo` and `make test`. Both make .venv first where it is missing or older than the requirements.
#
#   make demo    all five stages on the demo data, in build/demo
#   make test    all tests
#   make bench   timings of the feature stages against plain ways of doing the same
#   make lint    ruff and mypy
#   make format  let ruff format
#   make lock    note the versions that are installed now

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo

.PHONY: demo bench test lint format lock clean

$(VENV)/installed: $(wildcard requirements*.txt)
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 14) else "expected Python 3.10 to 3.13, found %d.%d; run make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --requirement requirements-dev.txt
	touch $@

demo: $(VENV)/installed
	$(BIN)/python tools/run_demo.py --work-dir $(DEMO)

test: $(VENV)/installed
	$(BIN)/python tools/offline_whisper.py tiny.en base --official-first || echo "without weights some tests skip"
	$(BIN)/python -m pytest

bench: $(VENV)/installed
	$(BIN)/python tools/offline_whisper.py tiny.en base --official-first
	$(BIN)/python tools/bench_features.py whisper --models tiny.en base
	$(BIN)/python tools/bench_features.py metrics

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/installed
	{ echo "# Versions with which all tests passed (`$(BIN)/python --version`, Linux, x86-64)."; $(BIN)/python -m pip freeze; } > requirements-lock.txt

clean:
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache
