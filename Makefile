# Everything happens in .venv; `make help` lists the targets.
PYTHON ?= $(shell for p in python3.13 python3.12 python3.11 python3; do command -v $$p >/dev/null 2>&1 && $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && { echo $$p; break; }; done)
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help

help: ## this list
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  make %-14s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "ntkengine needs Python 3.11 or newer; none was found on the PATH" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/.runtime: pyproject.toml | $(BIN)/python
	$(PIP) -e .
	@touch $@

$(VENV)/.test: pyproject.toml | $(BIN)/python
	$(PIP) -e '.[test]'
	@touch $@ $(VENV)/.runtime

setup: $(VENV)/.test ## virtual environment with everything the tests need

demo: $(VENV)/.runtime ## set up, then the main job: a deep network's kernel -> a shallow network, trained
	@mkdir -p out
	$(BIN)/ntkengine shallowify --store runs --figure out/shallowify.png

test: $(VENV)/.test ## set up, then all tests but the heavy studies, in two processes (WORKERS=0: in this one)
	$(BIN)/python -m pytest -m "not heavy" -n $(WORKERS) --dist loadfile $(ARGS)

test-heavy: $(VENV)/.test ## the studies that take minutes
	$(BIN)/python -m pytest -m heavy $(ARGS)

lint: $(VENV)/.test ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/mypy

ratios: $(VENV)/.test ## speed, as ratios against rivals in the same run
	$(BIN)/python asv_bench/ratios $(ARGS)

figure: $(VENV)/.runtime ## the README's figures
	$(BIN)/ntkengine shallowify --store out/runs --figure docs/shallowify.png
	$(BIN)/ntkengine reproduce signs --store out/runs --figure docs/signs.png

clean: ## remove the environment, runs and caches of this folder
	rm -rf $(VENV) out runs .pytest_cache .mypy_cache .ruff_cache .hypothesis

.PHONY: help setup demo test test-heavy lint ratios figure clean
