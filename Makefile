# What a fresh clone needs: Python 3.11 or newer with its venv module, and make. Everything is installed into .venv,
# once, in the versions of constraints.txt.
#
# On Linux, PyPI's torch brings gigabytes of CUDA libraries. Without a GPU, take PyTorch's CPU builds instead:
#     make demo PIP_FLAGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON ?= $(shell for name in python3 python3.14 python3.13 python3.12 python3.11; do \
	$$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$name && break; done)
PIP_FLAGS ?=
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --disable-pip-version-check --constraint constraints.txt $(PIP_FLAGS)

# A race of seconds, to see that everything works: its verdict means nothing.
SHORT := race.seeds=[0] race.budgets=[5,10] race.calibration_pairs=3

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help install demo demo-short test lint types docs clean

help: ## show what make can do
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/installed ## install, get the data, race 24 short trainings, write runs/demo/report.html and print the verdict
	$(BIN)/python tools/fashion_mnist.py
	$(BIN)/headstart race recipes/demo.yaml --workers 2 --out runs/demo

demo-short: .venv/installed ## the demo from end to end in about a minute, in a temporary folder
	$(BIN)/python tools/fashion_mnist.py
	@folder=$$(mktemp -d) && trap 'rm -rf "$$folder"' EXIT && set -x && \
	$(BIN)/headstart race recipes/demo.yaml $(SHORT) --workers 2 --out "$$folder" && \
	test -s "$$folder/report.html" && test -s "$$folder/race.json"

test: lint types ## install, lint, type-check, test
	$(BIN)/python -m pytest

lint: .venv/installed-dev ## ruff
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: .venv/installed-dev ## mypy
	$(BIN)/mypy

docs: .venv/installed-docs ## build the documentation's site, site/index.html; any warning fails
	$(BIN)/python -m sphinx --fail-on-warning --keep-going --quiet -d build/doctrees docs site

install: .venv/installed-dev ## only install, with the tools for development

clean: ## remove .venv, caches and the site (runs/ and fetched data stay)
	rm -rf .venv build dist site .mypy_cache .pytest_cache .ruff_cache
	find src tests tools benchmarks -name __pycache__ -type d -prune -exec rm -rf {} +

# Empty files say how far the installation is: a second call installs nothing.
.venv/created:
	@test -n "$(PYTHON)" || { echo "headstart needs Python 3.11 or newer: install it, or say where it is with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "$(PYTHON) is older than Python 3.11 or does not run: name another with make PYTHON=..." >&2; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) lacks its venv module: install it (Debian and Ubuntu: apt install python3-venv)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	@touch $@

# torch first and alone, so that a version from another index is in place before anything else asks for it.
.venv/torch: constraints.txt | .venv/created
	$(PIP) torch
	@touch $@

.venv/installed: pyproject.toml constraints.txt .venv/torch
	@echo "Installing headstart"
	$(PIP) --quiet --editable .
	@touch $@

.venv/installed-dev: .venv/installed
	$(PIP) --quiet --editable '.[dev]'
	@touch $@

.venv/installed-docs: .venv/installed
	$(PIP) --quiet --editable '.[docs]'
	@touch $@
