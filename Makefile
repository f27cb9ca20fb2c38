# make install   a virtual environment in .venv with the versions of constraints.txt
# make test      the test suite
# make native    builds the native decoder (C compiler, libjpeg-turbo's header), then the tests of all that decodes, with it
# make demo      images → .beton → SimCLR and EMP-SSL → one table and one picture; DATA=folder SIZE=32 for your own images
# make bench     images per second against plain decode and every peer that is installed; DATA=folder or .beton, BENCH='--help' for options
# make interop   files both ways between this package and FFCV 1.0.2 (needs a C++ compiler and Debian packages)
# make fuzz      hostile files through everything that reads them; FUZZ='--help' for options, FUZZ='--count=200000' for the long run
# make soak      two hours of epochs with early exits and errors, while memory, descriptors and threads are watched; SOAK_MINUTES=120
# make kill      200 SIGKILLs of the writer and as many of the training, at random moments; KILLS=50 SEED=1 for others
# make check     formatter, linter, types

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

# FFCV_SSL_DECODER=native: a decoder that was built but is not in use is an error, not the next rung of the ladder.
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
