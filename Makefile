# `make demo` and `make test` are all the set-up there is: each makes .venv if there is none, installs, and runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# Skipped with a reason where there is no Chromium. What fails is tried once more: a browser on a busy machine may be late.
BROWSER_TESTS := HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m browser tests/apps/annotate/browser

.PHONY: demo test lint clean

demo: $(VENV)/.installed
	$(BIN)/python examples/demo.py $(if $(IMAGE),"$(IMAGE)" $(if $(TEXT),"$(TEXT)"))

test: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy
	HF_HUB_OFFLINE=1 $(BIN)/python -m pytest
	$(BROWSER_TESTS) || $(BROWSER_TESTS) --last-failed

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check .
	$(BIN)/mypy

$(VENV)/.installed: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e .
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[dev]'
	touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV)
