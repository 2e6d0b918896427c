# make demo: set up and run the main job on a sample · make test: set up and run the tests · make bench: figures and ratios
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
TSC := $(VENV)/scripts/node_modules/typescript/bin/tsc
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: demo test bench lint scripts setup libraries clean

demo: setup
	$(BIN)/batchone demo --out demo

test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile $(TESTS) tests

bench: setup
	$(BIN)/python -m benchmarks

lint: setup scripts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy -p batchone
	$(BIN)/mypy --exclude benchmarks/peers benchmarks
	MYPYPATH=docs/own-family $(BIN)/mypy -p drill_template

scripts:  # the types of what browsers run; Node checks them, and nothing else needs it
	@if command -v npm >/dev/null; then $(MAKE) -s --no-print-directory $(TSC) && node $(TSC) -p tests/scripts; \
	elif test -n "$$CI"; then echo "the types of the pages' scripts are checked by Node: install npm"; exit 1; \
	else echo "types of the pages' scripts: NOT CHECKED, there is no npm here"; fi

$(TSC): tests/scripts/package-lock.json
	mkdir -p $(VENV)/scripts
	cp tests/scripts/package.json tests/scripts/package-lock.json $(VENV)/scripts/
	npm ci --prefix $(VENV)/scripts --ignore-scripts --no-audit --no-fund --silent
	touch $@

setup: libraries $(VENV)/ready

$(VENV)/ready: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14) and "batchone needs Python 3.11, 3.12 or 3.13; set PYTHON=...")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --require-hashes -r requirements.lock
	$(BIN)/pip install --quiet --no-deps --no-build-isolation -e .
	$(BIN)/batchone doctor --warm
	touch $@

libraries:
	@missing=; for pair in libGL.so.1:libgl1 libX11.so.6:libx11-6 libEGL.so.1:libegl1; do \
		$(PYTHON) -c "import ctypes, sys; ctypes.CDLL('$${pair%%:*}')" 2>/dev/null || missing="$$missing $${pair##*:}"; done; \
	test -z "$$missing" || { echo "missing system libraries; on Debian: apt-get install$$missing"; exit 1; }

clean:
	rm -rf $(VENV) demo dist build
