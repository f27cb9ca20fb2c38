"""Results in the format of a run, with times that can be checked by hand."""

import sys

import pytest

from ffcv_ssl.benchmarks.process import CONTESTANTS


@pytest.fixture
def make_row():
    """Build a row: 100 images in the given seconds per epoch, after a start of 250 ms."""

    def make(key, kind="peer", seconds=(1.0, 1.0), **more):
        row = {
            "key": key,
            "name": key,
            "kind": kind,
            "workers": 2,
            "status": "ok",
            "reason": "",
            "seconds": list(seconds),
        }
        row |= {"images": [100] * len(seconds), "start_s": [0.25] * len(seconds)}
        return row | {"lacks": [], "notes": [], "versions": {}} | more

    return make


@pytest.fixture
def make_result(make_row):
    """Build a result: two ffcv_ssl rows, one peer, one absent peer, plain decode."""

    def make(name="crop1", **more):
        rows = [
            make_row("ours_pip", "ours", (1.0, 2.0, 1.0), name="ffcv_ssl, pip install"),
            make_row("ours_native", "ours", (0.5, 0.5, 0.5), name="ffcv_ssl, native decoder"),
            make_row("ffcv", seconds=(4.0, 4.0, 6.0), lacks=["hue"], versions={"ffcv": "1.0.2"}),
            make_row("dali", status="absent", reason="no module", seconds=()),
            make_row("decode_native", "ceiling", (0.25, 0.25, 0.5), name="plain decode, native"),
        ]
        result = {
            "name": name,
            "title": name,
            "images": "100 images",
            "num_images": 100,
            "stored": 100,
            "views": 2,
            "batch_size": 32,
        }
        return result | {"epoch_s": 5.0, "rows": rows} | more

    return make


@pytest.fixture
def contestant(monkeypatch):
    """Import a module of the `contestants` folder, as its program would."""
    monkeypatch.syspath_prepend(str(CONTESTANTS))
    before = set(sys.modules)

    def load(name):
        return __import__(name)

    yield load
    for name in set(sys.modules) - before:
        if (
            getattr(sys.modules[name], "__file__", None)
            and str(CONTESTANTS) in sys.modules[name].__file__
        ):
            del sys.modules[name]
