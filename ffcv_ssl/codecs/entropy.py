"""Walk through the entropy-coded data of a JPEG scan, without computing pixels, to check it.

Each walker follows the Huffman codes of one entropy-coded segment (the data between two restart
markers). It returns how many bits it consumed, or the code of a fault. Terms and control flow are
those of ITU-T T.81, annexes F.2 (sequential) and G.2 (progressive).
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ffcv_ssl.kernels._jit import cached_kernel, inline_driver

BAD_CODE, TOO_SHORT = -1, -2  # returned by walkers in place of the number of consumed bits
PADDING = 3  # zero bytes that callers append to the data, for the 16-bit window

# Compiled code mixes int and np.int64: the scalars return Any.


def code_table(counts: bytes, symbols: bytes) -> NDArray[np.uint16]:
    """Expand a Huffman table into a look-up table over all 16-bit windows.

    Parameters
    ----------
    counts
        16 bytes: the number of codes of each length, 1 to 16 bits.
    symbols
        One byte per code, in the order of the codes.

    Returns
    -------
    np.ndarray
        (65536,) uint16. The upper byte is the length of the code at the start of the window (0: no
        code), the lower byte its symbol.

    Raises
    ------
    ValueError
        If there are more codes than 16 bits can hold.

    References
    ----------
    ITU-T T.81, annex C.
    """
    lengths = np.repeat(np.arange(1, 17), list(counts))
    spans = 1 << (16 - lengths)
    entries = (lengths << 8 | np.frombuffer(symbols, np.uint8)).astype(np.uint16)
    table = np.zeros(1 << 16, np.uint16)
    covered = int(spans.sum())
    if covered > 1 << 16:
        raise ValueError("more codes than fit")
    table[:covered] = np.repeat(entries, spans)
    return table


@inline_driver
def _entry(data: NDArray[np.uint8], position: np.int64, table: NDArray[np.uint16]) -> Any:
    """Return the table entry for the 16 bits at a bit position."""
    first = position >> 3
    window = (
        (np.int64(data[first]) << 16) | (np.int64(data[first + 1]) << 8) | np.int64(data[first + 2])
    )
    return np.int64(table[(window >> (8 - (position & 7))) & 0xFFFF])


@inline_driver
def _bits(data: NDArray[np.uint8], position: np.int64, count: int) -> Any:
    """Return the `count` bits (at most 16) at a bit position as an integer."""
    first = position >> 3
    window = (
        (np.int64(data[first]) << 16) | (np.int64(data[first + 1]) << 8) | np.int64(data[first + 2])
    )
    return (window >> (24 - (position & 7) - count)) & ((np.int64(1) << count) - 1)


@cached_kernel
def walk_sequential(
    data: NDArray[np.uint8],
    num_bits: int,
    num_mcus: int,
    dc_tables: NDArray[np.uint16],
    ac_tables: NDArray[np.uint16],
) -> int | np.int64:
    """Walk through a baseline or extended scan.

    Parameters
    ----------
    data
        (num_bits // 8 + PADDING,) uint8, one coded segment without stuffing.
    num_bits
        Number of bits in the segment.
    num_mcus
        Number of MCUs that the segment should hold.
    dc_tables, ac_tables
        (B, 65536) uint16, one table per block of an MCU.

    Returns
    -------
    int
        Number of bits consumed, `BAD_CODE` or `TOO_SHORT`.
    """
    position = np.int64(0)
    for _ in range(num_mcus):
        for block in range(dc_tables.shape[0]):
            entry = _entry(data, position, dc_tables[block])
            if entry < 256:
                return BAD_CODE
            position += (entry >> 8) + (entry & 15)
            k = 1
            while k < 64 and position <= num_bits:
                entry = _entry(data, position, ac_tables[block])
                if entry < 256:
                    return BAD_CODE
                run, size = (entry >> 4) & 15, entry & 15
                position += (entry >> 8) + size
                if size == 0 and run != 15:
                    break
                k += run + 1
            if position > num_bits:
                return TOO_SHORT
    return position


@cached_kernel
def walk_dc_first(
    data: NDArray[np.uint8], num_bits: int, num_mcus: int, dc_tables: NDArray[np.uint16]
) -> int | np.int64:
    """Walk through a first scan of DC coefficients.

    Arguments and result are those of `walk_sequential`.
    """
    position = np.int64(0)
    for _ in range(num_mcus):
        for block in range(dc_tables.shape[0]):
            entry = _entry(data, position, dc_tables[block])
            if entry < 256:
                return BAD_CODE
            position += (entry >> 8) + (entry & 15)
            if position > num_bits:
                return TOO_SHORT
    return position


@cached_kernel
def walk_ac_first(
    data: NDArray[np.uint8],
    num_bits: int,
    table: NDArray[np.uint16],
    first: int,
    last: int,
    nonzero: NDArray[np.uint64],
) -> int | np.int64:
    """Walk through a first scan of AC coefficients, and mark the nonzero ones.

    Parameters
    ----------
    data, num_bits
        As in `walk_sequential`.
    table
        (65536,) uint16.
    first, last
        The coefficients of the scan, 1 to 63.
    nonzero
        (num_blocks,) uint64, one bit per coefficient; updated.

    Returns
    -------
    int
        As in `walk_sequential`.
    """
    position = np.int64(0)
    end_of_band_run = np.int64(0)
    for block in range(nonzero.shape[0]):
        if end_of_band_run > 0:
            end_of_band_run -= 1
            continue
        k = first
        while k <= last and position <= num_bits:
            entry = _entry(data, position, table)
            if entry < 256:
                return BAD_CODE
            position += entry >> 8
            run, size = (entry >> 4) & 15, entry & 15
            if size == 0 and run != 15:
                end_of_band_run = (np.int64(1) << run) - 1
                if position + run <= num_bits:
                    end_of_band_run += _bits(data, position, run)
                position += run
                break
            k += run
            if size and k < 64:
                nonzero[block] |= np.uint64(1) << np.uint64(k)
            position += size
            k += 1
        if position > num_bits:
            return TOO_SHORT
    return position


@cached_kernel
def walk_ac_refinement(
    data: NDArray[np.uint8],
    num_bits: int,
    table: NDArray[np.uint16],
    first: int,
    last: int,
    nonzero: NDArray[np.uint64],
) -> int | np.int64:
    """Walk through a refinement scan: one more bit of each nonzero AC coefficient, and new ones.

    Arguments and result are those of `walk_ac_first`.
    """
    position = np.int64(0)
    end_of_band_run = np.int64(0)
    for block in range(nonzero.shape[0]):
        k = first
        while end_of_band_run == 0 and k <= last and position <= num_bits:
            entry = _entry(data, position, table)
            run, size = (entry >> 4) & 15, entry & 15
            if entry < 256 or size > 1:
                return BAD_CODE
            position += (entry >> 8) + size
            if size == 0 and run != 15:
                end_of_band_run = np.int64(1) << run
                if position + run <= num_bits:
                    end_of_band_run += _bits(data, position, run)
                position += run
                break
            while k <= last:  # skip `run` zeros; each nonzero coefficient takes a bit
                if (nonzero[block] >> np.uint64(k)) & np.uint64(1):
                    position += 1
                else:
                    run -= 1
                    if run < 0:
                        break
                k += 1
            if size and k < 64:
                nonzero[block] |= np.uint64(1) << np.uint64(k)
            k += 1
        if end_of_band_run > 0:
            while k <= last:
                position += np.int64((nonzero[block] >> np.uint64(k)) & np.uint64(1))
                k += 1
            end_of_band_run -= 1
        if position > num_bits:
            return TOO_SHORT
    return position
