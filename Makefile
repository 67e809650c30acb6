# `make run` and `make test` set up what they need in .venv and do the rest.
PYTHON ?= python3
# Where Python may keep what it compiles, it compiles what it loads: compiling all that is installed takes two minutes.
COMPILE := $(if $(PYTHONDONTWRITEBYTECODE),--compile,--no-compile)
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet $(COMPILE) --constraint constraints.txt

.PHONY: help run dvc test test-lab test-slow test-all lint

help:
	@echo "make run    run the quickstart study through Prefect and say where the report is"
	@echo "make dvc    run it through DVC alone"
	@echo "make test   run the tests; make test-lab those with workers and clusters, make test-all both"
	@echo "make test-slow    run the tests that take long"
	@echo "make lint   check style, types and import contracts"

run: .venv/installed
	@$(BIN)/python -m flows.pipeline

dvc: .venv/installed
	@PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/dvc repro

test: .venv/installed-dev
	@$(BIN)/python -m pytest -n 2 --dist worksteal

test-lab: .venv/installed-dev
	@$(BIN)/python -m pytest -m "lab and not slow" -n 2 --dist worksteal

test-all: .venv/installed-dev
	@$(BIN)/python -m pytest -m "not slow" -n 2 --dist worksteal

test-slow: .venv/installed-dev
	@$(BIN)/python -m pytest -m slow

lint: .venv/installed-dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/pyright
	$(BIN)/lint-imports

.venv/installed: pyproject.toml constraints.txt
	@echo "installing into .venv; this takes a few minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) --editable .
	@touch $@

# Groups of dependencies need a newer pip than Python 3.11 comes with.
.venv/installed-dev: pyproject.toml constraints.txt
	@echo "installing into .venv; this takes a few minutes"
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	@$(PIP) pip
	@$(PIP) --editable . --group dev
	@touch .venv/installed $@
