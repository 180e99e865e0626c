# One target per intent; people and CI run the same ones. `make help` lists them.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
RUNS := $(VENV)/.runs
PROJECT ?= project

.PHONY: docs docs-serve docs-pages docs-pictures help install test quick lint types contracts pytest demo ui dev fleet format lock bench bench-guard \
	audit licences sbom

help: ## what there is
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 12

install: $(READY) ## virtual environment with everything pinned, the test tools included

$(READY): pyproject.toml requirements.lock
	@VENV=$(VENV) PYTHON=$(PYTHON) WITH=pip deploy/install.sh requirements.lock "running and testing"
	@touch $@ $(RUNS)

# What ksql-lake and its demo need to run, without the test tools.
$(RUNS): pyproject.toml requirements.runtime.lock
	@VENV=$(VENV) PYTHON=$(PYTHON) deploy/install.sh requirements.runtime.lock "ksql-lake and its demo"
	@touch $@

test: lint types contracts pytest ## lint, types, contracts, tests

CHANGED = $(shell { git diff --name-only --diff-filter=d HEAD; git ls-files --others --exclude-standard; } | grep -E '\.pyi?$$')

quick: $(READY) ## the fast loop: lint of what changed, types, tests that need this process alone
	$(if $(CHANGED),$(BIN)/ruff check $(CHANGED))
	$(if $(CHANGED),$(BIN)/ruff format --check $(CHANGED))
	$(BIN)/mypy
	$(BIN)/python -m pytest --quick --quiet -n 3 --dist loadfile --durations 20 $(PYTEST_ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(READY)
	$(BIN)/mypy

contracts: $(READY)
	PATH="$(CURDIR)/$(BIN):$$PATH" $(BIN)/lint-imports

pytest: $(READY)
	$(BIN)/python -m pytest -n auto --dist loadfile --no-loadscope-reorder --durations 20 $(PYTEST_ARGS)

demo: $(RUNS) ## export the sample feeds from the embedded server through Dagster, in the folder demo
	@$(BIN)/ksql-lake demo

ui: $(RUNS) ## open the Dagster UI on the demo's lake, with the embedded server and schedules running
	@$(BIN)/ksql-lake demo --ui

dev: $(RUNS) ## the Dagster UI and daemon on your own feeds and server, in the folder PROJECT (project)
	@$(BIN)/ksql-lake init $(PROJECT)
	cd $(PROJECT) && DAGSTER_HOME=$(abspath $(PROJECT))/.dagster_home $(CURDIR)/$(BIN)/dagster dev -h 127.0.0.1

docs: docs-pages ## the documentation as a site, in site/
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

docs-serve: $(READY) ## the same on http://127.0.0.1:8000, built anew when a page changes
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs serve --dev-addr 127.0.0.1:8000

docs-pages: $(READY) ## write the parts of the pages that are made from the code
	$(BIN)/python -m ksql_lake_tests.site.generated

docs-pictures: $(READY) ## take the README's screenshots anew, of the demo
	$(BIN)/python -m ksql_lake_tests.site.pictures

fleet: $(READY) ## a fleet on this machine: PostgreSQL, Redis, two workers, daemon, web server
	PATH="$(CURDIR)/$(BIN):$$PATH" deploy/celery/try.sh

bench: $(READY) ## whole exports against a naive script and the parts, and what only new rows cost
	$(BIN)/python benchmarks/export.py $(BENCH_ARGS)
	$(BIN)/python benchmarks/continuing.py

bench-guard: $(READY) ## fail when something became slower or larger than its limits (ratios, not times)
	$(BIN)/python benchmarks/export.py --guard
	$(BIN)/python benchmarks/cold_start.py --guard
	$(BIN)/python benchmarks/every_feed.py --guard
	$(BIN)/python benchmarks/peak_memory.py --guard

format: $(READY) ## rewrite the sources in the house style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

COMPILE := $(BIN)/uv pip compile --quiet --upgrade --generate-hashes --no-strip-extras --no-emit-index-url \
	--no-header --no-annotate

lock: ## resolve pyproject.toml anew into requirements.lock and those of the demo and the image
	$(BIN)/python -m pip install --quiet uv
	$(COMPILE) --extra test --output-file requirements.lock pyproject.toml requirements.build
	sed -nE 's/^([^ ;[]+)(\[[^]]*\])?(==[^ ;]+).*/\1\3/p' requirements.lock > $(VENV)/versions.txt
	$(COMPILE) --universal --python-version 3.11 --constraint $(VENV)/versions.txt \
		--extra devserver --output-file requirements.runtime.lock pyproject.toml requirements.build
	$(COMPILE) --universal --python-version 3.11 --constraint $(VENV)/versions.txt \
		--extra celery --extra devserver --extra kubernetes --extra object-store --extra telemetry \
		--output-file requirements.image.lock pyproject.toml requirements.build

audit: $(READY) ## known vulnerabilities of every pinned package; needs the advisory database on the network
	$(BIN)/pip-audit --strict --requirement requirements.lock --no-deps --disable-pip

licences: $(READY) ## the licence of every installed package
	$(BIN)/pip-licenses --from=mixed --format=markdown --order=license

sbom: $(READY) ## software bill of materials of the environment, CycloneDX JSON on standard output
	$(BIN)/cyclonedx-py environment --pyproject pyproject.toml --of JSON $(BIN)/python
