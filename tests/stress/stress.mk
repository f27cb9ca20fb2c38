# Long runs with malformed files and JPEGs, and with many epochs. The test suite has short versions.
FUZZ ?=
SOAK_MINUTES ?= 120

.PHONY: fuzz soak
fuzz: install
	$(BIN)/python -m tests.stress.fuzz $(FUZZ)

soak: install
	$(BIN)/python -m tests.stress.soak --minutes=$(SOAK_MINUTES)
