"""The bytes of the extension block, and errors for damaged blocks."""

import json
import zlib

import numpy as np
import pytest

from ffcv_ssl.beton.format.integrity import (
    extension_length,
    extension_to_bytes,
    page_ranges,
    range_checksum,
    read_extension,
)
from ffcv_ssl.beton.format.layout import Header
from ffcv_ssl.errors import BetonFormatError, UnsupportedVersion

PAGE = 1 << 21
TEXT = json.dumps({"class_names": ["cat", "dog"]}).encode()


def block_and_header(text=TEXT, checksums=(7, 2**32 - 1), start=3 * PAGE):
    """A block as the writer creates it, and the header of its file."""
    block = extension_to_bytes(text, np.array(checksums, dtype=np.uint32), 11, 22)
    return block, Header(1, PAGE, 1, start + len(block))


def parse(block, header):
    """Read a block; all bytes before it are zero."""
    start = header.alloc_table_ptr - len(block)
    return read_extension(
        lambda offset, size: (bytes(8000) + block)[offset - start + 8000 :][:size], header
    )


def resealed(block, edits):
    """A block with edited bytes and a matching checksum."""
    data = bytearray(block)
    for offset, replacement in edits.items():
        data[offset : offset + len(replacement)] = replacement
    data[-16:-12] = zlib.crc32(bytes(data[:-16])).to_bytes(4, "little")
    return bytes(data)


def test_block__has_the_layout_of_the_format():
    """The block consists of length, text, checksums and trailer, with padding."""
    block, _ = block_and_header()
    text_end = 8 + -(-len(TEXT) // 8) * 8
    assert int.from_bytes(block[:8], "little") == len(TEXT)
    assert block[8 : 8 + len(TEXT)] == TEXT
    assert not any(block[8 + len(TEXT) : text_end])
    assert np.frombuffer(block[text_end : text_end + 8], "<u8")[0] == 2
    assert list(np.frombuffer(block[text_end + 8 : text_end + 24], "<u4")) == [7, 2**32 - 1, 11, 22]
    assert block[-32:-24] == b"FFCVSSL1"
    assert int.from_bytes(block[-24:-16], "little") == len(block) == extension_length(TEXT, 2)
    assert int.from_bytes(block[-16:-12], "little") == zlib.crc32(block[:-16])
    assert not any(block[-12:])
    assert len(block) % 8 == 0


@pytest.mark.parametrize("num_pages", [0, 1, 2, 3])
@pytest.mark.parametrize("text", [b"{}", b'{"a":1}', TEXT])
def test_block__round_trip_is_exact(text, num_pages):
    """Text and checksums are restored for every length of the padding."""
    block, header = block_and_header(text, range(num_pages))
    extension = parse(block, header)
    assert extension.metadata == json.loads(text)
    assert list(extension.page_checksums) == list(range(num_pages))
    assert (extension.index_checksum, extension.table_checksum, extension.start) == (
        11,
        22,
        3 * PAGE,
    )


def test_block__is_absent_in_files_of_ffcv():
    """A file without the magic number has no block."""
    block, header = block_and_header()
    assert parse(block[:-32] + bytes(32), header) is None
    assert read_extension(lambda offset, size: bytes(size), Header(1, PAGE, 1, 1065)) is None


def test_block__detects_every_flipped_bit():
    """Any flipped bit outside the magic number is an error."""
    block, header = block_and_header()
    for position in range(len(block)):
        if not len(block) - 32 <= position < len(block) - 24:
            broken = bytearray(block)
            broken[position] ^= 1 << position % 8
            with pytest.raises(BetonFormatError):
                parse(bytes(broken), header)


@pytest.mark.parametrize("length", [0, 32, 55, 2**63, 2**64 - 1])
def test_block__refuses_impossible_lengths(length):
    """An impossible length is an error before that many bytes are read."""
    block, header = block_and_header()
    with pytest.raises(BetonFormatError, match="impossible length"):
        parse(resealed(block, {len(block) - 24: length.to_bytes(8, "little")}), header)


def test_block__refuses_unknown_flags():
    """Flags of later versions raise UnsupportedVersion."""
    block, header = block_and_header()
    with pytest.raises(UnsupportedVersion, match="flags 0x3"):
        parse(block[:-12] + b"\3" + block[-11:], header)


@pytest.mark.parametrize("json_length", [len(TEXT) + 8, 2**40, 2**64 - 1])
def test_block__refuses_parts_that_do_not_add_up(json_length):
    """Inner lengths are checked also if the checksum matches."""
    block, header = block_and_header()
    with pytest.raises(BetonFormatError, match="do not add up"):
        parse(resealed(block, {0: json_length.to_bytes(8, "little")}), header)


@pytest.mark.parametrize("text", [b"[1, 2]", b"not json", b"\xff\xfe", b"[" * 100_000])
def test_block__refuses_text_that_is_not_an_object(text):
    """The text must be a JSON object in UTF-8."""
    block, header = block_and_header(text)
    with pytest.raises(BetonFormatError, match="JSON of the extension block"):
        parse(block, header)


@pytest.mark.parametrize(("start", "num_pages"), [(3 * PAGE + 8, 1), (2 * PAGE, 3)])
def test_block__refuses_impossible_offsets(start, num_pages):
    """The block starts at a page boundary, behind all of its pages."""
    block, header = block_and_header(checksums=range(num_pages), start=start)
    with pytest.raises(BetonFormatError, match="cannot follow"):
        parse(block, header)


def test_page_ranges__exclude_the_records():
    """The first range starts behind the records if its page also holds records."""
    assert page_ranges(0, 4 * PAGE, 2 * PAGE, 5000) == [(5000, 2 * PAGE), (2 * PAGE, 4 * PAGE)]
    assert page_ranges(PAGE, 2 * PAGE, PAGE, 5000) == [(PAGE, 2 * PAGE)]


def test_range_checksum__equals_one_crc():
    """Reading in chunks gives the CRC-32 of the whole range, for sizes around the chunk size."""
    data = np.random.default_rng(0).integers(0, 256, size=(1 << 23) + 5, dtype=np.uint8).tobytes()

    def read_into(offset, buffer):
        buffer[:] = data[offset : offset + len(buffer)]

    for start, end in ((0, len(data)), (3, 3 + (1 << 22)), (7, 8)):
        assert range_checksum(read_into, start, end) == zlib.crc32(data[start:end])
