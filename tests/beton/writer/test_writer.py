"""Order, bytes, reports and limits of the writer."""

import csv
import hashlib
import os
import subprocess
import sys
import tempfile
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from ffcv_ssl.beton import BetonReader, DatasetWriter
from ffcv_ssl.beton.format.layout import MAX_PAGE_SIZE, MIN_PAGE_SIZE
from ffcv_ssl.beton.writer import transport
from ffcv_ssl.errors import ConfigError, FieldError, WriteError
from ffcv_ssl.fields import (
    BytesField,
    Encoded,
    Field,
    FloatField,
    IntField,
    JSONField,
    NDArrayField,
    RGBImageField,
)
from ffcv_ssl.fields.hashing import index_uniform

TEXT_AND_INDEX = {"text": BytesField(), "index": IntField()}


def write(
    path, dataset, fields=TEXT_AND_INDEX, *, indices=None, shuffle=False, chunksize=100, **options
):
    """Write with small pages, in this process by default; return the report."""
    options = {"page_size": MIN_PAGE_SIZE, "num_workers": 0, "progress": False, **options}
    return DatasetWriter(path, fields, **options).from_indexed_dataset(
        dataset, indices, chunksize, shuffle
    )


def texts(count):
    """Samples (text, index): texts of 0 to 199 bytes."""
    rng = np.random.default_rng(7)
    return [(rng.bytes(i * 37 % 200), i) for i in range(count)]


def images(count):
    """Samples (image, index) of different sizes."""
    rng = np.random.default_rng(7)
    return [(rng.integers(0, 256, (20 + i % 13, 31, 3), dtype=np.uint8), i) for i in range(count)]


def digest(path):
    """Hash of a whole file."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()


@pytest.mark.parametrize("shuffle", [False, True])
def test_bytes__do_not_depend_on_workers(tmp_path, shuffle):
    """Any number of workers and any chunk size write the same bytes."""
    fields = {"image": RGBImageField("proportion", compress_probability=0.5), "index": IntField()}
    settings_ = [(0, 100), (1, 100), (2, 3), (5, 100), (5, 1), (60, 7)]
    digests = set()
    for num_workers, chunksize in settings_:
        write(
            tmp_path / "x.beton",
            images(45),
            fields,
            seed=3,
            shuffle=shuffle,
            num_workers=num_workers,
            chunksize=chunksize,
        )
        digests.add(digest(tmp_path / "x.beton"))
    assert len(digests) == 1
    assert len(np.unique(BetonReader(tmp_path / "x.beton").records["image"]["mode"])) == 2


@pytest.mark.parametrize("start_method", ["spawn", "forkserver"])
def test_bytes__do_not_depend_on_the_start_method(tmp_path, start_method):
    """Processes that are not forked write the same bytes."""
    write(tmp_path / "here.beton", texts(50))
    write(tmp_path / "there.beton", texts(50), num_workers=2, start_method=start_method)
    assert digest(tmp_path / "here.beton") == digest(tmp_path / "there.beton")


@pytest.mark.parametrize("start_method", ["fork", "spawn"])
def test_bytes__of_every_size_are_received_unchanged(tmp_path, start_method):
    """Batches smaller than, as large as and larger than shared memory give the same file."""
    sizes = [
        1,
        transport.SLOT_BYTES - 1,
        transport.SLOT_BYTES,
        transport.SLOT_BYTES + 1,
        3 * transport.SLOT_BYTES,
        0,
        100_000,
    ]
    dataset = [(np.full(size, i, np.uint8).tobytes(), i) for i, size in enumerate(sizes * 4)]
    alone, together = tmp_path / "alone.beton", tmp_path / "together.beton"
    write(alone, dataset)
    write(together, dataset, num_workers=3, chunksize=5, start_method=start_method)
    assert digest(alone) == digest(together)


def test_order__is_that_of_the_indices(tmp_path):
    """Indices may be lists, ranges or arrays, with repetitions."""
    for indices in ([5, 3, 3, 0], np.array([5, 3, 3, 0], dtype=np.uint8), range(9, 0, -2)):
        write(tmp_path / "x.beton", texts(10), indices=indices, num_workers=2)
        assert list(BetonReader(tmp_path / "x.beton").records["index"]) == list(indices)


def test_shuffle__depends_only_on_the_seed(tmp_path):
    """Equal seeds give equal orders; the caller's list of indices is not modified."""
    indices, orders = list(range(5, 105)), []
    for seed in (1, 1, 2):
        write(
            tmp_path / "x.beton",
            texts(110),
            indices=indices,
            shuffle=True,
            seed=seed,
            num_workers=2,
        )
        orders.append(list(BetonReader(tmp_path / "x.beton").records["index"]))
    assert orders[0] == orders[1] != orders[2]
    assert sorted(orders[0]) == sorted(orders[2]) == indices == list(range(5, 105))
    assert sum(a == b for a, b in zip(orders[0], indices, strict=True)) < 10


def test_field__receives_the_dataset_index_and_the_seed(tmp_path):
    """Random choices depend on the index in the dataset, so a subset has the same choices."""
    fields = {"image": RGBImageField("proportion", compress_probability=0.5), "index": IntField()}
    indices = [7, 30, 2, 19, 11, 4, 23, 38]
    write(tmp_path / "x.beton", images(40), fields, indices=indices, seed=11)
    modes = BetonReader(tmp_path / "x.beton").records["image"]["mode"]
    assert [mode == 0 for mode in modes] == [index_uniform(11, index) < 0.5 for index in indices]


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("sizes", [(5, 0, 9), (0, 5, 9), (5, 9, 0), (0,), (0, 0, 0)])
def test_empty_values__do_not_change_their_neighbors(tmp_path, sizes, num_workers):
    """Empty values at any position are restored, and so are their neighbors."""
    values = [bytes([65 + i]) * size for i, size in enumerate(sizes)]
    write(
        tmp_path / "x.beton",
        [(value, i) for i, value in enumerate(values)],
        num_workers=num_workers,
    )
    with BetonReader(tmp_path / "x.beton") as reader:
        assert [reader.value(i, "text") for i in range(len(values))] == values
        pointers, stored = reader.extents("text")
        assert len(set(pointers)) == len(values)
        assert list(stored) == list(sizes)
        assert list(reader.verify()) == []


@pytest.mark.parametrize(
    ("sizes", "page_size"),
    [
        ([(MIN_PAGE_SIZE - 10, 10)], MIN_PAGE_SIZE),
        ([(MIN_PAGE_SIZE, 1)], 2 * MIN_PAGE_SIZE),
        ([(10, 10), (MIN_PAGE_SIZE + 1, 0), (10, 10)], 2 * MIN_PAGE_SIZE),
        (
            [
                (10, 10),
                (3 * MIN_PAGE_SIZE, 2 * MIN_PAGE_SIZE),
                (10, 10),
                (MIN_PAGE_SIZE, MIN_PAGE_SIZE),
                (5, 5),
            ],
            8 * MIN_PAGE_SIZE,
        ),
        ([(MIN_PAGE_SIZE // 2 + 1, 7)] * 3 + [(9 * MIN_PAGE_SIZE, 7), (0, 0)], 16 * MIN_PAGE_SIZE),
    ],
)
def test_page_size__grows_with_the_values(tmp_path, sizes, page_size):
    """A sample larger than a page raises the page size; all checksums match."""
    fields = {"a": BytesField(), "b": BytesField()}
    dataset = [(bytes([65 + i]) * a, bytes([97 + i]) * b) for i, (a, b) in enumerate(sizes)]
    reports = [
        write(tmp_path / "x.beton", dataset, fields, num_workers=num_workers)
        for num_workers in (0, 2)
    ]
    with BetonReader(tmp_path / "x.beton") as reader:
        assert reader.page_size == reports[0].page_size == page_size
        assert [(reader.value(i, "a"), reader.value(i, "b")) for i in range(len(sizes))] == dataset
        assert list(reader.verify()) == []
        pages = [reader.extents(name)[0] // np.uint64(page_size) for name in fields]
        assert np.array_equal(*pages)
    assert reports[0].size_bytes == os.path.getsize(tmp_path / "x.beton") == reports[1].size_bytes


def test_page_size__has_a_limit(tmp_path):
    """A sample larger than the largest page is an error with its size, before it is copied."""
    huge = np.broadcast_to(np.zeros(1, np.uint8), MAX_PAGE_SIZE // 2 + 1)
    with pytest.raises(WriteError, match=r"sample 1: its 1073741826 bytes do not fit"):
        write(
            tmp_path / "x.beton", [(b"", b""), (huge, huge)], {"a": LazyBytes(), "b": LazyBytes()}
        )


class LazyBytes(BytesField):
    """A field for huge values that need no memory."""

    def encode(self, value, sample_index, seed=0):
        if isinstance(value, bytes):
            return super().encode(value, sample_index, seed)
        return Encoded(memoryview(value), (value.nbytes,))


def test_report__counts_the_notes_of_the_fields(tmp_path):
    """Report and metadata of the file contain the counts."""
    fields = {"image": RGBImageField("jpg"), "index": IntField()}
    report = write(
        tmp_path / "x.beton",
        images(12),
        fields,
        num_workers=2,
        metadata={"class_names": ["a", "b"], "source": {"kind": "test"}},
    )
    assert (
        report.num_samples,
        report.converted,
        report.kept,
        report.reencoded,
        report.skipped,
    ) == (12, 12, 0, 0, 0)
    assert report.counts == {"converted": 12}
    assert (report.path, report.skipped_path, report.skipped_samples) == (
        str(tmp_path / "x.beton"),
        None,
        (),
    )
    assert report.size_bytes == os.path.getsize(tmp_path / "x.beton")
    with BetonReader(tmp_path / "x.beton") as reader:
        assert reader.metadata["counts"] == {"samples": 12, "skipped": 0, "converted": 12}
        assert (reader.class_names, reader.metadata["source"]) == (["a", "b"], {"kind": "test"})
        assert reader.metadata["fields"]["image"]["jpeg_quality"] == 90


def test_progress__moves_with_the_samples(tmp_path, capsys):
    """The progress bar counts samples on standard error; `progress=False` prints nothing."""
    write(tmp_path / "x.beton", texts(30), progress=True, num_workers=2)
    shown = capsys.readouterr()
    assert "30/30" in shown.err
    assert "samples/s" in shown.err
    write(tmp_path / "x.beton", texts(30))
    assert capsys.readouterr() == ("", "")


class Reused:
    """A dataset that returns the same array with other contents each time."""

    def __init__(self):
        self.array = np.zeros(500, dtype=np.uint8)

    def __len__(self):
        return 20

    def __getitem__(self, index):
        self.array[:] = index
        return self.array, index


def test_values__are_copied_before_the_next_sample(tmp_path):
    """A dataset may reuse its memory for every sample."""
    write(tmp_path / "x.beton", Reused())
    with BetonReader(tmp_path / "x.beton") as reader:
        assert [set(reader.read(i, "text")) for i in range(20)] == [{i} for i in range(20)]


class OnlyItems:
    """A dataset without length."""

    def __getitem__(self, index):
        return b"%d" % index, index


def test_dataset__needs_no_length_with_indices(tmp_path):
    """Without `__len__`, the indices are required."""
    assert (
        write(tmp_path / "x.beton", OnlyItems(), indices=[10**6, 3], num_workers=2).num_samples == 2
    )
    with pytest.raises(WriteError, match=r"OnlyItems.*has no len"):
        write(tmp_path / "y.beton", OnlyItems())


@pytest.mark.parametrize("num_workers", [0, 1, 8])
def test_dataset__may_have_one_sample(tmp_path, num_workers):
    """One sample is enough, for any number of workers."""
    write(tmp_path / "x.beton", texts(1), num_workers=num_workers)
    assert len(BetonReader(tmp_path / "x.beton")) == 1


def test_dataset__must_have_samples(tmp_path, leftovers):
    """An empty dataset or list of indices is an error before any file is created."""
    before = leftovers()
    for dataset, indices in (([], None), (texts(3), []), (texts(3), np.array([], dtype=np.int64))):
        with pytest.raises(WriteError, match="no samples to write"):
            write(tmp_path / "x.beton", dataset, indices=indices)
    assert leftovers() == before


@pytest.mark.parametrize(
    "indices", [[0, 3], [-1], [0.0, 1.0], [True, False, True], [[0, 1]], 5, "ab", [2**63]]
)
def test_indices__are_checked_before_anything_is_written(tmp_path, leftovers, indices):
    """Indices out of range and values that are not a sequence of integers are errors."""
    before = leftovers()
    with pytest.raises(ConfigError, match="indices"):
        write(tmp_path / "x.beton", texts(3), indices=indices)
    assert leftovers() == before


@pytest.mark.parametrize(
    "options",
    [
        {"page_size": 3},
        {"page_size": 1 << 20},
        {"page_size": 1 << 31},
        {"page_size": 0},
        {"num_workers": -2},
        {"seed": -1},
        {"seed": 1 << 64},
        {"on_error": "ignore"},
        {"start_method": "thread"},
        {"metadata": {"counts": 1}},
    ],
)
def test_writer__refuses_options_out_of_range(tmp_path, options):
    """The constructor rejects an option out of range."""
    with pytest.raises(ConfigError, match=next(iter(options))):
        DatasetWriter(tmp_path / "x.beton", TEXT_AND_INDEX, **options)


def test_writer__refuses_invalid_field_names(tmp_path):
    """The constructor checks the names of the fields."""
    with pytest.raises(FieldError, match="17"):
        DatasetWriter(tmp_path / "x.beton", {"x" * 17: IntField()})


class UpperField(Field):
    """A custom field that stores text in upper case and its length in the record."""

    pointer_name = "where"

    @property
    def record_dtype(self):
        return np.dtype([("length", "<u4"), ("where", "<u8")])

    def encode(self, value, sample_index, seed=0):
        return Encoded(value.upper().encode(), (len(value),), "upper")

    def decode(self, record, payload):
        if record["length"] != len(payload):
            raise RuntimeError("lengths differ")
        return payload.decode()


def test_custom_field__round_trip_is_exact(tmp_path):
    """A custom field is written and read with its class; without it, other fields are read."""
    fields = {"index": IntField(), "word": UpperField()}
    report = write(tmp_path / "x.beton", [(i, "word" * i) for i in range(5)], fields, num_workers=2)
    assert report.counts == {"upper": 5}
    with BetonReader(tmp_path / "x.beton", {"word": UpperField}) as reader:
        assert [reader.value(i, "word") for i in range(5)] == ["WORD" * i for i in range(5)]
    with BetonReader(tmp_path / "x.beton") as reader:
        assert list(reader.records["index"]) == list(range(5))


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | st.text(max_size=20),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)
SAMPLES = st.lists(
    st.tuples(
        st.binary(max_size=3000),
        st.integers(-(2**63), 2**63 - 1),
        st.floats(),
        JSON_VALUES,
        st.lists(st.integers(-(2**31), 2**31 - 1), min_size=6, max_size=6).map(
            lambda v: np.array(v, dtype="<i4").reshape(2, 3)
        ),
    ),
    min_size=1,
    max_size=12,
)


@settings(
    max_examples=40, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
@given(SAMPLES)
def test_round_trip__is_exact(samples):
    """Any bytes, integers, floats, JSON and arrays are restored, and `verify` finds nothing."""
    fields = {
        "bytes": BytesField(),
        "int": IntField(),
        "float": FloatField(),
        "json": JSONField(),
        "array": NDArrayField("<i4", (2, 3)),
    }
    with tempfile.TemporaryDirectory() as folder:
        write(Path(folder) / "x.beton", samples, fields)
        with BetonReader(Path(folder) / "x.beton") as reader:
            for i, sample in enumerate(samples):
                found = [reader.value(i, name) for name in fields]
                assert repr(found[:4]) == repr(list(sample[:4]))
                assert np.array_equal(found[4], sample[4])
            assert list(reader.verify()) == []


def test_target__may_be_a_link_a_long_name_or_another_folder(tmp_path, monkeypatch):
    """Links are followed; long and non-ASCII names and relative paths are valid."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link.beton").symlink_to(tmp_path / "real" / "file.beton")
    monkeypatch.chdir(tmp_path)
    for name in ("link.beton", "y" * 255, "café 猫.beton", Path("real") / "other.beton"):
        write(name, texts(2))
        assert len(BetonReader(name)) == 2
    assert (tmp_path / "link.beton").is_symlink()
    assert (tmp_path / "real" / "file.beton").is_file()


def test_target__has_the_permissions_of_a_new_file(tmp_path):
    """The file has the default permissions of a new file."""
    (tmp_path / "plain").touch()
    write(tmp_path / "x.beton", texts(1))
    assert (tmp_path / "x.beton").stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_skip__counts_and_lists_failed_samples(tmp_path):
    """Failed samples are left out and listed in a CSV, which the next success removes."""
    dataset = [(b"x" * i if i % 4 else i, i) for i in range(1, 22)]  # every fourth text is a number
    outputs = set()
    for num_workers in (0, 1, 3):
        report = write(tmp_path / "x.beton", dataset, on_error="skip", num_workers=num_workers)
        outputs.add((digest(tmp_path / "x.beton"), Path(report.skipped_path).read_text()))
    assert len(outputs) == 1
    assert (report.num_samples, report.skipped) == (16, 5)
    assert report.skipped_path == str(tmp_path / "x.beton.skipped.csv")
    with open(report.skipped_path, newline="") as file:
        rows = list(csv.reader(file))
    assert rows[0] == ["index", "path", "reason"]
    assert (
        [int(row[0]) for row in rows[1:]]
        == [each.index for each in report.skipped_samples]
        == [3, 7, 11, 15, 19]
    )
    assert "field 'text': wanted bytes" in rows[1][2]
    with BetonReader(tmp_path / "x.beton") as reader:
        assert list(reader.records["index"]) == [i for i in range(1, 22) if i % 4]
        assert reader.metadata["counts"] == {"samples": 16, "skipped": 5}
        assert list(reader.verify()) == []
    assert write(tmp_path / "x.beton", texts(2)).skipped_path is None
    assert not (tmp_path / "x.beton.skipped.csv").exists()


def test_skip__names_the_path_of_an_image(tmp_path):
    """The list contains the path of a sample that is a path or whose error has a file name."""
    (tmp_path / "broken.jpg").write_text("<html>")
    dataset = [
        (tmp_path / "broken.jpg", 0),
        (str(tmp_path / "missing.jpg"), 1),
        (np.zeros((3, 5, 3), np.uint8), 2),
    ]
    report = write(
        tmp_path / "x.beton",
        dataset,
        {"image": RGBImageField("jpg"), "index": IntField()},
        on_error="skip",
    )
    assert [each.path for each in report.skipped_samples] == [
        str(tmp_path / "broken.jpg"),
        str(tmp_path / "missing.jpg"),
    ]
    assert report.num_samples == 1


def test_skip__of_everything_is_an_error(tmp_path, leftovers):
    """If all samples fail, the error has the first reason, and no file is created."""
    before = leftovers()
    with pytest.raises(
        WriteError, match=r"all 3 samples failed; the first was sample 0: field 'text'"
    ):
        write(tmp_path / "x.beton", [(1, 1)] * 3, on_error="skip", num_workers=2)
    assert leftovers() == before


def test_import__is_light():
    """Importing the writer does not import PyTorch, Numba or OpenCV."""
    code = (
        "import sys, ffcv_ssl.writer; sys.exit(bool({'torch', 'numba', 'cv2'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_fork__does_not_warn_after_a_progress_bar(tmp_path):
    """The progress bar starts no thread, so that the next write can fork."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(2):
            write(tmp_path / "x.beton", texts(5), num_workers=2, progress=True, start_method="fork")
