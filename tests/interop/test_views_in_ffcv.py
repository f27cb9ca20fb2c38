"""ViewDecoder in stock FFCV 1.0.2: it gives the pixels of our own loader."""

import pickle
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from ffcv_ssl import fields
from ffcv_ssl.loader import Loader
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter
from tests.interop.samples import drawn_image
from tests.interop.view_pipelines import PIPELINES, REPEATED, RESUMED_EPOCH, SEED

pytestmark = [pytest.mark.interop, pytest.mark.timeout(600)]

ROOT = Path(__file__).parents[2]
OURS_IN_FFCV = "our views in FFCV"
NUM_SAMPLES = 31


def write(path: Path, mode: str) -> Path:
    """Write images of different sizes and their indices."""
    samples = [(drawn_image(40 + 3 * i, 90 - 2 * i, seed=i), i) for i in range(NUM_SAMPLES)]
    field_map = {"image": fields.RGBImageField(write_mode=mode), "label": fields.IntField()}
    DatasetWriter(str(path), field_map, num_workers=0, progress=False).from_indexed_dataset(samples)
    return path


@pytest.fixture(scope="module", params=["jpg", "raw"])
def file(request, tmp_path_factory) -> Path:
    """A file with the same images, as JPEG and as raw pixels."""
    return write(tmp_path_factory.mktemp("views") / f"{request.param}.beton", request.param)


def in_ffcv(file: Path, **options) -> tuple[list[dict], str, str]:
    """Run FFCV's loader; return its epochs of views, and type and text of its error."""
    out = file.with_suffix(".pickle")
    flags = [f"--{name}={value}" for name, value in options.items()]
    arguments = [sys.executable, "-m", "tests.interop.views_peer", str(file), str(out), *flags]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    return pickle.loads(out.read_bytes())


def in_ours(file: Path, name: str, epoch: int) -> dict[int, np.ndarray]:
    """Return the views of an epoch of our loader by label."""
    with Loader(
        str(file), 8, seed=SEED, drop_last=False, pipelines={"image": PIPELINES[name]}
    ) as loader:
        loader.set_epoch(epoch)
        return {
            int(label): image
            for batch in loader
            for label, image in zip(batch.label, batch.image.numpy(), strict=True)
        }


def assert_same(found: dict[int, np.ndarray], expected: dict[int, np.ndarray]) -> int:
    """Compare all views and return the number of their values."""
    for label, views in found.items():
        np.testing.assert_array_equal(views, expected[label], err_msg=f"sample {label}")
    return sum(views.size for views in found.values())


@pytest.mark.parametrize(
    ("name", "cache"),
    [("simclr", "os"), ("simclr", "process"), ("emp_ssl", "os"), ("normalized", "os")],
)
def test_views__equal_those_of_our_loader(file, name, cache, compared):
    """With the same seed, every sample has the same views in two epochs of both loaders."""
    epochs, _, _ = in_ffcv(file, views=name, cache=cache)
    for number, epoch in enumerate(epochs):
        assert epoch.keys() == set(range(NUM_SAMPLES))
        compared(
            OURS_IN_FFCV,
            f"{name}, {file.stem}",
            f"{cache} cache",
            assert_same(epoch, in_ours(file, name, number)),
        )
    assert any((epochs[0][label] != epochs[1][label]).any() for label in range(NUM_SAMPLES))


def test_epoch__is_that_of_ffcv(file, compared):
    """The epoch follows FFCV's `next_epoch`, also after an interrupted epoch."""
    epochs, _, _ = in_ffcv(file, run="left_early")
    assert [len(epoch) for epoch in epochs] == [9, 27, 27]
    for number, epoch in zip((0, 1, RESUMED_EPOCH), epochs, strict=True):
        compared(
            OURS_IN_FFCV,
            f"simclr, {file.stem}",
            "epochs cut short",
            assert_same(epoch, in_ours(file, "simclr", number)),
        )


def test_iterators__side_by_side_keep_their_epochs(file, compared):
    """Two concurrent iterators of one loader and one of another render epochs 0, 1 and 0."""
    epochs, _, _ = in_ffcv(file, run="side_by_side")
    for number, epoch in zip((0, 1, 0), epochs, strict=True):
        assert epoch.keys() == set(range(NUM_SAMPLES))
        compared(
            OURS_IN_FFCV,
            f"simclr, {file.stem}",
            "side by side",
            assert_same(epoch, in_ours(file, "simclr", number)),
        )


def test_repeated_samples__get_the_views_of_our_loader(file, compared):
    """A sample that occurs several times gets different views each time, as in our loader."""
    batches, _, _ = in_ffcv(file, run="repeated")
    found = [(label, views) for batch in batches for label, views in batch]
    options = {"seed": SEED, "drop_last": False, "pipelines": {"image": PIPELINES["simclr"]}}
    with Loader(str(file), 8, indices=REPEATED, **options) as loader:
        expected = [image.numpy() for _ in range(2) for batch in loader for image in batch.image]
    assert [label for label, _ in found] == 2 * REPEATED
    assert len({views.tobytes() for _, views in found}) == len(found)
    for (_, views), wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(views, wanted)
    num_values = sum(views.size for _, views in found)
    compared(OURS_IN_FFCV, f"simclr, {file.stem}", "repeated samples", num_values)


def test_damaged_image__raises_in_the_thread_that_requests_the_batch(tmp_path):
    """Earlier batches arrive, then an error that names file and sample, then the next epoch."""
    file = write(tmp_path / "damaged.beton", "jpg")
    with Reader(str(file)) as reader:
        pointers, sizes = reader.extents("image")
        middle = int(pointers[13]) + int(sizes[13]) // 2
    data = bytearray(file.read_bytes())
    expected = [in_ours(file, "simclr", epoch) for epoch in range(2)]
    data[middle : middle + 40] = b"\xff\xd9" * 20
    file.write_bytes(data)
    batches, error, message = in_ffcv(file, run="until_damage")
    assert (error, len(batches)) == ("SampleError", 2)
    assert "damaged.beton: sample 13, field 'image': " in message
    for batch, views in zip(batches, expected, strict=True):
        assert batch.keys() == set(range(9))
        assert_same(batch, views)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"views": "two sizes"}, "field 'image': .* one decoder per size"),
        ({"views": "on a device"}, "put an operation of FFCV after ViewDecoder"),
        ({"views": "16-bit floats"}, "normalize to float32"),
        ({"views": "no crop"}, "images differ in size"),
        ({"run": "misplaced"}, "first operation of an image field's pipeline"),
    ],
)
def test_unsupported_pipeline__is_rejected(file, options, message):
    """The error is raised when FFCV's loader is built and says what to do."""
    found, error, text = in_ffcv(file, **options)
    assert (found, error) == ([], "PipelineError")
    assert re.search(message, text)


def test_import__without_ffcv_names_the_extra():
    """Without FFCV the import error names the extra to install."""
    program = "import sys; sys.modules['ffcv'] = None; import ffcv_ssl.interop.ffcv"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert "ffcv_ssl.interop.ffcv needs FFCV" in result.stderr
    assert "pip install 'ffcv_ssl[ffcv]'" in result.stderr
