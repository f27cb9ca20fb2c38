"""A committed file of each format version stays readable.

Version 0.1.0 of this package wrote `data/v2.beton`, and FFCV 1.0.2 reads it. Do not replace it.
"""

from pathlib import Path

import numpy as np

from ffcv_ssl.beton import BetonReader

V2 = Path(__file__).parent / "data" / "v2.beton"


def test_version_2__stays_readable():
    """The committed file returns its original values, and all checksums match."""
    with BetonReader(V2) as reader:
        assert reader.num_samples == 4
        assert reader.class_names == ["even", "odd"]
        assert reader.metadata["writer"] == "ffcv_ssl 0.1.0"
        for i in range(4):
            gradient = np.mgrid[0 : 3 + 2 * i, 0:5]
            raw = np.stack(
                [gradient[0] * 20, gradient[1] * 40, gradient[0] * 0 + i], axis=-1
            ).astype(np.uint8)
            assert np.array_equal(reader.value(i, "raw"), raw)
            assert reader.value(i, "jpeg").shape == (16 + i, 24, 3)
            assert np.abs(reader.value(i, "jpeg").astype(int) - [40 * i, 128, 200]).max() <= 4
            assert reader.value(i, "label") == i % 2
            assert reader.value(i, "weight") == i / 3
            assert reader.value(i, "text") == b"beton"[:i]
            assert reader.value(i, "info") == {"index": i, "name": "é"}
            assert np.array_equal(reader.value(i, "box"), np.float32([[i, 0.5], [-i, 1e10]]))
            assert reader.value(i, "tensor").tolist() == [i, -i, 7]
        assert list(reader.verify()) == []
