"""What the header of a JPEG says, read without decoding: coding process, size, colour space, orientation.

References
----------
Markers: ITU-T T.81, annex B. Colour space: the rule of libjpeg's `default_decompress_parms` (JFIF first, then Adobe's transform, then
the component ids). Orientation: Exif 2.3, tag 0x0112 of IFD0, else the `tiff:Orientation` of an XMP packet, as Pillow reads both.
"""

import re
import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from ffcv_ssl.codecs.limits import JPEG_MAX_SIDE
from ffcv_ssl.errors import ImageError

Buffer = bytes | bytearray | memoryview | np.ndarray

SOI, EOI, SOS, DRI, APP0, APP1, APP14, APP15, COM, TEM = (
    0xD8,
    0xD9,
    0xDA,
    0xDD,
    0xE0,
    0xE1,
    0xEE,
    0xEF,
    0xFE,
    0x01,
)
RST0, RST7 = 0xD0, 0xD7
CODINGS = {  # start-of-frame marker -> coding process (T.81, table B.1)
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "arithmetic"),
}
SUBSAMPLINGS = {  # sampling factors (horizontal, vertical) of luma and of both chroma channels: those that TurboJPEG decodes
    ((1, 1), (1, 1)): "4:4:4",
    ((2, 1), (1, 1)): "4:2:2",
    ((2, 2), (1, 1)): "4:2:0",
    ((1, 2), (1, 1)): "4:4:0",
    ((4, 1), (1, 1)): "4:1:1",
    ((2, 1), (2, 1)): "4:4:4",  # from here on: the same, spelled as some cameras do
    ((1, 2), (1, 2)): "4:4:4",
    ((2, 2), (1, 2)): "4:2:2",
    ((2, 2), (2, 1)): "4:4:0",
}
EXIF_PREFIX, XMP_PREFIX = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"
ORIENTATION_TAG = 0x0112


@dataclass(frozen=True)
class JpegInfo:
    """Header of a JPEG.

    Parameters
    ----------
    width, height
        In pixels, as stored (before any EXIF rotation).
    num_components
        1 (grey), 3 (YCbCr, RGB) or 4 (CMYK, YCCK); others exist in theory.
    precision
        Bits per channel: 8 in almost all files, 12 in some medical ones.
    coding
        "baseline", "extended" (sequential Huffman with more tables), "progressive", "arithmetic", "lossless" or "hierarchical".
    color
        "YCbCr", "grey", "RGB", "CMYK", "YCCK" or "unknown".
    orientation
        EXIF orientation 1..8; 1 where there is none.
    subsampling
        "4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "4:0:0" (grey), or the sampling factors of the components, as "2x2,1x2,1x1".
    restart_interval
        MCUs between two restart markers; 0 where there are none.
    """

    width: int
    height: int
    num_components: int
    precision: int
    coding: str
    color: str
    orientation: int
    subsampling: str
    restart_interval: int

    @property
    def upright_shape(self) -> tuple[int, int]:
        """Height and width once the orientation is applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    def needed_change(self) -> str | None:
        """Say why a .beton file cannot hold this JPEG as it is, or None where it can.

        Kept are 8-bit Huffman files, baseline, extended or progressive (libjpeg runs the first two through the same code; "extended"
        only allows more tables), YCbCr or grey, upright, with a chroma subsampling that every reader of the format knows.
        """
        if max(self.width, self.height) > JPEG_MAX_SIDE:
            return f"a side of more than {JPEG_MAX_SIDE:,} pixels"
        if self.coding not in ("baseline", "extended", "progressive"):
            return f"{self.coding} coding"
        if self.precision != 8:
            return f"{self.precision} bits per channel"
        if self.color not in ("YCbCr", "grey"):
            return f"colour space {self.color}"
        if self.orientation != 1:
            return f"EXIF orientation {self.orientation}"
        if self.color == "YCbCr" and self.subsampling not in SUBSAMPLINGS.values():
            return f"sampling factors {self.subsampling}"
        return None


@dataclass(frozen=True)
class Segment:
    """One marker segment: `marker` without the 0xFF, `body` without its length, `end` the offset of the byte after it."""

    marker: int
    body: memoryview
    end: int


def is_jpeg(data: Buffer) -> bool:
    """Whether the bytes start as a JPEG does, whatever their file is called."""
    return bytes(data[:3]) == b"\xff\xd8\xff"


def inspect_jpeg(data: Buffer) -> JpegInfo:
    """Read the header of a JPEG, up to its first scan; no pixel is decoded.

    Raises
    ------
    ImageError
        If the bytes are not a JPEG, or end or break before the first scan.
    """
    frame: Segment | None = None
    jfif, adobe_transform, restart_interval = False, None, 0
    exif, xmp = b"", b""
    for segment in segments(data):
        body = segment.body
        if segment.marker in CODINGS:
            if frame is not None:
                raise ImageError("JPEG header is broken: two frames.")
            frame = segment
        elif segment.marker == APP0 and body[:5] == b"JFIF\x00":
            jfif = True
        elif segment.marker == APP14 and body[:5] == b"Adobe" and len(body) >= 12:
            adobe_transform = body[11]
        elif segment.marker == APP1 and body[:6] == EXIF_PREFIX:
            exif += bytes(body[6:])  # a long one is continued in the next segment
        elif segment.marker == APP1 and body[: len(XMP_PREFIX)] == XMP_PREFIX:
            xmp = bytes(body[len(XMP_PREFIX) :])
        elif segment.marker == DRI and len(body) >= 2:
            (restart_interval,) = struct.unpack_from(">H", body)
    if frame is None:
        raise ImageError("JPEG header is broken: a scan without a frame.")
    precision, height, width, components = frame_header(frame.body)
    return JpegInfo(
        width=width,
        height=height,
        num_components=len(components),
        precision=precision,
        coding=CODINGS[frame.marker],
        color=_color(bytes(component[0] for component in components), jfif, adobe_transform),
        orientation=exif_orientation(exif) or _xmp_orientation(xmp) or 1,
        subsampling=_subsampling([(h, v) for _, h, v in components]),
        restart_interval=restart_interval,
    )


def without_metadata(data: Buffer) -> bytes:
    """The JPEG without what does not bear on its pixels: EXIF, XMP, previews, profiles, comments.

    Pillow parses these when it opens a file, and warns of those that are broken.
    """
    parts = [bytes(data[:2])]
    end = 2
    for segment in segments(data):
        if segment.marker in (APP0, APP14) or not (
            APP0 <= segment.marker <= APP15 or segment.marker == COM
        ):
            parts.append(bytes(data[end : segment.end]))
        end = segment.end
    return b"".join((*parts, bytes(data[end:])))


def segments(data: Buffer, start: int = 2) -> Iterator[Segment]:
    """Yield the marker segments from offset `start` up to and with the next start of scan.

    Stray bytes between segments are skipped, as libjpeg does (its warning comes when the image is decoded).

    Raises
    ------
    ImageError
        If the bytes do not start as a JPEG, or end before a scan.
    """
    view = memoryview(data).cast("B")  # type: ignore[arg-type]  # arrays are buffers too
    if not is_jpeg(view):
        raise ImageError(
            f"not a JPEG: {'no bytes at all' if not len(view) else f'starts with {bytes(view[:8])!r}'}."
        )
    offset = start
    while offset + 4 <= len(view):
        marker = view[offset + 1]
        if view[offset] != 0xFF or marker in (0x00, 0xFF, TEM) or RST0 <= marker <= SOI:
            offset += 1
            continue
        if marker == EOI:
            raise ImageError("JPEG ends before its first scan.")
        (length,) = struct.unpack_from(">H", view, offset + 2)
        end = offset + 2 + length
        if length < 2 or end > len(view):
            break
        yield Segment(marker, view[offset + 4 : end], end)
        if marker == SOS:
            return
        offset = end
    raise ImageError(f"JPEG header is truncated or broken near byte {offset} of {len(view)}.")


def frame_header(body: memoryview) -> tuple[int, int, int, list[tuple[int, int, int]]]:
    """Parse a start-of-frame segment into precision, height, width and (id, horizontal, vertical factor) per component."""
    if len(body) < 6 or len(body) != 6 + 3 * body[5] or not body[5]:
        raise ImageError("JPEG header is broken: a frame of impossible length.")
    precision, height, width, num_components = struct.unpack_from(">BHHB", body)
    components = [
        (body[6 + 3 * i], body[7 + 3 * i] >> 4, body[7 + 3 * i] & 15) for i in range(num_components)
    ]
    if not width or not height:
        raise ImageError(f"JPEG of {width} x {height} pixels.")
    if any(not 1 <= factor <= 4 for component in components for factor in component[1:]):
        raise ImageError("JPEG header is broken: sampling factors lie between 1 and 4.")
    return precision, height, width, components


def exif_orientation(exif: bytes) -> int | None:
    """Find the orientation 1..8 in an EXIF block (a TIFF file in memory); None where there is none or the block is broken."""
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (offset,) = struct.unpack_from(order + "I", exif, 4)
    if offset + 2 > len(exif):
        return None
    (num_entries,) = struct.unpack_from(order + "H", exif, offset)
    for entry in range(offset + 2, min(offset + 2 + 12 * num_entries, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == ORIENTATION_TAG and kind in (3, 4):  # SHORT, as the standard asks, or LONG
            (value,) = struct.unpack_from(order + {3: "H", 4: "I"}[kind], exif, entry + 8)
            return value if 1 <= value <= 8 else None
    return None


def _xmp_orientation(xmp: bytes) -> int | None:
    match = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp)
    return int(match[1]) if match else None


def _color(component_ids: bytes, jfif: bool, adobe_transform: int | None) -> str:
    if len(component_ids) == 1:
        return "grey"
    if len(component_ids) == 4:
        return "CMYK" if adobe_transform in (0, None) else "YCCK"
    if len(component_ids) != 3:
        return "unknown"
    if not jfif and (adobe_transform == 0 or (adobe_transform is None and component_ids == b"RGB")):
        return "RGB"
    return "YCbCr"


def _subsampling(factors: list[tuple[int, int]]) -> str:
    if len(factors) == 1:
        return "4:0:0"
    luma, *chroma = factors
    name = (
        SUBSAMPLINGS.get((luma, chroma[0])) if len(chroma) == 2 and chroma[0] == chroma[1] else None
    )
    return name or ",".join(f"{h}x{v}" for h, v in factors)
