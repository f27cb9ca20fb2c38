import gzip
import hashlib
import io
import os
import pickle
import tarfile

import numpy as np
import pytest

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.cifar import CIFAR10, CIFAR100, cifar
from tests.reference import cifar as make
from tests.reference.images import coordinates

IMAGES = np.stack([coordinates(32, 32, seed) for seed in range(4)])
LABELS = np.array([2, 0, 1, 2])
NAMES = ["plane", "car", "bird"]


@pytest.fixture(params=[CIFAR10, CIFAR100], ids=["cifar10", "cifar100"])
def layout(request):
    return request.param


def files_of(layout):
    return (make.cifar10_files if layout is CIFAR10 else make.cifar100_files)(IMAGES, LABELS, NAMES)


def write_folder(folder, files):
    folder.mkdir(parents=True)
    for name, data in files.items():
        (folder / name).write_bytes(data)


def check(source, order=range(4)):
    assert source.class_names == NAMES
    for index, original in enumerate(order):
        image, label = source[index]
        np.testing.assert_array_equal(image, IMAGES[original])
        assert label == LABELS[original]


def test_cifar__reads_folder_and_archive(layout, tmp_path):
    """The archive, the extracted folder and the folder that holds either give the same images,
    rows and channels in place.
    """
    files = files_of(layout)
    write_folder(tmp_path / "extracted" / layout.folder, files)
    (tmp_path / "packed").mkdir()
    make.write_archive(tmp_path / "packed" / layout.archive, layout.folder, files)
    places = ["extracted", f"extracted/{layout.folder}", "packed", f"packed/{layout.archive}"]
    for place in places:
        source = cifar(str(tmp_path / place), "test", layout)
        assert len(source) == 4
        check(source)


def test_cifar10__joins_the_training_batches(tmp_path):
    """The five batches come in their order."""
    write_folder(tmp_path / "x", files_of(CIFAR10))
    source = cifar(str(tmp_path / "x"), "train", CIFAR10)
    assert len(source) == 20
    check(
        source,
        [
            *np.roll(range(4), 1),
            *np.roll(range(4), 2),
            *np.roll(range(4), 3),
            *range(4),
            *np.roll(range(4), 1),
        ],
    )


def test_cifar__pickles(layout, tmp_path):
    """A source survives the way to a spawned worker."""
    write_folder(tmp_path / "x", files_of(layout))
    check(pickle.loads(pickle.dumps(cifar(str(tmp_path / "x"), "test", layout))))


def test_cifar__reads_files_pickled_again(tmp_path):
    """A copy saved by today's Python and NumPy, with text keys, reads the same."""
    write_folder(tmp_path / "x", files_of(CIFAR10))
    content = {"data": IMAGES.transpose(0, 3, 1, 2).reshape(4, -1), "labels": LABELS.tolist()}
    (tmp_path / "x" / "test_batch").write_bytes(pickle.dumps(content))
    check(cifar(str(tmp_path / "x"), "test", CIFAR10))


class Malicious:
    """Pickles to a call of its own choice."""

    def __init__(self, function, *arguments):
        self.call = (function, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("function", [os.system, os.mkdir, eval, __import__, np.load, getattr])
@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_cifar__runs_no_code_of_a_file(function, protocol, tmp_path):
    """A pickle that calls anything but the array builders is refused by the name it asks for, and
    nothing is called.
    """
    write_folder(tmp_path / "x", files_of(CIFAR10))
    content = {"data": Malicious(function, str(tmp_path / "made")), "labels": []}
    (tmp_path / "x" / "test_batch").write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(SourceError, match=rf"test_batch: refused.*{function.__name__}"):
        cifar(str(tmp_path / "x"), "test", CIFAR10)
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize("dtype", ["O8", "V16", "i8", "U9"])
def test_cifar__builds_arrays_of_bytes_only(dtype, tmp_path):
    """Arrays of objects, or of anything but uint8, are refused while unpickling."""
    write_folder(tmp_path / "x", files_of(CIFAR10))
    data = make.python2_pickle({"data": IMAGES.reshape(4, -1)}).replace(
        b"U\x02u1", b"U" + bytes([len(dtype)]) + dtype.encode()
    )
    (tmp_path / "x" / "test_batch").write_bytes(data)
    with pytest.raises(SourceError, match="wanted uint8"):
        cifar(str(tmp_path / "x"), "test", CIFAR10)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ([1, 2], "holds a list, wanted a dict"),
        ({"labels": [0]}, "no ndarray under 'data'; found the keys labels"),
        ({"data": IMAGES.reshape(4, -1)}, "no list under 'labels'"),
        ({"data": IMAGES.reshape(4, -1), "labels": [0, 1]}, r"with 2 labels"),
        ({"data": IMAGES.reshape(4, -1)[:, :-1], "labels": [0] * 4}, r"\(4, 3071\)"),
        ({"data": IMAGES.reshape(4, -1), "labels": [0, 1, 2, 3]}, r"0\.\.2"),
        ({"data": IMAGES.reshape(4, -1), "labels": [0, 1, 2, -1]}, r"0\.\.2"),
        ({"data": IMAGES.reshape(4, -1), "labels": ["a", "b", "c", "d"]}, "integers"),
        ({"data": IMAGES.reshape(4, -1), "labels": [0, [1], 2, 1]}, "integers"),
        ({"data": IMAGES.reshape(4, -1), "labels": [0, 2**70, 2, 1]}, "integers"),
        ({"data": IMAGES.reshape(4, -1), "labels": [0, True, 2, 0]}, "integers"),
        ({"data": IMAGES.reshape(2, 2, -1), "labels": [0, 1]}, r"\(2, 2, 3072\)"),
    ],
)
def test_cifar__refuses_other_contents(content, message, tmp_path):
    """What is not a batch is refused with the file's name and what was found."""
    write_folder(tmp_path / "x", files_of(CIFAR10))
    (tmp_path / "x" / "test_batch").write_bytes(make.python2_pickle(content))
    with pytest.raises(SourceError, match=f"test_batch: .*{message}"):
        cifar(str(tmp_path / "x"), "test", CIFAR10)


def test_cifar__refuses_class_names_that_are_no_text(layout, tmp_path):
    """Names of another type are an error with the file's name."""
    write_folder(tmp_path / "x", files_of(layout))
    meta = make.python2_pickle({layout.names_key.decode(): ["plane", 3, "bird"]})
    (tmp_path / "x" / layout.meta).write_bytes(meta)
    with pytest.raises(SourceError, match=f"{layout.meta}: the class names are not all strings"):
        cifar(str(tmp_path / "x"), "test", layout)


def test_cifar10__reads_the_official_class_names(tmp_path):
    """The file `batches.meta` as its authors publish it reads; its MD5 is the published one."""
    meta = make.official_cifar10_meta()
    assert hashlib.md5(meta).hexdigest() == "5ff9c542aee3614f3951f8cda6e48888"
    write_folder(tmp_path / "x", {**files_of(CIFAR10), CIFAR10.meta: meta})
    assert cifar(str(tmp_path / "x"), "test", CIFAR10).class_names == make.CIFAR10_NAMES


def test_cifar__refuses_truncated_pickles(tmp_path):
    """A file cut anywhere is refused."""
    write_folder(tmp_path / "x", files_of(CIFAR10))
    data = (tmp_path / "x" / "test_batch").read_bytes()
    for length in range(0, len(data), 101):
        (tmp_path / "x" / "test_batch").write_bytes(data[:length])
        with pytest.raises(SourceError, match="test_batch"):
            cifar(str(tmp_path / "x"), "test", CIFAR10)


def test_cifar__refuses_places_without_the_dataset(layout, tmp_path):
    """A missing path, an empty folder and a folder that lacks a batch are named."""
    for path in (tmp_path / "absent", tmp_path):
        with pytest.raises(SourceError, match=layout.archive):
            cifar(str(path), "train", layout)
    files = files_of(layout)
    del files[layout.batches["train"][-1]]
    write_folder(tmp_path / "x", files)
    with pytest.raises(SourceError, match=f"{layout.batches['train'][-1]}: cannot be read"):
        cifar(str(tmp_path / "x"), "train", layout)


def test_cifar__refuses_broken_archives(layout, tmp_path):
    """Truncated archives, other archives and other files are refused by name."""
    path = tmp_path / layout.archive
    make.write_archive(path, layout.folder, files_of(layout))
    whole = path.read_bytes()
    for data in (
        whole[: len(whole) // 2],
        whole[:-1000],
        b"",
        b"not an archive at all",
        bytes(2000),
    ):
        path.write_bytes(data)
        with pytest.raises(SourceError, match=str(path)):
            cifar(str(path), "test", layout)
    make.write_archive(path, "elsewhere", files_of(layout))
    with pytest.raises(SourceError, match=f"lacks {layout.folder}/{layout.meta}"):
        cifar(str(path), "test", layout)


def test_cifar__refuses_huge_members(tmp_path, monkeypatch):
    """A member that claims more bytes than any file of the datasets is not unpacked."""
    monkeypatch.setattr("ffcv_ssl.sources.cifar.LARGEST_FILE", 1000)
    make.write_archive(tmp_path / "x.tar.gz", CIFAR10.folder, files_of(CIFAR10))
    with pytest.raises(SourceError, match=r"data_batch_1 has [\d,]+ bytes, wanted at most 1,000"):
        cifar(str(tmp_path / "x.tar.gz"), "train", CIFAR10)


def test_cifar__mutated_archives_give_one_kind_of_error(tmp_path):
    """300 archives with some bytes changed open, or are refused with a SourceError."""
    path = tmp_path / CIFAR10.archive
    rng = np.random.default_rng(0)
    make.write_archive(path, CIFAR10.folder, files_of(CIFAR10))
    whole = np.frombuffer(gzip.decompress(path.read_bytes()), np.uint8)
    refused = 0
    for _ in range(300):
        data = whole.copy()
        blocks = rng.integers(0, len(data), rng.integers(1, 20)) // 512 * 512  # headers start there
        data[blocks + rng.integers(0, 160)] = rng.integers(0, 256)
        path.write_bytes(data.tobytes())
        try:
            assert len(cifar(str(path), "test", CIFAR10)) == 4
        except SourceError:
            refused += 1
    assert 30 < refused < 300


def test_cifar__ignores_links_in_archives(tmp_path):
    """A member that is a link to a file outside is not followed."""
    path = tmp_path / CIFAR10.archive
    with tarfile.open(path, "w:gz") as archive:
        for name, data in files_of(CIFAR10).items():
            member = tarfile.TarInfo(f"{CIFAR10.folder}/{name}")
            if name == "test_batch":
                member.type, member.linkname = tarfile.SYMTYPE, "/etc/passwd"
            else:
                member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    with pytest.raises(SourceError, match="lacks"):
        cifar(str(path), "test", CIFAR10)
