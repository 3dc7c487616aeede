# batch-label: `make help` lists what there is.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
# A folder, file or pattern to label; without it, sample pictures that scikit-image carries.
PHOTOS ?=
OUTPUT ?= results.csv
SAMPLE := astronaut.png camera.png chelsea.png coffee.png rocket.jpg
# Data to train on: FER+ (folder or zip) or a folder with one sub-folder of pictures a class.
DATA ?= $(firstword $(wildcard data/ferplus data/ferplus.zip $(BATCH_LABEL_DATA)/ferplus.zip ../shared/data/ferplus.zip) data/ferplus)
# Names the run and the model, so that nobody's model takes the place of a shipped one.
NAME ?= $(basename $(notdir $(patsubst %/,%,$(DATA))))
# More options for `trainer train`, such as TRAIN="--epochs 5 --config mine.toml".
TRAIN ?=

RUN := runs/$(NAME)
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-10s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'Settings: PHOTOS, OUTPUT (label); DATA, NAME, TRAIN (train, export); PYTHON, VENV'

.PHONY: label
label: $(VENV)/label.done ## Label PHOTOS=folder (default: sample pictures) into OUTPUT
ifeq ($(strip $(PHOTOS)),)
	@$(PIP) -e '.[sample]'
	$(BIN)/python -c 'import skimage.data as d; print(*(f"{d.__path__[0]}/{n}" for n in "$(SAMPLE)".split()), sep="\n")' \
	  | $(BIN)/batch-label - -o '$(OUTPUT)'
else
	@photos='$(PHOTOS)'; $(BIN)/batch-label "$${photos/#\~/$$HOME}" -o '$(OUTPUT)'
endif
	@echo 'The report: $(OUTPUT)'

.PHONY: test
test: $(VENV)/dev.done ## Run all tests, in an environment of its own
	$(BIN)/pytest

.PHONY: lint
lint: $(VENV)/dev.done ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: check
check: lint test ## Everything that must be green

.PHONY: train
train: $(VENV)/dev.done ## Train a face network on DATA; the run goes to runs/NAME
	$(BIN)/trainer train --data '$(DATA)' --run '$(RUN)' $(TRAIN)

.PHONY: export
export: $(VENV)/dev.done ## Turn the trained run into models/NAME.onnx with its card
	$(BIN)/trainer export --data '$(DATA)' --run '$(RUN)' --name '$(NAME)' --output 'models/$(NAME).onnx'

.PHONY: ship
ship: $(VENV)/dev.done ## Export a run on FER+ as the two face models that are shipped
	$(BIN)/trainer export --data '$(DATA)' --run '$(RUN)' --name expressions --output models/expressions.onnx
	$(BIN)/trainer export --data '$(DATA)' --run '$(RUN)' --name happy-sad --labels happy=happiness,sad=sadness --output models/happy-sad.onnx

.PHONY: evaluate
evaluate: $(VENV)/dev.done ## Measure the shipped face models on the test split of DATA
	$(BIN)/trainer evaluate models/happy-sad.onnx --data '$(DATA)'
	$(BIN)/trainer evaluate models/expressions.onnx --data '$(DATA)'

.PHONY: wheel
wheel: $(VENV)/dev.done ## Build the wheel, models included, into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

.PHONY: format
format: $(VENV)/dev.done ## Bring the code into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove environments, caches and builds; models, runs and reports stay
	rm -rf $(VENV) build dist .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'batch-label needs Python 3.11 or newer: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo 'Python has no venv module: install it (Debian: apt install python3-venv)' >&2; exit 1; }

$(VENV)/label.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing batch-label into $(VENV) ...'
	@$(PIP) -e '.[heic,parquet]'
	@touch $@

$(VENV)/dev.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing batch-label with all that its development needs into $(VENV) ...'
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/label.done
