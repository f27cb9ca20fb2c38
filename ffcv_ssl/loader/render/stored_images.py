"""One image field of an open file, in the form that compiled code reads."""

import numpy as np

from ffcv_ssl.beton.reader import BetonReader
from ffcv_ssl.loader.render.cache import ImageCache
from ffcv_ssl.loader.render.chunk import StoredImages
from ffcv_ssl.loader.render.thread_memory import crc32_address, native_decoder, pread_address


def stored_images(reader: BetonReader, field: str, cache: ImageCache) -> StoredImages:
    """Return one image field of an open file, in the form that compiled code reads.

    Parameters
    ----------
    reader
        The open file.
    field
        Name of the field.
    cache
        Memory for decoded images.

    Returns
    -------
    StoredImages
        Sizes, modes, checksums and file offsets of the images, and addresses of C functions.
    """
    records = reader.records[field]
    pointers, num_bytes = (values.astype(np.int64) for values in reader.extents(field))
    checksums = reader.value_checksums(field) if reader.check == "read" else None
    return StoredImages(
        descriptor=reader.fileno(),
        pread=pread_address(),
        decode=native_decoder(),
        crc32=0 if checksums is None else crc32_address(),
        checksums=np.array([] if checksums is None else checksums, np.uint32),
        # A writable copy: Numba would compile a second version for read-only arrays.
        modes=np.array(records["mode"]),
        sizes=np.stack((records["height"], records["width"]), axis=1).astype(np.int64),
        pointers=pointers,
        num_bytes=num_bytes,
        cache=cache.memory,
        offsets=cache.offsets,
        cached=cache.cached,
    )
