"""Checksums of stored values are compared on every read; older files have none."""

import json
import zlib

import numpy as np
import pytest

from ffcv_ssl.beton import BetonReader, DatasetWriter
from ffcv_ssl.beton.format.integrity import extension_to_bytes, read_extension
from ffcv_ssl.beton.format.layout import Header
from ffcv_ssl.errors import BetonFormatError, ChecksumError, ConfigError, SampleError
from ffcv_ssl.fields import BytesField, IntField
from tests.reference.older_files import without_block, without_value_checksums

STORED = ("image", "text", "info", "box", "tensor")


def test_every_value__has_the_crc_of_its_bytes(good):
    """`value_checksums` is the CRC-32 of the bytes that `read` returns; scalars have none."""
    with BetonReader(good.path) as reader:
        assert reader.stored_fields == list(STORED)
        assert reader.has_value_checksums
        for name in STORED:
            expected = [zlib.crc32(reader.read(i, name)) for i in range(len(reader))]
            assert reader.value_checksums(name).tolist() == expected
        assert reader.value_checksums("label") is None


def test_every_flipped_byte__of_every_value_is_an_error(good, write_bytes):
    """A changed byte of any value makes `value` and `read` raise with sample and field."""
    with BetonReader(good.path) as reader:
        damages = [
            (i, name, int(pointer) + k)
            for name in STORED
            for i, (pointer, size) in enumerate(zip(*reader.extents(name), strict=True))
            for k in sorted({0, int(size) // 2, int(size) - 1})
            if size
        ]
    assert len(damages) > 60
    for sample_id, name, offset in damages:
        path = write_bytes(good.data, {offset: bytes([good.data[offset] ^ 0x10])})
        with BetonReader(path) as reader:
            with pytest.raises(SampleError, match=rf"sample {sample_id}, field '{name}'.*checksum"):
                reader.value(sample_id, name)
            with pytest.raises(
                ChecksumError, match=rf"broken.beton: sample {sample_id}, field '{name}'"
            ):
                reader.read(sample_id, name)


def test_check_none__compares_nothing(good, write_bytes):
    """`check="none"` returns damaged values; an unknown option is an error."""
    with BetonReader(good.path) as reader:
        pixel = int(reader.extents("image")[0][2])
        before = reader.value(2, "image")
    path = write_bytes(good.data, {pixel: bytes([good.data[pixel] ^ 1])})
    with BetonReader(path, check="none") as reader:
        assert np.count_nonzero(reader.value(2, "image") != before) == 1
    with pytest.raises(ConfigError, match=r"check is one of read, none, got 'often'"):
        BetonReader(path, check="often")


@pytest.mark.parametrize("older", [without_block, without_value_checksums])
def test_older_file__has_the_same_values(good, write_bytes, same_value, older):
    """Files without value checksums, or without an extension block, have the same values."""
    with BetonReader(write_bytes(older(good.data))) as reader:
        assert not reader.has_value_checksums
        assert reader.value_checksums("image") is None
        for i, expected in enumerate(good.samples):
            assert all(
                same_value(reader.value(i, name), value)
                for name, value in zip(good.names, expected, strict=True)
            )


@pytest.mark.parametrize("offset", range(8))
def test_damaged_magic__does_not_hide_the_block(good, write_bytes, offset):
    """A flipped bit in the magic number is an error, not a file without checksums."""
    position = good.table - 32 + offset
    path = write_bytes(good.data, {position: bytes([good.data[position] ^ 4])})
    with pytest.raises(BetonFormatError, match="not a valid extension block"):
        BetonReader(path)


def test_damaged_flags__are_an_error(good, write_bytes):
    """Any flipped bit of the flags is an error."""
    for bit in range(32):
        position = good.table - 12 + bit // 8
        flipped = bytes([good.data[position] ^ (1 << bit % 8)])
        path = write_bytes(good.data, {position: flipped})
        with pytest.raises(BetonFormatError):
            BetonReader(path)


def test_number_of_checksums__must_match_the_table(good, write_bytes):
    """The number of value checksums must equal the number of table rows."""
    data = rebuilt(
        good.data, lambda block: {"value_checksums": np.append(block.value_checksums, 7)}
    )
    with pytest.raises(
        BetonFormatError, match=r"checksums for 31 values; the allocation table has 30"
    ):
        BetonReader(write_bytes(data))


def test_pages_with_checksums__lie_behind_the_records(good, write_bytes):
    """Pages with checksums must not lie inside the records."""
    with BetonReader(good.path) as reader:
        page_size, start = reader.page_size, reader.pages_end
    pages = start // page_size
    assert pages == 2
    # Two more pages leave space for a list that is too long.
    shifted = good.data[:start] + bytes(page_size) * 2 + good.data[start:]
    longer = np.zeros(5, np.uint32)
    with pytest.raises(BetonFormatError, match="cannot follow 5 pages"):
        BetonReader(
            write_bytes(rebuilt(shifted, lambda block: {"page_checksums": longer}, 2 * page_size))
        )
    num_records = 2 * page_size // 8
    path = write_bytes(b"")
    DatasetWriter(path, {"label": IntField()}, page_size, 0, progress=False).from_indexed_dataset(
        [(i,) for i in range(num_records)]
    )
    data = path.read_bytes()
    with pytest.raises(BetonFormatError, match="some of which lie inside the records"):
        BetonReader(
            write_bytes(rebuilt(data, lambda block: {"page_checksums": np.zeros(3, np.uint32)}))
        )


@pytest.mark.parametrize(
    ("entry", "wrong"),
    [
        ("writer", None),
        ("seed", "7"),
        ("seed", True),
        ("fields", []),
        ("fields", {"image": None}),
        ("fields", {"image": {"type": 3}}),
        ("record", {}),
        ("counts", None),
        ("counts", {"samples": "six"}),
        ("class_names", "cat"),
        ("class_names", ["cat", 3]),
        ("sealed", 1),
        ("anything", [[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[1]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]]),
    ],
)
def test_metadata__of_the_wrong_type_is_a_format_error(good, write_bytes, entry, wrong):
    """The error for a metadata entry of the wrong type names the entry."""
    data = rebuilt(
        good.data,
        lambda block: {"json_text": json.dumps({**block.metadata, entry: wrong}).encode()},
    )
    with pytest.raises(BetonFormatError, match=f"'{entry}'|nested deeper"):
        BetonReader(write_bytes(data))


@pytest.mark.parametrize("kind", ["|V0", "|S0", "<U0", "<i3", "<f8[x]"])
@pytest.mark.parametrize("sides", [None, [0], [2**40], [2**31, 2**31], [1] * 70])
def test_invalid_record_type__is_a_format_error(tmp_path, kind, sides):
    """An invalid record dtype of a custom field raises BetonFormatError on opening."""
    path = tmp_path / "custom.beton"
    DatasetWriter(path, {"word": Word()}, num_workers=0, progress=False).from_indexed_dataset(
        [(b"a",), (b"bc",)]
    )
    entry = ["word", kind] if sides is None else ["word", kind, sides]
    path.write_bytes(
        rebuilt(
            path.read_bytes(),
            lambda block: {"json_text": json.dumps({**block.metadata, "record": [entry]}).encode()},
        )
    )
    with pytest.raises(BetonFormatError):
        BetonReader(path)


class Word(BytesField):
    """A custom field."""

    type_id = 255


def test_opaque_field__beside_checked_ones(tmp_path):
    """Without the class of a custom field, the values of other fields are still checked."""
    path = tmp_path / "custom.beton"
    samples = [(b"a" * i, b"bc" * i) for i in range(5)]
    DatasetWriter(
        path, {"word": Word(), "text": BytesField()}, num_workers=0, progress=False
    ).from_indexed_dataset(samples)
    data = bytearray(path.read_bytes())
    with BetonReader(path) as reader:
        assert reader.stored_fields == ["text"]
        assert [reader.value(i, "text") for i in range(5)] == [text for _, text in samples]
        data[int(reader.extents("text")[0][3])] ^= 1
    path.write_bytes(data)
    with BetonReader(path) as reader, pytest.raises(SampleError, match="sample 3, field 'text'"):
        reader.value(3, "text")


def rebuilt(data, change, shift=0):
    """A file with a changed extension block and matching checksums."""
    table_start = int.from_bytes(data[16:24], "little") + shift
    block_start = table_start - int.from_bytes(data[table_start - 24 : table_start - 16], "little")
    num_fields, page_size = int.from_bytes(data[2:4], "little"), int.from_bytes(data[4:8], "little")
    num_samples = int.from_bytes(data[8:16], "little")
    header = Header(num_fields, page_size, num_samples, table_start)
    block = read_extension(lambda offset, size: data[offset : offset + size], header)
    json_length = int.from_bytes(data[block_start : block_start + 8], "little")
    parts = {
        "json_text": data[block_start + 8 : block_start + 8 + json_length],
        "page_checksums": block.page_checksums,
        "table_checksum": block.table_checksum,
        "value_checksums": block.value_checksums,
        **change(block),
    }
    length = len(extension_to_bytes(index_checksum=0, **parts))
    new_header = Header(num_fields, page_size, num_samples, block_start + length).to_bytes()
    records_end = _records_end(
        data[:block_start], num_fields, block.metadata["record"], num_samples
    )
    index_checksum = zlib.crc32(new_header + data[24:records_end])
    return (
        new_header
        + data[24:block_start]
        + extension_to_bytes(index_checksum=index_checksum, **parts)
        + data[table_start:]
    )


def _records_end(data, num_fields, record, num_samples):
    dtype = np.lib.format.descr_to_dtype([tuple(_tuples(entry)) for entry in record])
    return 24 + 1041 * num_fields + dtype.itemsize * num_samples


def _tuples(entry):
    name, kind, *sides = entry
    kind = [tuple(_tuples(part)) for part in kind] if isinstance(kind, list) else kind
    return (name, kind, *map(tuple, sides))
