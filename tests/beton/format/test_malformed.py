"""Damaged files raise a typed error with the path, never crash, hang or return wrong values."""

import subprocess
import sys

import numpy as np
import pytest

from ffcv_ssl.beton import BetonReader
from ffcv_ssl.errors import (
    BetonFormatError,
    ChecksumError,
    NotABetonFile,
    SampleError,
    TruncatedFile,
    UnknownFieldType,
    UnsupportedVersion,
)

U64 = 2**64 - 1


def le(value, size=8):
    """Encode a little-endian number."""
    return value.to_bytes(size, "little")


@pytest.mark.parametrize("length", [0, 1, 2, 23, 24, 25])
def test_open__refuses_beginnings_of_files(good, write_bytes, length):
    """Empty files, partial headers and a header alone are errors."""
    with pytest.raises(NotABetonFile if length == 0 else TruncatedFile, match=r"broken\.beton: "):
        BetonReader(write_bytes(good.data[:length]))


@pytest.mark.parametrize("stripped", [False, True], ids=["with checksums", "as from FFCV"])
def test_open__refuses_files_truncated_at_any_section(good, write_bytes, stripped):
    """A file cut near a section boundary or near its end raises TruncatedFile."""
    data = good.without_extension() if stripped else good.data
    borders = [good.descriptors, good.records, good.records_end, good.pages, good.block]
    borders += [] if stripped else [good.table - 32, good.table]
    cuts = {border + step for border in borders for step in (-1, 0, 1)} | {
        len(data) - cut for cut in (1, 23, 24, 25, 40)
    }
    for cut in sorted(cuts):
        with pytest.raises(TruncatedFile):
            BetonReader(write_bytes(data[:cut]))


@pytest.mark.parametrize("extra", [1, 24, 40, 4096])
def test_open__refuses_bytes_after_the_end(good, write_bytes, extra):
    """Bytes behind the allocation table are an error."""
    with pytest.raises(BetonFormatError):
        BetonReader(write_bytes(good.data + bytes(extra)))


@pytest.mark.parametrize(
    ("offset", "replacement", "error"),
    [
        (0, le(3, 2), UnsupportedVersion),
        (2, le(0, 2), BetonFormatError),
        (2, le(65535, 2), TruncatedFile),
        (4, le(0, 4), BetonFormatError),
        (4, le(3, 4), BetonFormatError),
        (4, le(1 << 31, 4), BetonFormatError),
        (4, le(2**32 - 1, 4), BetonFormatError),
        (8, le(2**63), TruncatedFile),
        (8, le(U64), TruncatedFile),
        (8, le(7), BetonFormatError),
        (16, le(0), BetonFormatError),
        (16, le(100), BetonFormatError),
        (16, le(10**9), TruncatedFile),
        (16, le(U64), TruncatedFile),
        (24, b"\x4d", UnknownFieldType),
        (24, b"\xff", UnknownFieldType),
        (25, b"label\0", BetonFormatError),
        (25, b"\0", BetonFormatError),
        (25, b"im\nge", BetonFormatError),
        (25, b"\xff\xfe", BetonFormatError),
    ],
)
def test_open__refuses_impossible_headers(good, write_bytes, offset, replacement, error):
    """Counts, sizes and offsets are checked before memory of that size is allocated."""
    with pytest.raises(error, match=r"broken\.beton: "):
        BetonReader(write_bytes(good.without_extension(), {offset: replacement}))


def test_open__refuses_a_wrong_table_offset(good, write_bytes):
    """A table offset that is shifted or inside the records is an error."""
    for shift in (-1, 1, 8, 24):
        with pytest.raises(BetonFormatError):
            BetonReader(write_bytes(good.without_extension(), {16: le(good.block + shift)}))
    with pytest.raises(BetonFormatError):
        BetonReader(write_bytes(good.without_extension(), {16: le(good.records_end - 24)}))


@pytest.mark.parametrize("pointer", [0, 24, 5000, 10**9, 2**63, U64, U64 - 100])
@pytest.mark.parametrize("name", ["image", "text", "box"])
def test_open__refuses_pointers_outside_the_pages(good, write_bytes, name, pointer):
    """Pointers outside the pages are errors, also if the table contains the same pointer."""
    sample_id = 2
    offset = good.record_offset(sample_id, name) + (5 if name == "image" else 0)
    edits = {offset: le(pointer)}
    with pytest.raises(BetonFormatError, match=f"sample {sample_id}, field '{name}'"):
        BetonReader(write_bytes(good.without_extension(), edits))
    rows = np.frombuffer(good.data[good.table :], "<u8").reshape(-1, 3)
    row = int(
        np.flatnonzero(rows[:, 1] == int.from_bytes(good.data[offset : offset + 8], "little"))[0]
    )
    with pytest.raises(BetonFormatError, match=f"sample {sample_id}, field '{name}'"):
        BetonReader(
            write_bytes(good.without_extension(), edits | {good.block + 24 * row + 8: le(pointer)})
        )


@pytest.mark.parametrize("size", [0, 1, 9 << 20, 2**63, U64])
def test_open__refuses_sizes_that_differ_from_the_record(good, write_bytes, size):
    """A size in the table must equal the size that the record requires."""
    for row in range(5):  # the payload fields of sample 0; its text is empty
        if row == 1 and size == 0:
            continue
        with pytest.raises(BetonFormatError):
            BetonReader(
                write_bytes(good.without_extension(), {good.block + 24 * row + 16: le(size)})
            )


@pytest.mark.parametrize(
    ("position", "replacement"),
    [
        (0, le(0) * 32),
        (0, le(1) * 32),
        (0, le(2**63) + le(2)),
        (0, le(2**40) + le(2**40)),
        (8, le(U64)),
        (256, le(0)),
        (256, le(761)),
        (256, le(U64)),
        (264, b'[["", "|O"]]'),
        (264, b'[["a","<i2"],'),
        (264, b'[["", "<f0"]]'),
        (264, b'[["", ">f4"]]'),
        (264, b"[1, 2, 3, 4]"),
        (264, b'"__import__"'),
    ],
)
def test_open__refuses_invalid_array_arguments(good, write_bytes, position, replacement):
    """Shapes that are empty, overflow or do not match, and unsupported dtypes are errors."""
    arguments = 24 + 1041 * good.names.index("box") + 17
    with pytest.raises(BetonFormatError, match=r"broken\.beton: .*box"):
        BetonReader(write_bytes(good.without_extension(), {arguments + position: replacement}))


@pytest.mark.parametrize("edit", [{0: b"\7"}, {1: le(2, 2)}, {3: le(9999, 2)}, {1: le(0, 2)}])
def test_open__refuses_impossible_images(good, write_bytes, edit):
    """Unknown modes and raw images of the wrong size are errors."""
    record = good.record_offset(3, "image")
    with pytest.raises(BetonFormatError, match="sample 3"):
        BetonReader(
            write_bytes(
                good.without_extension(), {record + offset: data for offset, data in edit.items()}
            )
        )


def test_checksums__detect_flipped_bits_of_the_index(good, write_bytes):
    """A flipped bit in records or allocation table raises ChecksumError on opening."""
    for offset in (
        good.record_offset(1, "label"),
        good.record_offset(5, "weight") + 7,
        good.records_end - 1,
        good.table + 16,
        good.table,
    ):
        flipped = bytes([good.data[offset] ^ 4])
        with pytest.raises(ChecksumError, match=r"broken\.beton: "):
            BetonReader(write_bytes(good.data, {offset: flipped}))


def test_verify__finds_nothing_in_valid_files(good, write_bytes):
    """A valid file has no problems, with and without checksums."""
    assert list(BetonReader(good.path).verify()) == []
    assert list(BetonReader(write_bytes(good.without_extension())).verify()) == []


def test_verify__finds_a_flipped_bit_of_a_value(good, write_bytes):
    """The checksums of page and value detect a flipped bit of raw pixels."""
    with BetonReader(good.path) as reader:
        pixel = int(reader.extents("image")[0][4]) + 10
    path = write_bytes(good.data, {pixel: bytes([good.data[pixel] ^ 1])})
    problems = list(BetonReader(path).verify())
    assert [(problem.sample_id, problem.field) for problem in problems] == [
        (None, None),
        (4, "image"),
    ]
    assert "checksum" in problems[1].message
    assert "page 0" in problems[0].message
    assert "6 samples from 0 to 5" in problems[0].message
    assert (
        "page 0"
        in next(BetonReader(write_bytes(good.data, {good.block - 1: b"\1"})).verify()).message
    )


def test_verify__reports_values_that_do_not_decode(good, write_bytes):
    """Decoding finds invalid JSON; with `decode=False` only page checksums are compared."""
    with BetonReader(good.path) as reader:
        text = int(reader.extents("info")[0][3])
    path = write_bytes(good.data, {text: b"?"})
    problems = list(BetonReader(path).verify())
    assert [(problem.sample_id, problem.field) for problem in problems] == [
        (None, None),
        (3, "info"),
    ]
    assert len(list(BetonReader(path).verify(decode=False))) == 1
    with pytest.raises(SampleError, match="sample 3, field 'info'"):
        BetonReader(path).value(3, "info")


FUZZ = """
import random, sys
import numpy as np
from ffcv_ssl.beton import BetonReader
from ffcv_ssl.errors import BetonFormatError, SampleError

path, seed, num_edits, num_cuts, sealed = sys.argv[1], *map(int, sys.argv[2:])
good = open(path, "rb").read()

def content(reader):
    values = [reader.value(i, name) for i in range(len(reader)) for name in reader.fields]
    return [np.asarray(v).tobytes() if hasattr(v, "shape") else repr(v) for v in values]

truth = content(BetonReader(path))
interesting = [i for i in range(len(good)) if good[i]]
rng = random.Random(seed)
outcomes = {"refused": 0, "found": 0, "same": 0, "other": 0}

def attempt():
    try:
        with BetonReader(path) as reader:
            problems = list(reader.verify())
            try:
                same = content(reader) == truth
            except SampleError:
                same = False
        outcomes["found" if problems else "same" if same else "other"] += 1
    except BetonFormatError as error:
        assert str(error).startswith(path), error
        outcomes["refused"] += 1

with open(path, "r+b", buffering=0) as file:
    for _ in range(num_edits):
        offset = rng.choice(interesting) if rng.random() < 0.7 else rng.randrange(len(good))
        file.seek(offset)
        candidates = rng.randrange(256), good[offset] ^ 1 << rng.randrange(8), 0, 255
        file.write(bytes([rng.choice(candidates)]))
        attempt()
        file.seek(offset)
        file.write(good[offset:offset + 1])
    for _ in range(num_cuts):
        cut = rng.randrange(len(good)) if rng.random() < 0.5 else len(good) - rng.randrange(1, 3000)
        file.truncate(cut)
        attempt()
        file.seek(cut)
        file.write(good[cut:])
    assert open(path, "rb").read() == good
print(outcomes)
assert not sealed or outcomes["other"] == 0
assert outcomes["refused"] > num_cuts and (not sealed or outcomes["found"])
"""


@pytest.mark.parametrize("sealed", [1, 0], ids=["with checksums", "as from FFCV"])
def test_fuzz__never_crashes_or_returns_wrong_values(good, write_bytes, sealed):
    """1,000 edited bytes and 100 truncations give a typed error, a problem or correct values."""
    path = write_bytes(good.data if sealed else good.without_extension())
    command = [
        sys.executable,
        "-W",
        "error::RuntimeWarning",
        "-c",
        FUZZ,
        str(path),
        "17",
        "1000",
        "100",
        str(sealed),
    ]
    result = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert result.returncode == 0, result.stderr[-3000:] + result.stdout
