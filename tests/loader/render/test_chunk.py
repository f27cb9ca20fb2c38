"""The compiled chunk: the same views as Python's decoders, and a status for each failure."""

import ctypes
import io
import os

import numpy as np
import pytest
from numba import njit
from PIL import Image

from ffcv_ssl import views
from ffcv_ssl.codecs.decode import decoder_name
from ffcv_ssl.errors import PipelineError, SampleError
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.loader.render import chunk, cpu, decode, stored_images
from ffcv_ssl.transforms import CenterCrop, MultiView, NormalizeImage, RandomResizedCrop
from tests.reference.kernel import IDENTITY, render_rows

OPTIONS = {
    "batch_size": 7,
    "num_workers": 2,
    "seed": 3,
    "drop_last": False,
    "with_ids": True,
    "order": OrderOption.RANDOM,
}
PIPELINES = {
    "simclr": views.simclr(16),
    "multi_crop": views.multi_crop(),
    "normalized": [RandomResizedCrop(9), NormalizeImage(mean=128, std=50, type=np.float16)],
    "mixed dtypes": [
        MultiView([[RandomResizedCrop(9)], [CenterCrop(8), NormalizeImage(mean=128, std=50)]])
    ],
}
needs_native = pytest.mark.skipif(
    decoder_name() != "native", reason="the native decoder is not built"
)


def epoch(path, pipeline, **options):
    with Loader(path, pipelines={"image": pipeline}, **{**OPTIONS, **options}) as loader:
        return [
            batch.image if isinstance(batch.image, tuple) else (batch.image,) for batch in loader
        ]


def assert_equal(a, b):
    for first, second in zip(a, b, strict=True):
        for x, y in zip(first, second, strict=True):
            np.testing.assert_array_equal(x.view(dtype=x.dtype).numpy(), y.numpy())


@pytest.mark.parametrize("name", PIPELINES)
@pytest.mark.parametrize("file", ["jpeg_file", "raw_file"])
def test_compiled_and_python__give_the_same_views(request, monkeypatch, name, file):
    """Compiled code, Python with boxes, and full decodes agree in every bit."""
    path = request.getfixturevalue(file)
    here = epoch(path, PIPELINES[name])
    assert_equal(here, epoch(path, PIPELINES[name], decode="full"))
    monkeypatch.setattr(stored_images, "pread_address", lambda: 0)
    assert_equal(here, epoch(path, PIPELINES[name]))


@needs_native
def test_jpegs__are_decoded_in_compiled_code(jpeg_file, monkeypatch):
    """With the native decoder, Python decodes no JPEG."""
    monkeypatch.setattr(
        decode.ImageDecoder,
        "_read_into",
        lambda *arguments: pytest.fail("a sample was decoded in Python"),
    )
    assert len(epoch(jpeg_file, PIPELINES["simclr"])) == 4


@needs_native
def test_status__tells_reading_from_decoding(damaged_file, monkeypatch):
    """A damaged sample and one beyond the end of the file have statuses of their own."""
    seen = {}
    original = cpu.CpuRenderer._render_chunk

    def recorded(self, sample_ids, parameters, outs, start):
        self.decoder.images.pointers[11] = 1 << 40
        statuses = original(self, sample_ids, parameters, outs, start)
        seen.update(zip(sample_ids.tolist(), statuses.tolist(), strict=True))
        return statuses

    monkeypatch.setattr(cpu.CpuRenderer, "_render_chunk", recorded)
    with pytest.raises(SampleError, match=r"sample (7|11), field 'image'"):
        epoch(
            damaged_file,
            PIPELINES["simclr"],
            batch_size=23,
            num_workers=0,
            order=OrderOption.SEQUENTIAL,
        )
    with Loader(
        damaged_file, pipelines={"image": PIPELINES["simclr"]}, **{**OPTIONS, "on_error": "skip"}
    ) as loader:
        assert sum(len(batch.image) for batch in loader) == 21
    assert seen[7] == chunk.CHECKSUM_MISMATCH
    assert seen[11] == chunk.NOT_READ
    assert all(
        status == chunk.DONE for sample_id, status in seen.items() if sample_id not in (7, 11)
    )


@needs_native
def test_interrupted_read__is_tried_again(jpeg_file, monkeypatch):
    """A sample that compiled code could not read once is rendered all the same."""
    expected = epoch(jpeg_file, PIPELINES["simclr"])
    original, failures = cpu.CpuRenderer._render_chunk, []

    def interrupted(self, sample_ids, parameters, outs, start):
        statuses = original(self, sample_ids, parameters, outs, start)
        if 5 in sample_ids and not failures:
            failures.append(5)
            position = sample_ids.tolist().index(5)
            outs[0][start + position] = 0
            statuses[position] = chunk.NOT_READ
        return statuses

    monkeypatch.setattr(cpu.CpuRenderer, "_render_chunk", interrupted)
    assert_equal(epoch(jpeg_file, PIPELINES["simclr"]), expected)
    assert failures == [5]


@needs_native
def test_fast__reads_images_scaled_in_the_dct(jpeg_file, jpeg_images):
    """A view reads the image of Pillow's draft mode at the smallest sufficient scale."""
    seen = set()
    with Loader(
        jpeg_file,
        pipelines={"image": [MultiView([RandomResizedCrop(5, scale=(0.02, 1))], n=6)]},
        decode="fast",
        **OPTIONS,
    ) as loader:
        (renderer,) = loader._file.plan.images
        for batch in loader:
            (rows,) = renderer.draw(3, 0, batch.ids).rows
            for position, sample_id in enumerate(batch.ids):
                for view in range(6):
                    row = rows[position, view, 0]
                    with Image.open(io.BytesIO(jpeg_images[sample_id])) as image:
                        scaled = [side // int(row[col.DENOMINATOR]) for side in image.size]
                        image.draft("RGB", scaled)
                        expected = render_rows(np.asarray(image), [row], (5, 5), IDENTITY)[0]
                    np.testing.assert_array_equal(batch.image[position, view].numpy(), expected)
                    seen.add(int(row[col.DENOMINATOR]))
    assert seen == {1, 2, 4}


@needs_native
def test_fast__does_not_depend_on_other_views(jpeg_file):
    """A view alone has the pixels that it has beside others."""
    small = [[RandomResizedCrop(3, scale=(0.5, 1))], [CenterCrop(5, ratio=1.0)]]
    both = epoch(jpeg_file, [MultiView(small)], decode="fast")
    alone = epoch(jpeg_file, [MultiView(small[:1])], decode="fast")
    assert_equal([tensors[:1] for tensors in both], alone)


def test_fast__without_the_native_decoder_is_refused(jpeg_file, monkeypatch):
    """The message names the file, the field, and what to do."""
    monkeypatch.setattr(stored_images, "native_decoder", lambda: 0)
    with pytest.raises(
        PipelineError,
        match=r"jpeg.beton: field 'image': decode='fast' needs the native decoder.*decode='exact'",
    ):
        epoch(jpeg_file, PIPELINES["simclr"], decode="fast")


def test_short_reads__are_continued(tmp_path):
    """Compiled code continues after a short `pread`, which network file systems may return."""
    path = tmp_path / "bytes"
    path.write_bytes(bytes(range(256)) * 4)
    calls = []

    @ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_int64] * 4)
    def short_pread(descriptor, address, count, offset):
        data = os.pread(descriptor, -(-count // 2), offset)
        ctypes.memmove(address, data, len(data))
        calls.append(len(data))
        return len(data)

    read = njit(chunk.read_bytes.py_func)
    nothing = np.zeros(1, np.int64)
    out = np.zeros(1000, np.uint8)
    with path.open("rb") as file:
        address = ctypes.cast(short_pread, ctypes.c_void_p).value
        stored = chunk.StoredImages(
            descriptor=file.fileno(),
            pread=address,
            decode=0,
            crc32=0,
            checksums=np.zeros(0, np.uint32),
            modes=out,
            sizes=nothing[None],
            pointers=nothing,
            num_bytes=nothing,
            cache=out,
            offsets=nothing,
            cached=out,
        )
        assert read(stored, 3, 1000, out) == 1000
        assert read(stored, 1000, 1000, np.zeros(1000, np.uint8)) == 24
    assert out.tobytes() == path.read_bytes()[3:1003]
    assert len(calls) > 3
