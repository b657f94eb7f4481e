# Everything stands on .venv, which `make setup` makes: Debian packages where missing (as root or through sudo), then pip.
BIN := .venv/bin
# What root makes here stays the checkout's owner's.
OWNED := scripts/owned.sh
# A file's tests share its servers.
SPREAD := --numprocesses=auto --maxprocesses=4 --dist=loadfile
# Made elsewhere, before the checkout was moved or copied, it is made again.
$(shell grep -qsxF "$$(pwd -P)" .venv/ready || rm -f .venv/ready*)

.PHONY: help setup run test test-debian check bench fuzz man deb rpm test-packages test-containers clean
help:
	@sed -n 's/^## //p' Makefile

## make setup   install what is missing and make .venv
setup: .venv/ready
.venv/ready: setup.cfg pyproject.toml scripts/setup.sh
	$(OWNED) scripts/setup.sh

# The tests' servers and tools too.
.venv/ready-test: setup.cfg pyproject.toml scripts/setup.sh
	$(OWNED) scripts/setup.sh test

## make run     run the daemon on its embedded defaults, as an ordinary user, ports above 1024
run: setup
	scripts/run.sh

## make test    every test, against private instances of real servers
test: .venv/ready-test
	$(OWNED) $(BIN)/pytest $(SPREAD) $(PYTEST)

## make test-debian   the same with Debian's own Python packages, as the package for Debian has them
test-debian: .venv/ready-debian
	$(OWNED) /usr/bin/python3 -m pytest $(SPREAD) $(PYTEST)
.venv/ready-debian: .venv/ready-test
	$(OWNED) scripts/setup.sh debian

## make check   ruff, mypy --strict, import-linter
check: .venv/ready-test
	$(OWNED) $(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(OWNED) $(BIN)/mypy
	$(OWNED) $(BIN)/lint-imports

## make bench   a table of figures; JSON=file for JSON, QUICK=1 for a short one
bench: .venv/ready-test
	$(OWNED) $(BIN)/python -m tests.benchmarks $(if $(JSON),--json $(JSON)) $(if $(QUICK),--quick)

## make fuzz    fuzz what reads hostile bytes; SECONDS=60 for each target; TARGETS="parsing matching" for some
fuzz: .venv/ready-test
	$(OWNED) $(BIN)/pip install --quiet atheris
	$(OWNED) $(BIN)/python -m tests.fuzz --seconds $(or $(SECONDS),60) $(TARGETS)

## make man     write the generated parts of docs/man anew
man: .venv/ready-test
	$(OWNED) $(BIN)/python scripts/make_man.py

## make deb     build dist/logguardd_*.deb from what is committed
deb:
	$(OWNED) scripts/build-deb.sh $(VERSION)

## make rpm     build dist/logguardd-*.rpm from what is committed
rpm:
	$(OWNED) scripts/build-rpm.sh

## make test-packages   build the packages and try them on booted Debians; takes root and minutes
test-packages: .venv/ready-packages
	$(OWNED) $(BIN)/pytest tests/system --ignore=tests/system/containers $(PYTEST)
.venv/ready-packages: .venv/ready-test
	$(OWNED) scripts/setup.sh packages

## make test-containers   build the image, and try it and the compose stack in a Docker engine of the test's own; root, minutes
test-containers: .venv/ready-test
	$(OWNED) $(BIN)/pytest tests/system/containers $(PYTEST)

clean:
	rm -rf .venv build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis run
