# make demo        from nothing to a trained model: installs, fetches FashionMNIST, runs producer and trainer
# make test        installs the development extra too and runs the tests, at most 8 minutes on two cores
# make coverage    the same with a coverage report, one after the other
# make test-long   what takes longer            make test-faults   what breaks things at length; SEED=N repeats one
# make test-lowest the lower bounds of pyproject.toml, proved in an environment of their own
# make bench       what streaming costs on this machine: limits, headrace, peers; at most 12 minutes
# make lint        ruff, mypy, import-linter    make clean         removes everything that make made but ./data and ./runs
# make clients     what the clients in C and JavaScript need, where apt-get and npm are there
#
# PYTHON=python3.12 picks the interpreter, DATA=DIR the folder of FashionMNIST.

SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DELETE_ON_ERROR:
MAKEFLAGS += --no-builtin-rules

PYTHON ?= python3
DATA ?= data
VENV := .venv
LOWEST := .venv-lowest
CODE := protocol producer trainer tests benchmarks $(wildcard examples/*.py examples/sources/*.py)

# Downloads show their progress to a person and stay quiet in a log.
PIP_INSTALL = -m pip install --disable-pip-version-check $$([ -t 1 ] || echo --quiet)
PYTEST := -m pytest
# Half of the tests' time is waiting for processes, so two run at once; more would wait for two cores.
TWO := -n 2 --dist worksteal
COVERAGE := --cov --cov-report=term

.PHONY: demo test coverage test-long test-faults test-lowest bench lint venv data clients clean
.DEFAULT_GOAL := demo

demo: $(VENV)/.train data
	@$(VENV)/bin/python examples/demo.py --data $(DATA)

test: $(VENV)/.dev data
	@HEADRACE_DATA=$(DATA) $(VENV)/bin/python $(PYTEST) $(TWO)

coverage: $(VENV)/.dev data
	@rm -f .coverage .coverage.*  # processes that were killed in the last run left theirs
	@HEADRACE_DATA=$(DATA) $(VENV)/bin/python $(PYTEST) $(COVERAGE)

test-long: $(VENV)/.dev data
	@HEADRACE_DATA=$(DATA) $(VENV)/bin/python $(PYTEST) -m long --timeout 1800 || $(call none-marked,long)

test-faults: $(VENV)/.dev data
	@HEADRACE_DATA=$(DATA) $(VENV)/bin/python $(PYTEST) $(TWO) -m faults --timeout 1800

# What is installed, at the oldest versions that it may be installed with. Left out is what hardly any version of a library
# can break: arithmetic (which hypothesis draws, or a simulator plays), merging and loss of
# records, our own sources, what programs say of mistakes; and what is slow, kills processes or is not installed (benchmarks).
NO_LIBRARY := benchmarks faults examples/test_learning.py \
  test_command_lines.py test_imports.py test_no_code_is_loaded.py test_readme.py \
  protocol/test_memory.py protocol/test_simulation.py trainer/test_arrivals.py trainer/test_merge.py \
  trainer/test_commands.py trainer/test_on_loss.py trainer/test_sealed.py
test-lowest: $(LOWEST)/.installed data
	@HEADRACE_DATA=$(DATA) $(LOWEST)/bin/python $(PYTEST) $(TWO) -W default \
	  -m "not slow and not long and not faults and not hypothesis" $(NO_LIBRARY:%=--ignore tests/%)

# pytest's status 5 says that no test carries the marker, which is no failure of a test.
none-marked = { status=$$?; [ $$status -eq 5 ] && echo "no test is marked '$(1)' yet" || exit $$status; }

bench: $(VENV)/.dev data
	@$(VENV)/bin/python -m benchmarks --data $(DATA)

lint: $(VENV)/.dev
	@$(VENV)/bin/ruff check .
	@$(VENV)/bin/ruff format --check .
	@$(VENV)/bin/mypy --strict $(CODE)
	@$(VENV)/bin/lint-imports --no-logo

venv: $(VENV)/.dev

data: $(VENV)/.train
	@$(VENV)/bin/python -m producer.fashion_mnist $(DATA)

# Nothing fails for want of another language: the tests of what cannot be installed are skipped.
clients:
	@printf '#include <zmq.h>\n#include <msgpack.h>\n' | cc -fsyntax-only -x c - 2>/dev/null \
	  || { apt-get update -qq && apt-get install -qq -y libzmq3-dev \
	       && { apt-get install -qq -y libmsgpack-c-dev || apt-get install -qq -y libmsgpack-dev; }; } >/dev/null 2>&1 \
	  || echo "libzmq3-dev and libmsgpack-dev cannot be installed here: the clients in C are not tested"
	@[ -d examples/clients/node_modules/zeromq ] || npm install --prefix examples/clients --no-save --no-package-lock \
	  --ignore-scripts --silent zeromq@6 @msgpack/msgpack@3 >/dev/null 2>&1 \
	  || echo "zeromq and @msgpack/msgpack cannot be installed here: the clients in JavaScript are not tested"

clean:
	rm -rf examples/clients/node_modules
	rm -rf $(VENV) $(LOWEST) build dist *.egg-info .coverage .coverage.* htmlcov .hypothesis .import_linter_cache
	rm -rf .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -not -path './.git/*' -prune -exec rm -rf {} +

# An installation is done again only when what it rests on has changed: each leaves a stamp in its environment.

$(VENV)/.made:
	@$(call make-venv,$(VENV))

$(VENV)/.train: pyproject.toml constraints.txt | $(VENV)/.made
	@$(VENV)/bin/python -c 'import torch' 2>/dev/null || echo \
	  "About to download PyTorch and its libraries: about 5 GB on disk when done, most of it CUDA, which is used where there is a GPU."
	@$(call install,$(VENV),train,$(pins))

$(VENV)/.dev: $(VENV)/.train
	@$(call install,$(VENV),train$(comma)dev,$(pins))

$(LOWEST)/.installed: pyproject.toml constraints-lowest.txt
	@$(call make-venv,$(LOWEST))
	@echo "About to download the oldest PyTorch that is supported: another 7 GB on disk."
	@$(call install,$(LOWEST),train$(comma)test,-c constraints-lowest.txt)

comma := ,

# The pins serve these platforms; elsewhere pip picks what it finds.
pins = $$($(VENV)/bin/python -c 'import platform, sys; known = platform.system() == "Linux" and platform.machine() == "x86_64" \
	and platform.python_implementation() == "CPython" and sys.version_info < (3, 14); print("-c constraints.txt" if known else "")')

# $(call install,ENVIRONMENT,EXTRAS,OPTIONS)
define install
start=$$SECONDS; echo "Installing headrace[$(2)] into $(1) ..."; \
$(1)/bin/python $(PIP_INSTALL) $(3) -e '.[$(2)]'; \
touch $@; echo "Installed in $$((SECONDS - start)) s."
endef

# $(call make-venv,ENVIRONMENT)
define make-venv
fail() { echo "error: $$1" >&2; exit 1; }; \
command -v $(PYTHON) >/dev/null || fail "no '$(PYTHON)' here: install Python 3.11 or newer, or name one with make PYTHON=..."; \
$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' \
  || fail "$(PYTHON) is $$($(PYTHON) -V 2>&1), and 3.11 is needed: name a newer one with make PYTHON=python3.12"; \
$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null \
  || fail "$(PYTHON) cannot make virtual environments: install its venv package (Debian: apt-get install python3-venv)"; \
$(PYTHON) -m venv $(1); touch $(1)/.made
endef
