import zipfile

import numpy as np
import pytest

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.npz import npz_arrays
from tests.reference.images import coordinates

IMAGES = np.stack([coordinates(5, 7, seed) for seed in range(6)])


def save(path, **arrays):
    np.savez(path, **arrays)
    return str(path)


def test_npz__gives_images_labels_and_names(tmp_path):
    """Samples are the rows, labels are Python integers, class names are text."""
    path = save(
        tmp_path / "a.npz",
        images=IMAGES,
        labels=np.arange(6, dtype=np.uint8) % 3,
        class_names=["x", "y", "z"],
    )
    source = npz_arrays(path, "train")
    assert len(source) == 6
    assert source.class_names == ["x", "y", "z"]
    image, label = source[4]
    np.testing.assert_array_equal(image, IMAGES[4])
    assert (label, type(label)) == (1, int)


def test_npz__class_names_may_be_bytes(tmp_path):
    """Names stored as bytes are read as UTF-8."""
    path = save(
        tmp_path / "a.npz",
        images=IMAGES,
        labels=np.zeros(6, int),
        class_names=np.array(["é".encode(), b"b"]),
    )
    assert npz_arrays(path, "train").class_names == ["é", "b"]


def test_npz__split_names_go_first(tmp_path):
    """`test_images` serves the test split, `images` those without arrays of their own."""
    path = save(
        tmp_path / "a.npz",
        images=IMAGES,
        labels=np.zeros(6, int),
        test_images=IMAGES[:2],
        test_labels=np.ones(2, int),
    )
    assert len(npz_arrays(path, "train")) == 6
    source = npz_arrays(path, "test")
    assert [source[index][1] for index in range(len(source))] == [1, 1]


def test_npz__without_labels_gives_images_alone(tmp_path):
    """Labels are optional; gray images may lack their channel axis; compressed files read too."""
    for images in (IMAGES, IMAGES[:, :, :, :1], IMAGES[:, :, :, 0]):
        np.savez_compressed(tmp_path / "a.npz", images=images)
        source = npz_arrays(str(tmp_path / "a.npz"), "train")
        np.testing.assert_array_equal(source[3][0], images[3])
        assert len(source[3]) == 1


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"x": IMAGES}, "no array 'images' or 'train_images'; it has x"),
        ({"test_images": IMAGES}, "no array 'images' or 'train_images'"),
        ({"images": IMAGES / 255}, "float64"),
        ({"images": IMAGES.transpose(0, 3, 1, 2)}, r"\(6, 3, 5, 7\)"),
        ({"images": IMAGES[0, 0]}, r"\(7, 3\)"),
        ({"images": IMAGES, "labels": np.zeros(5, int)}, r"labels are int64 \(5,\), wanted \(6,\)"),
        ({"images": IMAGES, "labels": np.zeros(6)}, "float64"),
        ({"images": IMAGES, "labels": np.eye(6, dtype=int)}, r"\(6, 6\)"),
        ({"images": IMAGES, "labels": np.arange(6) - 1}, "from -1 to 4"),
        (
            {"images": IMAGES, "labels": np.arange(6), "class_names": ["a"]},
            "from 0 to 5, wanted 0 to 0",
        ),
        ({"images": np.array([None] * 6)}, "plain arrays"),
        ({"images": IMAGES, "class_names": np.arange(3)}, r"class_names are int64 \(3,\)"),
        (
            {"images": IMAGES, "class_names": np.array([["a", "b"]])},
            r"class_names are <U1 \(1, 2\)",
        ),
        ({"images": IMAGES, "class_names": np.array([b"caf\xe9"])}, "plain arrays"),
    ],
)
def test_npz__refuses_other_arrays(arrays, message, tmp_path):
    """What was found, and what was wanted, stand in the message behind the path."""
    path = save(tmp_path / "a.npz", **arrays)
    with pytest.raises(SourceError, match=rf"a\.npz: .*{message}"):
        npz_arrays(path, "train")


def test_npz__refuses_other_files(tmp_path):
    """Truncated files, single arrays, pickles, text and nothing at all."""
    path = tmp_path / "a.npz"
    save(path, images=IMAGES)
    whole = path.read_bytes()
    for data in (whole[:-30], whole[:100], b"", b"hello", bytes(100)):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=r"a\.npz"):
            npz_arrays(str(path), "train")
    np.save(tmp_path / "b.npy", IMAGES)
    with pytest.raises(SourceError, match="single array"):
        npz_arrays(str(tmp_path / "b.npy"), "train")
    with pytest.raises(SourceError, match="No such file"):
        npz_arrays(str(tmp_path / "absent.npz"), "train")


def with_zip_header(path, offset, value):
    """Set 2 bytes at an offset of the first entry of the directory of a zip file, and 2 before in
    its local header.
    """
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\1\2")
    data[directory + offset : directory + offset + 2] = value.to_bytes(2, "little")
    data[offset - 2 : offset] = value.to_bytes(2, "little")
    path.write_bytes(data)


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [(10, 97, "compression"), (8, 1, "encrypted"), (10, 99, "compression")],
)
def test_npz__refuses_zip_files_that_python_cannot_read(offset, value, message, tmp_path):
    """Another zip method and encryption raise NotImplementedError and RuntimeError in zipfile;
    here, what all do.
    """
    save(tmp_path / "a.npz", images=IMAGES)
    with_zip_header(tmp_path / "a.npz", offset, value)
    with pytest.raises(
        SourceError, match=rf"a\.npz: not an \.npz file of plain arrays: .*{message}"
    ):
        npz_arrays(str(tmp_path / "a.npz"), "train")


def test_npz__refuses_arrays_shorter_than_their_bytes(tmp_path):
    """A shape that is smaller than the bytes behind it is no array, with a good checksum or not."""
    save(tmp_path / "a.npz", images=IMAGES)
    with zipfile.ZipFile(tmp_path / "a.npz") as archive:
        content = archive.read("images.npy").replace(b"(6, 5, 7, 3)", b"(5, 5, 7, 3)")
    with zipfile.ZipFile(tmp_path / "b.npz", "w") as archive:
        archive.writestr("images.npy", content)
    with pytest.raises(
        SourceError, match=r"array 'images' has more bytes than its shape \(5, 5, 7, 3\) takes"
    ):
        npz_arrays(str(tmp_path / "b.npz"), "train")
    data = (tmp_path / "a.npz").read_bytes()
    (tmp_path / "a.npz").write_bytes(data.replace(b"(6, 5, 7, 3)", b"(5, 5, 7, 3)"))
    with pytest.raises(SourceError, match="CRC"):
        npz_arrays(str(tmp_path / "a.npz"), "train")


def test_npz__of_mutated_bytes_gives_one_kind_of_error(tmp_path):
    """1,500 files with some bytes changed: the arrays that were stored, or a SourceError."""
    rng = np.random.default_rng(0)
    path = tmp_path / "a.npz"
    wholes = []
    for write in (np.savez, np.savez_compressed):
        write(
            path,
            images=IMAGES,
            labels=np.arange(6),
            class_names=[str(number) for number in range(6)],
        )
        wholes.append(path.read_bytes())
    refused = 0
    for number in range(1500):
        data = bytearray(wholes[number % 2])
        for place in rng.integers(0, len(data), rng.integers(1, 8)):
            data[place] = rng.integers(256)
        path.write_bytes(data)
        try:
            source = npz_arrays(str(path), "train")
        except SourceError as error:
            refused += "a.npz" in str(error)
        else:
            np.testing.assert_array_equal(source.images, IMAGES)
    assert refused > 1000
