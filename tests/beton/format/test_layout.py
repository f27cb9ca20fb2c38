"""The bytes of the layout that BETON.md specifies."""

import numpy as np
import pytest

from ffcv_ssl.beton.format.layout import (
    DESCRIPTOR_DTYPE,
    HEADER_DTYPE,
    TABLE_DTYPE,
    Header,
    align_up,
    descriptors_to_bytes,
    parse_descriptors,
    parse_header,
    record_dtype,
)
from ffcv_ssl.errors import (
    BetonFormatError,
    FieldError,
    NotABetonFile,
    TruncatedFile,
    UnsupportedVersion,
)
from ffcv_ssl.fields import BytesField, IntField, NDArrayField, RGBImageField

IMAGE, INT, BYTES = RGBImageField("raw"), IntField(), BytesField()


def test_sections__have_the_sizes_of_the_format():
    """A header has 24 bytes, a descriptor 1041 and a table row 24, without padding."""
    assert (HEADER_DTYPE.itemsize, DESCRIPTOR_DTYPE.itemsize, TABLE_DTYPE.itemsize) == (
        24,
        1041,
        24,
    )


@pytest.mark.parametrize(
    ("fields", "size"),
    [
        ({"image": IMAGE, "label": INT}, 24),
        ({"image": IMAGE, "text": BYTES}, 29),
        ({"image": IMAGE, "text": BYTES, "label": INT}, 40),
        ({"image": IMAGE}, 13),
        ({"image": IMAGE, "second": IMAGE}, 26),
        ({"image": IMAGE, "box": NDArrayField("f4", (2,))}, 24),
    ],
)
def test_record__is_aligned_as_ffcv_aligns_it(fields, size):
    """Record sizes equal those of FFCV's files and do not depend on column names."""
    dtype = record_dtype(fields)
    unnamed = np.dtype([("", field.record_dtype) for field in fields.values()], align=True)
    assert dtype.itemsize == size
    assert [dtype.fields[name][1] for name in dtype.names] == [
        unnamed.fields[name][1] for name in unnamed.names
    ]


def test_header__round_trip_is_exact():
    """A header is restored from its 24 little-endian bytes."""
    header = Header(3, 1 << 23, 10, 12345)
    assert header.to_bytes()[:8] == bytes([2, 0, 3, 0, 0, 0, 128, 0])
    assert parse_header(header.to_bytes()) == header
    assert header.records_start == 24 + 3 * 1041


@pytest.mark.parametrize("version", [0, 1, 3, 65535])
def test_header__refuses_other_versions(version):
    """A plausible header of another version raises UnsupportedVersion with both versions."""
    data = version.to_bytes(2, "little") + Header(1, 1 << 21, 1, 5000).to_bytes()[2:]
    with pytest.raises(UnsupportedVersion, match=f"version {version};.*version 2"):
        parse_header(data)


@pytest.mark.parametrize(
    "data", [b"", b"a plain text file, long enough", b"\x89PNG\r\n\x1a\n" + bytes(30), bytes(24)]
)
def test_header__rejects_other_files(data):
    """Empty files, texts, images and files of zeros are not .beton files."""
    with pytest.raises(NotABetonFile):
        parse_header(data)


def test_header__refuses_a_truncated_header():
    """Fewer than 24 bytes raise TruncatedFile."""
    with pytest.raises(TruncatedFile):
        parse_header(Header(1, 1 << 21, 1, 5000).to_bytes()[:23])


@pytest.mark.parametrize("page_size", [0, 3, (1 << 21) + 1, 1 << 20, 1 << 31, 2**32 - 1])
def test_header__refuses_page_sizes(page_size):
    """The page size is a power of two from 2 MiB to 1 GiB."""
    with pytest.raises(BetonFormatError, match=str(page_size)):
        parse_header(Header(1, page_size, 1, 5000).to_bytes())


def test_descriptors__round_trip_is_exact():
    """Names of 1 and 16 characters, unusual names, and arguments are restored."""
    fields = {
        "a": IMAGE,
        "sixteen_letters_": INT,
        "a b-c'\"": BYTES,
        "__import__('os')": NDArrayField("<i2", (3, 4)),
    }
    descriptors = parse_descriptors(descriptors_to_bytes(fields))
    assert [each.name for each in descriptors] == list(fields)
    assert [each.type_id for each in descriptors] == [2, 1, 3, 4]
    assert NDArrayField.from_arguments(descriptors[3].arguments) == fields["__import__('os')"]


@pytest.mark.parametrize(
    "name", ["", "seventeen_letters", "x" * 300, "étiquette", "🐈", "tab\t", "new\nline", "nul\0"]
)
def test_descriptors__refuse_names_that_do_not_fit(name):
    """Names have 1 to 16 printable ASCII characters; the message contains the name."""
    with pytest.raises(FieldError, match="field name"):
        descriptors_to_bytes({name: INT})


@pytest.mark.parametrize("name", [b"", b"a\0b", b"caf\xe9", b"a\nb", b"\x7f"])
def test_descriptors__refuse_invalid_names_in_files(name):
    """A file with an invalid field name is an error."""
    data = bytearray(descriptors_to_bytes({"x": INT}))
    data[1:17] = name.ljust(16, b"\0")
    with pytest.raises(BetonFormatError, match="has the name"):
        parse_descriptors(bytes(data))


def test_descriptors__refuse_equal_names():
    """Two fields must not have the same name."""
    with pytest.raises(BetonFormatError, match="two fields have the name 'x'"):
        parse_descriptors(descriptors_to_bytes({"x": INT}) * 2)


def test_align_up__rounds_up():
    """Multiples are unchanged, other offsets are rounded up."""
    assert [align_up(offset, 8) for offset in (0, 1, 8, 9)] == [0, 8, 8, 16]
