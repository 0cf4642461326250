# Every target sets up what it needs; `make run` and `make test` work on a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
JOBS ?= 2
# Whatever the extension modules are built from: a change rebuilds them.
SOURCES := $(shell find gateway -name '*.py' -o -name '*.pxd' -o -name '*.pyx')
# What runs on both the compiled and the interpreted hot path.
DATA_PLANE_TESTS := tests/wire tests/session tests/routing tests/forwarding tests/transport tests/faults tests/fuzz/test_targets.py

# What needs neither an hour nor a container engine.
QUICK := not soak and not compose

# What failed beside others on a busy machine must pass alone, all of it.
ALONE = { echo 'again, one at a time: what failed'; $(BIN)/python -m pytest --last-failed --last-failed-no-failures none -m '$(QUICK)'; }

.PHONY: setup run run-cluster test lint style types rules bench soak audit image compose-lint compose-test build clean help

help:
	@printf '%s\n' \
	  'make run    a dev node, three MicroPython thermostats, one Python service' \
	  'make run-cluster  central nodes, edges and a device, linked' \
	  'make test   everything set up and tested' \
	  'make lint   style, types, import rules, spelling' \
	  'make bench  benchmarks, one comparable line each' \
	  'make soak   the long versions of the fault and memory tests' \
	  'make setup  .venv with the product and its development tools' \
	  'make build  wheel and sdist in dist/' \
	  'make audit  known vulnerabilities of what the image installs; asks pypi.org' \
	  'make image  the container image gateway:local' \
	  'make compose-lint, make compose-test   the compose file, without and with a container engine'

setup: $(COMPILED)

$(INSTALLED): pyproject.toml tools/make-venv
	@tools/make-venv '$(PYTHON)' '$(VENV)'
	@touch $@

$(COMPILED): $(INSTALLED) setup.py $(SOURCES)
	@tools/compile '$(VENV)'
	@touch $@

run: setup
	@$(BIN)/gateway demo

run-cluster: setup
	@$(BIN)/python tools/run-cluster

test: setup
	@tools/install-peers
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m '$(QUICK)' || $(ALONE)
	@tools/pure-tests -n $(JOBS) -q -m '$(QUICK)' $(DATA_PLANE_TESTS) || $(ALONE)
	@$(BIN)/python tools/rules.py

lint: style types
	@$(BIN)/lint-imports
	@$(BIN)/codespell
	@$(BIN)/python tools/settings_doc.py --check
	@$(BIN)/python tools/limits_doc.py --check
	@$(BIN)/python tools/openapi_doc.py --check

style: setup
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: setup
	@$(BIN)/mypy

rules: setup
	@$(BIN)/python tools/rules.py

bench: setup
	@$(BIN)/python -m bench

soak: setup
	@tools/install-peers
	@$(BIN)/python -m pytest -m soak --timeout 3600

build: setup
	@$(BIN)/pip install --quiet build
	@$(BIN)/python -m build

# A package that the index does not know of is a failure: nothing is known of it then.
audit: setup
	@$(BIN)/pip install --quiet pip-audit==2.10.1
	@$(BIN)/pip-audit --strict --require-hashes --disable-pip --progress-spinner off \
	    -r deploy/requirements.txt -r deploy/build-requirements.txt

image:
	@docker build -f deploy/Dockerfile -t gateway:local .

compose-lint: setup
	@tools/compose-lint

compose-test: setup
	@$(BIN)/python -m pytest -m compose tests/e2e

clean:
	find gateway -name '*.so' -delete
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
