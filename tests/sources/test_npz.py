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
    path = save(tmp_path / "a.npz", images=IMAGES, labels=np.arange(6, dtype=np.uint8) % 3, class_names=["x", "y", "z"])
    source = npz_arrays(path, "train")
    assert len(source) == 6
    assert source.class_names == ["x", "y", "z"]
    image, label = source[4]
    np.testing.assert_array_equal(image, IMAGES[4])
    assert (label, type(label)) == (1, int)


def test_npz__split_names_go_first(tmp_path):
    """`test_images` serves the test split, `images` those without arrays of their own."""
    path = save(tmp_path / "a.npz", images=IMAGES, labels=np.zeros(6, int), test_images=IMAGES[:2], test_labels=np.ones(2, int))
    assert len(npz_arrays(path, "train")) == 6
    source = npz_arrays(path, "test")
    assert [source[index][1] for index in range(len(source))] == [1, 1]


def test_npz__without_labels_gives_images_alone(tmp_path):
    """Labels are optional; grey images may lack their channel axis; compressed files read too."""
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
        ({"images": IMAGES, "labels": np.arange(6), "class_names": ["a"]}, "from 0 to 5, wanted 0 to 0"),
        ({"images": np.array([None] * 6)}, "plain arrays"),
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
