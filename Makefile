# Everything stands on .venv, which `make setup` makes: Debian packages where missing (as root or through sudo), then pip.
BIN := .venv/bin

.PHONY: help setup run test check bench clean
help:
	@sed -n 's/^## //p' Makefile

## make setup   install what is missing and make .venv
setup: .venv/ready
.venv/ready: setup.cfg pyproject.toml scripts/setup.sh
	scripts/setup.sh

# The tests' servers and tools too.
.venv/ready-test: setup.cfg pyproject.toml scripts/setup.sh
	scripts/setup.sh test

## make run     run the daemon on its embedded defaults, as an ordinary user, ports above 1024
run: setup
	scripts/run.sh

## make test    every test, against private instances of real servers
test: .venv/ready-test
	$(BIN)/pytest $(PYTEST)

## make check   ruff, mypy --strict, import-linter
check: .venv/ready-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

## make bench   a table of figures; JSON=file for JSON, QUICK=1 for a short one
bench: .venv/ready-test
	$(BIN)/python -m tests.benchmarks $(if $(JSON),--json $(JSON)) $(if $(QUICK),--quick)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis run
