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
# Data to train on: FER+ (folder or zip), a folder with one sub-folder of pictures a class, or
# a CSV manifest. Without it: what `make data` brings, or a few drawn faces if nothing can be had.
DATA ?=
# Names the run and the model, by default as DATA is called.
NAME ?= $(if $(DATA),$(basename $(notdir $(patsubst %/,%,$(subst $(SPACE),-,$(DATA))))),mine)
# Where `make export` puts the model, for `make gate`; without it, among your own models.
CANDIDATE ?=
# A review of a report, which train, export and gate take beside DATA, and where its paths start.
REVIEW ?=
REVIEWED ?= .
# More options for `trainer train`, such as TRAIN="--epochs 5 --config mine.toml".
TRAIN ?=

# Photos for `make evaluate` to cross-validate the whole-photo model and the default on, and a
# report of photos to learn from beside them.
PEOPLE ?=
BESIDE ?=
# FER+, of which `make bench` and `make agreement` take the test part; they take PEOPLE as well.
FERPLUS ?=
PHOTO = --data $(call path,PEOPLE) --run runs/evaluate-people --region image --side 160 --rgb

# A zip file of photos for `make bench`, `make agreement` and `make gpu-check`, and more options for
# the first, such as MEASURE="--quick --markdown --json bench.json --parts speed waits".
BENCH ?= ../shared/data/photos.zip
MEASURE ?=
# Another checkout of the project that `make bench` measures beside this one.
AGAINST ?=
# What others' programs are measured in: an environment that shares nothing with this project's.
PEERS ?= .venv-peers

# How `make test` uses the cores: a file of tests at a time on each, in the order of their names. A
# test process takes about a gigabyte, and more than a few have nothing to do in the end.
AT_ONCE := --numprocesses logical --maxprocesses 6 --dist loadfile --no-loadscope-reorder

# Broken files for `make fuzz`, of all kinds together, and the number that they are made from.
FUZZ ?= 20000
SEED ?= 1
# Kills and refused system calls for `make endurance`, and how many runs are disturbed at a time.
KILLS ?= 1000
ERRORS ?= 300
JOBS ?= 2

# Paths may hold spaces and apostrophes, so the shell takes them from the environment. A ~ in front
# is left by shells that do not expand it behind a =.
export PHOTOS OUTPUT DATA NAME REVIEW REVIEWED CANDIDATE PEOPLE BESIDE FERPLUS BENCH AGAINST PEERS
EMPTY :=
SPACE := $(EMPTY) $(EMPTY)
path = "$${$(1)/\#\~\//$$HOME/}"
given = $${$(2):+$(1) $(call path,$(2))}
FROM = $(call given,--data,DATA)
SAID = $(call given,--review,REVIEW) $${REVIEW:+--photos $(call path,REVIEWED)}
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo 'Settings: PHOTOS, OUTPUT (label); DATA, NAME, REVIEW, REVIEWED, TRAIN, CANDIDATE (train, export, evaluate, gate); PEOPLE, BESIDE (evaluate); BENCH, PEOPLE, FERPLUS, MEASURE, PEERS, AGAINST (bench, agreement); FUZZ, SEED (fuzz); KILLS, ERRORS, JOBS, SEED (endurance); PYTHON, VENV'

.PHONY: label
label: $(VENV)/label.done ## Label PHOTOS=folder (default: sample pictures) into OUTPUT
ifeq ($(strip $(PHOTOS)),)
	@$(PIP) -e '.[sample]'
	@$(BIN)/python -c 'import skimage.data as d; print(*(f"{d.__path__[0]}/{n}" for n in "$(SAMPLE)".split()), sep="\n")' \
	  | $(BIN)/batch-label - -o $(call path,OUTPUT) || code=$$?; $(call told,photos/)
else
	@$(BIN)/batch-label $(call path,PHOTOS) -o $(call path,OUTPUT) || code=$$?; \
	  $(call told,$$(printf %q $(call path,PHOTOS)))
endif

# What `make label` ends with. After these exit codes there is a report: see docs/report.md.
define told
case $${code:=0} in \
  0) echo "The report is $$OUTPUT" ;; \
  3) echo "The report is $$OUTPUT; its column error says which files could not be read" ;; \
  5|6) echo "The report is $$OUTPUT, but see above" ;; \
  *) echo "There is no new report: see above" ;; \
esac; \
echo "The next time: $$(printf %q "$$(cd $(BIN) && pwd)")/batch-label $(1) -o $$(printf %q "$$OUTPUT")"; \
test $$code = 0 || echo "batch-label ended with exit code $$code, and make makes a 2 of it:"; \
exit $$code
endef

.PHONY: test
test: $(VENV)/dev.done ## Run all tests, in an environment of its own
	$(BIN)/pytest $(AT_ONCE)

.PHONY: lint
lint: $(VENV)/dev.done ## Check format, style and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

.PHONY: check
check: lint test ## Everything that must be green

.PHONY: data
data: $(VENV)/train.done ## Download FER+ into data/ferplus, or go on with a download
	$(BIN)/trainer data

.PHONY: train
train: $(VENV)/train.done ## Train a network on DATA; the run goes to runs/NAME
	$(BIN)/trainer train $(FROM) $(SAID) --run runs/"$$NAME" $(TRAIN)

.PHONY: export
export: $(VENV)/train.done ## Turn the trained run into your model NAME, or into CANDIDATE=file.onnx
	$(BIN)/trainer export $(FROM) $(SAID) --run runs/"$$NAME" --name "$$NAME" $(call given,--output,CANDIDATE)

.PHONY: evaluate
evaluate: $(VENV)/train.done ## Measure the shipped models on DATA (FER+) and PEOPLE=folder (happy/, sad/)
	$(BIN)/trainer evaluate happy-sad $(FROM)
	$(BIN)/trainer evaluate expressions $(FROM)
ifneq ($(strip $(PEOPLE)),)
	$(BIN)/trainer crossvalidate $(PHOTO) --config configs/people.toml $(call given,--beside,BESIDE)
	$(BIN)/trainer fuse $(PHOTO)
endif

.PHONY: gate
gate: $(VENV)/train.done ## Put CANDIDATE=file.onnx in the place of your model NAME if it is better on DATA
	@test -n "$$CANDIDATE" || { echo 'Name the new model: make gate CANDIDATE=new.onnx NAME=...' >&2; exit 2; }
	$(BIN)/trainer gate $(call path,CANDIDATE) "$$NAME" $(FROM) $(SAID)

.PHONY: bench
bench: $(VENV)/dev.done ## Measure speed, memory, growth and waits on BENCH=photos.zip, beside other programs
	$(BIN)/python -m bench --photos $(call path,BENCH) --peer "$$PEERS/bin/python" \
	  $(call given,--labelled,PEOPLE) $(call given,--labelled,FERPLUS) $(call given,--against,AGAINST) $(MEASURE)

.PHONY: bench-peers
bench-peers: $(PEERS)/peers.done ## Install fer and facex into PEERS, for `make bench` (2 GB)

.PHONY: agreement
agreement: $(VENV)/dev.done ## Compare labels of BENCH, FERPLUS and PEOPLE with a way without short cuts
	$(BIN)/python -m bench.agreement $(call path,BENCH)
ifneq ($(strip $(PEOPLE)),)
	$(BIN)/python -m bench.agreement $(call path,PEOPLE)
endif
ifneq ($(strip $(FERPLUS)),)
	$(BIN)/python -m bench.agreement $(call path,FERPLUS)
endif

.PHONY: fuzz
fuzz: $(VENV)/dev.done ## Break FUZZ photos, archives, lists, journals, reports, ... (SEED chooses how)
	$(BIN)/python -m tests.fuzz --cases $(FUZZ) --seed $(SEED)

.PHONY: endurance
endurance: $(VENV)/dev.done ## Kill runs KILLS times, fail ERRORS system calls, and check every resume
	$(BIN)/python -m tests.faults --kills $(KILLS) --errors $(ERRORS) --seed $(SEED) --jobs $(JOBS)

.PHONY: corpus
corpus: $(VENV)/dev.done ## Label the images of Pillow's own tests, which pip brings into data/corpus
	$(BIN)/python -m tests.fuzz.corpus

.PHONY: gpu-check
gpu-check: $(VENV)/dev.done ## Prove that CUDA runs, and compare it with the CPU on BENCH=photos.zip
	$(BIN)/python -m bench.gpucheck --photos $(call path,BENCH)

.PHONY: pictures
pictures: $(VENV)/dev.done ## Make the README's pictures anew, of real runs (needs Chromium)
	$(BIN)/python -m tests.support.pictures

.PHONY: wheel
wheel: $(VENV)/dev.done ## Build the wheel, models included, into dist/
	$(BIN)/python -m pip wheel --quiet --disable-pip-version-check --no-deps -w dist .

# What the site shows, in the same folders, so that links between the documents hold.
SITE := README.md SECURITY.md CHANGELOG.md CONTRIBUTING.md LICENSE bench deploy docs examples models

.PHONY: docs
docs: $(VENV)/docs.done ## Build the documentation into site/ and check its links
	rm -rf build/docs && mkdir -p build/docs
	tar -c --exclude='*.onnx' --exclude=__pycache__ $(SITE) | tar -x -C build/docs
	$(BIN)/mkdocs build --quiet --strict

.PHONY: format
format: $(VENV)/dev.done ## Bring the code into its one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

.PHONY: clean
clean: ## Remove environments, caches and builds; models, runs and reports stay
	rm -rf $(VENV) $(PEERS) build dist site .pytest_cache .mypy_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo 'batch-label needs Python 3.11 or newer: make PYTHON=python3.12 ...' >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
	  { echo 'Python has no venv module: install it (Debian: apt install python3-venv)' >&2; exit 1; }

$(VENV)/label.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing batch-label into $(VENV) ...'
	@$(PIP) -e '.[heic,parquet,xlsx]'
	@touch $@

$(VENV)/train.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing batch-label and its trainer, with PyTorch, into $(VENV) ...'
	@$(PIP) -e '.[heic,parquet,train,xlsx]'
	@touch $@ $(VENV)/label.done

$(VENV)/dev.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing batch-label with all that its development needs into $(VENV) ...'
	@$(PIP) -e '.[dev]'
	@touch $@ $(VENV)/label.done $(VENV)/train.done

$(VENV)/docs.done: pyproject.toml constraints.txt | $(BIN)/python
	@echo 'Installing what builds the documentation into $(VENV) ...'
	@$(PIP) -e '.[docs]'
	@touch $@

# --no-deps, as fer asks for PyTorch and a video editor, which it does not use for photos, and both
# for packages that exist under several names.
$(PEERS)/peers.done: bench/peers.txt
	@echo 'Installing what is measured beside batch-label into $(PEERS) ...'
	@$(PYTHON) -m venv '$(PEERS)'
	@'$(PEERS)/bin/python' -m pip install --quiet --disable-pip-version-check --no-deps -r bench/peers.txt
	@touch $@
