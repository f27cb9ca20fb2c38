#!/usr/bin/env bash
# Prepare .venv-ffcv: FFCV 1.0.2, built from its source distribution, and this checkout of ffcv_ssl beside it.
# Run again it does nothing; it starts over when a pin, this script or the place of the checkout has changed.
set -euo pipefail

room=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$room/../.." && pwd)
venv="$root/.venv-ffcv"
python=${PYTHON:-python3}

# FFCV's setup.py finds its two C++ libraries through pkg-config; no wheel brings their headers.
apt_packages=(libopencv-dev libturbojpeg0-dev pkg-config g++)

# What ffcv_ssl, FFCV and the tests import. Both packages themselves go in without their dependencies: FFCV's list asks for
# opencv-python, whose import needs libGL, and ours for what only trainers need.
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
    command -v g++ >/dev/null && command -v pkg-config >/dev/null && pkg-config --exists opencv4 libturbojpeg
}

install_libraries() {
    local wanted="FFCV needs ${apt_packages[*]}"
    command -v apt-get >/dev/null || fail "$wanted (Debian's names); there is no apt-get here, install them another way and run again."
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        sudo -n true 2>/dev/null || fail "$wanted; run 'apt-get install ${apt_packages[*]}' as root and try again."
        as_root=(sudo -n)
    fi
    echo "make interop: installing ${apt_packages[*]}"
    local log
    log=$(mktemp)
    { "${as_root[@]}" apt-get update -qq &&
        "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${apt_packages[@]}"; } \
        >"$log" 2>&1 || { tail -n 20 "$log" >&2; fail "$wanted, and apt-get could not install them (see above)."; }
    rm -f "$log"
    has_libraries || fail "pkg-config does not find opencv4 and libturbojpeg although apt-get installed ${apt_packages[*]}."
}

stamp=$(cat "$room/constraints.txt" "$room/install_ffcv.sh" <(echo "$root") | sha256sum | cut -d' ' -f1)
if [ "$(cat "$venv/.installed" 2>/dev/null || true)" = "$stamp" ]; then
    exit 0
fi

has_libraries || install_libraries
echo "make interop: preparing $venv"
"$python" -m venv --clear "$venv"
pip=("$venv/bin/python" -m pip --disable-pip-version-check --quiet)
"${pip[@]}" install -c "$room/constraints.txt" "${requirements[@]}"
"${pip[@]}" install -c "$room/constraints.txt" --no-build-isolation --no-deps ffcv
"${pip[@]}" install --no-build-isolation --no-deps -e "$root"
(cd / && "$venv/bin/python" -c "import ffcv.loader, ffcv_ssl") || fail "FFCV was built but does not import (see above)."
echo "$stamp" >"$venv/.installed"
