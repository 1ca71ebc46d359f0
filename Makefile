# `make demo` and `make test` do all the set-up they need on a fresh machine.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
DEMO_OUT ?= runs/demo
DEMO_ARGS ?=
# Two test processes, one thread each: with more, tiny tensors spend their time waiting for a core. And compiled modules are
# kept whatever the caller's shell says: the tests start Python many times.
PYTEST := PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal

.PHONY: setup demo test quick lint check bench clean

setup: $(READY)

$(READY): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade pip
	$(BIN)/python -m pip install --quiet --constraint constraints.txt torch --editable '.[dev]'
	touch $@

demo: $(READY)
	$(BIN)/starsmith demo --out $(DEMO_OUT) $(DEMO_ARGS)

test: $(READY)
	$(PYTEST)

lint: $(READY)
	$(BIN)/ruff format --check src tests benchmarks tools
	$(BIN)/ruff check src tests benchmarks tools
	$(BIN)/mypy
	$(BIN)/lint-imports

quick: $(READY)
	$(PYTEST) -q -m 'not slow' --ignore tests/conformance

check: lint quick

bench: $(READY)
	for file in benchmarks/*.py; do $(BIN)/python $$file --quick || exit 1; done

clean:
	rm -rf $(VENV) .bench .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
