# evcm: `make` sets up .venv, `make book` builds the book, `make test` checks the code.
PYTHON ?= python3
VENV := .venv
PY := $(VENV)/bin/python
READY := $(VENV)/.ready
JOBS ?= $(shell nproc 2>/dev/null || echo 2)
PORT ?= 8000
export MPLBACKEND := Agg

.DEFAULT_GOAL := setup
.PHONY: setup book study lab test test-all lint serve bench lock clean help

setup: $(READY) ## set up .venv with the pinned packages and the command evcm

$(READY): requirements.txt requirements-dev.txt pyproject.toml
	@command -v $(PYTHON) >/dev/null || { echo "make: $(PYTHON) not found; on Debian: apt install python3 python3-venv" >&2; exit 2; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "make: Python 3.11 or later is needed, $(PYTHON) is $$($(PYTHON) -V 2>&1); name another with make PYTHON=..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "make: the module venv is missing; on Debian: apt install python3-venv" >&2; exit 2; }
	test -x $(PY) || $(PYTHON) -m venv $(VENV)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements.txt -r requirements-dev.txt
	$(PY) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

study: setup ## run the whole study into results/: aggregators, network, regimes, hosting, feeder, building (resumable)
	EVCM=$(VENV)/bin/evcm JOBS=$(JOBS) .ci/results

book: study ## compute what is not stored yet, then build the book into _build/html
	$(PY) -m book._tools.build build

$(VENV)/.lab: requirements-lab.txt $(READY)
	$(PY) -m pip install --quiet --disable-pip-version-check -r requirements-lab.txt
	@touch $@

lab: $(VENV)/.lab ## every chapter as a notebook in JupyterLab, with a live kernel
	$(PY) -m book._tools.notebook
	$(VENV)/bin/jupyter lab --notebook-dir=_build/lab $(LAB_OPTIONS)

lint: setup ## style and types
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) -m mypy

test: lint ## style, types and the fast tests
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile -m "not slow and not browser"

test-all: lint ## every test; builds the book first for those that need a browser
	$(MAKE) book
	@test -x /usr/bin/chromium || echo "make: /usr/bin/chromium not found (apt install chromium): the browser tests will be skipped" >&2
	$(PY) -m pytest -q -n $(JOBS) --dist loadfile

serve: setup ## open the built book on localhost
	@test -f _build/html/index.html || { echo "make: no built book; run make book first" >&2; exit 2; }
	@echo "http://localhost:$(PORT)/"
	$(PY) -m http.server $(PORT) --bind 127.0.0.1 --directory _build/html

bench: setup ## speed, measured side by side on this machine
	@for script in benchmarks/*.py; do case $$script in benchmarks/_*) ;; *) echo "== $$script"; $(PY) $$script || exit 1;; esac; done

lock: setup ## pin what is installed in .venv
	$(PY) .ci/lock.py

clean: ## remove what was built (not .venv, not results/)
	rm -rf _build dist .pytest_cache .mypy_cache .ruff_cache .hypothesis

help: ## list the targets
	@grep -hE '^[a-z-]+:.*##' Makefile | sed -E 's/:[^#]*## /\t/' | expand -t 12
