# Two commands do it all: `make repro` and `make test`.

PYTHON ?= python3
VENV := .venv
INSTALLED := $(VENV)/.installed
export PATH := $(CURDIR)/$(VENV)/bin:$(PATH)

.PHONY: repro test check

repro: $(INSTALLED)
	dvc repro
	dvc metrics show

test: $(INSTALLED) check
	python -m pytest tests/

check: $(INSTALLED)
	ruff check .
	ruff format --check .
	basedpyright --level error

$(INSTALLED): requirements.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
		|| { echo "error: Python 3.11 or newer is needed; make PYTHON=python3.12 $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)
	python -m pip install --quiet --disable-pip-version-check --requirement requirements.txt
	@touch $@
