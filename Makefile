# Every target sets up what it needs; `make` alone lists them.
PYTHON ?= python3
VENV ?= .venv
# The release that the project is tested with; the package itself asks for torch>=2.11.
TORCH ?= torch==2.13.0
BIN = $(VENV)/bin
READY = $(VENV)/.ready

OUT ?= build/pipeline
RECIPE ?= small
TOKENS ?= 1M
DEMO = build/demo
REPRODUCE = build/reproduce
EXPERIMENTS = scripts/experiments

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-duckdb check gpu pipeline bench reproduce clean
.DELETE_ON_ERROR:

help:  ## list the targets
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

setup: $(READY)  ## make .venv with everything that the other targets need

$(READY): pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/pip install --quiet --disable-pip-version-check --editable ".[dev]"
	@touch $@

demo: $(READY) $(DEMO)/corpus/reference.jsonl  ## annotate, train, select on an embedded corpus
	@$(MAKE) --no-print-directory pipeline \
		CORPUS=$(DEMO)/corpus/corpus RECIPE=demo OUT=$(DEMO) TOKENS=500K
	@echo
	@echo "What it made, in $(DEMO):"
	@echo "  corpus/     text harvested from the installed packages, and a held-out reference task"
	@echo "  store/      three agents' memories, tokens and the cell index"
	@echo "  run/        metrics.jsonl, result.json, rounds/ (weights, selections), checkpoints/"
	@echo "  selection/  plan.json, selection.parquet and texts/: what the model should read next"

$(DEMO)/corpus/reference.jsonl: | $(READY)
	$(BIN)/mads harvest --out $(DEMO)/corpus

gpu: $(READY)  ## what only a GPU can show: its tests, then scripts/bench_gpu.py (ten minutes)
	@$(BIN)/python -c "import torch; assert torch.cuda.is_available(), 'torch sees no GPU'; print(torch.cuda.get_device_name())"
	$(BIN)/pytest -m gpu tests/training/test_gpu.py
	$(BIN)/python scripts/bench_gpu.py --json
	$(BIN)/python scripts/bench_train.py --quick --json

pipeline: $(OUT)/selection/plan.json  ## CORPUS=… RECIPE=… OUT=… TOKENS=…: only what is missing

$(OUT)/store/corpus.json: $(CORPUS) | $(READY)
	$(if $(CORPUS),,$(error give CORPUS=folder-or-file))
	$(BIN)/mads annotate $(CORPUS) --out $(OUT)/store --recipe $(RECIPE)
	@touch $@

$(OUT)/run/result.json: $(OUT)/store/corpus.json | $(READY)
	$(BIN)/mads train --store $(OUT)/store --out $(OUT)/run --recipe $(RECIPE)
	@touch $@

$(OUT)/selection/plan.json: $(OUT)/run/result.json | $(READY)
	@rm -rf $(OUT)/selection
	$(BIN)/mads select --store $(OUT)/store --run $(OUT)/run --tokens $(TOKENS) \
		--out $(OUT)/selection --texts \
		--corpus $(if $(wildcard $(CORPUS)/.),$(CORPUS),$(dir $(CORPUS)))

test: $(READY)  ## all tests
	OMP_NUM_THREADS=1 $(BIN)/pytest -n auto

test-duckdb: $(READY)  ## the selection's tests on the oldest DuckDB that is supported
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps --upgrade \
		--target build/duckdb "duckdb==1.5.*"
	PYTHONPATH=build/duckdb $(BIN)/python -c "import duckdb; print('duckdb', duckdb.__version__)"
	PYTHONPATH=build/duckdb OMP_NUM_THREADS=1 $(BIN)/pytest -n auto tests/selection

check: $(READY)  ## lint, format, types, import rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

bench: $(READY)  ## every benchmark, the quick way
	@set -e; for script in scripts/bench_*.py; do echo "== $$script"; \
		$(BIN)/python $$script --quick; done

reproduce: $(READY)  ## the experiment of "Does it help?" on ../shared/data: two hours, resumable
	$(BIN)/mads annotate ../shared/data/corpus --out $(REPRODUCE)/store --recipe $(EXPERIMENTS)/base.toml
	test -f $(REPRODUCE)/prior.json || $(BIN)/mads fit prior --store $(REPRODUCE)/store \
		--recipe $(EXPERIMENTS)/base.toml --out $(REPRODUCE)/prior.json
	$(BIN)/mads compare $(EXPERIMENTS)/arms.toml --store $(REPRODUCE)/store --out $(REPRODUCE)/runs \
		--seeds 3 --jobs 2

clean:  ## remove what the targets made
	rm -rf build $(VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
