# SPDX-License-Identifier: Apache-2.0
# Everything runs in .venv, which is made from a lock file, so that results repeat. Needs Python 3.11 to 3.13 with venv, and nothing else.

PYTHON ?= python3
VENV ?= .venv
LOCK ?= tests/locks/af33.txt
DEMO ?= run dags/breast-cancer/pipeline.yaml -e dev
PYTEST_ARGS ?=

BIN := $(VENV)/bin
READY := $(VENV)/.ready
UV := $(shell command -v uv 2>/dev/null)
PYTHON_DIRS := airflow_mlops tests benchmarks dags

# All environments of tox.ini, two at a time; ENVS=py311-af31,py311-af32 for some. A Python that is not on the PATH is looked for where pyenv puts it.
ENVS ?= ALL
EMPTY :=
PYENVS := $(subst $(EMPTY) $(EMPTY),:,$(wildcard $(or $(PYENV_ROOT),$(HOME)/.pyenv)/versions/3.1[123].*/bin))
TOX = PATH="$(if $(PYENVS),$(PYENVS):)$$PATH" $(BIN)/tox run-parallel --parallel 2 --parallel-no-spinner -e $(ENVS)

.PHONY: help demo test test-fast matrix matrix-full lint format bench parts locks clean

help:  ## show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 12

demo: $(READY)  ## run the example to its table of results
	$(BIN)/airflow-mlops $(DEMO)

test: $(READY)  ## all tests; parts that are not on this machine skip, MLOPS_REQUIRE=docker,kubernetes,s3,mlflow,airflow,browser makes them fail
	$(BIN)/python -m pytest $(PYTEST_ARGS)

test-fast: $(READY)  ## under a minute: no containers, no servers, no running Airflow
	$(BIN)/python -m pytest -m "not docker and not s3 and not mlflow and not airflow and not slow" $(PYTEST_ARGS)

matrix: $(READY)  ## our wheel beside Airflow 3.1 to 3.3 on Python 3.11 to 3.13: what is about being installed; needs those Pythons
	$(TOX) -- -m packaging

matrix-full: $(READY)  ## the same, and the tests of test-fast in each
	$(TOX)

lint: $(READY)  ## ruff, mypy --strict, the layers
	$(BIN)/ruff check $(PYTHON_DIRS)
	$(BIN)/ruff format --check $(PYTHON_DIRS)
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

format: $(READY)  ## put imports and lines in order
	$(BIN)/ruff check --fix $(PYTHON_DIRS)
	$(BIN)/ruff format $(PYTHON_DIRS)

bench: $(READY)  ## the measurements of benchmarks/, side by side
	for program in benchmarks/*.py; do echo "== $$program"; $(BIN)/python "$$program" || exit 1; done

parts: $(READY)  ## a Docker daemon (as root, if none runs) and the images of the examples
	$(BIN)/python -m tests.parts up

locks: $(READY)  ## resolve again what each environment of tox.ini installs
	$(BIN)/python tests/locks/resolve.py

clean:  ## remove what the other targets made in this folder
	rm -rf $(VENV) .tox .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache build dist *.egg-info
	find $(PYTHON_DIRS) -name __pycache__ -type d -prune -exec rm -rf {} +

# uv is only quicker; pip does the same.
$(READY): $(LOCK) setup.cfg pyproject.toml
	@echo "setting up $(VENV) with Airflow and what belongs to it: a minute or two, the first time"
	$(PYTHON) -m venv --clear $(VENV) || { echo "no venv: apt-get install -y python3-venv, or PYTHON=… make …" >&2; exit 1; }
ifneq ($(UV),)
	$(UV) pip install --quiet --compile-bytecode --python $(BIN)/python -r $(LOCK)
	$(UV) pip install --quiet --python $(BIN)/python --no-deps --editable .
else
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -r $(LOCK)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --editable .
endif
	touch $@
