"""Opening valid files and reading from them."""

import gc
import multiprocessing
import os
import pickle
import shutil
import threading

import numpy as np
import pytest

from ffcv_ssl.beton import BetonReader
from ffcv_ssl.errors import BetonFormatError, FieldNotFound, SampleError
from ffcv_ssl.fields import BytesField
from ffcv_ssl.reader import Reader


def test_reader__returns_the_written_values(good, same_value):
    """Every value of every field equals the written one bit for bit."""
    with BetonReader(good.path) as reader:
        assert (len(reader), list(reader.fields)) == (len(good.samples), good.names)
        for sample_id, sample in enumerate(good.samples):
            for name, value in zip(good.names, sample, strict=True):
                assert same_value(
                    np.asarray(reader.value(sample_id, name))
                    if name == "tensor"
                    else reader.value(sample_id, name),
                    value,
                )


def test_reader__reads_files_without_extension(good, write_bytes, same_value):
    """A file without extension block has the same values and no metadata."""
    with BetonReader(write_bytes(good.without_extension())) as reader:
        assert (reader.metadata, reader.class_names, reader.has_checksums) == ({}, None, False)
        assert all(
            same_value(reader.value(i, "image"), sample[0]) for i, sample in enumerate(good.samples)
        )


def test_records__are_read_only_columns(good):
    """The columns of `records` hold the scalars and cannot be changed."""
    with BetonReader(good.path) as reader:
        assert list(reader.records["label"]) == [sample[1] for sample in good.samples]
        with pytest.raises(ValueError, match="read-only"):
            reader.records["label"][0] = 1


def test_extents__point_to_the_stored_bytes(good):
    """`read`, `read_into` and the file itself agree on every value."""
    with BetonReader(good.path) as reader:
        pointers, sizes = reader.extents("text")
        for sample_id, (pointer, size) in enumerate(zip(pointers, sizes, strict=True)):
            buffer = np.zeros(int(size) + 2, dtype=np.uint8)
            reader.read_into(pointer, size, buffer)
            assert (
                buffer[: int(size)].tobytes()
                == reader.read(sample_id, "text")
                == good.samples[sample_id][2]
            )
            assert not buffer[int(size) :].any()
        with pytest.raises(BetonFormatError, match="'label' stores its values in the records"):
            reader.extents("label")
        assert reader.read(0, "label") == b""


def test_reader__rejects_unknown_fields_and_samples(good):
    """FieldNotFound suggests a name; sample ids outside the file, also negative, are IndexError."""
    with BetonReader(good.path) as reader:
        for ask in (
            reader.extents,
            lambda name: reader.read(0, name),
            lambda name: reader.value(0, name),
        ):
            with pytest.raises(FieldNotFound, match=r"no field 'imgae'.*Did you mean 'image'"):
                ask("imgae")
        for sample_id in (-1, 6, 10**9):
            with pytest.raises(IndexError, match="no sample"):
                reader.value(sample_id, "image")
    with pytest.raises(FieldNotFound, match="no field 'txt'"):
        BetonReader(good.path, custom_fields={"txt": BytesField})


def test_reader__closes(good):
    """`close`, the end of a `with` block and garbage collection close the descriptor."""
    before = len(os.listdir("/proc/self/fd"))
    with BetonReader(good.path) as reader:
        assert len(os.listdir("/proc/self/fd")) == before + 1
    reader.close()
    with pytest.raises(ValueError, match="is closed"):
        reader.read(0, "image")
    reader = BetonReader(good.path)
    del reader
    gc.collect()
    assert len(os.listdir("/proc/self/fd")) == before


def test_reader__closes_an_invalid_file(good, write_bytes):
    """If the constructor raises, the descriptor is closed."""
    path = write_bytes(good.data[:5000])
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(BetonFormatError):
        BetonReader(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_reader__keeps_its_file_when_the_path_is_replaced(good, make_good, tmp_path, write_bytes):
    """An open reader reads the old file after its path is replaced or deleted."""
    with BetonReader(make_good) as reader:
        os.replace(shutil.copy(write_bytes(b"something else"), tmp_path / "new"), make_good)
        assert reader.read(2, "text") == good.samples[2][2]
        os.unlink(make_good)
        assert reader.read(5, "text") == good.samples[5][2]


def test_reader__detects_a_truncated_file(good, make_good):
    """A value cut off after the file was opened raises SampleError with the sample id."""
    with BetonReader(make_good) as reader:
        os.truncate(make_good, good.pages)
        with pytest.raises(
            SampleError, match=r"target.beton: sample 1, field 'image'.*file ends at"
        ) as caught:
            reader.value(1, "image")
        assert (caught.value.sample_id, caught.value.field) == (1, "image")


def test_fingerprint__distinguishes_files(good, make_good, tmp_path, write_bytes):
    """Copies share the fingerprint; a file without checksums has another one."""
    fingerprints = [
        BetonReader(path).fingerprint
        for path in (good.path, make_good, write_bytes(good.without_extension()))
    ]
    assert fingerprints[0] == fingerprints[1] != fingerprints[2]
    assert len(fingerprints[0]) == 16


def test_reader__can_be_pickled(good):
    """A pickled reader opens the file again, custom fields included."""
    with (
        BetonReader(good.path, {"text": BytesField}) as reader,
        pickle.loads(pickle.dumps(reader)) as other,
    ):
        assert other.fingerprint == reader.fingerprint
        assert other.fileno() != reader.fileno()


def _sum_after_fork(reader, results):
    results.put([len(reader.read(sample_id, "image")) for sample_id in range(len(reader))])


def test_reader__works_in_forked_processes_and_threads(good):
    """Four processes and four threads share a reader, because reads have no file position."""
    context = multiprocessing.get_context("fork")
    with BetonReader(good.path) as reader:
        expected = [sample[0].nbytes for sample in good.samples]
        results = context.SimpleQueue()
        processes = [
            context.Process(target=_sum_after_fork, args=(reader, results)) for _ in range(4)
        ]
        for process in processes:
            process.start()
        wrong = []

        def read_all():
            wrong.extend(
                i
                for i in range(600)
                if reader.read(i % 6, "image") != good.samples[i % 6][0].tobytes()
            )

        threads = [threading.Thread(target=read_all) for _ in range(4)]
        for thread in threads:
            thread.start()
        for worker in (*threads, *processes):
            worker.join()
        assert [results.get() for _ in processes] == [expected] * 4
        assert wrong == []


@pytest.mark.parametrize("name", ["café 猫.beton", "file:with:colons", "-", "x" * 255])
def test_reader__accepts_any_path(good, tmp_path, name):
    """Strings and Path objects, non-ASCII names, colons and 255 characters are valid."""
    path = shutil.copy(good.path, tmp_path / name)
    assert BetonReader(path).num_samples == BetonReader(str(path)).num_samples == 6


def test_reader__index_consists_of_arrays(good):
    """`Reader` is `BetonReader`, and its index holds arrays, not one object per sample."""
    assert Reader is BetonReader
    with Reader(good.path) as reader:
        assert all(
            isinstance(array, np.ndarray) for array in (reader.records, *reader.extents("image"))
        )
        assert repr(reader).startswith("BetonReader(")
