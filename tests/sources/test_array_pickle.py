"""Pickles of arrays are read without believing them."""

import copyreg
import pickle
import struct

import numpy as np
import pytest

from ffcv_ssl.sources.array_pickle import load_arrays
from tests.reference import cifar as make

DATA = np.arange(48, dtype=np.uint8).reshape(4, 12)
NUMPY2 = b"cnumpy._core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR"
DTYPE = b"cnumpy\ndtype\n(U\x02u1K\x00K\x01tR"
SUBARRAY = b"(K\x03U\x01|(" + DTYPE + b"(M\xff\xffttNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
GOOD_STATE = b"(K\x03U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"


def array_pickle(shape, data=b"abcdef", dtype_state=GOOD_STATE, tail=b"\x89"):
    """One array in a dict, its parts as given."""
    sides = b"".join(
        struct.pack("<BI", 0x4A, side) if side < 2**31 else pickle.dumps(side, 2)[2:-1]
        for side in shape
    )
    stored = b"T" + struct.pack("<I", len(data)) + data
    return (
        b"\x80\x02}U\x04data"
        + NUMPY2
        + b"(K\x01("
        + sides
        + b"t"
        + DTYPE
        + dtype_state
        + tail
        + stored
        + b"tbs."
    )


@pytest.mark.parametrize("protocol", [0, 2, 3, 4])
def test_arrays__come_back(protocol):
    """As Python 2 pickled them, as NumPy 2 does, and by hand."""
    for data in (
        make.python2_pickle({"data": DATA}),
        pickle.dumps({b"data": DATA}, max(protocol, 3)),
    ):
        (found,) = load_arrays(data).values()
        np.testing.assert_array_equal(found, DATA)
        assert found.dtype == np.uint8
    np.testing.assert_array_equal(
        load_arrays(array_pickle((2, 3)))[b"data"], [[97, 98, 99], [100, 101, 102]]
    )
    by_columns = load_arrays(array_pickle((2, 3), tail=b"\x88"))[b"data"]
    np.testing.assert_array_equal(by_columns, [[97, 99, 101], [98, 100, 102]])


HOSTILE = {
    "subarray dtype (reads past the array)": array_pickle((2,), dtype_state=SUBARRAY),
    "item size of its own": array_pickle((2,), dtype_state=b"(K\x03U\x01|NNNM\xff\xffK\x01K\x00tb"),
    "byte order": array_pickle(
        (2, 3), dtype_state=b"(K\x03U\x01>NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    ),
    "state of another version": array_pickle(
        (2, 3), dtype_state=b"(K\x04U\x01|NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    ),
    "no state of a tuple": array_pickle((2, 3), dtype_state=b"K\x05b"),
    "more than there is": array_pickle((2, 4)),
    "less than there is": array_pickle((2, 2)),
    "huge sides": array_pickle((2**40, 2**40)),
    "no order": array_pickle((2, 3), tail=b"N"),
    "a state on a function": b"\x80\x02cnumpy\ndtype\n}U\x04nameU\x01xsb.",
    "an instance by name": b"\x80\x02cnumpy\nndarray\n)\x81.",
    "old-style instance": b"(inumpy\nndarray\n.",
    "a place in the memo": b"\x80\x02}r\xff\xff\xff\x7f.",
    "a registered extension": b"\x80\x02\x82\x01.",
    "a persistent id": b"P1\n.",
    "a name beside those": b"cnumpy\nload\n.",
    "a name inside those": b"\x80\x04\x8c\x05numpy\x8c\x0fndarray.__new__\x93.",
    "nothing": b"",
    "no end": b"\x80\x02}",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile__is_refused(name):
    """Whatever it asks for beyond plain uint8 arrays, nothing is built from it."""
    with pytest.raises(
        (pickle.UnpicklingError, ValueError, TypeError, KeyError, IndexError, EOFError)
    ):
        load_arrays(HOSTILE[name])
    assert not copyreg._extension_registry


def test_mutants__are_refused_or_hold_plain_values():
    """Of 4,000 mutants of a batch file each is refused, or holds bytes that stand in the file."""
    rng = np.random.default_rng(0)
    sound = make.python2_pickle(
        {"data": DATA, "labels": [0, 1, 2, 3], "filenames": ["a", "b", "c", "d"]}
    )
    outcomes = [0, 0]
    for _ in range(4000):
        data = bytearray(sound)
        for position in rng.integers(0, len(data), rng.integers(1, 4)):
            data[position] = rng.integers(256)
        try:
            content = load_arrays(bytes(data))
        except Exception:  # a damaged pickle can raise anything; the source names the file
            outcomes[0] += 1
            continue
        outcomes[1] += 1
        for value in content.values() if isinstance(content, dict) else ():
            if isinstance(value, np.ndarray):
                assert value.tobytes() in bytes(data)
    assert min(outcomes) > 100
