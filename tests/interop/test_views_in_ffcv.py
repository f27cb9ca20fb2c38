"""Our views inside stock FFCV 1.0.2: the pixels of our own loader."""

import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffcv_ssl import fields
from ffcv_ssl.errors import FieldNotFound, PipelineError
from ffcv_ssl.loader import Loader
from ffcv_ssl.reader import Reader
from ffcv_ssl.transforms import MultiView, NormalizeImage, RandomResizedCrop, ToDevice
from ffcv_ssl.writer import DatasetWriter
from tests.interop.samples import drawn_image
from tests.interop.view_pipelines import PIPELINES, SEED

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
OURS_IN_FFCV = "our views, in FFCV"
NUM_SAMPLES = 31


def write(path: Path, mode: str) -> Path:
    """Write images of different sizes with their index."""
    samples = [(drawn_image(40 + 3 * i, 90 - 2 * i, seed=i), i) for i in range(NUM_SAMPLES)]
    field_map = {"image": fields.RGBImageField(write_mode=mode), "label": fields.IntField()}
    DatasetWriter(str(path), field_map, num_workers=0, progress=False).from_indexed_dataset(samples)
    return path


@pytest.fixture(scope="module", params=["jpg", "raw"])
def file(request, tmp_path_factory) -> Path:
    """The same images as JPEG and raw."""
    return write(tmp_path_factory.mktemp("views") / f"{request.param}.beton", request.param)


def in_ffcv(file: Path, **options) -> tuple[list[dict], str | None]:
    """Epochs of views from FFCV's loader, and the error that ended them."""
    out = file.with_suffix(".pickle")
    flags = [f"--{name}={value}" for name, value in options.items()]
    arguments = [sys.executable, "-m", "tests.interop.views_peer", str(file), str(out), *flags]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    return pickle.loads(out.read_bytes())


@pytest.mark.parametrize(("name", "cache"), [("simclr", "os"), ("simclr", "process"), ("emp_ssl", "os"), ("normalized", "os")])
def test_views__are_those_of_our_loader(file, name, cache, compared):
    """Two epochs of FFCV's loader, in FFCV's order, hold the views that our loader gives every sample with the same seed."""
    epochs, failure = in_ffcv(file, views=name, cache=cache, epochs=2)
    assert failure is None
    with Loader(str(file), 8, seed=SEED, drop_last=False, pipelines={"image": PIPELINES[name]}) as loader:
        for epoch in epochs:
            expected = {int(label): image for batch in loader for label, image in zip(batch.label, batch.image.numpy(), strict=True)}
            assert epoch.keys() == expected.keys() == set(range(NUM_SAMPLES))
            for label, views in expected.items():
                np.testing.assert_array_equal(epoch[label], views)
            compared(OURS_IN_FFCV, f"{name}, {file.stem}", f"{cache} cache", sum(views.size for views in expected.values()))
    assert any((epochs[0][label] != epochs[1][label]).any() for label in range(NUM_SAMPLES))


def test_damaged_image__ends_the_epoch_and_is_raised_by_the_next(tmp_path):
    """No hang and no other image's pixels: FFCV's epoch ends, and the next one raises the error that names file and sample."""
    file = write(tmp_path / "damaged.beton", "jpg")
    with Reader(str(file)) as reader:
        pointers, sizes = reader.extents("image")
        middle = int(pointers[5]) + int(sizes[5]) // 2
    data = bytearray(file.read_bytes())
    data[middle : middle + 40] = b"\xff\xd9" * 20
    file.write_bytes(data)
    epochs, failure = in_ffcv(file, epochs=2)
    assert len(epochs) == 1
    assert 5 not in epochs[0]
    assert "damaged.beton: sample 5, field 'image'" in failure


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        (([RandomResizedCrop(8)], {"field": "picture"}), FieldNotFound, "no field 'picture'"),
        (([RandomResizedCrop(8)], {"field": "label"}), PipelineError, "reads images, and 'label' is a IntField"),
        (([RandomResizedCrop(8), ToDevice("cpu")], {}), PipelineError, "FFCV's own operation"),
        (([MultiView([[RandomResizedCrop(8)], [RandomResizedCrop(9)]])], {}), PipelineError, "one decoder per size"),
        (([RandomResizedCrop(8), NormalizeImage(mean=0, std=255, type="float16")], {}), PipelineError, "normalize to float32"),
    ],
)
def test_pipeline_that_ffcv_cannot_take__is_refused(file, arguments, error, message):
    """Before any work, with what to do."""
    from ffcv_ssl.interop.ffcv import ViewDecoder

    pipeline, options = arguments
    with pytest.raises(error, match=message):
        ViewDecoder(str(file), pipeline, **options)
