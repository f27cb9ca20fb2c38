"""Results as a run writes them, with times that can be checked by hand."""

import pytest


@pytest.fixture
def make_row():
    """Build a row of a result: 100 images, the given seconds per epoch."""

    def make(key, kind="peer", seconds=(1.0, 1.0), **more):
        row = {"key": key, "name": key, "kind": kind, "workers": 2, "status": "ok", "reason": "", "seconds": list(seconds), "images": 100}
        return row | {"lacks": [], "notes": [], "versions": {}} | more

    return make


@pytest.fixture
def make_result(make_row):
    """Build a workload's result: ours twice, one peer, one absent peer, plain decode."""

    def make(name="crop1", **more):
        rows = [
            make_row("ours_pip", "ours", (1.0, 2.0, 1.0), name="ffcv_ssl, pip install"),
            make_row("ours_native", "ours", (0.5, 0.5, 0.5), name="ffcv_ssl, native shim"),
            make_row("ffcv", seconds=(4.0, 4.0, 6.0), lacks=["hue"], versions={"ffcv": "1.0.2"}),
            make_row("dali", status="absent", reason="no module", seconds=()),
            make_row("decode_native", "ceiling", (0.25, 0.25, 0.5), name="plain decode, native"),
        ]
        result = {"name": name, "title": name, "images": "100 images", "num_images": 100, "stored": 100, "views": 2, "batch_size": 32}
        return result | {"rows": rows} | more

    return make
