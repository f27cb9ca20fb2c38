"""Read the header of a JPEG without decoding: coding process, size, color space, orientation.

References
----------
Markers: ITU-T T.81, annex B. Color space: the rule of libjpeg's `default_decompress_parms` (first
the JFIF marker, then Adobe's transform, then the component ids).
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.codecs.limits import JPEG_MAX_SIDE
from ffcv_ssl.codecs.orientation import exif_orientation, xmp_orientation
from ffcv_ssl.errors import ImageError

Buffer = bytes | bytearray | memoryview | NDArray[np.uint8]

SOI, EOI, SOS, DRI = 0xD8, 0xD9, 0xDA, 0xDD
APP0, APP1, APP14, APP15, COM, TEM = 0xE0, 0xE1, 0xEE, 0xEF, 0xFE, 0x01
RST0, RST7 = 0xD0, 0xD7
CODINGS = {  # start-of-frame marker -> coding process (T.81, table B.1)
    0xC0: "baseline",
    0xC1: "extended",
    0xC2: "progressive",
    0xC3: "lossless",
    **dict.fromkeys((0xC5, 0xC6, 0xC7), "hierarchical"),
    **dict.fromkeys((0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF), "arithmetic"),
}
# The sampling factors that TurboJPEG decodes, (horizontal, vertical) of luma and of both chromas.
SUBSAMPLINGS = {
    ((1, 1), (1, 1)): "4:4:4",
    ((2, 1), (1, 1)): "4:2:2",
    ((2, 2), (1, 1)): "4:2:0",
    ((1, 2), (1, 1)): "4:4:0",
    ((4, 1), (1, 1)): "4:1:1",
    ((2, 1), (2, 1)): "4:4:4",  # from here on: equivalent factors that some cameras write
    ((1, 2), (1, 2)): "4:4:4",
    ((2, 2), (1, 2)): "4:2:2",
    ((2, 2), (2, 1)): "4:4:0",
}
EXIF_PREFIX, XMP_PREFIX = b"Exif\x00\x00", b"http://ns.adobe.com/xap/1.0/\x00"


@dataclass(frozen=True)
class JpegInfo:
    """Header of a JPEG.

    Parameters
    ----------
    width, height
        Size in pixels as stored, before any EXIF rotation.
    num_components
        1 (gray), 3 (YCbCr, RGB) or 4 (CMYK, YCCK); the standard allows others.
    precision
        Bits per channel: 8 in almost all files, 12 in some medical ones.
    coding
        "baseline", "extended" (sequential Huffman coding with more tables), "progressive",
        "arithmetic", "lossless" or "hierarchical".
    color
        "YCbCr", "gray", "RGB", "CMYK", "YCCK" or "unknown".
    orientation
        EXIF orientation, 1 to 8; 1 if the file has none.
    subsampling
        "4:4:4", "4:2:2", "4:2:0", "4:4:0", "4:1:1", "4:0:0" (gray), or the sampling factors of the
        components, such as "2x2,1x2,1x1".
    restart_interval
        Number of MCUs between two restart markers; 0 if there are no markers.
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
        """Height and width in pixels after the orientation is applied."""
        return (self.width, self.height) if self.orientation >= 5 else (self.height, self.width)

    def needed_change(self) -> str | None:
        """Return why a .beton file cannot store this JPEG unchanged, or None if it can.

        A file can be kept if every reader of the format decodes it: 8-bit Huffman coding (baseline,
        extended or progressive), YCbCr or gray, upright, with a common chroma subsampling. libjpeg
        decodes extended files with the code for baseline files; they only may have more tables.
        """
        if max(self.width, self.height) > JPEG_MAX_SIDE:
            return f"a side of more than {JPEG_MAX_SIDE:,} pixels"
        if self.coding not in ("baseline", "extended", "progressive"):
            return f"{self.coding} coding"
        if self.precision != 8:
            return f"{self.precision} bits per channel"
        if self.color not in ("YCbCr", "gray"):
            return f"color space {self.color}"
        if self.orientation != 1:
            return f"EXIF orientation {self.orientation}"
        if self.color == "YCbCr" and self.subsampling not in SUBSAMPLINGS.values():
            return f"sampling factors {self.subsampling}"
        return None


@dataclass(frozen=True)
class Segment:
    """A marker segment: its code without 0xFF, contents without length, and end offset."""

    marker: int
    body: memoryview
    end: int


def is_jpeg(data: Buffer) -> bool:
    """Return whether the data starts like a JPEG file."""
    return bytes(data[:3]) == b"\xff\xd8\xff"


def inspect_jpeg(data: Buffer) -> JpegInfo:
    """Read the header of a JPEG, up to its first scan, without decoding pixels.

    Parameters
    ----------
    data
        The JPEG file, or at least its bytes up to the first scan.

    Returns
    -------
    JpegInfo
        The header.

    Raises
    ------
    ImageError
        If the data is not a JPEG, or if it ends or is damaged before the first scan.

    Examples
    --------
    >>> from ffcv_ssl.codecs.encode import encode_jpeg
    >>> info = inspect_jpeg(encode_jpeg(np.zeros((20, 30, 3), np.uint8), quality=90))
    >>> info.width, info.height, info.coding, info.color
    (30, 20, 'baseline', 'YCbCr')
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
        elif segment.marker == APP0 and bytes(body[:5]) == b"JFIF\x00":
            jfif = True
        elif segment.marker == APP14 and bytes(body[:5]) == b"Adobe" and len(body) >= 12:
            adobe_transform = body[11]
        elif segment.marker == APP1 and body[:6] == EXIF_PREFIX:
            exif += bytes(body[6:])  # a long block continues in the next segment
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
        orientation=exif_orientation(exif) or xmp_orientation(xmp) or 1,
        subsampling=_subsampling([(h, v) for _, h, v in components]),
        restart_interval=restart_interval,
    )


def without_metadata(data: Buffer) -> bytes:
    """Return a JPEG without EXIF, XMP, previews, color profiles and comments.

    Pillow parses these when it opens a file, and warns about damaged ones. The pixels do not depend
    on them.

    Parameters
    ----------
    data
        The JPEG file.

    Returns
    -------
    bytes
        A JPEG of the same pixels.

    Raises
    ------
    ImageError
        As for `inspect_jpeg`.
    """
    parts = [bytes(data[:2])]
    end = 2
    for segment in segments(data):
        is_metadata = APP0 <= segment.marker <= APP15 or segment.marker == COM
        if segment.marker in (APP0, APP14) or not is_metadata:
            parts.append(bytes(data[end : segment.end]))
        end = segment.end
    return b"".join((*parts, bytes(data[end:])))


def segments(data: Buffer) -> Iterator[Segment]:
    """Yield the marker segments up to and including the first start of scan.

    Stray bytes between segments are skipped, as in libjpeg, which warns about them during decoding.

    Raises
    ------
    ImageError
        If the data does not start like a JPEG, or ends before a scan.
    """
    view = memoryview(data).cast("B")  # type: ignore[arg-type]  # an array is a buffer, too
    if not is_jpeg(view):
        found = f"it starts with {bytes(view[:8])!r}" if len(view) else "it is empty"
        raise ImageError(f"not a JPEG: {found}.")
    offset = 2
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
    """Parse a start-of-frame segment.

    Parameters
    ----------
    body
        Contents of the segment, without its length.

    Returns
    -------
    tuple
        Precision in bits, height and width in pixels, and a list of (id, horizontal factor,
        vertical factor) per component.

    Raises
    ------
    ImageError
        If the segment is malformed.
    """
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


def _color(component_ids: bytes, jfif: bool, adobe_transform: int | None) -> str:
    if len(component_ids) == 1:
        return "gray"
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
    has_equal_chroma = len(chroma) == 2 and chroma[0] == chroma[1]
    name = SUBSAMPLINGS.get((luma, chroma[0])) if has_equal_chroma else None
    return name or ",".join(f"{h}x{v}" for h, v in factors)
