# Everything a fresh machine with Python 3.11+ needs: `make demo` and `make test`.
PYTHON ?= python3
BIN := .venv/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt
export OMP_NUM_THREADS = 1

.PHONY: demo install test test-all lint types layers docs oracles clean-all
demo: install ## the main job on embedded real data: verdict and HTML report
	$(BIN)/mitate demo --out runs/demo

install: .venv/installed ## mitate itself
.venv/installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(PIP) torch
	$(PIP) -e .
	touch $@

.venv/test-installed: .venv/installed pyproject.toml constraints.txt
	$(PIP) -e '.[dev]'
	touch $@

test: .venv/test-installed lint types ## fast tests: no browser, no cluster, no network
	$(BIN)/python -m pytest -n 2

.venv/ray-installed: .venv/test-installed
	$(PIP) -e '.[ray]'
	touch $@

test-all: .venv/test-installed .venv/ray-installed lint types ## also browser, kills and other slow tests, and a cluster of two nodes
	$(BIN)/python -m pytest -n 2 -m 'not network and not ray'
	$(BIN)/python -m pytest -m ray

lint: .venv/test-installed
	$(BIN)/ruff check src tests benchmarks experiments
	$(BIN)/ruff format --check src tests benchmarks experiments

types: .venv/test-installed
	$(BIN)/mypy

docs: .venv/test-installed ## the pages that are written by the program
	$(BIN)/python docs/make.py

oracles: .oracles/installed ## what independent implementations say of the tests' inputs: tests/oracles/*.json
	.oracles/bin/python oracles/make.py
	.oracles/bin/python oracles/robustness.py
	.oracles/bin/python oracles/style.py
	.oracles/bin/python oracles/accountant.py
	.oracles/bin/python oracles/privacy.py
	.oracles/bin/python oracles/rouge.py
	.oracles/bin/python oracles/similarity.py

.oracles/installed: oracles/requirements.txt
	test -x .oracles/bin/python || $(PYTHON) -m venv .oracles
	.oracles/bin/python -m pip install --quiet --disable-pip-version-check -r $<
	touch $@
