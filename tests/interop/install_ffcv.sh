#!/usr/bin/env bash
# Prepare .venv-ffcv with FFCV 1.0.2, built from its source distribution, and this checkout of ffcv_ssl.
# A second run does nothing unless a pin, this script or the path of the checkout has changed.
set -euo pipefail

folder=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$folder/../.." && pwd)
venv="$root/.venv-ffcv"
python=${PYTHON:-python3}

# FFCV's setup.py finds its two C++ libraries with pkg-config; no wheel contains their headers.
apt_packages=(libopencv-dev libturbojpeg0-dev pkg-config g++)

# Packages that ffcv_ssl, FFCV and the tests import. Both packages are installed without their
# dependencies: FFCV requires opencv-python, whose import needs libGL, and ffcv_ssl requires packages
# that only training needs.
requirements=(
    numpy numba torch opencv-python-headless pillow simplejpeg filelock tqdm
    pandas assertpy psutil fastargs terminaltables PyYAML pytorch-pfn-extras
    pytest pytest-timeout setuptools
)

fail() {
    echo "make interop: $1" >&2
    exit 2
}

has_libraries() {
    command -v g++ >/dev/null && command -v pkg-config >/dev/null &&
        pkg-config --exists opencv4 libturbojpeg
}

install_libraries() {
    local wanted="FFCV needs ${apt_packages[*]}"
    command -v apt-get >/dev/null ||
        fail "$wanted (Debian package names); apt-get is not available, so install them another way."
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null ||
            fail "$wanted; run 'apt-get install ${apt_packages[*]}' as root and try again."
        as_root=(sudo -n)
    fi
    echo "make interop: installing ${apt_packages[*]}"
    local log
    log=$(mktemp)
    { "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
            apt-get install -y -qq --no-install-recommends "${apt_packages[@]}"; } \
        >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "$wanted; apt-get failed (see above)."; }
    rm -f "$log"
    has_libraries ||
        fail "pkg-config does not find opencv4 and libturbojpeg after installing ${apt_packages[*]}."
}

stamp=$(cat "$folder/constraints.txt" "$folder/install_ffcv.sh" <(echo "$root") |
    sha256sum | cut -d' ' -f1)
if [ "$(cat "$venv/.installed" 2>/dev/null || true)" = "$stamp" ]; then
    exit 0
fi

has_libraries || install_libraries
echo "make interop: preparing $venv"
"$python" -m venv --clear "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install -c "$folder/constraints.txt" "${requirements[@]}"
"${pip[@]}" install -c "$folder/constraints.txt" --no-build-isolation --no-deps ffcv
"${pip[@]}" install --no-build-isolation --no-deps -e "$root"
(cd / && "$venv/bin/python" -c "import ffcv.loader, ffcv_ssl") ||
    fail "FFCV was built but does not import (see above)."
echo "$stamp" >"$venv/.installed"
