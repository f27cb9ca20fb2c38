# Compares ffcv_ssl with FFCV 1.0.2 in a separate environment, value by value.
.PHONY: interop
interop:
	PYTHON="$(PYTHON)" bash tests/interop/install_ffcv.sh
	.venv-ffcv/bin/python -m pytest -m interop tests/interop
