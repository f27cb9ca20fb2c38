"""Samples that are dicts, as in Hugging Face datasets, are written by field name."""

import warnings
from collections import UserDict

import numpy as np
import pytest

from ffcv_ssl.beton import BetonReader, DatasetWriter
from ffcv_ssl.beton.format.layout import MIN_PAGE_SIZE
from ffcv_ssl.beton.writer import transport
from ffcv_ssl.codecs.encode import encode_jpeg
from ffcv_ssl.errors import ImageError, WriteError
from ffcv_ssl.fields import BytesField, IntField, RGBImageField
from tests.reference.images import coordinates

FIELDS = {"text": BytesField(), "index": IntField()}


def write(path, dataset, num_workers=0, fields=FIELDS, **options):
    writer = DatasetWriter(path, fields, MIN_PAGE_SIZE, num_workers, progress=False, **options)
    return writer.from_indexed_dataset(dataset, chunksize=3)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("kind", [dict, UserDict])
def test_dicts__give_the_bytes_of_tuples(tmp_path, kind, num_workers):
    """The order of the keys has no effect."""
    write(tmp_path / "tuples.beton", [(b"%d" % index, index) for index in range(20)])
    write(
        tmp_path / "dicts.beton",
        [kind(index=index, text=b"%d" % index) for index in range(20)],
        num_workers,
    )
    assert (tmp_path / "dicts.beton").read_bytes() == (tmp_path / "tuples.beton").read_bytes()


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("size", [1, transport.SLOT_BYTES + 1], ids=["small", "larger than a slot"])
def test_unused_keys__are_reported_once(tmp_path, num_workers, size):
    """One warning lists the unused keys of all workers; a key that appears later gets another."""
    samples = [
        {"text": b"x" * size, "index": 0, "b": None, "a": None}
        for _ in range(20 if size == 1 else 4)
    ]
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        report = write(tmp_path / "a.beton", samples, num_workers)
    (message,) = [str(each.message) for each in caught]
    assert (
        message
        == f"{tmp_path}/a.beton: values under 'a', 'b' are not written; the fields are text, index."
    )
    assert caught[0].filename == __file__
    assert report.num_samples == len(samples)
    with pytest.warns(UserWarning, match="'late'"):
        write(
            tmp_path / "a.beton",
            [{"text": b"", "index": 0}] * 9 + [{"text": b"", "index": 0, "late": 1}],
            num_workers,
        )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_missing_key__is_named_with_the_existing_keys(tmp_path, num_workers):
    """The error names sample and missing keys; with skipping, the reason does."""
    samples = [{"text": b"x", "index": 1}] * 5 + [{"txt": b"x", "idx": 1}, {}]
    message = (
        r"sample 5: the dataset returned a dict without 'text', 'index'; its keys: txt, idx\.$"
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(WriteError, match=message):
            write(tmp_path / "a.beton", samples[:6], num_workers)
        report = write(tmp_path / "a.beton", samples, num_workers, on_error="skip")
    assert [each.index for each in report.skipped_samples] == [5, 6]
    assert (
        report.skipped_samples[1].reason
        == "the dataset returned a dict without 'text', 'index'; its keys: none."
    )


class Lazy(UserDict):
    """A dict that computes some values on access, and fails."""

    def __getitem__(self, key):
        if key in ("index", "costly"):
            raise RuntimeError(f"no {key} today")
        return super().__getitem__(key)


def test_failing_value__is_an_error_of_its_sample(tmp_path):
    """A failing value raises WriteError with the sample; unused values are not accessed."""
    lazy = Lazy(text=b"x", index=1, costly=2)
    with pytest.raises(WriteError, match="sample 0: RuntimeError: no index today"):
        write(tmp_path / "a.beton", [lazy])
    with pytest.warns(UserWarning, match="'costly', 'index' are not written"):
        write(tmp_path / "a.beton", [lazy], fields={"text": BytesField()})


def test_undecoded_image__is_stored_unchanged(tmp_path):
    """An image given as a dict with `bytes` or `path` is stored byte for byte."""
    jpeg = encode_jpeg(coordinates(20, 30), 90)
    (tmp_path / "a.jpg").write_bytes(jpeg)
    images = [
        {"bytes": jpeg, "path": "elsewhere.jpg"},
        {"bytes": None, "path": str(tmp_path / "a.jpg")},
    ]
    report = write(
        tmp_path / "a.beton",
        [{"image": image} for image in images],
        fields={"image": RGBImageField("jpg")},
    )
    assert report.kept == 2
    with BetonReader(tmp_path / "a.beton") as reader:
        assert reader.read(0, "image") == reader.read(1, "image") == jpeg


@pytest.mark.parametrize(
    "image",
    [{}, {"bytes": None}, {"path": None, "url": "x"}, {"bytes": {}}, {"bytes": np.array(3)}],
)
def test_undecoded_image__without_a_file_is_refused(image):
    """A dict that contains no image raises ImageError."""
    with pytest.raises(ImageError):
        RGBImageField("jpg").encode(image, 0)


def test_skipped_image__of_a_dict_is_listed_by_its_path(tmp_path):
    """The list of skipped samples contains the path from the dict."""
    images = [
        {"bytes": encode_jpeg(coordinates(20, 30), 90), "path": None},
        {"bytes": b"torn", "path": "torn.jpg"},
    ]
    report = write(
        tmp_path / "a.beton",
        [(image,) for image in images],
        fields={"image": RGBImageField("jpg")},
        on_error="skip",
    )
    assert [each.path for each in report.skipped_samples] == ["torn.jpg"]
