# `make` alone shows what there is. Everything that is installed goes into .venv and node_modules folders; nothing else is touched.

PYTHON ?= python3
BIN := .venv/bin
ARGS ?=
NAME ?=
# The machine's Node where it is as new as the console wants it, else the one that comes as a wheel.
NODE_NEW = const of = (text) => text.match(/[0-9]+/g).map(Number), [major, minor] = of(process.versions.node); \
	const [least, lesser] = of(require("$(CURDIR)/console/package.json").engines.node); \
	process.exit(+(major < least || (major == least && minor < lesser)))
NODE_PATH_FIRST = PATH="$$(node -e '$(NODE_NEW)' 2>/dev/null || echo $(CURDIR)/$(BIN):)$$PATH"

# Four locks: all that development wants, what runs in the image, what builds its wheel, and what loads it. No index address is kept.
LOCK = $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url

.DEFAULT_GOAL := help
.PHONY: help setup demo bench drill up down ps logs test test-outages test-cluster check docs promises format proto observability letters picture release cluster-tools console lock clean

help: ## Show this help
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

setup: .venv/installed .venv/fetched ## Install everything into .venv (fast when nothing changed)

demo: setup console ## One link goes viral while processes are killed; ends with a verdict (ARGS="--stop --json FILE")
	$(BIN)/python -m loadtests demo $(ARGS)

bench: setup console ## Measure against named references (NAME=redirect; all of them without a name)
	$(BIN)/python -m benchmarks $(NAME)

drill: setup console ## Run an experiment with a verdict (NAME=event-kill PROFILE=ci|small|brief SEED=1 CONTROL=journal-off|all)
	$(BIN)/python -m loadtests drill $(or $(NAME),event-kill) --profile $(or $(PROFILE),ci) --seed $(or $(SEED),1) $(if $(CONTROL),--control $(CONTROL))

up: setup console ## Start the platform (ARGS="--topology each --port 0")
	@$(BIN)/groundswell up $(ARGS)

down: .venv/installed ## Stop the platform
	@$(BIN)/groundswell down $(ARGS)

ps: .venv/installed ## Show what runs
	@$(BIN)/groundswell ps $(ARGS)

logs: .venv/installed ## Show the end of a log (NAME=gateway ARGS=-f)
	@$(BIN)/groundswell logs $(NAME) $(ARGS)

test: setup console protos/node_modules ## Run all tests (ARGS="tests/links -k codes")
	$(BIN)/python -m tests $(ARGS)

test-outages: setup console ## Take Kafka, PostgreSQL and Valkey away for 30 s each under redirects (5 min; eight seconds each in `make test`)
	OUTAGE_S=30 $(BIN)/python -m tests tests/system/test_outages.py $(ARGS)

test-cluster: setup console ## Run the proofs of operator and cluster in full: every fault, fifty raises, 10,000 walks; 40 min (after cluster-tools)
	GROUNDSWELL_CLUSTER_FULL=1 GROUNDSWELL_SAGA_WALKS=10000 $(BIN)/python -m tests --of tests/operators tests/cluster $(ARGS)

check: setup console protos/node_modules ## Check format, lint, types, import rules, generated code, protos
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python protos/generate.py --check
	$(BIN)/python docs/promises.py --check
	$(BIN)/python -m charts.observability --check
	$(NODE_PATH_FIRST) $(BIN)/python protos/check.py
	cd console && $(NODE_PATH_FIRST) npm run --silent check

docs: promises setup ## Rebuild those tables and run the commands that the pages show
	$(BIN)/python -m pytest -q tests/docs

promises: .venv/installed ## Rebuild the tables of promises and their proofs in docs/systems
	$(BIN)/python docs/promises.py

format: .venv/installed ## Format the sources and mend what lint can mend
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

proto: .venv/installed ## Regenerate services/groundswell/api from protos/
	$(BIN)/python protos/generate.py

observability: .venv/installed ## Rebuild the chart's rules and dashboards from charts/observability
	$(BIN)/python -m charts.observability

letters: .venv/installed ## Rebuild what links know of letters: scripts and look-alikes, from ICU (needs the network)
	$(BIN)/uv run --quiet --no-project --script services/letters.py

picture: setup console ## Take the README's picture anew: the live page in a browser under a minute of traffic (needs Chromium)
	rm -f .proof/live.png
	LIVE_PAGE_S=60 $(BIN)/python -m pytest -q tests/system/test_live_page.py
	cp .proof/live.png docs/images/live.png

release: .venv/installed ## Keep the chart and the protos of this version, which later versions are upgraded from and held against
	$(BIN)/python -m charts.releasing
	$(BIN)/python protos/releasing.py

cluster-tools: .venv/installed ## Build what the cluster's tests run from its Go modules, once (needs Go 1.26.7)
	@$(BIN)/python -m tests.cluster.tools.build
	@$(BIN)/python -m tests.cluster.tools.schema

console: console/dist/index.html ## Build the web console

lock: .venv/installed ## Resolve the requirements of pyproject.toml into the lock files (what is pinned stays while it fits)
	$(LOCK) pyproject.toml --all-extras --output-file requirements.lock
	$(LOCK) pyproject.toml --constraints requirements.lock --output-file requirements.image.lock
	$(LOCK) --group build --constraints requirements.lock --output-file requirements.build.lock
	$(LOCK) --group loadtests --constraints requirements.lock --output-file requirements.loadtests.lock

clean: ## Remove what was installed and built (the home folder .groundswell stays)
	rm -rf .venv node_modules console/node_modules console/dist protos/node_modules

.venv/installed: requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Groundswell needs Python 3.11 or newer: make setup PYTHON=python3.12")'
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock || \
		{ echo "Python's packages could not be fetched. The first time needs the network: look at it, and run the same again."; exit 1; }
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

.venv/fetched: .venv/installed services/groundswell/engines/kafka.py services/groundswell/engines/rehearsal.py
	@$(BIN)/groundswell fetch
	@touch $@

console/dist/index.html: console/node_modules $(wildcard console/*.* console/src/* console/src/*/*)
	cd console && $(NODE_PATH_FIRST) npm run --silent build
	@touch $@

%/node_modules: %/package-lock.json | .venv/installed
	@cd $* && $(NODE_PATH_FIRST) npm ci --silent || { echo "The packages of $* could not be fetched. The first time needs the network:" \
		"look at it, or at npm's own words by (cd $* && npm ci), and run the same again."; exit 1; }
	@touch $@
