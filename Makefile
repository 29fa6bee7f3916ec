# make reproduce    the whole run on this machine, then results/report.html
# make test         what check checks, then the tests
# make test-slurm   on a real SLURM cluster, started on this machine (Debian; root installs it)
# make check        format, lint, imports, types
# make format       format everything
# make docs         pages on the configuration and the operators, from the code
# make bench        speed against peers in minutes, at reduced sizes: results/benchmarks/
# make bench-full   the same at full sizes, which takes hours on one core
# make backbone     the small image backbone anew: about 40 minutes on one core
# make clean        remove the environment and all caches, but no results

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
# make reproduce CONFIG=configs/smoke.yaml
CONFIG ?=
ARGS ?=

.PHONY: reproduce test test-slurm check format docs bench bench-full backbone clean help

reproduce: $(READY)
	@$(BIN)/python -m coto.reproduce $(if $(CONFIG),--configfile $(CONFIG)) $(ARGS)

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

test-slurm: $(READY)
	$(BIN)/python -m pip install -q --disable-pip-version-check -c envs/constraints.txt -e '.[pipeline,dev,slurm]'
	tests/slurm/cluster.sh install
	$(BIN)/python -m pytest -m slurm tests/slurm

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/lint-imports --no-logo
	$(BIN)/mypy
	$(BIN)/python -m snakemake --lint

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

docs: $(READY)
	$(BIN)/python -m tools.docs

bench: $(READY)
	$(BIN)/python -m benchmarks all --quick $(ARGS)

bench-full: $(READY)
	$(BIN)/python -m benchmarks all $(ARGS)

backbone: $(READY)
	$(BIN)/python -m tools.pretrain --out coto/models/images/glyphs $(ARGS)

clean:
	rm -rf .venv .snakemake build *.egg-info .mypy_cache .pytest_cache .ruff_cache .import_linter_cache

help:
	@sed -n '/^$$/q; s/^# //p' Makefile

$(READY): envs/constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	@$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install -q --disable-pip-version-check -c envs/constraints.txt -e '.[pipeline,dev]'
	@touch $@
