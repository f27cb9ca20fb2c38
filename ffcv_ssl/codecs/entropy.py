"""Walk through the entropy-coded data of a JPEG scan without computing a pixel, to see whether it is sound.

Each walker follows the Huffman codes of one stretch of data (between two restart markers) and returns how many bits it consumed, or what
is wrong. Terms and control flow are those of ITU-T T.81, annexes F.2 (sequential) and G.2 (progressive).
"""

import numpy as np
from numba import njit

BAD_CODE, TOO_SHORT = -1, -2  # what walkers return instead of the number of bits they consumed
PADDING = 3  # zero bytes that callers append to the data, for the 16-bit window

_walker = njit(nogil=True, error_model="numpy")
_scalar = njit(nogil=True, error_model="numpy", inline="always")


def code_table(counts: bytes, symbols: bytes) -> np.ndarray:
    """Expand a Huffman table into (65536,) uint16: for every 16-bit window, its code's length (upper byte, 0: no code) and symbol.

    Parameters
    ----------
    counts
        Number of codes of each length, 1 to 16 bits.
    symbols
        In the order of their codes.
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


@_scalar
def _entry(data, position, table):
    """Table entry for the 16 bits at a bit position."""
    first = position >> 3
    window = (
        (np.int64(data[first]) << 16) | (np.int64(data[first + 1]) << 8) | np.int64(data[first + 2])
    )
    return np.int64(table[(window >> (8 - (position & 7))) & 0xFFFF])


@_scalar
def _bits(data, position, count):
    """The next `count` bits, at most 16, as an integer."""
    first = position >> 3
    window = (
        (np.int64(data[first]) << 16) | (np.int64(data[first + 1]) << 8) | np.int64(data[first + 2])
    )
    return (window >> (24 - (position & 7) - count)) & ((np.int64(1) << count) - 1)


@_walker
def walk_sequential(data, num_bits, num_mcus, dc_tables, ac_tables):
    """Baseline and extended: `dc_tables` and `ac_tables` hold one table per block of an MCU; (B, 65536) uint16."""
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


@_walker
def walk_dc_first(data, num_bits, num_mcus, dc_tables):
    """First scan of DC coefficients; tables as above."""
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


@_walker
def walk_ac_first(data, num_bits, table, first, last, nonzero):
    """First scan of AC coefficients `first`..`last`; notes in `nonzero` ((blocks,) uint64, one bit per coefficient) where they are."""
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


@_walker
def walk_ac_refinement(data, num_bits, table, first, last, nonzero):
    """Later scan of AC coefficients: one more bit of those in `nonzero`, and some new ones."""
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
            while k <= last:  # past `run` zeros; each nonzero coefficient on the way takes a bit
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
