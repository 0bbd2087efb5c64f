# Every target works in a fresh clone: it first installs its dependencies into .venv.
PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
PYTEST := $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile --no-loadscope-reorder --timeout 600
.DEFAULT_GOAL := help

# make interprets KEY=VALUE as a make variable, so training would use the defaults. "\ " is a space in a value.
EMPTY :=
MISPLACED := $(filter-out ARGS=% PYTHON=%,$(subst \$(EMPTY) $(EMPTY),_,$(MAKEOVERRIDES)))
$(if $(MISPLACED),$(error $(MISPLACED): pass overrides as ARGS: make $(MAKECMDGOALS) ARGS="$(MISPLACED)"))

.PHONY: help install toy train play test test-all test-slow faults lint format bench tensorboard lock clean

help:  ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

install: .venv/installed-dev  ## create .venv with all dependencies; an installed torch is reused

train: .venv/installed  ## train a GAN; overrides: make train ARGS="model=wgan_gp data=mnist"
	$(BIN)/python train.py $(ARGS)

toy: .venv/installed  ## train on points in the plane and write a report, in under a minute, offline
	OMP_NUM_THREADS=1 $(BIN)/gan-train model=vanilla data=gaussian_ring trainer.max_steps=3000 hydra.run.dir=runs/toy ckpt_path=last
	$(BIN)/gan-report runs/toy --out runs/toy/report.html

play: .venv/installed-dev  ## open a web page for interactive training and exploring a generator
	$(BIN)/gan-play $(ARGS)

test: .venv/installed-dev  ## run the unit tests, in parallel on up to four cores: a few minutes
	$(PYTEST) tests/unit $(ARGS)

test-all: .venv/installed-dev  ## run all tests except the slow ones: unit, integration and documentation
	$(PYTEST) $(ARGS)

test-slow: .venv/installed-dev  ## run the tests that train for minutes
	$(BIN)/python -m pytest -m slow $(ARGS)

faults: .venv/installed-dev  ## inject faults: kill runs, fill disks, damage files, and check that the runs recover
	$(BIN)/python tests/support/fault_injection.py $(ARGS)

lint: .venv/installed-dev  ## check style, format and types
	$(BIN)/ruff check . && $(BIN)/ruff format --check . && $(BIN)/mypy

format: .venv/installed-dev  ## format the code and fix style errors
	$(BIN)/ruff check --fix . && $(BIN)/ruff format .

bench: .venv/installed-dev  ## measure speed and memory compared with a plain PyTorch loop
	$(BIN)/python benchmarks/throughput.py $(ARGS)

tensorboard: .venv/installed  ## show the runs in TensorBoard
	$(BIN)/tensorboard --logdir runs $(ARGS)

lock: .venv/installed-dev  ## write requirements.lock: the versions in .venv, with hashes for every platform
	$(BIN)/python -m pip install --quiet --disable-pip-version-check uv
	$(BIN)/python -m pip freeze --exclude-editable | sed 's/+[a-z0-9]*$$//' > .venv/tested.txt
	echo hatchling | $(BIN)/uv pip compile pyproject.toml - --universal --generate-hashes --no-emit-index-url --no-annotate \
	  --custom-compile-command "make lock" --constraint .venv/tested.txt --upgrade --quiet --output-file requirements.lock \
	  $(addprefix --extra ,datasets export hub joblib parquet play report stream submitit video)

clean:  ## remove caches and builds; runs, data and .venv stay
	rm -rf build dist .pytest_cache .ruff_cache .mypy_cache && find . -name __pycache__ -not -path './.venv/*' -exec rm -rf {} +

# The environment uses the packages of $(PYTHON) if these include torch, whose version is then pinned.
.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
	  || { echo "Python 3.11 or newer is needed; $(PYTHON) is $$($(PYTHON) --version 2>&1). Try: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $$($(PYTHON) -c 'import torch, torchvision' 2>/dev/null && echo --system-site-packages) .venv

.venv/installed .venv/installed-dev: pyproject.toml | .venv/bin/python
	@$(BIN)/python -c 'from importlib.metadata import version as v; print("torch==" + v("torch"))' > .venv/torch.txt 2>/dev/null || true
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint .venv/torch.txt \
	  --editable "$(if $(findstring dev,$@),.[dev],.)"
	@touch $@ $(if $(findstring dev,$@),.venv/installed)
