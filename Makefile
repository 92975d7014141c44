# `make demo`, `make serve` and `make test` are all the set-up there is: each makes .venv if there is none, installs, and runs.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
# pip says nothing unless something fails: the log stands beside the environment.
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-warn-script-location --root-user-action=ignore -c constraints.txt
# A process each for what brings large native libraries with it (ONNX Runtime, OpenVINO, Ray, Lance, a server's threads).
TESTS := HF_HUB_OFFLINE=1 OMP_NUM_THREADS=1 $(BIN)/python -m pytest
# Two workers, a file of tests in one of them: fixtures of a module are made once. JOBS=0 runs all in one process.
JOBS ?= 2
SPREAD := $(if $(filter-out 0 1,$(JOBS)),-n $(JOBS) --dist loadfile)
# Skipped with a reason where there is no Chromium. What fails is tried once more: a browser on a busy machine may be late.
BROWSER_TESTS := HF_HUB_OFFLINE=1 $(BIN)/python -m pytest -m browser
# A process each: Playwright runs once in a process.
BROWSER_FOLDERS := tests/apps/annotate/browser tests/apps/serve/browser tests/inference/browser

.PHONY: demo serve test test-install reliability lint docs clean

demo: $(VENV)/.installed
	@$(BIN)/python examples/demo.py $(if $(IMAGE),"$(IMAGE)" $(if $(TEXT),"$(TEXT)"))

serve: $(VENV)/.installed-serve
	@$(BIN)/python -m refseg serve $(if $(MODEL),--model $(MODEL)) $(if $(PORT),--port $(PORT))

test: lint
	$(TESTS) $(SPREAD) --ignore tests/apps --ignore tests/inference --ignore tests/reliability
	$(TESTS) $(SPREAD) tests/inference
	$(TESTS) $(SPREAD) tests/apps
	$(TESTS) $(SPREAD) -m reliability tests/reliability
	@for folder in $(BROWSER_FOLDERS); do \
	  $(BROWSER_TESTS) $$folder || $(BROWSER_TESTS) $$folder --last-failed || exit 1; \
	done

# Faults on purpose: bad input to every verb and route, kills, full disks, two processes at one folder. Seven minutes of a processor.
reliability: $(VENV)/.installed-dev
	$(TESTS) -m reliability tests/reliability

# The wheel, built and installed with all that it needs into an environment of its own: some GB from the package index, minutes.
test-install: $(VENV)/.installed-dev
	$(BIN)/python -m pytest -m "slow or not slow" tests/test_distribution.py

lint: $(VENV)/.installed-dev
	$(BIN)/ruff check --quiet .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache >$(VENV)/layers.log || { cat $(VENV)/layers.log; exit 1; }

docs: $(VENV)/.installed-dev
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

$(VENV)/.installed: pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing refseg and what it needs (a few minutes the first time)"
	@$(PIP) -e . >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@

$(VENV)/.installed-serve: $(VENV)/.installed
	@$(PIP) -e '.[serve]' >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt
	@test -x $(BIN)/python || { echo "making $(VENV)"; $(PYTHON) -m venv $(VENV); }
	@echo "installing refseg and what its tests need (a few minutes the first time)"
	@$(PIP) -e '.[dev]' >$(VENV)/install.log 2>&1 || { cat $(VENV)/install.log; exit 1; }
	@touch $@ $(VENV)/.installed $(VENV)/.installed-serve

clean:
	rm -rf $(VENV) site
