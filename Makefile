# Works in a fresh clone with Python >= 3.11 and make. Everything lands in .venv; `make clean` takes it away.

VENV := .venv
PYTHON_IN_VENV := $(VENV)/bin/python
WORKERS ?= 2
PYTEST_ARGS ?=
DEMO_ARGS ?=
BENCH_ARGS ?= all
SEEDS ?= 50

# The first interpreter that is new enough and can make environments; `make PYTHON=/path/to/python` overrides.
PYTHON ?= $(shell for one in python3 python3.13 python3.12 python3.11 python3.14 python; do \
	"$$one" -c 'import sys, ensurepip, venv; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& { echo "$$one"; break; }; done)

# What the caller's shell says about other environments must not leak into this one.
unexport PYTHONPATH PYTHONHOME VIRTUAL_ENV PIP_USER PIP_TARGET PIP_PREFIX PIP_REQUIRE_VIRTUALENV UV_PROJECT_ENVIRONMENT
export PIP_DISABLE_PIP_VERSION_CHECK := 1

.DEFAULT_GOAL := help
.DELETE_ON_ERROR:
.PHONY: help demo test check simulate format bench docs clean

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z]+:.*## / { printf "make %-8s %s\n", $$1, $$2 }' Makefile

demo: $(VENV)/.for-running ## run the main job on the embedded default, then verify its evidence
	@$(VENV)/bin/handshake demo $(DEMO_ARGS)

test: $(VENV)/.for-developing ## run all tests; PYTEST_ARGS="-k retry" narrows them
	@$(PYTHON_IN_VENV) -m pytest -q -n $(WORKERS) --dist worksteal $(PYTEST_ARGS)

check: $(VENV)/.for-developing ## style, types, import contracts, structure
	@echo "ruff check" && $(PYTHON_IN_VENV) -m ruff check --no-fix .
	@echo "ruff format" && $(PYTHON_IN_VENV) -m ruff format --check .
	@echo "mypy --strict" && $(PYTHON_IN_VENV) -m mypy
	@echo "import contracts" && $(VENV)/bin/lint-imports --no-logo
	@echo "structure" && $(PYTHON_IN_VENV) -m pytest -q tests/structure

simulate: $(VENV)/.for-developing ## run every shipped scenario with many seeds; SEEDS says how many
	@for one in $$($(VENV)/bin/handshake simulate --list --json | sed 's/.*"scenario":"\([^"]*\)".*/\1/'); do \
		$(VENV)/bin/handshake simulate --scenario $$one --seeds $(SEEDS) || exit 1; done

format: $(VENV)/.for-developing ## put imports and layout in order
	@$(PYTHON_IN_VENV) -m ruff check -q --fix --select I . && $(PYTHON_IN_VENV) -m ruff format .

bench: $(VENV)/.for-developing ## measure, here and now; BENCH_ARGS chooses
	@$(VENV)/bin/handshake bench $(BENCH_ARGS)

docs: $(VENV)/.for-developing ## write the generated documents anew
	@$(PYTHON_IN_VENV) -m scripts.generate_docs

clean: ## remove the environment and all caches
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .import_linter_cache .hypothesis dist build
	find src tests scripts -name __pycache__ -type d -prune -exec rm -rf {} +

# uv reads the lock, pip fetches: so pip's own settings (mirror, proxy, certificates) are the only ones to care for.

$(VENV)/.with-uv:
	@test -n "$(PYTHON)" || { echo "Handshake needs Python 3.11 or newer with its venv module" \
		"(on Debian: apt-get install python3-venv)." >&2; exit 1; }
	@echo "making $(VENV)"
	@"$(PYTHON)" -m venv $(VENV)
	@$(PYTHON_IN_VENV) -m pip install -q 'uv>=0.9,<1'
	@touch $@

$(VENV)/.for-running: LOCKED := --no-dev
$(VENV)/.for-developing: LOCKED := --dev
$(VENV)/.for-running $(VENV)/.for-developing: $(VENV)/.with-uv pyproject.toml uv.lock
	@echo "installing what uv.lock names"
	@$(VENV)/bin/uv export -q --frozen --offline --python $(PYTHON_IN_VENV) --no-emit-project --extra llama $(LOCKED) \
		--output-file $@.txt
	@$(PYTHON_IN_VENV) -m pip install -q --require-hashes -r $@.txt
	@$(PYTHON_IN_VENV) -m pip install -q --no-deps -e .
	@touch $@
