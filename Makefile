# `make demo` and `make test` do all of the set-up themselves.
PYTHON ?= python3
PIP_ARGS ?=
BIN = .venv/bin
SENTENCES = 'The old teacher reads the letter.' 'I do not know whether the small dog sleeps in the garden.'

.PHONY: setup demo test test-slow lint format docs bench bench-peers bench-bleu bench-lengths bench-complexity bench-family clean

setup: .venv/.ready

.venv/.ready: pyproject.toml constraints.txt
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "transformer_mt needs Python 3.11 or newer")'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	touch $@
	@echo 'installed; try .venv/bin/mt --help, or . .venv/bin/activate and then mt --help' >&2

demo: setup
	rm -rf runs/demo
	$(BIN)/mt train configs/demo.yaml
	printf '%s\n' $(SENTENCES) >&2
	printf '%s\n' $(SENTENCES) | $(BIN)/mt translate runs/demo
	$(BIN)/mt eval runs/demo

# A test a core, each of one thread: most of them start programs that wait for one another.
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses auto --dist worksteal

test: setup
	$(PYTEST) -m 'not slow'

test-slow: setup
	$(PYTEST) -m slow

lint: setup
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

docs: setup
	$(BIN)/python docs/list_errors.py

bench: setup
	$(BIN)/python -m benchmarks.speed

bench-lengths: setup
	$(BIN)/python -m benchmarks.lengths

bench-complexity: setup
	$(BIN)/python -m benchmarks.complexity

# Every system of configs/attention: some minutes each, on one core. ARGS for another corpus, some systems, another core: --help.
bench-family: setup
	$(BIN)/python -m benchmarks.family $(ARGS)

# Against other toolkits, each installed under runs/bench-peers. CORPUS=DIR for another corpus, ARGS for options: --help.
bench-peers: setup
	$(BIN)/python -m benchmarks.peers.run $(if $(CORPUS),--corpus $(CORPUS)) $(ARGS)

# Minutes to BLEU 37 on Multi30k, beside Hugging Face transformers: make bench-bleu CORPUS=DIR, ARGS for options: --help.
bench-bleu: setup
	$(BIN)/python -m benchmarks.peers.curve --corpus $(CORPUS) $(ARGS)

clean:
	rm -rf .venv runs
