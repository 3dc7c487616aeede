# batch-label: `make help` lists the targets.

SHELL := /bin/bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help

PYTHON ?= python3
VENV ?= .venv
# A folder, file or pattern to label; by default sample pictures of scikit-image.
PHOTOS ?=
OUTPUT ?= results.csv
SAMPLE := astronaut.png camera.png chelsea.png coffee.png rocket.jpg
# Training data: FER+ (folder or zip), a folder with one sub-folder per class, or a CSV table. By
# default what `make data` downloads, or drawn faces if that fails.
DATA ?=
# The name of the run and the model, by default that of DATA.
NAME ?= $(if $(DATA),$(basename $(notdir $(patsubst %/,%,$(subst $(SPACE),-,$(DATA))))),mine)
# The file of `make export`, for `make gate`; by default your model NAME, or its candidate if there is
# one of that name.
CANDIDATE ?=
# A review of a report for train, export and gate, and the base folder of its paths.
REVIEW ?=
REVIEWED ?= .
# More options for `trainer train`, such as TRAIN="--epochs 5 --config mine.toml".
TRAIN ?=
# More options for `trainer export`, such as EXPORT="--risk 0.1".
EXPORT ?=

# Photos on which `make evaluate` cross-validates the whole-photo model and the default pair, and a
# report of training-only photos.
PEOPLE ?=
BESIDE ?=
# FER+, for its test part in `make bench` and `make agreement`, which also use PEOPLE.
FERPLUS ?=
PEOPLE_ARGS = --data $(call path,PEOPLE) --run runs/evaluate-people --region image --side 160 --rgb

# A zip file of photos for `make bench`, `make agreement` and `make gpu-check`, and options of `make
# bench`, such as MEASURE="--quick --markdown --json bench.json --parts speed waits".
BENCH ?= ../shared/data/photos.zip
MEASURE ?=
# Another checkout of the project for `make bench` to compare with.
AGAINST ?=
# A separate environment for the other programs that `make bench` measures.
PEERS ?= .venv-peers

# `make test` runs one file of tests at a time on each core, in the order of their names. A test process
# takes about a gigabyte, so there are at most six.
PYTEST_ARGS := --numprocesses logical --maxprocesses 6 --dist loadfile --no-loadscope-reorder

# The number of broken files of `make fuzz`, and the seed.
FUZZ ?= 20000
SEED ?= 1
# Kills, failing system calls and parallel runs of `make endurance`.
KILLS ?= 1000
ERRORS ?= 300
JOBS ?= 2

# Paths may contain spaces and apostrophes, so the shell reads them from the environment. Not all
# shells expand ~ after =, so it is expanded here.
export PHOTOS OUTPUT DATA NAME REVIEW REVIEWED CANDIDATE PEOPLE BESIDE FERPLUS BENCH AGAINST PEERS
EMPTY :=
COMMA := ,
SPACE := $(EMPTY) $(EMPTY)
path = "$${$(1)/\#\~\//$$HOME/}"
option = $${$(2):+$(1) $(call path,$(2))}
DATA_ARGS = $(call option,--data,DATA)
REVIEW_ARGS = $(call option,--review,REVIEW) $${REVIEW:+--photos $(call path,REVIEWED)}
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'Settings: PHOTOS, OUTPUT (label); DATA, NAME, REVIEW, REVIEWED, TRAIN, EXPORT, CANDIDATE (train, export, evaluate, gate); PEOPLE, BESIDE (evaluate); BENCH, PEOPLE, FERPLUS, MEASURE, PEERS, AGAINST (bench, agreement); FUZZ, SEED (fuzz); KILLS, ERRORS, JOBS, SEED (endurance); PYTHON, VENV'

.PHONY: label
label: $(VENV)/label.done ## Label PHOTOS=folder (default: sample pictures), report in OUTPUT
ifeq ($(strip $(PHOTOS)),)
	@$(PIP) -e '.[sample]'
	@$(BIN)/python -c 'import skimage.data as d; print(*(f"{d.__path__[0]}/{n}" for n in "$(SAMPLE)".split()), sep="\n")' \
	  | $(BIN)/batch-label - -o $(call path,OUTPUT) || code=$$?; $(call print_result,'Label your own photos: make label PHOTOS=folder')
else
	@$(BIN)/batch-label $(call path,PHOTOS) -o $(call path,OUTPUT) || code=$$?; \
	  $(call print_result,"Next time$(COMMA) run: $$(printf %q "$$(cd $(BIN) && pwd)")/batch-label $$(printf %q $(call path,PHOTOS)) -o $$(printf %q "$$OUTPUT")")
endif

# The last lines of `make label`, after the command has named the report, with a hint for the next
# run. docs/report.md explains the exit codes.
define print_result
case $${code:=0} in \
  0) ;; \
  3) echo "The column error of $$OUTPUT says which files could not be read" ;; \
  5|6) echo "$$OUTPUT is published; see the messages above" ;; \
  *) echo "There is no new report: see the messages above" ;; \
esac; \
case $$code in 1|2) ;; *) echo $(1) ;; esac; \
test $$code = 0 || echo "batch-label ended with exit code $$code; make itself exits with 2:"; \
exit $$code
endef

.PHONY: test
test: $(VENV)/dev.done ## Run all tests
	$(BIN)/pytest $(PYTEST_ARGS)

.PHONY: lint
lint: $(VENV)/dev.done ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: check
check: lint test ## Lint and all tests: what CI runs

.PHONY: data
data: $(VENV)/train.done ## Download FER+ into data/ferplus
	$(BIN)/trainer data

# Options of a command that does not run would be ignored: `make export TRAIN="--risk 0.1"`.
define require_target
ifeq ($(origin $(1)),command line)
ifeq ($(filter $(2),$(MAKECMDGOALS)),)
$$(error $(1) is for `make $(2)`, which does not run: options of `trainer train` go into TRAIN, those of `trainer export` into EXPORT)
endif
endif
endef
$(eval $(call require_target,TRAIN,train))
$(eval $(call require_target,EXPORT,export))

.PHONY: train
train: $(VENV)/train.done ## Train a network on DATA into runs/NAME (runs/NAME-2, ... if that has other data)
	@$(BIN)/trainer train $(DATA_ARGS) $(REVIEW_ARGS) --run runs/"$$NAME" $(TRAIN)

.PHONY: export
export: $(VENV)/train.done ## Export the newest run of NAME as your model NAME, or to CANDIDATE=file.onnx
	@$(BIN)/trainer export $(DATA_ARGS) $(REVIEW_ARGS) --run runs/"$$NAME" --name "$$NAME" $(call option,--output,CANDIDATE) $(EXPORT)

.PHONY: evaluate
evaluate: $(VENV)/train.done ## Evaluate the shipped models on DATA (FER+) and PEOPLE=folder (happy/, sad/)
	$(BIN)/trainer evaluate happy-sad $(DATA_ARGS)
	$(BIN)/trainer evaluate expressions $(DATA_ARGS)
ifneq ($(strip $(PEOPLE)),)
	$(BIN)/trainer crossvalidate $(PEOPLE_ARGS) --config configs/people.toml $(call option,--beside,BESIDE)
	$(BIN)/trainer fuse $(PEOPLE_ARGS)
endif

.PHONY: gate
gate: $(VENV)/train.done ## Replace model NAME with the one of `make export`, or CANDIDATE, if it is better
	@$(BIN)/trainer gate $${CANDIDATE:+$(call path,CANDIDATE)} "$$NAME" $(DATA_ARGS) --run runs/"$$NAME" $(REVIEW_ARGS)

.PHONY: bench
bench: $(VENV)/dev.done ## Measure speed, memory, scaling and latency on BENCH=photos.zip
	$(BIN)/python -m bench --photos $(call path,BENCH) --peer "$$PEERS/bin/python" \
	  $(call option,--labelled,PEOPLE) $(call option,--labelled,FERPLUS) $(call option,--against,AGAINST) $(MEASURE)

.PHONY: bench-peers
bench-peers: $(PEERS)/peers.done ## Install fer and facex into PEERS, for `make bench` (2 GB)

.PHONY: agreement
agreement: $(VENV)/dev.done ## Compare labels of BENCH, FERPLUS and PEOPLE with a reference
	$(BIN)/python -m bench.agreement $(call path,BENCH)
ifneq ($(strip $(PEOPLE)),)
	$(BIN)/python -m bench.agreement $(call path,PEOPLE)
endif
ifneq ($(strip $(FERPLUS)),)
	$(BIN)/python -m bench.agreement $(call path,FERPLUS)
endif

.PHONY: fuzz
fuzz: $(VENV)/dev.done ## Read FUZZ broken photos, archives, lists, journals, reports, ...
	$(BIN)/python -m tests.fuzz --cases $(FUZZ) --seed $(SEED)

.PHONY: endurance
endurance: $(VENV)/dev.done ## Kill KILLS runs, make ERRORS calls fail, and check the next runs
	$(BIN)/python -m tests.faults --kills $(KILLS) --errors $(ERRORS) --seed $(SEED) --jobs $(JOBS)

.PHONY: corpus
corpus: $(VENV)/dev.done ## Label the images of Pillow's tests, downloaded into data/corpus
	$(BIN)/python -m tests.fuzz.corpus

.PHONY: gpu-check
gpu-check: $(VENV)/dev.done ## Check CUDA and compare it with the CPU on BENCH=photos.zip
	$(BIN)/python -m bench.gpucheck --photos $(call path,BENCH)

.PHONY: pictures
pictures: $(VENV)/dev.done ## Render the README's pictures from real runs (needs Chromium)
	$(BIN)/python -m tests.support.pictures

.PHONY: wheel
wheel: $(VENV)/dev.done ## Build the wheel, models included, into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

# Sources of the site, in the same folders, so that links between the documents resolve.
SITE := README.md SECURITY.md CHANGELOG.md CONTRIBUTING.md LICENSE bench deploy docs examples models

.PHONY: docs
docs: $(VENV)/docs.done ## Build the documentation into site/ and check its links
	rm -rf build/docs && mkdir -p build/docs
	tar -c --exclude='*.onnx' --exclude=__pycache__ $(SITE) | tar -x -C build/docs
	$(BIN)/mkdocs build --quiet --strict

.PHONY: format
format: $(VENV)/dev.done ## Format the code
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove environments, caches and builds, but no models, runs or reports
	rm -rf $(VENV) $(PEERS) build dist site .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'batch-label needs Python 3.11 or newer: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo 'Python has no venv module: install it (Debian: apt install python3-venv)' >&2; exit 1; }

$(VENV)/label.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing batch-label into $(VENV), which takes a minute or two ...'
	@$(PIP) -e '.[heic,parquet,report,xlsx]'
	@touch $@

$(VENV)/train.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing batch-label and PyTorch into $(VENV), which takes a few minutes ...'
	@$(PIP) -e '.[heic,parquet,train,xlsx]'
	@touch $@ $(VENV)/label.done

$(VENV)/dev.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing batch-label for development into $(VENV), which takes a few minutes ...'
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/label.done $(VENV)/train.done

$(VENV)/docs.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing MkDocs into $(VENV) ...'
	@$(PIP) -e '.[docs]'
	@touch $@

# --no-deps, because fer requires PyTorch and a video editor, which it does not use for photos, and both
# require packages that exist under several names.
$(PEERS)/peers.done: bench/peers.txt
	@echo 'Installing the programs to compare with into $(PEERS) ...'
	@$(PYTHON) -m venv '$(PEERS)'
	@'$(PEERS)/bin/python' -m pip install --quiet --disable-pip-version-check --no-deps -r bench/peers.txt
	@touch $@
