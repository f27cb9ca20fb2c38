"""Validated extents from records and allocation table."""

import numpy as np
import pytest

from ffcv_ssl.beton.format.index import DataRegion, locate_values
from ffcv_ssl.beton.format.layout import TABLE_DTYPE, record_dtype
from ffcv_ssl.errors import BetonFormatError, TruncatedFile
from ffcv_ssl.fields import BytesField, IntField, NDArrayField, RGBImageField

PAGE = 1 << 21
REGION = DataRegion(PAGE, 3 * PAGE, PAGE)
FIELDS = {"text": BytesField(), "label": IntField(), "box": NDArrayField("u1", (10,))}
SIZES = (5, 7, 4)


def records_and_table():
    """Three samples with a text and a box of ten bytes, stored one after the other."""
    records = np.zeros(3, dtype=record_dtype(FIELDS))
    table, pointer = [], PAGE
    for sample, size in enumerate(SIZES):
        records["text"][sample] = (pointer, size)
        records["box"][sample] = pointer + size
        table += [(sample, pointer, size), (sample, pointer + size, 10)]
        pointer += size + 10
    return records, np.array(table, dtype=TABLE_DTYPE)


def locate(records, table, fields=FIELDS):
    """Locate the values of records that exist only in memory."""
    return locate_values(fields, records, table, REGION)


@pytest.mark.parametrize("order", ["sorted", "reversed", "shuffled"])
def test_extents__do_not_depend_on_the_order_of_the_table(order):
    """Pointers and sizes are the same for every order of the table; scalars have none."""
    records, table = records_and_table()
    if order == "reversed":
        table = table[::-1].copy()
    elif order == "shuffled":
        table = np.random.default_rng(1).permutation(table)
    extents = locate(records, table)
    assert set(extents) == {"text", "box"}
    assert list(extents["text"][1]) == list(SIZES)
    assert list(extents["text"][0]) == list(records["text"]["ptr"])
    assert list(extents["box"][1]) == [10] * 3
    assert all(
        array.dtype == np.uint64 and array.flags.c_contiguous
        for pair in extents.values()
        for array in pair
    )


def test_extents__of_empty_values_ignore_their_pointers():
    """An empty value may share a pointer or point before the data region, as in FFCV's files."""
    records, table = records_and_table()
    records["text"][0] = (0, 0)
    records["text"][1] = (records["box"][1], 0)
    table["size"][0], table["ptr"][0] = 0, 0
    table["size"][2], table["ptr"][2] = 0, records["box"][1]
    extents = locate(records, table)
    assert list(extents["text"][1]) == [0, 0, 4]
    assert list(extents["box"][1]) == [10] * 3


def test_extents__may_be_shared():
    """Two records may point to the same value."""
    records, table = records_and_table()
    records["box"][2] = records["box"][0]
    extents = locate(records, table)
    assert extents["box"][0][2] == extents["box"][0][0]


@pytest.mark.parametrize(
    ("pointer", "size", "message"),
    [
        (0, 5, "not inside the data region"),
        (PAGE - 1, 5, "not inside the data region"),
        (3 * PAGE - 4, 5, "not inside the data region"),
        (2**64 - 1, 5, "not inside the data region"),
        (2**64 - 5, 5, "not inside the data region"),
        (2 * PAGE - 4, 5, "cross a page boundary"),
        (PAGE + 8, 5, "overlap"),
        (PAGE, 8 << 20, "not inside the data region"),
        (PAGE, 2**64 - 1, "requires"),
    ],
)
@pytest.mark.parametrize("in_order", [True, False])
def test_extents__refuse_values_at_invalid_offsets(pointer, size, message, in_order):
    """Every pointer and size is checked, also if their sum overflows, for any table order."""
    records, table = records_and_table()
    records["text"][0], table[0] = (pointer, size), (0, pointer, size)
    if message == "overlap":
        records["text"][0], table[0] = (PAGE + 8, size), (0, PAGE + 8, size)
    with pytest.raises(BetonFormatError, match=message):
        locate(records, table if in_order else table[::-1].copy())


@pytest.mark.parametrize("size", [4, 6, 0])
def test_extents__refuse_sizes_that_differ(size):
    """Table and record must have the same size; the message names sample and field."""
    records, table = records_and_table()
    table["size"][2] = size
    with pytest.raises(
        BetonFormatError,
        match=rf"sample 1, field 'text': {size} bytes are stored, but its record requires 7",
    ):
        locate(records, table)


def test_extents__refuse_pointers_that_are_not_in_the_table():
    """A pointer without a row is an error; too few rows raise TruncatedFile."""
    records, table = records_and_table()
    with pytest.raises(TruncatedFile, match="sample 2, field 'box'"):
        locate(records, table[:-1])
    records["box"][2] += 1
    with pytest.raises(BetonFormatError, match="sample 2, field 'box'") as caught:
        locate(records, table)
    assert not isinstance(caught.value, TruncatedFile)
    with pytest.raises(TruncatedFile):
        locate(records, table[:0])


@pytest.mark.parametrize(
    ("record", "size", "message"),
    [
        ((7, 3, 5, PAGE), 45, "mode 7"),
        ((1, 3, 5, PAGE), 44, "requires 45"),
        ((1, 5, 5, PAGE), 45, "requires 75"),
        ((0, 3, 5, PAGE), 0, "0 bytes"),
        ((1, 0, 5, PAGE), 0, "0 x 5 pixels"),
    ],
)
def test_extents__refuse_impossible_images(record, size, message):
    """Unknown modes, wrong sizes and images without pixels or bytes are rejected."""
    fields = {"image": RGBImageField("raw")}
    records = np.array([(record,)], dtype=record_dtype(fields))
    table = np.array([(0, PAGE, size)], dtype=TABLE_DTYPE)
    with pytest.raises(BetonFormatError, match=message):
        locate(records, table, fields)


def test_extents__name_the_sample_in_later_blocks():
    """Samples are checked in blocks; the message has the index in the file."""
    fields = {"box": NDArrayField("u1", (1,))}
    count = (1 << 17) + 10
    records = np.zeros(count, dtype=record_dtype(fields))
    records["box"] = PAGE + np.arange(count)
    table = np.zeros(count, dtype=TABLE_DTYPE)
    table["ptr"], table["size"] = records["box"], 1
    table["size"][-3] = 2
    with pytest.raises(BetonFormatError, match=f"sample {count - 3}, "):
        locate(records, table, fields)


def test_extents__exist_for_no_samples_and_no_payload():
    """Files without samples and files of scalars have no values to locate."""
    records, table = records_and_table()
    assert [len(pointers) for pointers, _ in locate(records[:0], table[:0]).values()] == [0, 0]
    scalars = {"label": IntField()}
    assert locate(np.zeros(2, dtype=record_dtype(scalars)), table[:0], scalars) == {}
