# Every target sets up what it needs; `make run` and `make test` work on a fresh clone.

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
COMPILED := $(VENV)/.compiled
WHEELS := dist/.wheels
PROFILES ?= edge
# Half of what tests take is waiting: for processes, disks and deadlines. Three at a time keep two cores at work.
JOBS ?= 3
# Whatever the extension modules are built from: a change rebuilds them.
SOURCES := $(shell find gateway -name '*.py' -o -name '*.pxd' -o -name '*.pyx')
# What is in the wheel and not compiled from.
SHIPPED := $(shell find device_sdk gateway -type f -not -name '*.py[co]' -not -name '*.so')
# What runs on both the compiled and the interpreted hot path: whatever reaches a module that setup.py compiles.
DATA_PLANE_TESTS := tests/wire tests/session/test_stream_ids.py tests/routing tests/forwarding tests/transport tests/faults tests/fuzz/test_targets.py
# Of these not, because nothing in it is compiled: metadata, and expressions over tags. Because it is about the disk, a
# process or an import, and holds on either path alike: nodes that are killed, descriptors, the imports of the data plane.
# Because it is long and looks for what only compiled code can leave behind: the churn. The other sessions' tests are
# left out as a whole: a session is interpreted on both.
ALIKE := $(addprefix --ignore=tests/,wire/test_brokering.py wire/test_metadata.py wire/test_mimetypes.py \
    routing/test_tags.py routing/test_queries.py forwarding/test_imports.py faults/test_node_data.py \
    faults/test_descriptors.py faults/test_churn.py) --deselect=tests/fuzz/test_targets.py::test_a_run_with_the_fuzzer \
    --deselect=tests/fuzz/test_targets.py::test_both_builds_of_the_hot_path_agree

# What needs neither an hour nor a container engine.
QUICK := not soak and not compose

# Without bytecode on disk each of the hundred processes that tests start compiles what it imports.
export PYTHONDONTWRITEBYTECODE :=

# What failed beside others on a busy machine must pass alone, all of it.
ALONE = { echo 'again, one at a time: what failed'; $(1) --last-failed --last-failed-no-failures none -m '$(QUICK)'; }

.PHONY: setup run run-cluster run-mqtt test lint style types imports documents rules bench soak audit sbom sdk vendor vendor-check image compose-lint compose-test build wheels bundle clean help

help:
	@printf '%s\n' \
	  'make run    a dev node, three MicroPython thermostats, one Python service' \
	  'make run-mqtt   Mosquitto, a node, a thermostat of each kind, bridged' \
	  'make run-cluster  central nodes, edges and a device, linked' \
	  'make test   everything set up and tested' \
	  'make lint   style, types, import rules, spelling' \
	  'make bench  benchmarks, one comparable line each' \
	  'make soak   the long versions of the fault and memory tests' \
	  'make setup  .venv with the product and its development tools' \
	  'make build  wheel and sdist in dist/, tried; make wheels does so for each Python of this machine' \
	  'make bundle one file from which a host without the Internet is installed, in dist/' \
	  'make sdk    the device SDK for mip and for pip, in dist/' \
  'make audit  known vulnerabilities of what is shipped; asks pypi.org and npmjs.org' \
  'make sbom   what the lock pins as CycloneDX, in dist/; the image has its own' \
	  'make vendor the libraries of the dashboard, from npm, as tools/vendor/ has them; vendor-check compares' \
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

run-mqtt: setup
	@tools/install-peers mosquitto
	@$(BIN)/python tools/run-mqtt

# What pytest makes of the tests' sources it keeps; made beforehand, once, it need not be made by each of its processes.
test: setup
	@[ -d tests/__pycache__ ] || $(BIN)/python -m pytest -p no:cacheprovider --collect-only -qq >/dev/null 2>&1 & \
	    tools/install-peers; ended=$$?; wait; exit $$ended
	@$(BIN)/python -m pytest -n $(JOBS) --dist loadgroup -m '$(QUICK)' || $(call ALONE,$(BIN)/python -m pytest)
	@tools/pure-tests -n $(JOBS) -q -m '$(QUICK)' $(ALIKE) $(DATA_PLANE_TESTS) || $(call ALONE,tools/pure-tests)
	@$(BIN)/python tools/rules.py

lint: style types imports documents

imports: setup
	@$(BIN)/lint-imports

documents: setup
	@$(BIN)/codespell
	@$(BIN)/python tools/settings_doc.py --check
	@$(BIN)/python tools/limits_doc.py --check
	@$(BIN)/python tools/openapi_doc.py --check
	@$(BIN)/python tools/schema_doc.py --check
	@$(BIN)/python tools/grafana_dashboards.py --check
	@tools/lock --check
	@$(BIN)/python tools/licences_doc.py --check
	@$(BIN)/python tools/sdk_package.py --check
	@$(BIN)/python tools/sdk_reference.py --check

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
	@HYPOTHESIS_PROFILE=many $(BIN)/python -m pytest -m 'soak or hypothesis' --timeout 3600

# Wheel and sdist of this Python; made again when what they are made of has changed.
build: $(WHEELS)

$(WHEELS): $(COMPILED) $(SHIPPED) pyproject.toml MANIFEST.in README.md tools/wheels
	@tools/wheels '$(BIN)/python'
	@touch $@

wheels: setup
	@tools/wheels

# What a host without the Internet is installed from: docs/offline.md. PROFILES are those whose images are in it.
bundle: wheels image
	@$(BIN)/python tools/wheelhouse.py
	@$(BIN)/python tools/bundle.py --profiles '$(PROFILES)'

# Exit code 75: somebody was not to be reached, so nothing can be said (docs/release.md).
audit: setup
	@$(BIN)/python tools/audit.py

sbom: setup
	@SOURCE_DATE_EPOCH=$${SOURCE_DATE_EPOCH:-$$(git log -1 --format=%ct)} $(BIN)/python tools/sbom.py

# The device SDK as it is published: for mip, as sources and compiled, and a wheel for CPython.
sdk: setup
	@$(BIN)/python tools/sdk_package.py --out dist

# What the dashboard uses of other people's work; needs Node.js.
vendor: setup
	@$(BIN)/python tools/vendor.py

vendor-check: setup
	@$(BIN)/python tools/vendor.py --check

image:
	@docker build -f deploy/Dockerfile -t gateway:local .

compose-lint: setup
	@tools/compose-lint

compose-test: setup
# Most of it is waiting.
	@$(BIN)/python -m pytest -n 2 --dist loadfile -m compose tests/e2e

clean:
	find gateway -name '*.so' -delete
	rm -rf $(VENV) build dist *.egg-info .mypy_cache .ruff_cache .pytest_cache .hypothesis
