"""Tests of the search for images that a training and a validation file share."""

import os
import shutil

import numpy as np
import pytest

from ffcv_ssl.evaluate import overlap
from ffcv_ssl.evaluate.overlap import find_overlap, is_same_file, overlap_remarks
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter


def image(number):
    """Return one of many distinct images with the same stored size."""
    return np.random.default_rng(number).integers(0, 256, (12, 12, 3), dtype=np.uint8)


def write(path, numbers):
    fields = {"image": RGBImageField("raw"), "label": IntField()}
    samples = [(image(number), i % 2) for i, number in enumerate(numbers)]
    DatasetWriter(path, fields, num_workers=0, progress=False).from_indexed_dataset(samples)
    return path


class WithoutChecksums(Reader):
    """A reader of a file that FFCV or an older version wrote."""

    def value_checksums(self, name):
        return None


class WithEqualChecksums(Reader):
    """A reader in which the checksums of all values collide."""

    def value_checksums(self, name):
        return np.zeros(self.num_samples, dtype=np.uint32)


@pytest.fixture
def files(tmp_path):
    """Write a training file of 60 images, and a validation file of 30, 8 of which are shared."""
    shared = [7, 11, 20, 33, 34, 50, 51, 59]
    return (
        write(tmp_path / "train.beton", range(60)),
        write(tmp_path / "val.beton", [*range(100, 122), *shared]),
        shared,
    )


@pytest.mark.parametrize("kind", [Reader, WithoutChecksums, WithEqualChecksums])
def test_find_overlap__counts_shared_images(files, kind):
    """The shared images are found with checksums, without them, and if checksums collide."""
    train_path, val_path, shared = files
    with kind(train_path) as train, kind(val_path) as val:
        found = find_overlap(train, val, "image")
    pairs = [(22 + i, number) for i, number in enumerate(shared)]
    assert (found.num_searched, found.num_val, found.is_exact) == (
        30,
        30,
        kind is not WithoutChecksums,
    )
    if kind is WithEqualChecksums:
        assert found.count <= 8  # candidates of one key beyond the first few are not compared
    else:
        assert (found.count, found.pairs) == (8, tuple(pairs[:3]))


def test_find_overlap__of_different_images_is_empty(tmp_path):
    """Distinct images with equal sizes, checksums or middle bytes are not an overlap."""
    train, val = (
        write(tmp_path / "train.beton", range(20)),
        write(tmp_path / "val.beton", range(40, 50)),
    )
    for kind in (Reader, WithoutChecksums, WithEqualChecksums):
        with kind(train) as one, kind(val) as other:
            assert find_overlap(one, other, "image").count == 0
            assert overlap_remarks(one, other, "image") == []


@pytest.mark.parametrize("kind", [Reader, WithoutChecksums])
def test_find_overlap__reads_a_bounded_part(files, kind, monkeypatch):
    """With small limits few images are read, and the remark states that not all were compared."""
    monkeypatch.setattr(overlap, "MAX_CONFIRMED", 10)
    monkeypatch.setattr(overlap, "MAX_WINDOWS", 15)
    monkeypatch.setattr(overlap, "MAX_CONFIRMED_BYTES", 2000)
    train_path, val_path, _ = files
    with kind(train_path) as train, kind(val_path) as val:
        reads = []
        for file in (train, val):
            file.read_into = lambda pointer, size, buffer, file=file: (
                reads.append(size) or Reader.read_into(file, pointer, size, buffer)
            )
        found = find_overlap(train, val, "image")
        (remark, *_) = overlap_remarks(train, val, "image") or [""]
    if kind is Reader:
        assert found.count == 8  # counted by checksum; three of them were read and equal
        assert sum(reads[: len(reads) // 2]) <= 2000 + 2 * 432
        assert "8 of 30 images (26.7%) of " in remark
    else:
        assert found.num_searched == 10
        assert sum(reads[: len(reads) // 2]) <= 25 * 256 + 2000 + 2 * 432
        assert not remark or remark.startswith("At least ")


def test_is_same_file__knows_links_and_copies(tmp_path):
    """A file, its hard link and its copy are the same file; reordered images are an overlap."""
    path = write(tmp_path / "a.beton", range(10))
    os.link(path, tmp_path / "link.beton")
    shutil.copy(path, tmp_path / "copy.beton")
    other = write(tmp_path / "other.beton", range(9, -1, -1))
    with WithoutChecksums(path) as one:
        for name in ("a", "link", "copy"):
            with WithoutChecksums(tmp_path / f"{name}.beton") as two:
                assert is_same_file(one, two, "image")
                assert "is the same file as" in overlap_remarks(one, two, "image")[0]
        with WithoutChecksums(other) as two:
            assert not is_same_file(one, two, "image")
            assert "At least 10 of 10 images (100.0%)" in overlap_remarks(one, two, "image")[0]


def test_is_same_file__compares_values_where_the_fingerprint_omits_them(tmp_path, monkeypatch):
    """Two files without checksums that differ only in their pixels are not the same file."""
    one_path, other_path = (
        write(tmp_path / "a.beton", range(10)),
        write(tmp_path / "b.beton", range(20, 30)),
    )
    with Reader(one_path) as one, Reader(other_path) as two:
        two.fingerprint = one.fingerprint
        assert is_same_file(one, two, "image")  # not checked further with checksums
        monkeypatch.setattr(Reader, "has_checksums", False)
        assert not is_same_file(one, two, "image")


def test_overlap_remarks__leaves_fields_without_stored_values_to_the_loader(files):
    """A scalar field and a missing field give no remark and no error."""
    with Reader(files[0]) as train, Reader(files[1]) as val:
        assert overlap_remarks(train, val, "label") == []
        assert overlap_remarks(train, val, "nothing") == []
