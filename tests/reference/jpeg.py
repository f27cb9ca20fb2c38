"""JPEG files with one special property each, for the tests of codecs and fields."""

import base64
import io
import itertools
import struct

import numpy as np
import simplejpeg
from PIL import Image

ARITHMETIC = base64.b64decode(  # 16×11 pixels, arithmetic coding, 4:4:4, by jpegtran
    "/9j/4AAQSkZJRgABAQAAAQABAAD/2wBDAA0JCgsKCA0LCgsODg0PEyAVExISEyccHhcgLikxMC4pLSwzOko+MzZGNywtQFdBRkxOUlNSMj5aYVpQYEpRUk//"
    "2wBDAQ4ODhMREyYVFSZPNS01T09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT09PT0//yQARCAALABADAREAAhEBAxEB/8wA"
    "CgAQEAUBEBEF/9oADAMBAAIRAxEAPwD/AHbSxK+iWUYyPW4uJlDPgInCb2xuoacS+8swTX1dKj6gM2OHeCZK8tIlQ3rA/9k="
)


def encode(pixels, mode="RGB", **options):
    """Encode (H, W, 3) uint8 pixels with Pillow; pass `options` to its `save`."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).convert(mode).save(buffer, "JPEG", **{"quality": 90, **options})
    return buffer.getvalue()


def subsampled(pixels, name):
    """Encode with chroma subsampling "4:4:4", "4:2:2", "4:2:0", "4:4:0" or "4:1:1"."""
    return simplejpeg.encode_jpeg(
        np.ascontiguousarray(pixels), quality=90, colorsubsampling=name.replace(":", "")
    )


def with_segment(jpeg, marker, body):
    """Insert a marker segment after the start-of-image marker."""
    return jpeg[:2] + bytes([0xFF, marker]) + struct.pack(">H", len(body) + 2) + body + jpeg[2:]


def exif_block(orientation, order=">", kind=3, tag=0x0112):
    """Return an EXIF block with one directory entry, big (">") or little ("<") endian."""
    value = struct.pack(order + {1: "B", 3: "H", 4: "I"}[kind], orientation).ljust(4, b"\x00")
    header = (b"MM\x00*" if order == ">" else b"II*\x00") + struct.pack(order + "I", 8)
    return header + struct.pack(order + "HHHI", 1, tag, kind, 1) + value + bytes(4)


def with_orientation(jpeg, orientation, **options):
    """Return the JPEG with an EXIF orientation."""
    return with_segment(jpeg, 0xE1, b"Exif\x00\x00" + exif_block(orientation, **options))


def with_frame(jpeg, marker=None, precision=None, height=None, width=None):
    """Return the JPEG with another start-of-frame marker, precision or size in its header.

    The rest is unchanged, so that most of these files do not decode.
    """
    start = next(
        i for i in range(2, len(jpeg)) if jpeg[i] == 0xFF and jpeg[i + 1] in (0xC0, 0xC1, 0xC2)
    )
    changed = bytearray(jpeg)
    if marker is not None:
        changed[start + 1] = marker
    for offset, form, value in ((4, ">B", precision), (5, ">H", height), (7, ">H", width)):
        if value is not None:
            struct.pack_into(form, changed, start + offset, value)
    return bytes(changed)


DC_CODES = (
    ("00", "010", "011", "100"),
    ("00", "01", "10", "110"),
)  # of categories 0 to 3, luma and chroma (T.81, tables K.3 and K.4)
AC_ONE, END_OF_BLOCK = (
    ("00", "01"),
    ("1010", "00"),
)  # run 0 and category 1; end of block (tables K.5 and K.6)


def _random_block(rng, kind):
    """Return the bits of a block with few coefficients; `kind` 0: luma tables, 1: chroma tables."""
    category = int(rng.integers(4))
    bits = DC_CODES[kind][category] + "".join(rng.choice(["0", "1"], category))
    return (
        bits
        + "".join(AC_ONE[kind] + rng.choice(["0", "1"]) for _ in range(rng.integers(4)))
        + END_OF_BLOCK[kind]
    )


def _packed(bits):
    """Pack entropy-coded bits into bytes: pad with ones, add a zero after each 0xFF."""
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\x00")


def random_of_factors(luma, chroma, height, width, restarts=False, interleaved=True, seed=0):
    """Return a JPEG of random blocks with any sampling factors (horizontal, vertical).

    `restarts` adds a marker after every row of MCUs. Without `interleaved` each component has a
    scan of its own.
    """
    rng = np.random.default_rng(seed)
    factors = np.array((luma, chroma, chroma))
    largest = factors.max(axis=0)
    jpeg = encode(
        np.zeros((16, 16, 3), np.uint8), quality=10
    )  # for its tables: Pillow's Huffman codes are the standard ones
    header = bytearray(jpeg[: jpeg.index(b"\xff\xda")])
    frame = header.index(b"\xff\xc0")
    struct.pack_into(">HH", header, frame + 5, height, width)
    for component, (h, v) in enumerate(factors):
        header[frame + 11 + 3 * component] = h << 4 | v
    parts = [bytes(header)]
    for scan in [(0, 1, 2)] if interleaved else [(0,), (1,), (2,)]:
        block = 8 * largest if interleaved else 8 * largest // factors[scan[0]]  # pixels of an MCU
        columns, rows = -(-width // block[0]), -(-height // block[1])
        kinds = [min(c, 1) for c in scan for _ in range(factors[c].prod() if interleaved else 1)]
        lines = [
            "".join(_random_block(rng, kind) for _ in range(columns) for kind in kinds)
            for _ in range(rows)
        ]
        selectors = bytes(itertools.chain.from_iterable((c + 1, 0x11 * min(c, 1)) for c in scan))
        parts.append(b"\xff\xdd" + struct.pack(">HH", 4, columns) if restarts else b"")
        parts.append(
            b"\xff\xda"
            + struct.pack(">HB", 6 + len(selectors), len(scan))
            + selectors
            + bytes((0, 63, 0))
        )
        for row, line in enumerate(lines if restarts else ["".join(lines)]):
            parts.append((bytes((0xFF, 0xD0 + (row - 1) % 8)) if row else b"") + _packed(line))
    return b"".join((*parts, b"\xff\xd9"))


def grey_of_factors(luma, chroma):
    """Return a mid-gray JPEG of one MCU and its (height, width).

    The sampling factors are (horizontal, vertical).
    """
    factors = np.array((luma, chroma, chroma))
    width, height = (8 * factors.max(axis=0)).tolist()
    jpeg = encode(
        np.full((16, 16, 3), 128, np.uint8)
    )  # for its tables: Pillow's are the standard ones (T.81, annex K)
    header = bytearray(jpeg[: jpeg.index(b"\xff\xda")])
    frame = header.index(b"\xff\xc0")
    struct.pack_into(">HH", header, frame + 5, height, width)
    for component, (h, v) in enumerate(factors):
        header[frame + 11 + 3 * component] = h << 4 | v
    bits = "".join(
        block * h * v
        for block, (h, v) in zip(("00" + "1010", "00" + "00", "00" + "00"), factors, strict=True)
    )
    bits += "1" * (-len(bits) % 8)
    scan = bytes.fromhex("ffda000c03010002110311003f00") + int(bits, 2).to_bytes(
        len(bits) // 8, "big"
    )
    return bytes(header) + scan + b"\xff\xd9", (height, width)


def damaged(jpeg):
    """Return files that lack parts of `jpeg`, by name.

    libjpeg decodes some of them with a warning, and some not at all.
    """
    scan, middle = jpeg.index(b"\xff\xda"), (jpeg.index(b"\xff\xda") + len(jpeg)) // 2
    garbage = np.random.default_rng(3).bytes(60).replace(b"\xff", b"\x7f")
    return {
        "without its last byte": jpeg[:-1],
        "without its end marker": jpeg[:-2],
        "cut in half": jpeg[:middle],
        "cut before its scan": jpeg[: scan - 1],
        "only its first marker": jpeg[:2],
        "garbage in the middle": jpeg[:middle] + garbage + jpeg[middle + 30 :],
        "middle missing": jpeg[: scan + (len(jpeg) - scan) // 3] + jpeg[middle:],
        "ended in the middle": jpeg[:middle] + b"\xff\xd9" + jpeg[middle:],
        "zeros from the middle on": jpeg[:middle] + bytes(len(jpeg) - middle),
        "zeros in place of the scan": jpeg[: scan + 14]
        + bytes(len(jpeg) - scan - 16)
        + b"\xff\xd9",
        "stray bytes between segments": jpeg[:2] + b"\x01\x02\x03" + jpeg[2:],
    }
