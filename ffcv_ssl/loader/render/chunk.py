"""Compiled functions that decode and render a chunk of samples in one thread, without the GIL.

They raise nothing. Every sample has a status; `ffcv_ssl.loader.render.decode` finds out why one is
not `DONE`.
"""

from typing import NamedTuple

import numpy as np

from ffcv_ssl.codecs._call import call
from ffcv_ssl.codecs.slices import decode_box
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._jit import glue, per_sample, scalar
from ffcv_ssl.kernels.cpu.view import render_view

DONE, NOT_READ, NOT_DECODED, NOT_AS_WRITTEN = range(4)  # status of a sample
RAW = 1  # mode of a stored image: `fields.image.MODE_RAW`, as Numba wants a constant of this module


class StoredImages(NamedTuple):
    """One image field of an open file, as compiled code sees it."""

    descriptor: int
    pread: int  # address of libc's `pread`; 0: not available
    decode: int  # address of the native decoder's `decode`; 0: not built
    crc32: int  # address of zlib's `crc32`; 0: stored bytes are not checked
    checksums: (
        np.ndarray
    )  # (N,) uint32, CRC-32 of the stored bytes; empty where they are not checked
    modes: np.ndarray  # (N,) uint8
    sizes: np.ndarray  # (N, 2) int64, heights and widths
    pointers: np.ndarray  # (N,) int64, offsets in the file
    num_bytes: np.ndarray  # (N,) int64
    cache: np.ndarray  # uint8, decoded images one after the other; empty: nothing is cached
    offsets: np.ndarray  # (N,) int64, offset of each image in the cache, -1: not to be cached
    cached: np.ndarray  # (N,) uint8, whether the cache holds it already


class Workspace(NamedTuple):
    """Memory of one thread, large enough for the images of the chunk."""

    handle: int  # of the native decoder
    data: np.ndarray  # uint8, the bytes of a file
    part: np.ndarray  # uint8, the rows of it that are decoded
    pixels: np.ndarray  # uint8, a decoded image


@glue
def read(images, offset, size, out):
    """Read `size` bytes at an offset of the file; return how many came."""
    start = out.ctypes.data
    done = np.int64(0)
    while done < size:
        count = call(images.pread, images.descriptor, start + done, size - done, offset + done)
        if count <= 0:
            break
        done += count
    return done


@glue
def decode_stored(images, workspace, sample_id, box, pixels):
    """Read one stored image and decode `box` (top, left, height, width, denominator) of it into `pixels`; return the status."""
    size, is_raw = images.num_bytes[sample_id], images.modes[sample_id] == RAW
    if images.pread == 0 or not (is_raw or images.decode != 0):
        return NOT_READ
    target = pixels if is_raw else workspace.data
    if read(images, images.pointers[sample_id], size, target) != size:
        return NOT_READ
    if images.crc32 != 0 and call(images.crc32, 0, target.ctypes.data, size) != np.int64(
        images.checksums[sample_id]
    ):
        return NOT_AS_WRITTEN
    if is_raw:
        return DONE
    decoder, height, width = (
        (images.decode, workspace.handle),
        images.sizes[sample_id, 0],
        images.sizes[sample_id, 1],
    )
    part = (box[0], box[1], box[2], box[3])
    failure = decode_box(
        decoder, workspace.data[:size], (height, width), part, box[4], workspace.part, pixels
    )
    return DONE if failure == 0 else NOT_DECODED


@glue
def decode_image(images, workspace, sample_id, box, pixels):
    """Decode at least `box` of an image into `pixels`, which is its part of the cache if it is to be cached; return the status."""
    if images.offsets[sample_id] < 0:
        return decode_stored(images, workspace, sample_id, box, pixels)
    if images.cached[sample_id] != 0:
        return DONE
    height, width = images.sizes[sample_id]
    status = decode_stored(images, workspace, sample_id, np.array([0, 0, height, width, 1]), pixels)
    if status == DONE:  # two threads may both do this, and write the same bytes
        images.cached[sample_id] = 1
    return status


@glue
def pixels_of(images, workspace, sample_id):
    """Return the memory that an image is decoded into."""
    offset = images.offsets[sample_id]
    if offset < 0:
        return workspace.pixels
    return images.cache[
        offset : offset + images.sizes[sample_id, 0] * images.sizes[sample_id, 1] * 3
    ]


@glue
def render_image(pixels, size, denominator, i, rows, formats, scratch, outs):
    """Render the views of sample `i` that read it at scale 1 / `denominator`; `pixels` holds it, `size` is that of the full image."""
    height, width = -(-size[0] // denominator), -(-size[1] // denominator)
    image = pixels[: height * width * 3].reshape(height, 3 * width)
    for k in range(len(outs)):
        lut, identity, channels_last = formats[k]
        for v in range(rows[k].shape[1]):
            row = rows[k][i, v]
            if row[col.DENOMINATOR] == denominator:
                render_view(image, row, lut, identity, scratch, channels_last, outs[k][i, v])


@per_sample
def render_chunk(images, workspace, scratch, sample_ids, boxes, rows, formats, outs, statuses):
    """Decode a chunk of samples and render all their views.

    Parameters
    ----------
    images
        `StoredImages`.
    workspace, scratch
        `Workspace` and the kernels' `Scratch` of the calling thread.
    sample_ids
        (n,) int64.
    boxes
        (n, levels, 5) int64, what to decode of each image; see `plan_boxes`.
    rows
        For each tensor (n, V, NUM_COLUMNS) float32 kernel rows; the column `DENOMINATOR` says at which level a view reads.
    formats
        For each tensor the lookup table (3, 256), whether it changes nothing, and whether channels come last.
    outs
        For each tensor the finished views, (n, V, 3, h, w) or (n, V, h, w, 3); overwritten. All of one dtype.
    statuses
        (n,) uint8; overwritten.
    """
    for i in range(len(sample_ids)):
        sample_id = sample_ids[i]
        pixels = pixels_of(images, workspace, sample_id)
        statuses[i] = DONE
        for level in range(boxes.shape[1]):
            box = boxes[i, level]
            if box[2] > 0:
                statuses[i] = decode_image(images, workspace, sample_id, box, pixels)
                if statuses[i] != DONE:
                    break
                render_image(
                    pixels, images.sizes[sample_id], box[4], i, rows, formats, scratch, outs
                )


@scalar
def copy_box(pixels, width, box, out):
    """Copy a box (top, left, height, width) out of an image `width` pixels wide."""
    row = 3 * box[3]
    for y in range(box[2]):
        source = pixels[3 * ((box[0] + y) * width + box[1]) :]
        target = out[y * row : (y + 1) * row]
        for i in range(row):
            target[i] = source[i]


@per_sample
def decode_chunk(images, workspace, sample_ids, boxes, starts, packed, statuses):
    """Decode boxes of a chunk of samples into a buffer, for a GPU that renders the views.

    Parameters
    ----------
    images, workspace, sample_ids, boxes, statuses
        As in `render_chunk`.
    starts
        (n, levels) int64: where in `packed` the pixels of each box go.
    packed
        uint8; each box is written as interleaved RGB, without gaps.
    """
    for i in range(len(sample_ids)):
        sample_id = sample_ids[i]
        pixels = pixels_of(images, workspace, sample_id)
        statuses[i] = DONE
        for level in range(boxes.shape[1]):
            box = boxes[i, level]
            if box[2] > 0:
                statuses[i] = decode_image(images, workspace, sample_id, box, pixels)
                if statuses[i] != DONE:
                    break
                copy_box(
                    pixels,
                    -(-images.sizes[sample_id, 1] // box[4]),
                    box,
                    packed[starts[i, level] :],
                )
