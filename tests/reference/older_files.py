"""Current files converted to earlier versions of the format."""

import tempfile
import zlib
from pathlib import Path

from ffcv_ssl.beton import BetonReader
from ffcv_ssl.beton.format.integrity import extension_to_bytes, read_extension
from ffcv_ssl.beton.format.layout import Header, parse_header

TRAILER_SIZE = 32


def without_block(data: bytes) -> bytes:
    """Return the file as FFCV writes it, without an extension block."""
    start = _block_start(data)
    return _with_table_at(data[:start] + data[_table(data) :], start)


def without_value_checksums(data: bytes) -> bytes:
    """Return the file as written by the first 0.1.0: without checksums of values."""
    block = read_extension(lambda offset, size: data[offset : offset + size], parse_header(data))
    start = _block_start(data)
    json_length = int.from_bytes(data[start : start + 8], "little")
    json_text = data[start + 8 : start + 8 + json_length]

    def old_block(index_checksum):
        return extension_to_bytes(
            json_text, block.page_checksums, index_checksum, block.table_checksum
        )

    table = data[_table(data) :]
    header = _with_table_at(data[:24], start + len(old_block(0)))
    records_end = _records_end(data)
    index_checksum = zlib.crc32(header + data[24:records_end])
    return header + data[24:start] + old_block(index_checksum) + table


def rewrite(path: str | Path, older) -> Path:
    """Apply one of the functions above to a file, in place."""
    path = Path(path)
    path.write_bytes(older(path.read_bytes()))
    return path


def _table(data: bytes) -> int:
    return int.from_bytes(data[16:24], "little")


def _block_start(data: bytes) -> int:
    end = _table(data)
    return end - int.from_bytes(data[end - TRAILER_SIZE + 8 : end - TRAILER_SIZE + 16], "little")


def _with_table_at(data: bytes, offset: int) -> bytes:
    header = parse_header(data)
    return (
        Header(header.num_fields, header.page_size, header.num_samples, offset).to_bytes()
        + data[24:]
    )


def _records_end(data: bytes) -> int:
    with tempfile.NamedTemporaryFile(suffix=".beton") as file:
        file.write(data)
        file.flush()
        with BetonReader(file.name) as reader:
            return reader.records_end
