# make reproduce    the whole run on this machine, then results/report.html
# make test         format, lint, types, tests
# make help         the rest

PYTHON ?= $(shell command -v python3.11 || command -v python3)
BIN := .venv/bin
READY := .venv/.ready
# make reproduce CONFIG=configs/smoke.yaml
CONFIG ?=
ARGS ?=

.PHONY: help reproduce test check format docs benchmark backbone clean

reproduce: $(READY)
	@$(BIN)/python -m coto.reproduce $(if $(CONFIG),--configfile $(CONFIG)) $(ARGS)

test: check
	$(BIN)/python -m pytest -n 2 --dist loadfile

check: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/snakefmt --check Snakefile rules
	$(BIN)/mypy
	$(BIN)/python -m snakemake --lint

format: $(READY)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .
	$(BIN)/snakefmt Snakefile rules

docs: $(READY)
	$(BIN)/python -m coto.config.reference

benchmark: $(READY)
	$(BIN)/python -m benchmarks.sweep
	$(BIN)/python -m benchmarks.job_start

backbone: $(READY)
	$(BIN)/python -m coto.backbones.pretrain --out coto/backbones/glyphs $(ARGS)

clean:
	rm -rf .venv .snakemake build *.egg-info .mypy_cache .pytest_cache .ruff_cache

help:
	@sed -n 's/^# \{0,1\}//p' Makefile | head -4
	@echo "make format       format everything"
	@echo "make docs         pages on the configuration and the operators, from the code"
	@echo "make benchmark    what the sweep over subsets and the job server save"
	@echo "make backbone     the small image backbone anew: about 40 minutes on one core"

$(READY): envs/constraints.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed, found " + sys.version.split()[0] if sys.version_info < (3, 11) else 0)'
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --constraint envs/constraints.txt --editable '.[pipeline,dev]'
	@# CPU torch beside a CUDA torchvision: see coto/compat.py.
	@$(BIN)/python -c 'import sysconfig, pathlib; pathlib.Path(sysconfig.get_path("purelib"), "coto_torchvision.pth").write_text("import coto.compat; coto.compat.install()\n")'
	@touch $@
