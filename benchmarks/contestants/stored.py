"""Minimal reader of stored images for interpreters without a package that reads `.beton` files.

The file is memory-mapped, so that nothing is copied.
"""

import numpy as np

HEADER = np.dtype(
    [
        ("version", "<u2"),
        ("num_fields", "<u2"),
        ("page_size", "<u4"),
        ("num_samples", "<u8"),
        ("table", "<u8"),
    ]
)
DESCRIPTOR = np.dtype([("type_id", "u1"), ("name", "S16"), ("arguments", "V1024")])
IMAGE = np.dtype([("mode", "u1"), ("width", "<u2"), ("height", "<u2"), ("pointer", "<u8")])
POINTER_AND_SIZE = np.dtype([("pointer", "<u8"), ("size", "<u8")])
RECORDS = {
    0: np.dtype("<f8"),
    1: np.dtype("<i8"),
    2: IMAGE,
    3: POINTER_AND_SIZE,
    5: POINTER_AND_SIZE,
}
RECORDS |= dict.fromkeys((4, 6), np.dtype("<u8"))
ENTRY = np.dtype([("sample_id", "<u8"), ("pointer", "<u8"), ("size", "<u8")])
RAW = 1


class StoredImages:
    """Images of one field of a `.beton` file, version 2.

    Parameters
    ----------
    path
        The file.
    field
        Name of the image field.
    count
        Number of images to use, from the first one. None: all.

    Attributes
    ----------
    is_raw
        Whether the first image is stored as pixels. The files of this benchmark hold one kind only.
    """

    def __init__(self, path: str, field: str, count: int | None = None):
        self.path = path
        self.file = np.memmap(path, np.uint8, "r")
        header = self.file[: HEADER.itemsize].view(HEADER)[0]
        end = HEADER.itemsize + int(header["num_fields"]) * DESCRIPTOR.itemsize
        descriptors = self.file[HEADER.itemsize : end].view(DESCRIPTOR)
        names = [name.decode() for name in descriptors["name"]]
        columns = [("", RECORDS[int(type_id)]) for type_id in descriptors["type_id"]]
        record = np.dtype(columns, align=True)
        samples = self.file[end : end + int(header["num_samples"]) * record.itemsize].view(record)
        self.records = samples[record.names[names.index(field)]][:count]
        table = self.file[int(header["table"]) :].view(ENTRY)
        entries = table[np.argsort(table["pointer"], kind="stable")]
        self.sizes = entries["size"][np.searchsorted(entries["pointer"], self.records["pointer"])]
        self.is_raw = bool(self.records["mode"][0] == RAW)

    def __len__(self) -> int:
        return len(self.records)

    def stored(self, index: int) -> np.ndarray:
        """Return the bytes of a JPEG, (size,) uint8, or the pixels, (H, W, 3) uint8; read-only."""
        record, size = self.records[index], int(self.sizes[index])
        pointer = int(record["pointer"])
        values = np.asarray(self.file[pointer : pointer + size])
        return (
            values.reshape(int(record["height"]), int(record["width"]), 3)
            if record["mode"] == RAW
            else values
        )
