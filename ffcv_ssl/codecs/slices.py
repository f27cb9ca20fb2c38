"""Cut the rows that are needed out of a JPEG before anything is decoded, where restart markers stand between its rows of MCUs.

At a restart marker the entropy coder begins anew, so the data between two of them can be decoded alone. The slice is a whole JPEG of
fewer rows: any decoder reads it. Only files with one scan of sequential Huffman code and one restart interval per row of MCUs are cut,
which is what `encode_jpeg` writes; of every other file, and of one whose markers are missing or out of order, the whole is decoded.
Rows that are cut away are not looked at, so damage there goes unnoticed; damage in the rows that stay is an error as ever.

Terms and the layout of segments are those of ITU-T T.81, annex B.
"""

import numpy as np

from ffcv_ssl.codecs._call import call
from ffcv_ssl.kernels._jit import per_sample, scalar

SOF0, SOF1, DHT, RST0, EOI, SOS, DRI = 0xC0, 0xC1, 0xC4, 0xD0, 0xD9, 0xDA, 0xDD
MIN_ROWS = 2  # of MCUs above and below that a cut must save
BLOCK = 64  # bytes searched at once for a marker


@scalar
def _word(data, offset):
    """Big-endian 16-bit number."""
    return (np.int64(data[offset]) << 8) | np.int64(data[offset + 1])


@scalar
def _next_marker(data, offset):
    """Offset of the next 0xFF that is not data (0xFF 0x00 is); near the end of `data` where there is none.

    A vectorised test passes over blocks without one: 5 us for 49 kB, against 9 byte by byte.
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


@scalar
def _copy(source, out):
    """Copy bytes (a slice assignment takes 1.5 s more to compile, for the text of an error that cannot occur)."""
    for i in range(source.size):
        out[i] = source[i]


@per_sample
def layout(data):
    """Where a JPEG can be cut: offsets of frame header and scan, lines of a row of MCUs, lines that upsampling reads beside a line.

    The last is 1 where chroma is subsampled vertically, else 0; all four are 0 where the file cannot be cut.
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


@scalar
def _rows_of_mcus(data, frame, scan, interval):
    """The result of `layout` for a file of one scan."""
    columns = rows = np.int64(
        1
    )  # of blocks in an MCU; that of a single component is one block, whatever its factors
    smallest = np.int64(4)
    for component in range(data[frame + 5]):
        factors = np.int64(data[frame + 7 + 3 * component])
        columns, rows, smallest = (
            max(columns, factors >> 4),
            max(rows, factors & 15),
            min(smallest, factors & 15),
        )
    if data[frame + 5] == 1:
        columns = rows = smallest = np.int64(1)
    if interval != (_word(data, frame + 3) + 8 * columns - 1) // (8 * columns):
        return np.int64(0), np.int64(0), np.int64(0), np.int64(0)
    return frame, scan, 8 * rows, np.int64(smallest < rows)


@per_sample
def cut_rows(data, height, top, bottom, out):
    """Write a JPEG of the rows of MCUs that the lines [top, bottom) need.

    Where chroma is subsampled vertically that is one row more on a side where the lines reach the edge of their own; always one more
    would cost 6 % of one view's box.

    Parameters
    ----------
    data
        (size,) uint8, the JPEG.
    height
        What its record says, in pixels. A file that says otherwise is not cut, so that its decoder finds out.
    top, bottom
        Lines of the image, 0 <= top < bottom <= height.
    out
        (at least size,) uint8.

    Returns
    -------
    tuple
        Bytes of the slice, its first line in the image, and its number of lines; zeros where the file cannot be cut or it would not pay.
    """
    frame, scan, mcu_height, margin = layout(data)
    nothing = np.int64(0), np.int64(0), np.int64(0)
    if frame == 0 or _word(data, frame + 1) != height:
        return nothing
    num_rows = (height + mcu_height - 1) // mcu_height
    first = max(top - margin, 0) // mcu_height
    last = min(bottom - 1 + margin, height - 1) // mcu_height
    if num_rows - (last + 1 - first) < MIN_ROWS:
        return nothing
    line = first * mcu_height
    lines = min((last + 1) * mcu_height, height) - line
    _copy(data[:scan], out)
    out[frame + 1], out[frame + 2] = lines >> 8, lines & 0xFF
    start = size = scan
    for row in range(last + 1):
        end = _next_marker(data, start) + 2
        if (
            end > data.size
            or data[end - 2] != 0xFF
            or data[end - 1] != (EOI if row == num_rows - 1 else RST0 + (row & 7))
        ):
            return nothing
        if row >= first:
            _copy(data[start:end], out[size:])
            size += end - start
            out[size - 1] = EOI if row == last else RST0 + ((row - first) & 7)
        start = end
    return size, line, lines


@per_sample
def decode_box(decoder, data, size, box, denominator, scratch, out):
    """Decode a box of a JPEG with the native shim; only its rows, where the file can be cut.

    Parameters
    ----------
    decoder
        Addresses of the shim's `decode` and of the thread's handle, int64.
    data
        (n,) uint8, the JPEG.
    size
        Height and width as the record has them.
    box
        Top, left, height, width, in pixels of the image at 1/denominator.
    denominator
        1, 2, 4 or 8.
    scratch
        (at least n,) uint8, overwritten.
    out
        uint8, C-contiguous, room for the whole image at 1/denominator; the box is filled, other pixels may be.

    Returns
    -------
    int
        0, or 1 with the reason in the handle.
    """
    address, handle = decoder
    height, width = size
    top, left, box_height, box_width = box
    length, line, lines = cut_rows(
        data, height, top * denominator, min((top + box_height) * denominator, height), scratch
    )
    source = scratch
    if length == 0:
        source, length, lines = data, data.size, height
    line //= denominator  # whole MCUs lie above
    target = out.ctypes.data + 3 * line * ((width + denominator - 1) // denominator)
    return call(
        address,
        handle,
        source.ctypes.data,
        length,
        target,
        lines,
        width,
        top - line,
        left,
        box_height,
        box_width,
        denominator,
    )
