# Local deployment with make. `make` alone prints this help.
# Variables, on make's command line: SPEC=serving.yaml  NAME=model  VERSION=3  TARGET=pkg.module:attr  REPOSITORY=dir  BACKEND=auto  IMAGE=name:tag

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
MAKEFLAGS += --no-print-directory

# Not ?=: a NAME, VERSION, IMAGE or VENV of the environment (WSL, CI systems, shells) means something else
PYTHON := python3
VENV := .venv
SPEC := serving_configs/demo.yaml
NAME :=
VERSION :=
TARGET = $(if $(NAME),docs/examples/$(NAME).py:build)
REPOSITORY := models
BACKEND :=
IMAGE :=
TAG :=
BASE_IMAGE :=
TESTS := tests
RECORDINGS := ../shared/conformance
MINUTES := 10
UPGRADE :=
ARGS :=

BIN := $(VENV)/bin
TFS := $(BIN)/tfs
READY := $(VENV)/.ready
SERVER := $(if $(BACKEND),--backend "$(BACKEND)") $(if $(IMAGE),--image "$(IMAGE)")

.PHONY: help setup demo export configure configs up status logs smoke down image server-image cli-image test coverage conformance check soak bench packages sizes release-check \
	docs pictures proto requirements clean

help: ## print this help
	@awk 'BEGIN {FS = ":.*## "} /^# Variables/ {sub(/^# /, ""); vars = $$0} \
	  /^[a-z-]+:.*## / {printf "  \033[1m%-13s\033[0m %s\n", $$1, $$2} END {print "\n" vars}' $(MAKEFILE_LIST)

setup: $(READY) ## make .venv with the pinned, hashed requirements

$(READY): .ci/requirements.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit(f"Python 3.10 or newer is needed, this is {sys.version.split()[0]}; name one with PYTHON=..." if sys.version_info < (3, 10) else 0)'
	@echo "Setting up $(VENV) (once; about a minute)"
	@$(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --disable-pip-version-check --no-deps --require-hashes -r .ci/requirements.txt \
	  | awk '/^Collecting/ && n++ % 10 == 0 {print "  " n " packages"; fflush()} /^Installing/ {print "  installing"; fflush()}'
	@$(BIN)/python -m pip install -qq --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

demo: $(READY) ## train, export, publish, serve and smoke-test the example models, then stop
	@$(BIN)/python docs/examples/demo.py $(SERVER) $(ARGS)

export: $(READY) ## export one model: NAME=digits [VERSION=3] [TARGET=pkg.module:attr]
	@test -n "$(TARGET)" || { echo "make export: say which model: NAME=digits, or TARGET=pkg.module:attr NAME=my_model" >&2; exit 2; }
	@$(TFS) export "$(TARGET)" --repository "$(REPOSITORY)" $(if $(NAME),--name "$(NAME)") $(if $(VERSION),--version "$(VERSION)") $(ARGS)

configure: $(READY) ## write the server's config files for SPEC
	@$(TFS) configure --spec "$(SPEC)" $(ARGS)

up: $(READY) ## start the server of SPEC and wait until everything is served
	@$(TFS) up --spec "$(SPEC)" $(SERVER) $(ARGS)

status: $(READY) ## what is served: versions, labels, state
	@$(TFS) status --spec "$(SPEC)" $(ARGS)

logs: $(READY) ## the server's last lines
	@$(TFS) logs --spec "$(SPEC)" $(ARGS)

smoke: $(READY) ## ask every served model over REST and gRPC, and compare with its golden answers
	@$(TFS) smoke --spec "$(SPEC)" $(if $(NAME),--model "$(NAME)") $(ARGS)

down: $(READY) ## stop the server of SPEC (requests that run may finish)
	@$(TFS) down --spec "$(SPEC)" $(ARGS)

image: $(READY) ## bake the models and configs of SPEC into an image: TAG=name:tag [IMAGE=serving image]
	@test -n "$(TAG)" || { echo "make image: say what to call it: TAG=registry/name:tag" >&2; exit 2; }
	@$(TFS) image build --spec "$(SPEC)" --tag "$(TAG)" $(if $(IMAGE),--image "$(IMAGE)") $(ARGS)

server-image: ## build the embedded server's image: [TAG=tfs-deploy/modelserver:dev] [BASE_IMAGE=python:3.12-slim]
	@docker build --file docker/modelserver.Dockerfile --tag "$(or $(TAG),tfs-deploy/modelserver:dev)" \
	  $(if $(BASE_IMAGE),--build-arg BASE_IMAGE="$(BASE_IMAGE)") $(ARGS) .

cli-image: ## build the image of the command line, without TensorFlow: [TAG=tfs-deploy/tfs:dev] [BASE_IMAGE=python:3.12-slim]
	@docker build --file docker/tfs.Dockerfile --tag "$(or $(TAG),tfs-deploy/tfs:dev)" \
	  $(if $(BASE_IMAGE),--build-arg BASE_IMAGE="$(BASE_IMAGE)") $(ARGS) .

test: $(READY) ## run all tests; those that need a Docker engine are skipped without one
	@$(BIN)/python -m pytest $(TESTS) $(ARGS)
	@$(MAKE) conformance

coverage: $(READY) ## branch coverage of the tests without TensorFlow and Docker, which may not fall
	@$(BIN)/python -m pytest -q tests/unit tests/functional --cov --cov-report=term:skip-covered --cov-fail-under=84 $(ARGS)

conformance: $(READY) ## replay recordings of a real TF Serving: [RECORDINGS=dir] [IMAGE=name:tag]
	@$(BIN)/python -m tests.conformance "$(RECORDINGS)" $(if $(IMAGE),--image "$(IMAGE)")

check: $(READY) ## lint, types, architecture, generated files
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports --no-cache
	@$(MAKE) configs
	@git diff --exit-code --stat -- serving_configs docs/cli.md docs/api.md docs/troubleshooting.md docs/rooms.svg || { echo "generated files are out of date: commit what 'make configs' wrote" >&2; exit 1; }

configs: $(READY) ## regenerate serving_configs/generated, the JSON Schema, docs/cli.md, docs/api.md, docs/troubleshooting.md, docs/rooms.svg
	@for spec in serving_configs/samples/*.yaml; do \
	  $(TFS) configure --spec $$spec --out serving_configs/generated/$$(basename $$spec .yaml) > /dev/null; done
	@$(TFS) schema > serving_configs/serving.schema.json
	@$(BIN)/python docs/cli_reference.py > docs/cli.md
	@$(BIN)/python docs/api_reference.py > docs/api.md
	@$(BIN)/python docs/troubleshooting_reference.py > docs/troubleshooting.md
	@$(BIN)/python docs/rooms.py > docs/rooms.svg

docs: $(READY) ## write the docs as a site into .cache/site; a link that leads nowhere is an error
	@NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --config-file docs/site/mkdocs.yml $(ARGS)
	@echo "Look at it, with search: python3 -m http.server --bind 127.0.0.1 --directory .cache/site"

pictures: $(READY) ## draw and record docs/*.svg and the page's screenshots from real runs (minutes; wants a quiet machine, Chromium)
	@$(BIN)/python docs/pictures.py docs/concepts.svg
	@$(BIN)/python docs/screenshots.py docs
	@$(MAKE) demo BACKEND=embedded ARGS="--svg docs/demo.svg"
	@$(MAKE) bench ARGS="server --svg docs/speed.svg"

soak: $(READY) ## load, version swaps and config reloads against the embedded server: [MINUTES=10]
	@$(BIN)/python -m tests.soak --minutes $(MINUTES) $(ARGS)

bench: $(READY) ## measure ourselves beside the alternatives: [ARGS="wire repository --scale 0.1"]
	@$(BIN)/python -m tests.benchmarks $(ARGS)

packages: $(READY) ## build wheel and sdist; install and use them on every Python from 3.10 to 3.13 that is here: [ARGS="--require 3.12"]
	@$(BIN)/python -m tests.packages $(ARGS)

sizes: $(READY) ## measure what the base and each extra weigh, for docs/sizes.md (downloads all of them: minutes)
	@$(PYTHON) -m venv .cache/sizes && .cache/sizes/bin/python -m pip install -qq --disable-pip-version-check '.[server,bfloat16,tensorflow,tflite,jax,keras2,sign,pytest,s3,gcs,azure,oci,ssh,kubernetes,mlflow,ui,all]'
	@.cache/sizes/bin/python docs/sizes.py > .cache/sizes.md && mv .cache/sizes.md docs/sizes.md

release-check: $(READY) ## what has to hold before a release: changelog, version, packages, and nothing uncommitted
	@$(BIN)/python -m tests.packages.release
	@$(MAKE) check packages
	@echo "Ready. Left for people: .ci/run on a clean machine; then git tag v$$($(BIN)/python -c 'import deploy; print(deploy.__version__)')"

proto: ## regenerate deploy/wire/*_pb2.py with a pinned compiler
	@$(PYTHON) -m venv .cache/proto && .cache/proto/bin/pip install --quiet grpcio-tools==1.75.1
	@.cache/proto/bin/python -m grpc_tools.protoc --proto_path=. --python_out=. --pyi_out=. deploy/wire/*.proto

requirements: ## renew the locked requirements from pyproject.toml: [UPGRADE=1]
	@$(PYTHON) -m venv .cache/uv && .cache/uv/bin/pip install --quiet uv
	@.cache/uv/bin/uv pip compile pyproject.toml .ci/requirements.in --extra dev --override .ci/overrides.txt --universal \
	  --python-version 3.10 --generate-hashes --no-emit-index-url --no-annotate --no-header --quiet $(if $(UPGRADE),--upgrade) -o .ci/requirements.txt
	@$(PYTHON) docker/requirements.py modelserver > docker/modelserver.requirements.txt

clean: ## remove the .venv that make made, caches and the tests' models; never your models
	@if [ -e "$(READY)" ]; then rm -rf "$(VENV)"; elif [ -e "$(VENV)" ]; then echo "$(VENV) wasn't made by make: it stays"; fi
	@rm -rf .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis build dist *.egg-info tests/.models
