"""Compiled functions that decode and render a chunk of samples in one thread, without the GIL.

They raise nothing and return a status for each sample instead. `ffcv_ssl.loader.render.decode`
finds the reason of a status other than `DONE`.
"""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.codecs._call import call
from ffcv_ssl.codecs.slices import decode_box
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._jit import cached_kernel, inline, inline_driver
from ffcv_ssl.kernels.cpu.scratch import Scratch
from ffcv_ssl.kernels.cpu.view import render_view

DONE, NOT_READ, NOT_DECODED, CHECKSUM_MISMATCH = range(4)  # status of a sample
RAW = 1  # `fields.image.MODE_RAW`; Numba needs a constant of this module


class StoredImages(NamedTuple):
    """One image field of an open file, in the form that compiled code reads."""

    descriptor: int
    pread: int  # address of libc's `pread`; 0 if it is not available
    decode: int  # address of the native decoder's `decode`; 0 if it is not built
    crc32: int  # address of zlib's `crc32`; 0 if stored bytes are not checked
    checksums: NDArray[np.uint32]  # (N,) CRC-32 of the stored bytes; empty if they are not checked
    modes: NDArray[np.uint8]  # (N,)
    sizes: NDArray[np.int64]  # (N, 2), heights and widths
    pointers: NDArray[np.int64]  # (N,) offsets in the file
    num_bytes: NDArray[np.int64]  # (N,)
    cache: NDArray[np.uint8]  # decoded images one after the other; empty without a cache
    offsets: NDArray[np.int64]  # (N,) offset of each image in the cache, -1 if it is not kept
    cached: NDArray[np.uint8]  # (N,) whether the cache contains the image already


class Workspace(NamedTuple):
    """Memory of one thread, large enough for the images of a chunk."""

    handle: int  # of the native decoder
    data: NDArray[np.uint8]  # stored bytes of an image
    part: NDArray[np.uint8]  # the part of these bytes to decode
    pixels: NDArray[np.uint8]  # a decoded image


@inline_driver
def read_bytes(images: StoredImages, offset: int, size: int, out: NDArray[np.uint8]) -> np.int64:
    """Read `size` bytes at an offset of the file; return how many were read."""
    start = out.ctypes.data
    done = np.int64(0)
    while done < size:
        count: int = call(images.pread, images.descriptor, start + done, size - done, offset + done)
        if count <= 0:
            break
        done += count
    return done


@inline_driver
def read_and_decode(
    images: StoredImages,
    workspace: Workspace,
    sample_id: int,
    box: NDArray[np.int64],
    pixels: NDArray[np.uint8],
) -> int:
    """Read a stored image and decode a box of it into `pixels`; return the status.

    `box` is top, left, height, width and denominator.
    """
    size, is_raw = images.num_bytes[sample_id], images.modes[sample_id] == RAW
    if images.pread == 0 or not (is_raw or images.decode != 0):
        return NOT_READ
    target = pixels if is_raw else workspace.data
    if read_bytes(images, images.pointers[sample_id], size, target) != size:
        return NOT_READ
    if images.crc32 != 0 and call(images.crc32, 0, target.ctypes.data, size) != np.int64(
        images.checksums[sample_id]
    ):
        return CHECKSUM_MISMATCH
    if is_raw:
        return DONE
    decoder = images.decode, workspace.handle
    height, width = images.sizes[sample_id, 0], images.sizes[sample_id, 1]
    part = (box[0], box[1], box[2], box[3])
    failure = decode_box(
        decoder, workspace.data[:size], (height, width), part, box[4], workspace.part, pixels
    )
    return DONE if failure == 0 else NOT_DECODED


@inline_driver
def decode_image(
    images: StoredImages,
    workspace: Workspace,
    sample_id: int,
    box: NDArray[np.int64],
    pixels: NDArray[np.uint8],
) -> int:
    """Decode at least a box of an image into `pixels`; return the status.

    `pixels` is the image's part of the cache if the image is to be cached. Then the whole image is
    decoded, once.
    """
    if images.offsets[sample_id] < 0:
        return read_and_decode(images, workspace, sample_id, box, pixels)
    if images.cached[sample_id] != 0:
        return DONE
    height, width = images.sizes[sample_id]
    whole = np.array([0, 0, height, width, 1])
    status = read_and_decode(images, workspace, sample_id, whole, pixels)
    if status == DONE:  # two threads may both get here; they write the same bytes
        images.cached[sample_id] = 1
    return status


@inline_driver
def image_memory(images: StoredImages, workspace: Workspace, sample_id: int) -> NDArray[np.uint8]:
    """Return the memory into which an image is decoded."""
    offset = images.offsets[sample_id]
    if offset < 0:
        return workspace.pixels
    size = images.sizes[sample_id, 0] * images.sizes[sample_id, 1] * 3
    return images.cache[offset : offset + size]


@inline_driver
def render_image(
    pixels: NDArray[np.uint8],
    size: NDArray[np.int64],
    denominator: int,
    i: int,
    rows: tuple[NDArray[np.float32], ...],
    formats: tuple[Any, ...],
    scratch: Scratch,
    outs: tuple[NDArray[Any], ...],
) -> None:
    """Render the views of sample `i` that read the image at scale 1 / `denominator`.

    `pixels` contains the image at that scale; `size` is the size of the full image.
    """
    height, width = -(-size[0] // denominator), -(-size[1] // denominator)
    image = pixels[: height * width * 3].reshape(height, 3 * width)
    for k in range(len(outs)):
        lut, identity, channels_last = formats[k]
        for v in range(rows[k].shape[1]):
            row = rows[k][i, v]
            if row[col.DENOMINATOR] == denominator:
                render_view(image, row, lut, identity, scratch, channels_last, outs[k][i, v])


@cached_kernel
def render_chunk(
    images: StoredImages,
    workspace: Workspace,
    scratch: Scratch,
    sample_ids: NDArray[np.int64],
    boxes: NDArray[np.int64],
    rows: tuple[NDArray[np.float32], ...],
    formats: tuple[Any, ...],
    outs: tuple[NDArray[Any], ...],
    statuses: NDArray[np.uint8],
) -> None:
    """Decode a chunk of samples and render all their views.

    Parameters
    ----------
    images
        The image field.
    workspace, scratch
        Memory of the calling thread, for decoding and for the kernels.
    sample_ids
        (n,) int64.
    boxes
        (n, levels, 5) int64, the part of each image to decode; see `plan_boxes`.
    rows
        For each tensor (n, V, NUM_COLUMNS) float32 kernel rows. The column `DENOMINATOR` contains
        the scale at which a view reads the image.
    formats
        For each tensor the (3, 256) lookup table, whether it is the identity, and whether the
        channels are the last axis.
    outs
        For each tensor the views, (n, V, 3, h, w) or (n, V, h, w, 3); overwritten. All have the
        same dtype.
    statuses
        (n,) uint8; overwritten.
    """
    for i in range(len(sample_ids)):
        sample_id = sample_ids[i]
        pixels = image_memory(images, workspace, sample_id)
        statuses[i] = DONE
        for level in range(boxes.shape[1]):
            box = boxes[i, level]
            if box[2] > 0:
                statuses[i] = decode_image(images, workspace, sample_id, box, pixels)
                if statuses[i] != DONE:
                    break
                size = images.sizes[sample_id]
                render_image(pixels, size, box[4], i, rows, formats, scratch, outs)


@inline
def copy_box(
    pixels: NDArray[np.uint8], width: int, box: NDArray[np.int64], out: NDArray[np.uint8]
) -> None:
    """Copy a box (top, left, height, width) of an image that is `width` pixels wide."""
    row = 3 * box[3]
    for y in range(box[2]):
        source = pixels[3 * ((box[0] + y) * width + box[1]) :]
        target = out[y * row : (y + 1) * row]
        for i in range(row):
            target[i] = source[i]


@cached_kernel
def decode_chunk(
    images: StoredImages,
    workspace: Workspace,
    sample_ids: NDArray[np.int64],
    boxes: NDArray[np.int64],
    starts: NDArray[np.int64],
    packed: NDArray[np.uint8],
    statuses: NDArray[np.uint8],
) -> None:
    """Decode boxes of a chunk of samples into a buffer, for a GPU that renders the views.

    Parameters
    ----------
    images, workspace, sample_ids, boxes, statuses
        As in `render_chunk`.
    starts
        (n, levels) int64, offset in `packed` of the pixels of each box.
    packed
        uint8; each box is written as interleaved RGB, without gaps.
    """
    for i in range(len(sample_ids)):
        sample_id = sample_ids[i]
        pixels = image_memory(images, workspace, sample_id)
        statuses[i] = DONE
        for level in range(boxes.shape[1]):
            box = boxes[i, level]
            if box[2] > 0:
                statuses[i] = decode_image(images, workspace, sample_id, box, pixels)
                if statuses[i] != DONE:
                    break
                scaled_width = -(-images.sizes[sample_id, 1] // box[4])
                copy_box(pixels, scaled_width, box, packed[starts[i, level] :])
