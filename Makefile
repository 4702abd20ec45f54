# Everything sets itself up: `make demo` or `make test` is all that a fresh clone needs.
SHELL := /bin/bash
VENV ?= .venv
PYTHON ?=
export VENV PYTHON
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help demo test test-all lint types unit docs docs-check dashboards dashboards-check bench bench-cache soak clean

help: ## This list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: ## The example app under traffic, live figures, a summary (DURATION=20 ends by itself, SIZE=real is a large chain)
	@scripts/setup demo
	@$(RUN) -m examples.restaurant.demo

test: ## All that must hold: lint, types, generated files, tests on real servers
	@scripts/setup test
	@$(MAKE) --no-print-directory lint types docs-check unit

test-all: ## `make test` on each of Python 3.11, 3.12 and 3.13 that is found
	@for version in 3.11 3.12 3.13; do \
	    python=$$(command -v python$$version) && $$python -c '' 2>/dev/null || { echo "python$$version: not found"; continue; }; \
	    echo "== python$$version"; \
	    $(MAKE) --no-print-directory test VENV=.venv-$$version PYTHON=$$python || exit 1; \
	done

lint: ## Style and common mistakes (ruff)
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

types: ## Types of the package, strictly (mypy)
	@$(RUN) -m mypy

unit: ## The tests alone, in several processes; TESTS=tests/sql runs some of them
	@scripts/unit $(TESTS)

docs: ## Write the generated parts of the documentation anew
	@$(RUN) scripts/reference.py

docs-check: dashboards-check ## Fail if a generated part of the documentation, or of dashboards/, is stale
	@$(RUN) scripts/reference.py --check

dashboards: ## Write dashboards, rules and the Alertmanager's configuration anew
	@$(RUN) -m dashboards.src

dashboards-check: ## Fail if one of them is stale
	@$(RUN) -m dashboards.src --check

BENCHMARKS := http cells scrape sql cache sockets advisor admin resources
bench: ## Against the peers, side by side (minutes); BENCHMARKS="http sql" runs some of them
	@scripts/setup bench
	@failed=; for name in $(BENCHMARKS); do \
	    echo "== $$name"; $(RUN) -m benchmarks.$$name || failed="$$failed $$name"; \
	done; [ -z "$$failed" ] || { echo "missed what they must reach:$$failed"; exit 1; }

bench-cache: ## The cache beside its peers
	@$(MAKE) --no-print-directory bench BENCHMARKS=cache

soak: ## The large versions of the tests: exactness under kills, 200,000 requests, flat memory
	@scripts/setup bench
	@$(RUN) -m benchmarks.soak
	@REQUIRE_SERVERS=1 $(RUN) -m pytest -m slow --timeout=1800 $(TESTS)

clean: ## Remove what make has made
	@rm -rf .venv .venv-* .mypy_cache .ruff_cache .pytest_cache .hypothesis build dist
