"""`seal` adds value checksums and changes nothing else."""

import os

import numpy as np
import pytest

from ffcv_ssl.beton import BetonReader, DatasetWriter
from ffcv_ssl.beton.seal import seal
from ffcv_ssl.errors import BetonFormatError, SampleError
from ffcv_ssl.fields import IntField
from tests.reference.older_files import without_block, without_value_checksums


@pytest.mark.parametrize("older", [without_block, without_value_checksums])
def test_sealed__has_the_same_values_and_detects_damage(good, write_bytes, same_value, older):
    """Values and metadata are the same, `verify` finds nothing, a flipped bit is an error."""
    path = write_bytes(older(good.data))
    os.chmod(path, 0o640)
    with BetonReader(path) as before:
        assert seal(path) is True
        with BetonReader(path) as reader:
            assert reader.has_value_checksums
            assert reader.records.tobytes() == before.records.tobytes()
            assert list(reader.verify()) == []
            assert {**before.metadata, **reader.metadata} == reader.metadata
            assert reader.metadata["sealed"].startswith("ffcv_ssl")
            for i, expected in enumerate(good.samples):
                assert all(
                    same_value(reader.value(i, name), value)
                    for name, value in zip(good.names, expected, strict=True)
                )
            pixel = int(reader.extents("image")[0][4])
    assert os.stat(path).st_mode & 0o777 == 0o640
    data = path.read_bytes()
    with (
        BetonReader(write_bytes(data, {pixel: bytes([data[pixel] ^ 1])})) as reader,
        pytest.raises(SampleError, match="checksum"),
    ):
        reader.value(4, "image")


def test_seal__does_not_change_a_file_with_checksums(good, make_good):
    """A file with value checksums is not written again."""
    assert seal(make_good) is False
    assert make_good.read_bytes() == good.data


def test_seal__rejects_damaged_values(good, write_bytes, leftovers):
    """The error names sample and field, and the file is unchanged."""
    with BetonReader(good.path) as reader:
        text = int(reader.extents("info")[0][3])
    path = write_bytes(without_block(good.data), {text: b"?"})
    data, before = path.read_bytes(), leftovers()
    with pytest.raises(BetonFormatError, match=r"not sealed.*sample 3, field 'info'"):
        seal(path)
    assert path.read_bytes() == data
    assert leftovers() == before


def test_seal__accepts_a_table_in_any_order(good, write_bytes):
    """Each value gets its checksum also if the table is not in record order, as in FFCV's files."""
    data = without_block(good.data)
    start = int.from_bytes(data[16:24], "little")
    table = np.frombuffer(data[start:], np.uint8).reshape(-1, 24)
    path = write_bytes(
        data[:start] + table[np.random.default_rng(0).permutation(len(table))].tobytes()
    )
    assert seal(path)
    with BetonReader(path) as reader:
        assert list(reader.verify()) == []
        for name in reader.stored_fields:
            checksums = reader.value_checksums(name)
            with BetonReader(good.path) as original:
                assert checksums.tolist() == original.value_checksums(name).tolist()


def test_seal__accepts_a_file_of_scalars(tmp_path):
    """Without pages the block follows the records."""
    path = tmp_path / "scalars.beton"
    DatasetWriter(path, {"label": IntField()}, num_workers=0, progress=False).from_indexed_dataset(
        [(i,) for i in range(9)]
    )
    path.write_bytes(without_block(path.read_bytes()))
    assert seal(path)
    with BetonReader(path) as reader:
        assert reader.records["label"].tolist() == list(range(9))
        assert list(reader.verify()) == []
