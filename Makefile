# What a fresh clone needs: Python 3.11 or newer with its venv module, and make. Everything is installed into .venv,
# once, in the versions of constraints.txt.
#
# On Linux, PyPI's torch brings gigabytes of CUDA libraries. Without a GPU, take PyTorch's CPU builds instead:
#     make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"
# An installation prints a line a step, and errors; PIP_FLAGS=-v shows all that pip says.

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
PIP_FLAGS ?=
BIN := .venv/bin
# Only errors, unless more is asked for.
QUIET := $(if $(filter -v% --verbose,$(PIP_FLAGS)),,-qq)
PIP_OPTIONS := $(QUIET) --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)
PIP := $(BIN)/python -m pip install $(PIP_OPTIONS)

# One process a core, as long as memory surely suffices; a file's tests share a process and its fixtures, and files with
# slow tests come first (tests/conftest.py), not those with many.
PYTEST_FLAGS ?= -n auto --maxprocesses 4 --dist loadfile --no-loadscope-reorder

# A race of seconds, to see that everything works: its verdict means nothing.
SHORT := race.seeds=[0] race.budgets=[5,10] race.arms.baseline.budgets=null race.arms.distill.budgets=null \
	race.arms.init.budgets=null race.arms.both.budgets=null \
	race.calibration_pairs=3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install install-ci demo demo-short test lint types docs gpu-check works-with clean

help: ## show what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## install, get the data, race 39 short trainings, write runs/demo/report.html and print the verdict
	$(BIN)/python tools/fashion_mnist.py
	$(BIN)/headstart race recipes/demo.yaml --workers 2 --out runs/demo

demo-short: .venv/installed ## the demo from end to end in about a minute, in a temporary folder
	$(BIN)/python tools/fashion_mnist.py
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && set -x && \
	$(BIN)/headstart race recipes/demo.yaml $(SHORT) --workers 2 --out "$$folder" && \
	test -s "$$folder/report.html" && test -s "$$folder/race.json"

# Tests that need research data look for it beside the repository, unless HEADSTART_DATA says where it is.
test: export HEADSTART_DATA := $(or $(HEADSTART_DATA),$(abspath $(wildcard ../shared/data)))
test: lint types ## install, lint, type-check, test
	$(BIN)/python -m pytest $(PYTEST_FLAGS)

lint: .venv/installed-dev ## ruff, and that each floor imports from those below it only
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/lint-imports --no-logo

types: .venv/installed-dev ## mypy
	$(BIN)/mypy

docs: .venv/installed-docs ## build the documentation's site, site/index.html; any warning fails
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d build/doctrees docs site

gpu-check: ## measure on a CUDA device in 8 minutes; installs nothing, PYTHON=... names the Python that has torch
	$(if $(wildcard $(BIN)/python),$(BIN)/python,$(PYTHON)) benchmarks/gpu_check.py

# Other people's programs: PROGRAMS=folder has them, otherwise they are downloaded from GitHub at pinned commits.
WORKS := .venv-works-with/bin/python
works-with: .venv-works-with/installed ## train with programs of transformers, TRL, timm, ... with and without headstart; downloads them
	$(if $(PROGRAMS),,$(WORKS) benchmarks/works_with.py --fetch runs/programs)
	PYTHONPATH=$(CURDIR)/tests/cpu_torchvision $(WORKS) benchmarks/works_with.py --programs $(or $(PROGRAMS),runs/programs)

install: .venv/installed-dev ## only install, with the tools for development

install-ci: .venv/installed-ci ## and all that tests on a CPU can use: Ray, trackers, Triton, timm, torchvision, ...

clean: ## remove .venv, caches and the site (runs/ and fetched data stay)
	rm -rf .venv .venv-works-with build dist site .mypy_cache .pytest_cache .ruff_cache
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Empty files say how far the installation is: a second call installs nothing.
.venv/created:
	@test -n "$(PYTHON)" || { echo "headstart needs Python 3.11 or newer: install it, or say where it is with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11 or does not run: name another with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks its venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	@echo "Making .venv with $(PYTHON)"
	@$(PYTHON) -m venv .venv
	@touch $@

# torch first and alone, so that a version from another index is in place before anything else asks for it.
.venv/torch: constraints.txt | .venv/created
	@echo "Installing PyTorch (hundreds of megabytes; minutes where they are to be fetched)"
	@$(PIP) torch
	@touch $@

.venv/installed: pyproject.toml constraints.txt .venv/torch
	@echo "Installing headstart"
	@$(PIP) --editable '.[recipes]'
	@touch $@

.venv/installed-dev: .venv/installed
	@echo "Installing what development needs"
	@$(PIP) --editable '.[dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	@echo "Installing what builds the documentation"
	@$(PIP) --editable '.[docs]'
	@touch $@

.venv-works-with/installed: pyproject.toml constraints.txt | .venv/created
	@echo "Installing what other people's programs need into .venv-works-with"
	@.venv/bin/python -m venv .venv-works-with
	@$(WORKS) -m pip install $(PIP_OPTIONS) torch
	@$(WORKS) -m pip install $(PIP_OPTIONS) --editable '.[lightning,text]' peft trl albumentations
	@$(WORKS) -m pip install $(PIP_OPTIONS) --no-deps timm torchvision
	@touch $@

# Without what they depend on: a torchvision from PyPI wants the torch of PyPI, and torch is there already.
.venv/installed-ci: .venv/installed-dev .venv/installed-docs
	@echo "Installing what else tests can use"
	@$(PIP) --editable '.[ci]'
	@$(PIP) --no-deps timm torchvision
	@touch $@
