"""The one compiled function that strings read, decode and render together: a chunk of samples, from the file to finished views.

It runs without the GIL and raises nothing. Every sample has a status; one that is not `DONE` has no views, and `loader.images` finds
out why.
"""

from typing import NamedTuple

import numpy as np

from ffcv_ssl.codecs._call import call
from ffcv_ssl.codecs.slices import decode_box
from ffcv_ssl.kernels import rows as col
from ffcv_ssl.kernels._jit import glue, per_sample, scalar
from ffcv_ssl.kernels.cpu.scratch import Scratch
from ffcv_ssl.kernels.cpu.view import render_view

DONE, NOT_READ, NOT_DECODED, NOT_AS_WRITTEN = range(4)  # status of a sample
RAW = 1  # mode of a stored image, as `fields.image.MODE_RAW`


class StoredImages(NamedTuple):
    """One image field of an open file, as compiled code sees it."""

    descriptor: int
    pread: int  # address of libc's `pread`; 0: not to be had
    decode: int  # address of the native shim's `decode`; 0: not there
    crc32: int  # address of zlib's `crc32`; 0: stored bytes are not checked
    checksums: np.ndarray  # (N,) uint32, CRC-32 of the stored bytes; empty where they are not checked
    modes: np.ndarray  # (N,) uint8
    sizes: np.ndarray  # (N, 2) int64, heights and widths
    pointers: np.ndarray  # (N,) int64, offsets in the file
    num_bytes: np.ndarray  # (N,) int64
    cache: np.ndarray  # uint8, decoded images one after the other; empty: nothing is cached
    places: np.ndarray  # (N,) int64, offset of each image in the cache, -1: not to be cached
    cached: np.ndarray  # (N,) uint8, whether the cache holds it already


class Workspace(NamedTuple):
    """Memory of one thread, large enough for the images and views of the chunk."""

    handle: int  # of the native shim
    data: np.ndarray  # uint8, the bytes of a file
    part: np.ndarray  # uint8, the rows of it that are decoded
    pixels: np.ndarray  # uint8, a decoded image
    scratch: Scratch


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
def load_image(images, workspace, sample_id, box, pixels):
    """Read one stored image and decode `box` (top, left, height, width, denominator) of it into `pixels`; return the status."""
    size, is_raw = images.num_bytes[sample_id], images.modes[sample_id] == RAW
    if images.pread == 0 or not (is_raw or images.decode != 0):
        return NOT_READ
    target = pixels if is_raw else workspace.data
    if read(images, images.pointers[sample_id], size, target) != size:
        return NOT_READ
    if images.crc32 != 0 and call(images.crc32, 0, target.ctypes.data, size) != np.int64(images.checksums[sample_id]):
        return NOT_AS_WRITTEN
    if is_raw:
        return DONE
    decoder, height, width = (images.decode, workspace.handle), images.sizes[sample_id, 0], images.sizes[sample_id, 1]
    part = (box[0], box[1], box[2], box[3])
    failure = decode_box(decoder, workspace.data[:size], (height, width), part, box[4], workspace.part, pixels)
    return DONE if failure == 0 else NOT_DECODED


@glue
def cached_image(images, workspace, sample_id, pixels):
    """Make sure that the cache holds a sample, of which `pixels` is the part; return the status."""
    if images.cached[sample_id] != 0:
        return DONE
    height, width = images.sizes[sample_id]
    status = load_image(images, workspace, sample_id, np.array([0, 0, height, width, 1]), pixels)
    if status == DONE:  # two threads may both do this, and write the same bytes
        images.cached[sample_id] = 1
    return status


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


@glue
def render_sample(images, workspace, sample_id, boxes, i, rows, formats, outs):
    """Make all views of the chunk's sample `i`; return the status."""
    size, place = images.sizes[sample_id], images.places[sample_id]
    if place >= 0:
        pixels = images.cache[place : place + size[0] * size[1] * 3]
        status = cached_image(images, workspace, sample_id, pixels)
        if status == DONE:
            render_image(pixels, size, 1, i, rows, formats, workspace.scratch, outs)
        return status
    for box in boxes:
        if box[2] > 0:
            status = load_image(images, workspace, sample_id, box, workspace.pixels)
            if status != DONE:
                return status
            render_image(workspace.pixels, size, box[4], i, rows, formats, workspace.scratch, outs)
    return DONE


@per_sample
def render_chunk(images, workspace, sample_ids, boxes, rows, formats, outs, statuses):
    """Make all views of a chunk of samples.

    Parameters
    ----------
    images
        `StoredImages`.
    workspace
        `Workspace` of the calling thread.
    sample_ids
        (n,) int64.
    boxes
        (n, levels, 5) int64: what to decode of each image, (top, left, height, width) in pixels of the image scaled by 1 / denominator,
        and that denominator; a height of 0: nothing at that level.
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
        statuses[i] = render_sample(images, workspace, sample_ids[i], boxes[i], i, rows, formats, outs)


@scalar
def copy_box(pixels, width, box, out):
    """Copy a box (top, left, height, width) out of an image `width` pixels wide."""
    row = 3 * box[3]
    for y in range(box[2]):
        source = pixels[3 * ((box[0] + y) * width + box[1]) :]
        target = out[y * row : (y + 1) * row]
        for i in range(row):
            target[i] = source[i]


@glue
def load_boxes(images, workspace, sample_id, boxes, starts, packed):
    """Decode the boxes of one sample into `packed`, from the bytes `starts` on; return the status."""
    size, place = images.sizes[sample_id], images.places[sample_id]
    whole = images.cache[place : place + size[0] * size[1] * 3] if place >= 0 else workspace.pixels
    if place >= 0:
        status = cached_image(images, workspace, sample_id, whole)
        if status != DONE:
            return status
    for k in range(len(boxes)):
        box = boxes[k]
        if box[2] > 0:
            if place < 0:
                status = load_image(images, workspace, sample_id, box, whole)
                if status != DONE:
                    return status
            copy_box(whole, -(-size[1] // box[4]), box, packed[starts[k] :])
    return DONE


@per_sample
def load_chunk(images, workspace, sample_ids, boxes, starts, packed, statuses):
    """Read and decode a chunk of samples for a GPU, which renders them.

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
        statuses[i] = load_boxes(images, workspace, sample_ids[i], boxes[i], starts[i], packed)
