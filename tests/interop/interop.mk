# FFCV 1.0.2 in an environment of its own; files move both ways, value for value.
.PHONY: interop
interop:
	PYTHON="$(PYTHON)" bash tests/interop/install_ffcv.sh
	.venv-ffcv/bin/python -m pytest -m interop tests/interop
