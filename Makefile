# Two commands do it all: `make repro` and `make test`.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed
# The stages call `python`. (make itself may look commands up in the old PATH, so they are named in full here.)
export PATH := $(CURDIR)/$(BIN):$(PATH)

.PHONY: repro report plots test check

repro: $(INSTALLED)
	$(BIN)/dvc repro
	@$(BIN)/python stages/results.py

report: $(INSTALLED)
	@$(BIN)/python stages/report.py --open

plots: $(INSTALLED)
	$(BIN)/python stages/draw_plots.py

test: $(INSTALLED) check
# Two workers, one thread each: most of a test is starting processes, which one thread does. In the order of conftest.py.
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder tests/

check: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/basedpyright --level error

$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; try: make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@
