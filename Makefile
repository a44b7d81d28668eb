# The verbs of this workspace; `make` alone lists them.
#
# Everything is installed into .venv from a folder of wheels that is filled once per user, so that a second clone, or
# the same one tomorrow, needs no network. Own distributions follow in a second call: pip refuses hashes and editables in one.
.DEFAULT_GOAL := help
SHELL := /bin/sh

PYTHON ?= python3
RAA_WHEELS ?= $(or $(XDG_CACHE_HOME),$(HOME)/.cache)/raa/wheels
CONTAINER ?= podman
IMAGE_PREFIX ?= localhost
IMAGE_TAG ?= $(shell sed -n 's/^version = "\(.*\)"/\1/p' schemas/pyproject.toml)
# with COMPOSE="docker compose" or COMPOSE=podman-compose, `up` and `down` mean the containers of docker-compose.yml
COMPOSE ?=

SERVICES := planner safety executor reflector memory router
DISTRIBUTIONS := schemas runtime $(SERVICES:%=services/%) client cli
PYPROJECTS := $(DISTRIBUTIONS:%=%/pyproject.toml)
LOCKS := $(SERVICES:%=services/%/requirements.txt) cli/requirements.txt
BIN := .venv/bin

# PYTHONPATH and friends of the caller must not leak into the environment we build
unexport PYTHONPATH PYTHONHOME
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.PHONY: help demo test faults lint types fmt up down bench docs images lock clean

help: ## list the verbs
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "  make %-8s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

demo: .venv/.demo ## run real tasks on real files, live; SEED=n on a generated file, MODEL=name with a real model
	@$(BIN)/raa demo $(if $(SEED),--seed $(SEED)) $(if $(MODEL),--model $(MODEL))

test: .venv/.dev ## lint, type-check and run the tests; ARGS="-k planner" goes to pytest
	@failed=; for step in lint types; do $(MAKE) --no-print-directory $$step || failed="$$failed $$step"; done; \
	$(BIN)/python -m pytest $(ARGS) || failed="$$failed tests"; \
	if [ -n "$$failed" ]; then echo "failed:$$failed"; exit 1; fi

faults: .venv/.dev ## long fault runs and the simulator, more than an hour; ARGS="-k f04" goes to pytest
	$(BIN)/python -m tests.faults $(ARGS)

lint: .venv/.dev ## ruff and the import contracts
	$(BIN)/ruff check .
	$(BIN)/ruff format --check --quiet .
	$(BIN)/lint-imports --no-logo

types: .venv/.dev ## mypy --strict
	$(BIN)/mypy

fmt: .venv/.dev ## format the code and mend what can be mended
	$(BIN)/ruff check --fix-only --quiet .
	$(BIN)/ruff format .

ifeq ($(COMPOSE),)
up: .venv/.demo ## start all services in the background on the data folder .raa; ARGS="--tools my_tools.py"
	@mkdir -p .raa
	@if kill -0 "$$(cat .raa/up.pid 2>/dev/null)" 2>/dev/null; then echo "already running, pid $$(cat .raa/up.pid); make down stops it"; exit 1; fi
	@nohup $(BIN)/raa up --data .raa $(ARGS) >.raa/up.log 2>&1 & echo $$! >.raa/up.pid; \
	  echo "started, pid $$!, log .raa/up.log; make down stops it"

down: ## stop what `make up` started, letting running steps finish
	@pid=$$(cat .raa/up.pid 2>/dev/null) || { echo "nothing to stop: no .raa/up.pid"; exit 0; }; \
	  kill -TERM "$$pid" 2>/dev/null || true; \
	  while kill -0 "$$pid" 2>/dev/null; do sleep 0.2; done; rm -f .raa/up.pid; echo "stopped"
else
# the images must be there: make images
up:
	IMAGE_PREFIX=$(IMAGE_PREFIX) IMAGE_TAG=$(IMAGE_TAG) $(COMPOSE) up -d $(ARGS)

down:
	IMAGE_PREFIX=$(IMAGE_PREFIX) IMAGE_TAG=$(IMAGE_TAG) $(COMPOSE) down $(ARGS)
endif

bench: .venv/.dev .venv-peers/.filled ## measure beside the peers (20 minutes); ARGS="B1 --rounds 3 --peers celery" a part
	$(BIN)/python -m benchmarks $(ARGS)

docs: .venv/.dev ## regenerate JSON Schemas, the tables in docs/ and .env.example
	$(BIN)/python docs/generate.py

# The wheels must be those of the image, Linux and CPython 3.11; NETWORK=1 lets the build fetch them itself elsewhere.
# Podman's own image format knows no health checks, hence BUILDAH_FORMAT; Docker ignores it.
images: .venv/bin/python ## build an image per service; CONTAINER=docker for Docker, NETWORK=1 if this is not Linux with Python 3.11
	$(if $(NETWORK),,@$(foreach service,$(SERVICES),$(call fill,services/$(service)/requirements.txt);))
	@mkdir -p "$(RAA_WHEELS)"
	@for service in $(SERVICES); do \
	  echo "$(IMAGE_PREFIX)/raa-$$service:$(IMAGE_TAG)"; \
	  BUILDAH_FORMAT=docker $(CONTAINER) build --quiet --build-arg SERVICE=$$service $(if $(NETWORK),--build-arg PIP_NO_INDEX=0) \
	    --build-context wheels="$(RAA_WHEELS)" --tag $(IMAGE_PREFIX)/raa-$$service:$(IMAGE_TAG) --file deploy/Dockerfile . || exit 1; \
	done

clean: ## remove .venv and the caches; data folders and the wheel folder stay
	rm -rf .venv .venv-peers .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# --- locks -----------------------------------------------------------------------------------------------------------
# Pins and hashes only, no download address: whoever installs chooses the registry.
UV_COMPILE = env -u UV_FIND_LINKS $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --no-annotate --custom-compile-command "make lock" $(if $(UPGRADE),--upgrade) \
  $(foreach name,schemas runtime client cli $(SERVICES),--no-emit-package raa-$(name))

lock: .venv/.dev ## rewrite the hash-pinned requirements; UPGRADE=1 takes newer versions
	$(UV_COMPILE) --output-file requirements-dev.txt $(PYPROJECTS) --group pyproject.toml:dev
	@for dist in $(SERVICES:%=services/%) cli; do echo "$$dist/requirements.txt"; \
	  $(UV_COMPILE) --output-file $$dist/requirements.txt --constraints requirements-dev.txt \
	    $$dist/pyproject.toml --group pyproject.toml:build || exit 1; \
	done
	$(UV_COMPILE) --output-file benchmarks/peers/requirements.txt benchmarks/peers/requirements.in

# --- environment -----------------------------------------------------------------------------------------------------
.venv/.demo: cli/requirements.txt $(PYPROJECTS)
	$(call install,cli/requirements.txt)

.venv/.dev: requirements-dev.txt $(PYPROJECTS)
	$(call install,requirements-dev.txt)
	@touch .venv/.demo

# what the benchmarks compare with, apart from ours; its servers come from python -m tests.backends fill and the system
.venv-peers/.filled: benchmarks/peers/requirements.txt .venv/bin/python
	@$(call fill,benchmarks/peers/requirements.txt)
	@$(BIN)/python -m venv .venv-peers
	@.venv-peers/bin/python -m pip install --quiet --no-index --find-links "$(RAA_WHEELS)" --require-hashes --only-binary :all: -r benchmarks/peers/requirements.txt
	@touch $@

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "raa needs Python 3.11 or newer, but '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing)."; \
	  echo "Install one and name it: make demo PYTHON=python3.12"; exit 1; }
	@$(PYTHON) -m venv .venv || { rm -rf .venv; exit 1; }

# $(1) = lock. The stamp in the wheel folder carries the lock's hash and the interpreter: a filled folder is never asked again,
# and one that was filled by hand or through another lock is found complete without the network.
define fill
stamp="$(RAA_WHEELS)/.$$($(BIN)/python -c 'import hashlib, pathlib, sys, sysconfig; print(hashlib.sha256(pathlib.Path(sys.argv[1]).read_bytes()).hexdigest()[:16], sys.implementation.cache_tag, sysconfig.get_platform(), sep="-")' $(1))"; \
	if [ ! -e "$$stamp" ]; then \
	  mkdir -p "$(RAA_WHEELS)"; \
	  fetch() { $(BIN)/python -m pip download --quiet --require-hashes --only-binary :all: \
	    --find-links "$(RAA_WHEELS)" --dest "$(RAA_WHEELS)" -r $(1) "$$@"; }; \
	  fetch --no-index 2>/dev/null || { echo "filling $(RAA_WHEELS) (once per user) ..."; fetch; } || { \
	    echo "The wheels of $(1) could not be fetched. With a network once, or RAA_WHEELS=<a filled folder>, run it again."; exit 1; }; \
	  touch "$$stamp"; \
	fi
endef

# $(1) = lock
define install
	@$(MAKE) --no-print-directory .venv/bin/python
	@$(call fill,$(1))
	@$(BIN)/python -m pip install --quiet --no-index --find-links "$(RAA_WHEELS)" --require-hashes --only-binary :all: -r $(1)
	@$(BIN)/python -m pip install --quiet --no-index --no-deps --no-build-isolation $(DISTRIBUTIONS:%=-e %)
	@touch $@
endef
