# Everything runs in a virtual environment of its own per interpreter version: `make test PYTHON=python3.12`.
PYTHON ?= python3
VERSION := $(shell $(PYTHON) -c 'import sys; print("%d.%d" % sys.version_info[:2])' 2>/dev/null)
VENV := .venv-$(VERSION)
BIN := $(VENV)/bin
# Bytecode is made by the first import, of what is imported: compiling every file of every package takes longer than
# downloading them.
PIP_INSTALL := $(BIN)/python -m pip install --quiet --disable-pip-version-check --no-compile
export PYTHONDONTWRITEBYTECODE :=

.PHONY: help quickstart test test-all format gallery conformance compiled parity kernels predict slurm bench reproduce docs clean interpreter
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

help:
	@echo "make quickstart   train a small GPT on this interpreter's standard library, print its loss and a sample"
	@echo "make test         types, order of imports, tests, size budget, then lint and format"
	@echo "make test-all     the same, with slow tests and whole tables, of which make test runs a part"
	@echo "make format       format every file, fix what the linter can fix"
	@echo "make gallery      draw every variant of the model; rewrites docs/variants.md"
	@echo "make bench        measure training and decoding beside their peers; rewrites the tables of README.md"
	@echo "make conformance  check every mechanism, position and backend against float64; rewrites docs/conformance.md"
	@echo "make compiled     compile every variant six times, and compare what the programs compute"
	@echo "make parity       one training step on every mesh against one device, in float64; rewrites its table in docs/distributed.md"
	@echo "make reproduce    compare the experiments of the scoreboard with new runs (ARGS=\"mup nanogpt_cpu\" names some)"
	@echo "make kernels      compile the attention kernels for an H100 and a TPU, without either (downloads 5 GB)"
	@echo "make predict      compile a training step for an H100 without one, and check what it is made of (downloads 5 GB)"
	@echo "make slurm        start a SLURM of two nodes on this machine (Debian, root), run trainings and a sweep on it"
	@echo "make docs         build the documentation as a site, with a reference from the docstrings: site/index.html"
	@echo "make clean        remove the virtual environments, what was built and the checkers' caches (runs/ stays)"
	@echo "PYTHON=python3.12 chooses the interpreter (3.11 or newer)"

quickstart: $(VENV)/.core
	@workdir=runs/q; n=1; \
	while grep -qs '"status": *"done"' $$workdir/summary.json; do n=$$((n + 1)); workdir=runs/q-$$n; done; \
	$(BIN)/python launch.py train --config=quickstart --workdir=$$workdir

# Lint and format last: they say nothing about whether new code computes what it should.
# ARGS goes to pytest: ARGS="-k NAME" runs all tests of a variant.
test-all: WHICH := --all
test-all: test
test: $(VENV)/.test
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(WHICH) $(ARGS)
	@$(BIN)/ruff check . && $(BIN)/ruff format --check . || \
	{ echo "every test passed; make format fixes the format and most of what the linter says" >&2; exit 1; }

format: $(VENV)/.test
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

gallery: $(VENV)/.test
	$(BIN)/python -m docs.gallery

# Every cell of docs/conformance.md; half an hour.
conformance: $(VENV)/.test
	$(BIN)/python -m tests.conformance

# A quarter of an hour.
compiled: $(VENV)/.test
	$(BIN)/python -m tests.compiled

# Half an hour.
parity: $(VENV)/.test
	$(BIN)/python -m tests.mesh.parity --write

# In environments of their own: the compilers are gigabytes.
kernels:
	$(MAKE) VENV=.venv-gpu .venv-gpu/.gpu && .venv-gpu/bin/python -m tests.kernels gpu && .venv-gpu/bin/python -m tests.mesh.compilers h100:1x8
	$(MAKE) VENV=.venv-tpu .venv-tpu/.tpu && .venv-tpu/bin/python -m tests.kernels tpu && .venv-tpu/bin/python -m tests.mesh.compilers v5e:2x4

predict:
	$(MAKE) VENV=.venv-gpu .venv-gpu/.gpu && .venv-gpu/bin/python -m benchmarks.gpu.predict --check

# Ten minutes. The daemons' files are in a temporary folder, and they are stopped afterwards.
slurm: $(VENV)/.core
	@[ -x /usr/sbin/slurmctld ] && [ -x /usr/sbin/slurmd ] && [ -x /usr/sbin/munged ] || \
	{ apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends slurm-wlm munge; } || \
	{ echo "slurm-wlm and munge are not installed: as root, apt-get install slurm-wlm munge" >&2; exit 2; }
	$(BIN)/python -m tests.reliability.slurm $(ARGS)

bench: $(VENV)/.bench
	$(BIN)/python -m benchmarks.train_step
	$(BIN)/python -m benchmarks.decode
	$(BIN)/python -m benchmarks.table

# ARGS names experiments; those under ten minutes on two cores if none are named. ARGS="--keep NAME" replaces a kept result.
reproduce: $(VENV)/.core
	$(BIN)/python -m experiments $(ARGS)

# A link that leads nowhere fails.
docs: $(VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict

clean:
	rm -rf .venv-* .pytest_cache .ruff_cache .mypy_cache .import_linter_cache build dist site *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

interpreter:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	{ echo "$(PYTHON) is not Python 3.11 or newer; choose another one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 2; }

$(BIN)/python: | interpreter
	@$(PYTHON) -c 'import ensurepip' 2>/dev/null || \
	{ echo "$(PYTHON) cannot make virtual environments: sudo apt install python$(VERSION)-venv" >&2; exit 2; }
	@$(PYTHON) -m venv $(VENV)

define install
	@echo "installing $^ into $(VENV)"
	@$(PIP_INSTALL) $(addprefix -r ,$^)
	@touch $@
endef

# A stamp is newer than the requirements it stands for, so packages are installed once, and again when those change.
$(VENV)/.core: requirements.txt | $(BIN)/python
	$(install)

$(VENV)/.%: requirements/%.txt requirements.txt | $(BIN)/python
	$(install)

$(VENV)/.test: requirements/tfds.txt requirements/serve.txt
