"""Our views inside stock FFCV 1.0.2: the pixels of our own loader."""

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


def in_ffcv(file: Path, **options) -> tuple[list[dict], str, str]:
    """Epochs of views from FFCV's loader, and type and text of the error that ended them."""
    out = file.with_suffix(".pickle")
    flags = [f"--{name}={value}" for name, value in options.items()]
    arguments = [sys.executable, "-m", "tests.interop.views_peer", str(file), str(out), *flags]
    result = subprocess.run(arguments, cwd=ROOT, capture_output=True, text=True, timeout=300)
    assert result.returncode == 0, result.stderr[-4000:]
    return pickle.loads(out.read_bytes())


def in_ours(file: Path, name: str, epoch: int) -> dict[int, np.ndarray]:
    """The views of an epoch of our loader, by label."""
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
    """Compare all views that were found and return the number of their values."""
    for label, views in found.items():
        np.testing.assert_array_equal(views, expected[label], err_msg=f"sample {label}")
    return sum(views.size for views in found.values())


@pytest.mark.parametrize(
    ("name", "cache"),
    [("simclr", "os"), ("simclr", "process"), ("emp_ssl", "os"), ("normalized", "os")],
)
def test_views__are_those_of_our_loader(file, name, cache, compared):
    """Two epochs of FFCV's loader, in FFCV's order, hold the views that our loader gives every sample with the same seed."""
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


def test_epoch__is_ffcvs_own(file, compared):
    """It goes on where an epoch was left early or dropped its last batch, and follows `next_epoch` where that is set."""
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
    """Two iterators of one loader, begun before either gave a batch, and one of another loader: epochs 0, 1 and 0."""
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
    """A sample that FFCV's indices hold several times gets other views each time, as in our loader."""
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


def test_damaged_image__raises_where_its_batch_is_asked_for(tmp_path):
    """No hang and no other image's pixels: batches before it come, then the error that names file and sample, then the next epoch."""
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
        ({"views": "on a device"}, "put FFCV's own operation behind ViewDecoder"),
        ({"views": "16-bit floats"}, "normalize to float32"),
        ({"views": "no crop"}, "images differ in size"),
        ({"run": "misplaced"}, "first operation of an image field's pipeline"),
    ],
)
def test_pipeline_that_ffcv_cannot_take__is_refused(file, options, message):
    """When FFCV's loader is built, with what to do."""
    found, error, text = in_ffcv(file, **options)
    assert (found, error) == ([], "PipelineError")
    assert re.search(message, text)


def test_import__without_ffcv_says_what_to_install():
    """Where FFCV is missing the import says so, and names the extra."""
    program = "import sys; sys.modules['ffcv'] = None; import ffcv_ssl.interop.ffcv"
    result = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, cwd=ROOT
    )
    assert "ffcv_ssl.interop.ffcv needs FFCV" in result.stderr
    assert "pip install 'ffcv_ssl[ffcv]'" in result.stderr
