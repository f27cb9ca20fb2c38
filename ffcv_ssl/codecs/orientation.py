"""Read the orientation of an image from its EXIF block or XMP packet, as Pillow does.

References
----------
Exif 2.3, tag 0x0112 of IFD0; `tiff:Orientation` of XMP.
"""

import re
import struct

ORIENTATION_TAG = 0x0112


def exif_orientation(exif: bytes) -> int | None:
    """Read the orientation from an EXIF block.

    Parameters
    ----------
    exif
        The block, which has the structure of a TIFF file.

    Returns
    -------
    int or None
        1 to 8. None if the block holds no orientation or is damaged.
    """
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(exif[:4])
    if order is None or len(exif) < 8:
        return None
    (offset,) = struct.unpack_from(order + "I", exif, 4)
    if offset + 2 > len(exif):
        return None
    (num_entries,) = struct.unpack_from(order + "H", exif, offset)
    for entry in range(offset + 2, min(offset + 2 + 12 * num_entries, len(exif) - 11), 12):
        tag, kind = struct.unpack_from(order + "HH", exif, entry)
        if tag == ORIENTATION_TAG and kind in (3, 4):  # SHORT, as the standard requires, or LONG
            (value,) = struct.unpack_from(order + {3: "H", 4: "I"}[kind], exif, entry + 8)
            return value if 1 <= value <= 8 else None
    return None


def xmp_orientation(xmp: bytes) -> int | None:
    """Read the orientation from an XMP packet.

    Parameters
    ----------
    xmp
        The packet, XML.

    Returns
    -------
    int or None
        1 to 8; None if the packet holds no orientation.
    """
    match = re.search(rb'tiff:Orientation(?:="|>)([1-8])', xmp)
    return int(match[1]) if match else None
