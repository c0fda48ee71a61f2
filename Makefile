# Needs Python 3.11 or newer, make, and access to the package registry.
PYTHON ?= python3
JOBS ?= 2

BIN := .venv/bin
STAMP := .venv/.installed
OFFICIAL := .venv-official/.installed
PIP_FLAGS := -qq --disable-pip-version-check --root-user-action=ignore
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile
export NO_MKDOCS_2_WARNING := 1  # an advertisement of the theme
export CORONJAX_OFFICIAL_PYTHON ?= $(CURDIR)/.venv-official/bin/python

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-slow test-all check docs bench bench-quick bench-device bench-growth official sweep format clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/\1\t\2/p' $(MAKEFILE_LIST) | expand -t 14

setup: $(STAMP)  ## create .venv and install coronjax with everything to work on it

$(STAMP): pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "coronjax needs Python 3.11 or newer; name one with PYTHON=...")'
	@echo "installing coronjax into .venv"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(BIN)/python -m pip install $(PIP_FLAGS) -e '.[dev]'
	@touch $@

# Any other interpreter with jwst 3.0.0 serves too: name it in CORONJAX_OFFICIAL_PYTHON.
$(CURDIR)/.venv-official/bin/python: $(OFFICIAL) ;
$(OFFICIAL): tests/official/requirements.txt
	@echo "installing the official pipeline into .venv-official"
	@test -x .venv-official/bin/python || $(PYTHON) -m venv .venv-official
	@.venv-official/bin/python -m pip install $(PIP_FLAGS) -r $<
	@touch $@

demo: $(STAMP)  ## simulate a small association with companions, reduce it, show what was found: ./demo
	@$(BIN)/coronjax demo

# Most of their time is compilation of programs that run once; what matters at full speed is in the other tests.
test: export XLA_FLAGS += --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true
test: export JAX_TRACEBACK_IN_LOCATIONS_LIMIT ?= 0
test: $(STAMP)  ## the fast tests
	@$(PYTEST) -m "not slow and not official"

test-slow: $(STAMP)  ## the slow tests
	@$(PYTEST) -m "slow and not official"

test-all: $(STAMP)  ## fast and slow tests
	@$(PYTEST) -m "not official"

check: $(STAMP)  ## style, types, direction of imports, documentation
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/python -m pytest -q tests/test_imports.py
	@$(BIN)/mkdocs build --strict --quiet

docs: $(STAMP)  ## build the documentation into ./site
	@$(BIN)/mkdocs build --strict

official: $(STAMP) $(CORONJAX_OFFICIAL_PYTHON)  ## compare with the official pipeline
	@$(PYTEST) --dist load -m official tests/official

sweep: $(STAMP) $(CORONJAX_OFFICIAL_PYTHON)  ## compare with the official pipeline on twenty fresh datasets
	@CORONJAX_SWEEP=20 $(PYTEST) --dist load -m official tests/official/test_fresh.py

bench: $(STAMP) $(CORONJAX_OFFICIAL_PYTHON)  ## measure against the numpy floor and other packages: benchmarks/RESULTS.md
	@$(BIN)/python -m benchmarks.run

# Ratios of one run on one machine, and so wide that only a step gone wrong exceeds them.
bench-quick: $(STAMP)  ## measure against the numpy floors at smaller sizes; fails where coronjax is much slower
	@$(BIN)/python -m benchmarks.run --size quick --no-peers --check --rounds 1 --output build/benchmarks/quick.md

bench-device: $(STAMP)  ## measure the steps on an accelerator, where there is one, and on the processor beside it
	@$(BIN)/python -m benchmarks.accelerator

bench-growth: $(STAMP)  ## how the time of each step grows: benchmarks/GROWTH.md
	@$(BIN)/python -m benchmarks.growth

format: $(STAMP)  ## put the code into shape
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

clean:  ## remove what was built, but not the environments
	@rm -rf site build dist demo .pytest_cache .mypy_cache .ruff_cache .hypothesis
	@find . -name __pycache__ -type d -not -path './.venv*' -prune -exec rm -rf {} +
