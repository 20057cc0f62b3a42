# AlignX Serve. `make up` runs the suite, `make test` passes the tests; each installs what it needs.
# No Docker, no GPU, no root. Everything lands in .venv, .venv-engine, .venv-training, .venv-verl, .venv-docs,
# models/alignx-tiny and var/.

PYTHON ?= python3
MODEL  ?=
# auto: vLLM on the CPU with MODEL, by default models/alignx-small; the profile where it cannot run.
ENGINE ?= auto
PORT   ?= 8080
DATA   ?= var
# A folder of axis adapters, as training/runs/mocae.sh makes them, for chats with `axes`.
AXES   ?=
# Official files of public benchmarks, as `make eval` looks for them.
BENCHMARKS ?= ../shared/data

BIN  := .venv/bin
TINY := models/alignx-tiny/model.safetensors
SMALL := var/models/alignx-small/config.json
SUITE := $(BIN)/python -m docker.local.suite
INSTALL := docker/local/install.sh
PARTS := $(BIN)/python docker/local/parts.py
TRAINING := .venv-training/bin

# Redis is real, so unit tests wait more than they compute: four processes on two cores.
XDIST := -n 4 --dist loadgroup
UNIT := --ignore=tests/unit/training --ignore=tests/unit/evaluation --ignore=tests/chain
LIVE := tests/live tests/browser

# $(call timed,what,command): runs it and says how long it took.
timed = @started=$$(date +%s); echo "== $(1)"; $(2) && echo "== $(1): $$(($$(date +%s) - started)) s"

# Nothing compiles what uv installs but its first import, and a torch or vLLM that is compiled anew each time takes twice as long.
export PYTHONDONTWRITEBYTECODE :=

.NOTPARALLEL:
.PHONY: help up down status demo example quick test ci check unit system installs cover-unit cover-live chaos chaos-campaign soak mutants security conformance chaos-long \
	cover-services training-tests train-smoke verl live pictures docs test-containers bench eval eval-engine lock supply release \
	format clean

help:  ## Shows this list
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 12

# The suite answers before the engine is installed; it installs that itself, where the machine can run it.
up: .venv/.run $(if $(filter models/alignx-tiny models/alignx-tiny/,$(MODEL)),$(TINY))  ## Starts the suite with a small language model (MODEL=folder ENGINE=URL PORT= DATA= AXES=)
	@$(if $(AXES),ALIGNX_AXES__FOLDER="$(abspath $(AXES))" )$(SUITE) up --engine "$(ENGINE)" --model "$(MODEL)" --port $(PORT) --home "$(DATA)"

down: .venv/.run  ## Stops the suite; the data stay
	@$(SUITE) down --home "$(DATA)"

status: .venv/.run  ## Shows the processes of the suite
	@$(SUITE) status --home "$(DATA)"

demo: .venv/.run  ## Streams the example histories through a running suite
	@ALIGNX_URL=http://127.0.0.1:$(PORT) ALIGNX_KEY_FILE="$(DATA)/secrets/user_key" $(BIN)/python examples/demo.py

example: .venv/.run  ## Serves a page of plain fetch() calls that learns from its reader, beside a running suite
	@ALIGNX_URL=http://127.0.0.1:$(PORT) ALIGNX_KEY_FILE="$(DATA)/secrets/user_key" \
		EXAMPLE_PORT=$$(($(PORT) + 30)) $(BIN)/python examples/web/app.py

quick: check unit  ## Linters, types, import contracts and unit tests of the services, in three minutes

# A part that needs a quiet machine to be right is no part of this: these share two cores. The containers, whose builds
# take both cores and the disk, come when the tests on real parts are through.
test: .venv/.test  ## Installs what it needs, checks the code, passes all tests on real parts, two at a time
	@rm -rf var/test .coverage .coverage-*
	@MAKE="$(MAKE)" $(PARTS) installs check system
	@MAKE="$(MAKE)" $(PARTS) cover-live training-tests chaos cover-unit train-smoke $(CONTAINERS)
	@MAKE="$(MAKE)" $(PARTS) cover-services
	@tail -n 3 var/test/cover-services.log

ci: export CI := true
ci:  ## The same, the docs and the containers, as .ci/run has it
	@$(MAKE) --no-print-directory supply AUDIT=if-online
	@$(MAKE) --no-print-directory docs
	@$(MAKE) --no-print-directory test CONTAINERS=test-containers
	@echo; cat var/test/times

installs: .venv-engine/.ready .venv-training/.ready $(TINY)

system: .venv/.system

check: .venv/.test  ## Linters, types, import contracts
	$(call timed,linters and types,$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy && $(BIN)/lint-imports)

unit cover-unit cover-live chaos chaos-long live: export PATH := $(CURDIR)/$(BIN):$(PATH)
unit: .venv/.test  ## Unit tests of the services on a real Redis, four at a time
	$(call timed,unit tests,$(BIN)/pytest -q $(XDIST) $(UNIT) tests/unit tests/contract tests/test_architecture.py)

cover-unit: export COVERAGE_FILE := $(CURDIR)/.coverage-unit
cover-unit: .venv-engine/.ready .venv/.system
	$(BIN)/coverage run -m pytest $(XDIST) $(UNIT) --ignore=tests/live --ignore=tests/chaos --ignore=tests/browser

cover-live: export COVERAGE_FILE := $(CURDIR)/.coverage-live
cover-live: .venv-engine/.ready $(TINY) .venv/.system
	$(BIN)/coverage run -m pytest --durations=20 $(LIVE)

cover-services: .venv/.test
	@$(BIN)/coverage combine -q .coverage-unit.* .coverage-live.*
	@$(BIN)/coverage report --fail-under=90

training-tests: export OMP_NUM_THREADS := 1
training-tests: .venv-training/.ready .venv-engine/.ready  ## The tests of training and evaluation
	$(TRAINING)/pytest -q --durations=10 tests/unit/training tests/unit/evaluation --ignore=tests/unit/training/verl

train-smoke: .venv-training/.ready .venv-engine/.ready  ## The chains of training on a nano model, killed and resumed, until vLLM answers or the table is there
	$(call timed,the chain of training,$(TRAINING)/python -m pytest tests/chain)

verl: .venv-verl/.ready  ## The tests of the verl plugin, in an environment of their own
	$(call timed,tests of the verl plugin,.venv-verl/bin/python -m pytest tests/unit/training/verl --confcutdir=tests/unit/training/verl -W default)

live: .venv-engine/.ready $(TINY) .venv/.system  ## The tests on real parts alone
	$(BIN)/pytest $(LIVE) tests/chaos

# Not traced: others cover its lines, and under load the tracer takes as long as the suite itself.
chaos: .venv/.test  ## The tests that kill and restart processes under load
	$(BIN)/pytest --durations=3 tests/chaos

chaos-campaign: .venv/.test  ## 20 seeds of faults every few hundred milliseconds: 100,000 events of 2,000 users
	$(BIN)/python -m tests.chaos.campaign --seeds 1-20 --report docs/results/chaos.md

soak: .venv/.test  ## Ten minutes of steady load, and the memory of each process
	$(BIN)/python -m bench.traffic.soak

mutants: .venv/.test  ## Three mutants of each Lua script, which the tests must notice
	$(BIN)/python -m tests.chaos.mutants --most 3 --report docs/results/mutants.md

security: .venv/.test  ## Tenants, scopes, generated requests and injections against the suite; writes docs/results/security.md
	$(BIN)/python -m tests.security.run --report docs/results/security.md

conformance: .venv/.test  ## Today's clients, pinned and unchanged, against the suite; writes docs/results/conformance.md
	$(BIN)/python -m tests.conformance.run

chaos-long: export ALIGNX_CHAOS_REFUSED_S := 600
chaos-long: .venv/.test  ## An engine that refuses every request for ten minutes; no part of `make test`
	$(BIN)/pytest -s tests/chaos/test_engine_faults.py

docs: .venv-docs/.ready  ## Builds the site of docs/ in var/site, strict about links, nothing from elsewhere; counts the code blocks that no test runs
	@.venv-docs/bin/zensical build --strict --config-file mkdocs.yml
	@.venv-docs/bin/python -m docs.check_site
	@.venv-docs/bin/python -m docs.code_blocks

pictures: export PATH := $(CURDIR)/$(BIN):$(PATH)
pictures: export ALIGNX_PICTURES := var/pictures
pictures: .venv/.system  ## A picture of each view of the console in var/pictures, and those of README and docs in docs/pictures
	@mkdir -p var/pictures
	$(BIN)/pytest -q tests/browser/test_pictures.py -k picture_of
	@for name in $$(ls docs/pictures); do cp var/pictures/$$name docs/pictures/; done

test-containers: .venv/.test  ## Builds the containers, uses them, kills them one by one (needs a Docker engine, or root to start one)
	$(call timed,containers,tests/containers/run.sh)

bench: .venv/.system .venv-training/.ready .venv-engine/.ready  ## Measures the suite and its training, and writes docs/results/benchmarks.md
	$(BIN)/python -m bench.run
	$(TRAINING)/python -m bench.gpu.trl_comparison

eval: .venv-training/.ready  ## Measures the fast profile on public data and own suites, and writes docs/results/accuracy.md (BENCHMARKS=folder)
	$(TRAINING)/python -m evaluation evaluation/configs/profile.toml benchmarks.official="$(BENCHMARKS)"

eval-engine: .venv-training/.ready .venv-engine/.ready $(if $(MODEL),,$(SMALL))  ## Measures a language model on the rows of make eval (MODEL=folder or URL)
	$(TRAINING)/python -m evaluation evaluation/configs/engine.toml $(if $(MODEL),model="$(MODEL)",protocol.choice=likelihood)

format: .venv/.test  ## Formats the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: .venv/.test  ## Writes the locks, with hashes, from pyproject.toml's newest versions
	docker/local/lock.sh

supply: .venv/.test  ## Hashes of the locks, a scan for secrets, known vulnerabilities (AUDIT=if-online passes where nobody can be asked)
	$(BIN)/python -m docker.supply.locks
	$(BIN)/python -m docker.supply.secret_scan
	$(BIN)/python -m docker.supply.audit $(if $(AUDIT),--$(AUDIT))

release: .venv/.test  ## The wheel, bills of materials, images and checksums of this version, in dist/
	$(BIN)/python -m docker.supply.release

clean:  ## Removes what make has installed; var/ (data, secrets) stays
	rm -rf .venv .venv-engine .venv-training .venv-verl .venv-docs .cache models/alignx-tiny

# --- installs ------------------------------------------------------------------------------------

.venv/bin/python:
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed, this is " + sys.version)'
	$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

.venv/.run: docker/services.lock pyproject.toml | .venv/bin/python
	@echo "Setting up .venv …"
	@$(INSTALL) .venv --require-hashes -r docker/services.lock
	@$(INSTALL) .venv --no-deps -e .
	@touch $@

.venv/.test: docker/test.lock .venv/.run
	@echo "Setting up the tests …"
	@$(INSTALL) .venv --require-hashes -r docker/test.lock
	@touch $@

# What Debian's packages and npm bring: Prometheus, and for the console Chromium and axe-core where this may install them.
.venv/.system: tests/browser/package-lock.json .venv/.test
	@docker/local/prometheus.sh $(BIN)
	@docker/local/browser.sh
	@touch $@

# torch comes first and alone: what follows is locked and installed without dependencies, because
# vLLM's own list would bring CUDA builds that do not import here.
.venv-engine/.ready: docker/engine-cpu.lock docker/torch.txt | .venv/bin/python
	@echo "Setting up the engine in .venv-engine …"
	@$(INSTALL) --torch .venv-engine
	@$(INSTALL) .venv-engine --no-deps --require-hashes -r docker/engine-cpu.lock
	@touch $@

.venv-training/.ready: docker/training.lock docker/torch.txt pyproject.toml | .venv/bin/python
	@echo "Setting up training in .venv-training …"
	@$(INSTALL) --torch .venv-training
	@$(INSTALL) .venv-training --no-deps --require-hashes -r docker/training.lock
	@$(INSTALL) .venv-training --no-deps -e .
	@touch $@

.venv-docs/.ready: docker/docs.lock | .venv/bin/python
	@echo "Setting up the docs in .venv-docs …"
	@$(INSTALL) .venv-docs --require-hashes -r docker/docs.lock
	@touch $@

.venv-verl/.ready: training/verl/requirements-cpu.txt docker/torch.txt | .venv/bin/python
	@echo "Setting up verl in .venv-verl …"
	@$(INSTALL) --torch .venv-verl
	@$(INSTALL) .venv-verl --no-deps --require-hashes -r training/verl/requirements-cpu.txt
	@touch $@

$(TINY): training/init_checkpoint.py training/tokenizer.py | .venv-engine/.ready
	@.venv-engine/bin/python -m training.init_checkpoint training/configs/init_checkpoint.toml
	@touch $@

$(SMALL): docker/merge_adapter.py | .venv-engine/.ready
	@.venv-engine/bin/python docker/merge_adapter.py models/alignx-small $(dir $(@D))
	@touch $@
