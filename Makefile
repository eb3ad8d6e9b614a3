# Everything a person needs. `make demo` and `make test` do all the set-up themselves, on a fresh Debian or Ubuntu with
# Python 3.11 or newer; the second time they find it done.

.PHONY: help setup demo test test-long lint format typecheck bench conformance lock clean

ARGS ?=
SHARE ?= 1
BIN = .venv/bin

help:
	@echo "make demo       set up, start an archive with sample studies, print its address and a password"
	@echo "make test       set up, run every check and test          (ARGS='-k words' picks some)"
	@echo "make test-long  the same with the long counts, behind all other work (days; SHARE=0.01: a hundredth of them)"
	@echo "make setup      only set up: the command is then .venv/bin/radiolith"
	@echo "make lint       style, formatting, layers     make format     apply formatting"
	@echo "make typecheck  strict typing                 make bench      speed, memory, size"
	@echo "make conformance  write docs/conformance.md and docs/integration-statement.md from the tables of the code"
	@echo "make lock       resolve the dependencies anew make clean      remove what was made here"

setup:
	@sh scripts/setup run

demo: setup
	@$(BIN)/radiolith demo $(ARGS)

test:
	@sh scripts/test $(ARGS)

test-long:
	@RADIOLITH_LONG=$(SHARE) nice -n 19 sh scripts/test --timeout=0 $(ARGS)

lint:
	@sh scripts/setup dev
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports

format:
	@sh scripts/setup dev
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

typecheck:
	@sh scripts/setup dev
	@$(BIN)/pyright

bench:
	@sh scripts/setup dev
	@sh scripts/system-packages "Orthanc=orthanc=the archive to compare with" "storescu=dcmtk=its tools as peers"
	@$(BIN)/python -m bench $(ARGS)

conformance: setup
	@$(BIN)/radiolith conformance > docs/conformance.md
	@$(BIN)/radiolith conformance --integration-statement > docs/integration-statement.md

lock:
	@sh scripts/setup dev
	@sh scripts/lock

clean:
	rm -rf .venv build dist .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
