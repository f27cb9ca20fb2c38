# make install   create a virtual environment in .venv with the versions of constraints.txt
# make test      run the test suite
# make native    build the native decoder (needs a C compiler and libjpeg-turbo's header) and run the
#                tests of all code that decodes with it
# make demo      write images to a .beton file and train SimCLR and EMP-SSL; DATA=folder SIZE=32 for
#                your own images
# make bench     measure images per second of the loader and every installed peer; DATA=folder or
#                .beton file, BENCH='--help' for options
# make interop   check that this package and FFCV 1.0.2 read each other's files (needs a C++ compiler
#                and Debian packages)
# make fuzz      feed malformed files to all readers; FUZZ='--help' for options, FUZZ='--count=200000'
#                for a long run
# make soak      run epochs with early exits and errors for two hours and monitor memory, descriptors
#                and threads; SOAK_MINUTES=120
# make kill      kill writers and trainings 200 times each at random moments; KILLS=50 SEED=1
# make check     run formatter, linter and type checker

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
CONSTRAINTS ?= constraints.txt
DATA ?=
BENCH ?=
SIZE ?= 32
KILLS ?= 200
SEED ?= 0
DECODING_TESTS := tests/codecs tests/fields tests/kernels tests/loader tests/test_end_to_end.py

.PHONY: install test native demo bench interop kill check clean

install: $(VENV)/installed

$(VENV)/installed: setup.py $(CONSTRAINTS)
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) torch
	$(BIN)/pip install --quiet --constraint $(CONSTRAINTS) --editable '.[dev]'
	touch $@

test: install
	$(BIN)/python -m pytest

# With FFCV_SSL_DECODER=native a missing native decoder is an error; there is no fallback.
native: install
	PYTHON=$(BIN)/python bash tests/codecs/build_native.sh
	env -u FFCV_SSL_NATIVE FFCV_SSL_DECODER=native $(BIN)/python -m pytest $(DECODING_TESTS)

demo: install
	$(BIN)/ffcv-ssl demo $(if $(DATA),--demo.data=$(DATA) --demo.size=$(SIZE))

bench: install
	$(BIN)/python benchmarks/bench.py $(DATA) $(BENCH)

kill: install
	$(BIN)/python tests/stress/kill.py --kills=$(KILLS) --seed=$(SEED) --out=kill.json

check: install
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy ffcv_ssl

include tests/interop/interop.mk
include tests/stress/stress.mk

clean:
	rm -rf $(VENV) .venv-ffcv demo build *.egg-info
