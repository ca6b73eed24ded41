# One verb each. `make run` and `make test` are all that a fresh machine needs.

PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: run test bench chaos soak fuzz certs lint format lock audit sbom reset

run: $(READY)  ## the live feeder, with a simulated meter at every load
	@$(BIN)/flexfeeder up --meters

test: $(READY)  ## every test
	@$(BIN)/pytest

bench: $(READY)  ## how fast, each figure beside a baseline of the same run
	@$(BIN)/python -m benchmarks

chaos: $(READY)  ## N=1000 kills of everything under load: nothing lost, nothing done twice; SEED= repeats
	@PYTHONPATH=tests $(BIN)/python tests/chaos/run.py --kills $(or $(N),1000) $(if $(SEED),--seed $(SEED))

soak: $(READY)  ## MINUTES=30 of load, pauses and cuts: no process grows, nothing lost or done twice
	@PYTHONPATH=tests $(BIN)/python tests/chaos/soak.py --minutes $(or $(MINUTES),30) $(if $(SEED),--seed $(SEED))

fuzz: $(READY)  ## MINUTES=10 of messages, requests and sequences that nobody thought of, others each time
	@FUZZ_MINUTES=$(or $(MINUTES),10) $(BIN)/pytest tests/fuzz

certs: $(READY)  ## secrets and certificates of a deployment, once; HOSTS="name address ..." others call it by
	@$(BIN)/flexfeeder secrets $(foreach host,$(HOSTS),--host $(host))

lint: $(READY)  ## style, types, and who may import whom
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

format: $(READY)  ## put style right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

COMPILE := $(BIN)/pip-compile --quiet --generate-hashes --allow-unsafe --strip-extras --no-emit-index-url \
	--no-emit-trusted-host --no-emit-find-links --no-emit-options --no-header

lock: $(READY)  ## newest versions of everything, pinned by hash; of those, what goes into the image
	@$(COMPILE) --upgrade --all-extras --output-file requirements.lock pyproject.toml
	@$(COMPILE) --extra solver --extra dfp-manager --extra gateway --constraint requirements.lock \
		--output-file deploy/requirements.lock pyproject.toml

audit: $(READY)  ## known vulnerabilities of what the image brings
	@$(BIN)/pip-audit --requirement deploy/requirements.lock --require-hashes --disable-pip --strict

sbom: $(READY)  ## dist/sbom.json, the bill of materials of the image (CycloneDX), and docs/licences.md
	@rm -rf dist/image && $(PYTHON) -m venv --without-pip dist/image
	@$(BIN)/pip --python dist/image/bin/python install --quiet --disable-pip-version-check --require-hashes \
		--no-deps -r deploy/requirements.lock
	@$(BIN)/cyclonedx-py environment dist/image --pyproject pyproject.toml --output-reproducible \
		--of JSON --output-file dist/sbom.json
	@$(BIN)/python deploy/licences.py dist/sbom.json > docs/licences.md
	@rm -rf dist/image
	@echo "dist/sbom.json, docs/licences.md"

reset:  ## forget the data folder
	@rm -rf .flexfeeder results_api

$(READY): requirements.lock pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(0 if sys.version_info >= (3, 11) else "FlexFeeder needs Python 3.11 or newer; name one: make PYTHON=python3.12 ...")'
	@echo "installing into .venv ..."
	@$(PYTHON) -m venv .venv
	@$(BIN)/pip install --quiet --disable-pip-version-check --require-hashes --no-deps -r requirements.lock
	@$(BIN)/pip install --quiet --disable-pip-version-check --no-build-isolation --no-deps -e .
	@touch $(READY)
