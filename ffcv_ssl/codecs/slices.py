"""Cut the rows of MCUs that are needed out of a JPEG before decoding, at its restart markers.

The entropy coder starts anew at a restart marker, so the data between two markers decodes on its
own. A slice is a complete JPEG of fewer rows, which any decoder reads.

Only a file with one sequential Huffman-coded scan and one restart interval per row of MCUs is cut;
`encode_jpeg` writes such files. Any other file is decoded whole, and so is one whose restart
markers are missing or out of order. Rows that are cut away are not read, so damage in them goes
unnoticed; damage in the remaining rows raises an error as usual.

Terms and the layout of segments are those of ITU-T T.81, annex B.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.codecs._call import call
from ffcv_ssl.kernels._jit import cached_kernel, inline

Integer = int | np.int64

SOF0, SOF1, DHT, RST0, EOI, SOS, DRI = 0xC0, 0xC1, 0xC4, 0xD0, 0xD9, 0xDA, 0xDD
MIN_ROWS = 2  # rows of MCUs, above and below together, that a cut must save
BLOCK = 64  # bytes that one vectorized test searches for a marker


@inline
def _word(data: NDArray[np.uint8], offset: Integer) -> Any:
    """Return a big-endian 16-bit number."""
    return (np.int64(data[offset]) << 8) | np.int64(data[offset + 1])


@inline
def _next_marker(data: NDArray[np.uint8], offset: Integer) -> Integer:
    """Return the offset of the next 0xFF that starts a marker, or one near the end of `data`.

    0xFF 0x00 is data. The vectorized test of whole blocks takes 5 us for 49 kB; byte by byte it is
    9 us.
    """
    last = data.size - 1
    while offset + BLOCK <= last:
        found = np.uint8(0)
        first_bytes, second_bytes = (
            data[offset : offset + BLOCK],
            data[offset + 1 : offset + 1 + BLOCK],
        )
        for i in range(BLOCK):
            found |= np.uint8(first_bytes[i] == 0xFF) & np.uint8(second_bytes[i] != 0)
        if found:
            break
        offset += BLOCK
    while offset < last and (data[offset] != 0xFF or data[offset + 1] == 0):
        offset += 1
    return offset


@inline
def _copy(source: NDArray[np.uint8], out: NDArray[np.uint8]) -> None:
    """Copy bytes.

    A slice assignment takes 1.5 s longer to compile, for the text of an error that cannot occur.
    """
    for i in range(source.size):
        out[i] = source[i]


@cached_kernel
def layout(data: NDArray[np.uint8]) -> Any:
    """Find where a JPEG can be cut.

    Parameters
    ----------
    data
        (size,) uint8, the JPEG.

    Returns
    -------
    tuple
        Offset of the frame header's contents, offset of the entropy-coded data, lines per row of
        MCUs, and number of neighboring lines that upsampling reads (1 if chroma is subsampled
        vertically, else 0). Four zeros if the file cannot be cut.
    """
    frame = interval = np.int64(0)
    offset = np.int64(2)
    while offset + 4 <= data.size and data[offset] == 0xFF:
        marker, body, end = data[offset + 1], offset + 4, offset + 2 + _word(data, offset + 2)
        if (
            end < body
            or end > data.size
            or marker == 0xFF
            or (SOF1 < marker < RST0 and marker != DHT)
        ):
            break
        if marker in (SOF0, SOF1):
            if frame or end < body + 6 or end != body + 6 + 3 * data[body + 5]:
                break
            frame = body
        elif marker == DRI and end == body + 2:
            interval = _word(data, body)
        elif marker == SOS:
            if frame and end > body and data[body] == data[frame + 5]:
                return _rows_of_mcus(data, frame, end, interval)
            break
        offset = end
    return np.int64(0), np.int64(0), np.int64(0), np.int64(0)


@inline
def _rows_of_mcus(data: NDArray[np.uint8], frame: Integer, scan: Integer, interval: Integer) -> Any:
    """Return the result of `layout` for a file of one scan."""
    # Blocks in an MCU. With a single component it is one block, whatever the sampling factors.
    columns = rows = np.int64(1)
    smallest = np.int64(4)
    for component in range(data[frame + 5]):
        factors = np.int64(data[frame + 7 + 3 * component])
        columns, rows = max(columns, factors >> 4), max(rows, factors & 15)
        smallest = min(smallest, factors & 15)
    if data[frame + 5] == 1:
        columns = rows = smallest = np.int64(1)
    if interval != (_word(data, frame + 3) + 8 * columns - 1) // (8 * columns):
        return np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    return frame, scan, 8 * rows, np.int64(smallest < rows)


@cached_kernel
def cut_rows(
    data: NDArray[np.uint8], height: int, top: int, bottom: int, out: NDArray[np.uint8]
) -> Any:
    """Write a JPEG of the rows of MCUs that the lines [top, bottom) need.

    If chroma is subsampled vertically, lines at the edge of their row of MCUs also need the
    neighboring row. Always including the neighbors would cost 6 % of the time for one view's box.

    Parameters
    ----------
    data
        (size,) uint8, the JPEG.
    height
        Height in pixels according to the record. A file that contradicts it is not cut, so that the
        decoder reports the difference.
    top, bottom
        Lines of the image, 0 <= top < bottom <= height.
    out
        uint8, at least as long as `data`; overwritten.

    Returns
    -------
    tuple
        Size of the slice in bytes, its first line in the image, and its number of lines. Three
        zeros if the file cannot be cut or if a cut would not pay.
    """
    frame, scan, mcu_height, margin = layout(data)
    uncut = np.int64(0), np.int64(0), np.int64(0)
    if frame == 0 or _word(data, frame + 1) != height:
        return uncut
    num_rows = (height + mcu_height - 1) // mcu_height
    first = max(top - margin, 0) // mcu_height
    last = min(bottom - 1 + margin, height - 1) // mcu_height
    if num_rows - (last + 1 - first) < MIN_ROWS:
        return uncut
    first_line = first * mcu_height
    num_lines = min((last + 1) * mcu_height, height) - first_line
    _copy(data[:scan], out)
    out[frame + 1], out[frame + 2] = num_lines >> 8, num_lines & 0xFF
    start = size = scan
    for row in range(last + 1):
        end = _next_marker(data, start) + 2
        marker = EOI if row == num_rows - 1 else RST0 + (row & 7)
        if end > data.size or data[end - 2] != 0xFF or data[end - 1] != marker:
            return uncut
        if row >= first:
            _copy(data[start:end], out[size:])
            size += end - start
            out[size - 1] = EOI if row == last else RST0 + ((row - first) & 7)
        start = end
    return size, first_line, num_lines


@cached_kernel
def decode_box(
    decoder: tuple[int, int],
    data: NDArray[np.uint8],
    size: tuple[int, int],
    box: tuple[int, int, int, int],
    denominator: int,
    scratch: NDArray[np.uint8],
    out: NDArray[np.uint8],
) -> Any:
    """Decode a box of a JPEG with the native decoder, reading only its rows if the file can be cut.

    Parameters
    ----------
    decoder
        Addresses of the native `decode` and of the thread's handle, int64.
    data
        (n,) uint8, the JPEG.
    size
        Height and width in pixels according to the record.
    box
        Top, left, height, width, in pixels of the image scaled by 1 / denominator.
    denominator
        1, 2, 4 or 8.
    scratch
        uint8, at least as long as `data`; overwritten.
    out
        uint8, C-contiguous, large enough for the whole scaled image. The box is filled; other
        pixels of the image may be overwritten.

    Returns
    -------
    int
        0, or 1 after a failure, whose reason the handle holds.
    """
    address, handle = decoder
    height, width = size
    top, left, box_height, box_width = box
    bottom = min((top + box_height) * denominator, height)
    length, line, num_lines = cut_rows(data, height, top * denominator, bottom, scratch)
    source = scratch
    if length == 0:
        source, length, num_lines = data, data.size, height
    line //= denominator  # whole MCUs lie above
    target = out.ctypes.data + 3 * line * ((width + denominator - 1) // denominator)
    return call(
        address,
        handle,
        source.ctypes.data,
        length,
        target,
        num_lines,
        width,
        top - line,
        left,
        box_height,
        box_width,
        denominator,
    )
