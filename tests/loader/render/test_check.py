"""Damaged stored bytes, and records with wrong sizes."""

from pathlib import Path

import numpy as np
import pytest
import torch

from ffcv_ssl import views
from ffcv_ssl.beton import BetonReader
from ffcv_ssl.beton.seal import seal
from ffcv_ssl.codecs import limits
from ffcv_ssl.codecs.decode import decoder_name
from ffcv_ssl.errors import ConfigError, PipelineError, SampleError
from ffcv_ssl.fields import BytesField, IntField, RGBImageField
from ffcv_ssl.loader import Loader, OrderOption
from ffcv_ssl.loader.render import decode, stored_images
from ffcv_ssl.transforms import CenterCrop, RandomResizedCrop
from tests.loader.conftest import write
from tests.reference.older_files import rewrite, without_block, without_value_checksums

OPTIONS = {"batch_size": 6, "num_workers": 1, "seed": 3, "drop_last": False, "with_ids": True}
MODES = [
    {"decode": decode, "cache": cache}
    for decode in ("exact", "full", "fast")
    for cache in ("os", "ram")
    if (decode, cache) != ("fast", "ram") and (decode != "fast" or decoder_name() == "native")
]
SMALL_VIEW = [
    RandomResizedCrop(4, scale=(0.02, 0.05))
]  # of most images no more than a few rows are decoded


def flip(path, offset):
    data = bytearray(Path(path).read_bytes())
    data[offset] ^= 0x04
    Path(path).write_bytes(data)


@pytest.fixture
def photos(tmp_path, jpeg_images):
    """Twelve JPEGs with restart markers, and where the bytes of each lie."""
    fields = {"image": RGBImageField(write_mode="jpg", reencode="always"), "text": BytesField()}
    path = write(
        tmp_path / "photos.beton",
        fields,
        [(image, bytes([i]) * 9) for i, image in enumerate(jpeg_images[:12])],
    )
    with BetonReader(path) as reader:
        extents = {
            name: [tuple(map(int, extent)) for extent in zip(*reader.extents(name), strict=True)]
            for name in fields
        }
    return path, extents


def failing_ids(path, pipelines, **options):
    with Loader(path, pipelines=pipelines, on_error="skip", **{**OPTIONS, **options}) as loader:
        seen = [int(i) for batch in loader for i in batch.ids]
        return {error.sample_id for error in loader.failures}, set(seen)


@pytest.mark.parametrize("mode", MODES, ids=str)
@pytest.mark.parametrize("compiled", [True, False])
def test_every_mode__notices_a_flipped_bit_anywhere_in_a_payload(
    photos, monkeypatch, mode, compiled
):
    """A flipped bit in header, entropy-coded data or end marker fails its sample."""
    path, extents = photos
    if not compiled:
        if mode["decode"] == "fast":
            pytest.skip("Python does not scale")
        monkeypatch.setattr(stored_images, "pread_address", lambda: 0)
    for sample_id, fraction in ((1, 0.0), (4, 0.3), (6, 0.6), (9, 1.0)):
        pointer, size = extents["image"][sample_id]
        flip(path, pointer + int(fraction * (size - 1)))
    failed, seen = failing_ids(path, {"image": SMALL_VIEW, "text": []}, **mode)
    assert failed == {1, 4, 6, 9}
    assert seen == set(range(12)) - failed


def test_without_crc32_of_the_library__python_checks(photos, monkeypatch):
    """If zlib's `crc32` has no address, Python reads and checks the values."""
    path, extents = photos
    monkeypatch.setattr(stored_images, "crc32_address", lambda: 0)
    flip(path, extents["image"][5][0] + extents["image"][5][1] - 1)
    assert failing_ids(path, {"image": SMALL_VIEW})[0] == {5}


def test_values_that_are_no_images__are_checked_too(photos):
    """A flipped bit in a bytes field fails its sample by name."""
    path, extents = photos
    flip(path, extents["text"][2][0] + 3)
    with (
        Loader(path, pipelines={"image": SMALL_VIEW}, **OPTIONS) as loader,
        pytest.raises(SampleError, match=r"sample 2, field 'text'.*checksum"),
    ):
        list(loader)


def test_raw_pixels__are_checked(tmp_path, raw_images):
    """The checksum detects damaged raw pixels, which always decode."""
    path = write(
        tmp_path / "raw.beton",
        {"image": RGBImageField("raw")},
        [(image,) for image in raw_images[:6]],
    )
    with BetonReader(path) as reader:
        flip(path, int(reader.extents("image")[0][3]) + 100)
    for cache in ("os", "ram"):
        assert failing_ids(path, {"image": [CenterCrop(8, ratio=1.0)]}, cache=cache)[0] == {3}


def test_check_none__reads_what_is_there(tmp_path, raw_images):
    """`check="none"` gives the damaged pixels; another word is refused when the loader is built."""
    path = write(
        tmp_path / "raw.beton",
        {"image": RGBImageField("raw")},
        [(image,) for image in raw_images[:6]],
    )
    with BetonReader(path) as reader:
        flip(path, int(reader.extents("image")[0][3]))
    with Loader(path, check="none", **OPTIONS) as loader:
        (batch,) = loader
    expected = torch.from_numpy(np.stack(raw_images[:6]).transpose(0, 3, 1, 2).copy())
    assert torch.count_nonzero(batch.image != expected) == 1
    with pytest.raises(PipelineError, match="check must be one of read, none, got 'write'"):
        Loader(path, check="write", **OPTIONS)


def test_sealed_and_older_files__give_the_same_pixels(photos, tmp_path):
    """With checksums of values, without them, and without any, a file renders the same views."""
    path, _ = photos

    def epoch(path):
        with Loader(path, pipelines={"image": views.simclr(12)}, **OPTIONS) as loader:
            return torch.cat([batch.image for batch in loader])

    expected = epoch(path)
    for older in (without_value_checksums, without_block):
        copy = tmp_path / "older.beton"
        copy.write_bytes(Path(path).read_bytes())
        assert torch.equal(epoch(str(rewrite(copy, older))), expected)


@pytest.fixture
def liar(tmp_path, jpeg_images):
    """A file without checksums whose records of samples 2 and 4 have sizes that are too large."""
    path = write(
        tmp_path / "liar.beton",
        {"image": RGBImageField("jpg"), "label": IntField()},
        list(zip(jpeg_images[:6], range(6), strict=True)),
    )
    rewrite(path, without_block)
    with BetonReader(path) as reader:
        start, size = reader.header.records_start, reader.records.dtype.itemsize
    data = bytearray(Path(path).read_bytes())
    for sample_id, side in ((2, 65_535), (4, 6_000)):
        data[start + sample_id * size + 1 : start + sample_id * size + 5] = (
            side.to_bytes(2, "little") * 2
        )
    Path(path).write_bytes(data)
    return path


@pytest.mark.parametrize("compiled", [True, False])
@pytest.mark.parametrize(
    "mode", [{"decode": "exact"}, {"decode": "full"}, {"cache": "ram"}, {"cache": "auto"}], ids=str
)
def test_claims_of_records__are_compared_before_memory_is_taken(liar, monkeypatch, mode, compiled):
    """A wrong or too large recorded size fails the sample before memory is allocated."""
    if not compiled:
        monkeypatch.setattr(stored_images, "pread_address", lambda: 0)
    sizes = []
    original = decode.ThreadMemory.buffer
    monkeypatch.setattr(
        decode.ThreadMemory,
        "buffer",
        lambda self, name, size: sizes.append(size) or original(self, name, size),
    )
    with Loader(
        liar, pipelines={"image": SMALL_VIEW}, on_error="skip", **mode, **OPTIONS
    ) as loader:
        assert (
            sum(len(image.decoder.images.cache) for image in loader._file.plan.images) < 1 << 27
        )  # 6,000 x 6,000 may be
        (batch,) = loader
        messages = {error.sample_id: str(error) for error in loader.failures}
    assert batch.ids.tolist() == [0, 1, 3, 5]
    assert "limit against decompression bombs" in messages[2]
    assert "JPEG has 43 x 34 pixels, but its record says 6000 x 6000" in messages[4]
    assert max(sizes) < 1 << 20
    with (
        BetonReader(liar) as reader,
        pytest.raises(SampleError, match=r"sample 2.*limit against decompression bombs"),
    ):
        reader.value(2, "image")


def test_limit__is_one_option(jpeg_file, monkeypatch):
    """The environment variable sets the limit everywhere; invalid values raise."""
    monkeypatch.setenv(limits.VARIABLE, "100")
    monkeypatch.setattr(decode, "HUGE_PIXELS", 50)
    with (
        Loader(jpeg_file, pipelines={"image": SMALL_VIEW}, **OPTIONS) as loader,
        pytest.raises(SampleError, match="FFCV_SSL_MAX_PIXELS"),
    ):
        list(loader)
    with BetonReader(jpeg_file) as reader, pytest.raises(SampleError, match="FFCV_SSL_MAX_PIXELS"):
        reader.value(0, "image")
    monkeypatch.setenv(limits.VARIABLE, "many")
    with pytest.raises(ConfigError, match="at least 1; got 'many'"):
        limits.max_pixels()


def test_limit_below_huge_images__holds_before_memory_is_taken(tmp_path, monkeypatch):
    """An image above a lowered limit is refused before there is memory for its pixels."""
    fields = {"image": RGBImageField(write_mode="jpg"), "label": IntField()}
    path = write(tmp_path / "wide.beton", fields, [(np.zeros((200, 900, 3), np.uint8), 0)])
    monkeypatch.setenv(limits.VARIABLE, "100000")
    asked = []
    original = decode.ThreadMemory.buffer
    monkeypatch.setattr(
        decode.ThreadMemory,
        "buffer",
        lambda self, name, size: asked.append(size) or original(self, name, size),
    )
    with (
        Loader(path, pipelines={"image": SMALL_VIEW}, **OPTIONS) as loader,
        pytest.raises(SampleError, match="FFCV_SSL_MAX_PIXELS"),
    ):
        list(loader)
    assert max(asked, default=0) < 3 * 200 * 900


def test_no_memory__is_an_error_of_the_sample(jpeg_file, monkeypatch):
    """MemoryError in a worker thread names the largest image of its chunk; `on_error` applies."""
    original = decode.ThreadMemory.buffer

    def short(self, name, size):
        if name == "pixels" and size > 3 * 37 * 40:
            raise MemoryError
        return original(self, name, size)

    monkeypatch.setattr(decode.ThreadMemory, "buffer", short)
    with Loader(
        jpeg_file,
        pipelines={"image": SMALL_VIEW},
        order=OrderOption.SEQUENTIAL,
        on_error="skip",
        **OPTIONS,
    ) as loader:
        assert sum(len(batch.image) for batch in loader) == 23 - len(loader.failures)
        assert all("not enough memory for an image of" in str(error) for error in loader.failures)
        assert 0 < len(loader.failures) < 23


@pytest.mark.parametrize("compiled", [True, False])
def test_blemished_jpegs__load(tmp_path, jpeg_images, monkeypatch, compiled):
    """An image with stray bytes after its last block has the pixels of the image without them."""
    if not compiled:
        monkeypatch.setattr(stored_images, "pread_address", lambda: 0)
    field = {"image": RGBImageField("jpg", check="header")}
    blemished = [image[:-2] + b"\x5a" * 40 + image[-2:] for image in jpeg_images[:6]]

    def epoch(name, samples, **options):
        path = write(tmp_path / name, field, [(sample,) for sample in samples])
        with Loader(
            path, pipelines={"image": views.simclr(12)}, **{**OPTIONS, **options}
        ) as loader:
            return torch.cat([batch.image for batch in loader])

    assert torch.equal(epoch("blemished.beton", blemished), epoch("sound.beton", jpeg_images[:6]))
    if decoder_name() == "native" and compiled:
        with pytest.raises(SampleError, match=r"stray bytes after its last block.*decode='exact'"):
            epoch("blemished.beton", blemished, decode="fast")


def test_without_checksums__damage_may_go_unnoticed_until_the_file_is_sealed(photos, tmp_path):
    """Without checksums, some flipped bits change pixels unnoticed; with checksums, none."""
    path, extents = photos
    sound = tmp_path / "sound.beton"
    sound.write_bytes(Path(path).read_bytes())
    rewrite(sound, without_block)
    pointer, size = extents["image"][0]
    middle = pointer + size * 3 // 4  # in the entropy-coded data
    crop = {"image": [CenterCrop(24, ratio=1.0)]}

    def outcomes(source, decode):
        """Count how often a flipped bit raised an error, changed the views, or neither."""
        found = {"error": 0, "other pixels": 0, "same": 0}
        expected = None
        for offset in [None, *range(middle, middle + 40)]:
            copy = tmp_path / "copy.beton"
            copy.write_bytes(source.read_bytes())
            if offset is not None:
                flip(copy, offset)
            with Loader(
                copy, 1, num_workers=0, indices=[0], pipelines=crop, decode=decode, seed=0
            ) as loader:
                try:
                    (batch,) = loader
                except SampleError:
                    found["error"] += 1
                    continue
            expected = batch.image if expected is None else expected
            found["same" if torch.equal(batch.image, expected) else "other pixels"] += 1
        return found

    assert outcomes(sound, "exact")["other pixels"] > 0
    assert outcomes(sound, "full")["other pixels"] > 0
    seal(sound)
    for mode in ("exact", "full"):
        assert outcomes(sound, mode) == {"error": 40, "other pixels": 0, "same": 1}
