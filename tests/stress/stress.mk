# Hostile files and JPEGs by the thousand, and hours of epochs; a short form of both is in the test suite.
FUZZ ?=
SOAK_MINUTES ?= 120

.PHONY: fuzz soak
fuzz: install
	$(BIN)/python -m tests.stress.fuzz $(FUZZ)

soak: install
	$(BIN)/python -m tests.stress.soak --minutes=$(SOAK_MINUTES)
