# Each target does all its set-up: a virtual environment in $(VENV) with what
# constraints.txt pins, renewed when one of these, or the compiled kernel, changes.
PYTHON ?= $(shell for p in python3.11 python3; do \
	$$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null \
	&& echo $$p && break; done)
VENV ?= .venv
BIN := $(VENV)/bin
KERNEL := $(wildcard sevennet_mf/kernels/*.cpp sevennet_mf/kernels/*.h)
# an absolute path would break where it holds a space
PIP_INSTALL := PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install \
	--no-input --disable-pip-version-check --quiet --no-compile
# what pip would do on one core, and for the tests of other packages as well; some
# files are templates, which do not compile
COMPILE := $(BIN)/python -m compileall -qq -j 0 -x '/tests?/' $(VENV)/lib || true

.PHONY: demo test host-tests bench docs lint dev clean
.NOTPARALLEL:
.DELETE_ON_ERROR:

demo: $(VENV)/.installed-run
	$(BIN)/sevennet-mf demo

# one thread per worker: two workers fill two cores, and sums repeat; in the order of
# the folders, so that the long files come first and both workers end together. Bytecode
# is kept whatever the environment says: else each of some hundred processes compiles us
test: $(VENV)/.installed-test
	OMP_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE= $(BIN)/python -m pytest -n 2 --dist loadfile \
		--no-loadscope-reorder

# make host-tests SEVENN_TESTS=path/of/SevenNet/tests/unit_tests
host-tests: $(VENV)/.installed-test
	$(if $(SEVENN_TESTS),,$(error Name the tests: make $@ \
		SEVENN_TESTS=SevenNet/tests/unit_tests))
	OMP_NUM_THREADS=1 SEVENN_TESTS='$(SEVENN_TESTS)' $(BIN)/python -m pytest \
		tests/integration/test_host_suite.py

bench: $(VENV)/.installed-lammps
	$(BIN)/python benchmarks/train_step.py
	$(BIN)/python benchmarks/whole_run.py
	$(BIN)/python benchmarks/lammps_md.py

docs: $(VENV)/.installed-docs
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html

lint: $(VENV)/.installed-lint
	$(BIN)/python -m ruff check .
	$(BIN)/python -m mypy

# all that lint, docs and test need, at once: the kernel is compiled once
dev: $(VENV)/.installed-dev

clean:
	rm -rf .venv build docs/_build .pytest_cache .ruff_cache .mypy_cache *.egg-info
	find . -name __pycache__ -prune -exec rm -rf {} +

# run: without extras; lammps, test, docs, lint: with the extra of that name
$(VENV)/.installed-%: pyproject.toml constraints.txt $(KERNEL) | $(BIN)/pip
	$(PIP_INSTALL) -e '.$(if $(filter run,$*),,[$*])'
	$(COMPILE)
	touch $@

$(VENV)/.installed-dev: pyproject.toml constraints.txt $(KERNEL) | $(BIN)/pip
	$(PIP_INSTALL) -e '.[dev]'
	$(COMPILE)
	touch $(addprefix $(VENV)/.installed-,dev run lammps lint docs test)

$(BIN)/pip:
	$(if $(PYTHON),,$(error Python 3.11 not found; name it: make PYTHON=/path/python3.11))
	$(PYTHON) -m venv $(VENV)
