#!/usr/bin/env bash
# Build the native decoder into this checkout; root also installs a missing compiler or header.
set -euo pipefail
cd "$(dirname "$0")/../.."

has_header() {
    printf '#include <stdio.h>\n#include <jpeglib.h>\n' | cc -E - >/dev/null 2>&1
}

if ! has_header && command -v apt-get >/dev/null && [ "$(id -u)" -eq 0 ]; then
    echo "make native: installing gcc libc6-dev libjpeg-dev"
    apt-get update -qq
    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends \
        gcc libc6-dev libjpeg-dev >/dev/null
fi
# This fails with a message if a dependency is still missing.
FFCV_SSL_NATIVE=1 "${PYTHON:-.venv/bin/python}" -m pip --disable-pip-version-check install \
    --quiet --no-deps --editable .
