# `make help` lists the targets. Everything below needs only python3 (with venv) and a network.
.DEFAULT_GOAL := help
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c

UV := $(or $(shell command -v uv 2>/dev/null),.tools/bin/uv)
SUITE := trixie
RUN := $(UV) run --frozen --all-packages
# Tests start hundreds of Python processes: each would compile all modules again.
unexport PYTHONDONTWRITEBYTECODE

.PHONY: help
help: ## List the targets
	@grep -hE '^[a-z0-9-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1\t/' | expand -t 16

.PHONY: setup
setup: .venv/.synced ## Create the environment: uv from PyPI, everything else from the lock file

.tools/bin/uv:
	@python3 -m venv .tools || { echo "python3 has no venv: install python3-venv" >&2; exit 1; }
	@.tools/bin/pip install --quiet --disable-pip-version-check uv

.venv/.synced: $(filter .tools/bin/uv,$(UV)) pyproject.toml uv.lock schemas/pyproject.toml testing/pyproject.toml worker/pyproject.toml
	@$(UV) sync --frozen --all-packages --quiet
	@touch $@

.PHONY: demo
demo: setup ## See it work: broker, endpoint, worker and five jobs; stops all that it started
	@scripts/find-broker.sh
	@$(RUN) aimicromind-worker demo $(if $(FLOW),--flow "$(FLOW)") $(if $(QUESTION),--question "$(QUESTION)")

.PHONY: check
check: setup lint types imports unit ## What must be green before each commit

.PHONY: lint
lint: setup ## Check style, format, the Dockerfile and the workflow
	$(RUN) ruff check .
	$(RUN) ruff format --check .
	$(RUN) hadolint Dockerfile
	$(RUN) zizmor --quiet --offline .github

.PHONY: types
types: setup ## Check types, strictly
	$(RUN) mypy

.PHONY: imports
imports: setup ## Check that imports go one way and that the core does no I/O
	$(RUN) lint-imports --no-cache

.PHONY: unit
unit: setup ## Run the tests that open no socket
	$(RUN) pytest -q -n 2 tests/unit

# Just below what was measured: all code of schemas and worker, then the worker's rules alone.
MIN_COVERAGE := 57
MIN_COVERAGE_OF_RULES := 93

.PHONY: coverage
coverage: setup ## Run the unit tests and fail where they cover fewer branches than they did
	$(RUN) pytest -q -n 2 --cov --cov-branch --cov-fail-under=$(MIN_COVERAGE) tests/unit
	$(RUN) coverage report --fail-under=$(MIN_COVERAGE_OF_RULES) \
		--include='*/aimicromind_worker/core/*,*/aimicromind_worker/jobs/*,*/aimicromind_worker/runs/*'

.PHONY: contract
contract: setup ## Write JSON Schema, AsyncAPI, TypeScript and the message reference from the types
	@$(RUN) python -m tools.contract

.PHONY: docs
docs: setup ## Write the pages of failures and settings, and the table of error texts, from the code
	@$(RUN) python -m tools.docs

.PHONY: contract-examples
contract-examples: setup broker ## Record the examples of messages anew from a real worker, then write what holds them
	@$(RUN) python -m tools.contract.recording
	@$(RUN) python -m tools.contract

.PHONY: test-contract
test-contract: setup ## Show the contract to AsyncAPI's parser and TypeScript's compiler; skipped without npm
	@scripts/find-node.sh || echo "no npm: AsyncAPI and TypeScript are not checked" >&2
	$(RUN) pytest -q tests/contract

# Two at a time: some of them keep one core busy. Where make can, it prints one after the other.
TWO_AT_A_TIME := --jobs=2 $(if $(filter output-sync,$(.FEATURES)),--output-sync=target)

.PHONY: test
test: setup broker ## Run everything: check, the built wheels and the chart, then all on a real broker
	@$(MAKE) $(TWO_AT_A_TIME) check wheels test-contract test-chart
	@$(MAKE) test-broker

.PHONY: test-broker
test-broker: setup broker ## Run what needs a broker on the machine's RabbitMQ, or on PRIVATE_BROKER_SERVER
	$(RUN) pytest -q -n 5 tests/integration tests/process

.PHONY: test-chart
test-chart: setup ## Render the chart with Helm 3 and Helm 4 and check it against Kubernetes and itself
	@scripts/find-helm.sh $(UV)
	$(RUN) pytest -q -n 2 tests/chart

.PHONY: try-monitoring
try-monitoring: setup broker ## Run the chart's alerts and dashboard on a real Prometheus, which must be installed
	@scripts/find-helm.sh $(UV)
	@$(RUN) python -m tools.monitoring

.PHONY: test-browser
test-browser: setup broker ## Try the page of examples in Chromium; skipped where that cannot be had
	@scripts/find-chromium.sh
	$(RUN) --group browser pytest -q tests/browser

.PHONY: test-image
test-image: setup broker ## Build the image and run it, read-only and without rights: with Docker, else podman as root
	@scripts/test-image.sh $(UV)

.PHONY: test-faults
test-faults: setup broker ## Break everything around real workers, one test for each fault of docs/faults.md
	@scripts/find-faketime.sh
	$(RUN) pytest -q -n 3 --dist loadfile tests/faults

.PHONY: broker
broker:
	@scripts/find-broker.sh server

.PHONY: test-super-stream
test-super-stream: setup broker ## Read the event log as a super stream, by PyPI's rstream on a broker with the stream plugin
	$(RUN) --with rstream pytest tests/integration/client/test_super_stream.py

.PHONY: test-rabbitmq4
test-rabbitmq4: setup ## Run what needs a broker on RabbitMQ 4, installed aside: as root; SUITE=sid for a later one
	export PRIVATE_BROKER_SERVER; \
		PRIVATE_BROKER_SERVER=$$(scripts/rabbitmq4.sh .tools/rabbitmq-$(SUITE) $(SUITE)); \
		$(RUN) pytest -q -n 2 tests/integration tests/process; \
		$(RUN) pytest -q tests/faults

.PHONY: wheels
wheels: setup ## Build both wheels and try them on each Python here: the demo, and the unit tests on others
	scripts/test-wheels.sh $(UV)

.PHONY: bench
bench: setup broker ## Measure the worker beside its peers, on this machine, into docs/performance.md
	$(RUN) --group bench python -m benchmarks --costs --docs

.PHONY: bench-quick
bench-quick: setup broker ## The same in small, printed
	$(RUN) --group bench python -m benchmarks --quick

.PHONY: bench-long
bench-long: setup broker ## Follow the worker's memory through answers of a million tokens
	$(RUN) --group bench python -m benchmarks.long

.PHONY: bench-event-log
bench-event-log: setup broker ## Show what the partitions of the event log cost, and what reading one chat's events does
	$(RUN) --group bench python -m benchmarks.event_log

.PHONY: bench-sizing
bench-sizing: setup broker ## Measure what streams cost, and print how large a pool must be
	$(RUN) --group bench python -m benchmarks.sizing

.PHONY: bench-health
bench-health: setup broker ## Flood the health port: the slowest answer to a probe, and the worker's memory
	$(RUN) python -m benchmarks.health

.PHONY: bench-memory
bench-memory: setup broker ## Show what jobs of 8 MiB cost the worker: memory, and time without the event loop
	$(RUN) --group bench python -m benchmarks.memory

.PHONY: profile
profile: setup broker ## Show where the worker's time goes under 500 streams
	$(RUN) --group bench python -m benchmarks.profile

.PHONY: soak
soak: setup broker ## Run many jobs with random faults; JOBS, WORKERS, SEED, PAUSE choose how many and which
	$(RUN) python -m tools.soak

.PHONY: fuzz
fuzz: setup broker ## Try all properties at random and mutate answers; EXAMPLES, COUNT, RELAY_COUNT, SEED, NUMBER
	export SEED=$${SEED:-$$RANDOM}; echo "SEED=$$SEED"; \
		test "$${NUMBER:-}" || $(RUN) pytest -q -n 2 -m hypothesis --timeout 3600 \
			--hypothesis-profile fuzz --hypothesis-seed $$SEED tests/unit; \
		$(RUN) python -m tools.fuzz

.PHONY: fuzz-messages
fuzz-messages: setup broker ## Send messages that no library would write to a worker and a client; COUNT, SEED
	$(RUN) python -m tools.fuzz.messages

.PHONY: lock
lock: setup ## Renew the lock file
	$(UV) lock --upgrade

.PHONY: release
release: setup ## Write VERSION=1.2.3 wherever a version stands, and make what is made from it anew
	@$(RUN) python -m tools.version "$(VERSION)"
	@$(UV) lock --quiet
	@$(RUN) python -m tools.contract
	@$(RUN) python -m tools.contract baseline
	@$(RUN) pytest -q tests/unit/tools/test_version.py tests/unit/contract

.PHONY: clean
clean: ## Remove what the targets above made
	rm -rf .venv .tools dist .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .coverage
