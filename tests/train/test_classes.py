"""Tests of matching the classes of a training and a validation file."""

import logging

import numpy as np
import pytest
import torch

from ffcv_ssl.errors import ConfigError
from ffcv_ssl.evaluate import examine_files
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.reader import Reader
from ffcv_ssl.train import DataConfig, match_classes
from ffcv_ssl.writer import DatasetWriter

FRUIT = ["apple", "banana", "cherry"]


def write(path, labels, names=None, seed=0):
    """Write a file of 4 x 4 noise with the given labels; equal seeds give equal images."""
    images = np.random.default_rng(seed).integers(0, 256, (len(labels), 4, 4, 3), dtype=np.uint8)
    metadata = {} if names is None else {"class_names": names}
    writer = DatasetWriter(
        path,
        {"image": RGBImageField("raw"), "label": IntField()},
        num_workers=0,
        metadata=metadata,
        progress=False,
    )
    writer.from_indexed_dataset(list(zip(images, labels, strict=True)))
    return str(path)


@pytest.fixture
def match(tmp_path):
    """Return a function that writes two files of (labels, names) and matches their classes."""

    def match_files(train, val=None):
        paths = [
            write(tmp_path / f"{name}.beton", *part)
            for name, part in (("train", train), ("val", val))
            if part is not None
        ]
        with Reader(paths[0]) as one, Reader(paths[-1]) as other:
            return match_classes(one, other if val is not None else None, "label")

    return match_files


def numbers(numbering, labels):
    return numbering(torch.tensor(labels)).tolist()


def test_match_classes__ordinary_labels_stay_as_they_are(match):
    """Labels 0 to C-1 are their own class indices, in any shape, without remarks."""
    classes = match(([0, 1, 2, 0, 1, 2], FRUIT), ([2, 1, 0], FRUIT))
    assert numbers(classes.train, [[2, 0], [1, 1]]) == [[2, 0], [1, 1]]
    assert numbers(classes.val, [0, 1, 2]) == [0, 1, 2]
    assert (len(classes), classes.names, classes.remarks) == (3, FRUIT, ())


def test_match_classes__are_those_that_occur(match):
    """Large, negative and sparse labels become indices 0 to C-1; other labels become -1."""
    classes = match(([900_000_007, -5, 3, 2**62, 3, -(2**63), 3, -5],))
    assert list(classes.labels) == [-(2**63), -5, 3, 900_000_007, 2**62]
    assert numbers(classes.train, [-(2**63), 2**62, 900_000_007, 3, -5]) == [0, 4, 3, 2, 1]
    assert numbers(classes.train, [4, 2**63 - 1, -6]) == [-1, -1, -1]
    assert any("3 images have negative labels" in remark for remark in classes.remarks)


def test_match_classes__by_name_where_both_files_have_names(match):
    """Classes that the files number differently are matched by name, with remarks."""
    classes = match(([0, 1, 2] * 2, FRUIT), ([0, 1], FRUIT[1:]))
    assert numbers(classes.val, [0, 1]) == [1, 2]
    assert len(classes.remarks) == 2
    assert "numbers its classes differently" in classes.remarks[0]
    assert "no image of class 'apple', of 3 classes" in classes.remarks[1]


def test_match_classes__a_listed_class_without_training_images_is_remarked(match):
    """A named class without training images gives a remark with the number of affected images."""
    classes = match(([0, 2, 0, 2], FRUIT), ([0, 1, 1, 2], FRUIT))
    assert numbers(classes.val, [0, 1, 2]) == [0, -1, 1]
    assert classes.names == ["apple", "cherry"]
    (remark,) = classes.remarks
    assert "no image of class 'banana': every prediction for 2 of 4 images" in remark


def test_match_classes__repeated_names_need_equal_lists(match):
    """Repeated names, like "crane" in ImageNet, are allowed in equal lists only."""
    cranes = ["crane", "drake", "crane"]
    assert numbers(match(([0, 1, 2] * 2, cranes), ([2, 0], cranes)).val, [0, 2]) == [0, 2]
    for files in ((cranes, ["drake", "crane"]), (["drake", "crane"], cranes)):
        with pytest.raises(
            ConfigError, match=r"several classes have the name 'crane'.*cannot be matched by name"
        ):
            match(*(([0, 1, 0, 1], names) for names in files))


@pytest.mark.parametrize(
    ("train", "val", "message"),
    [
        (
            ([0, 1] * 2, FRUIT[:2]),
            ([0, 1, 2], FRUIT),
            r"val.beton contains classes that .*train.beton does not have: 'cherry'"
            r".*'apple', 'banana'",
        ),
        (([0, 1] * 2, FRUIT[:2]), ([0, 1], ["x", "y"]), r"does not have: 'x', 'y'"),
        (
            ([0, 3], FRUIT),
            ([0, 1], FRUIT),
            r"train.beton has names for 3 classes, labels 0 to 2, but its field 'label' contains 3",
        ),
        (
            ([0, 1] * 2, FRUIT),
            ([0, -1], FRUIT),
            r"val.beton has names for 3 classes.*contains -1.*leave out samples without a label",
        ),
        (
            ([0, 1] * 2,),
            ([7, 8],),
            r"no image of any class in .*val.beton: labels 7, 8. It has labels 0, 1",
        ),
        (
            ([0, 0, 0, 0], FRUIT),
            ([1, 2], FRUIT),
            r"val.beton: classes 'banana', 'cherry'. It has class 'apple'",
        ),
    ],
)
def test_match_classes__rejects_files_that_do_not_match(match, train, val, message):
    """Unknown names, labels without names and disjoint classes raise, with file and classes."""
    with pytest.raises(ConfigError, match=message):
        match(train, val)


def test_match_classes__refuses_an_empty_file(tmp_path):
    """A file without samples raises a ConfigError with its path."""
    with Reader(write(tmp_path / "train.beton", [0])) as reader:
        reader.num_samples, reader.records = 0, reader.records[:0]
        with pytest.raises(ConfigError, match=r"train.beton: the file holds no samples"):
            match_classes(reader, None, "label")


def test_match_classes__without_names_compares_numbers(match):
    """Without class names labels are compared as numbers, with remarks on differences."""
    classes = match(([0, 1, 2] * 2, FRUIT), ([0, 1, 7, 7],))
    assert numbers(classes.val, [0, 1, 7]) == [0, 1, -1]
    unknown, missing, advice = classes.remarks
    assert "no image of label 7: every prediction for 2 of 4 images" in unknown
    assert "no image of label 2, of 3 classes" in missing
    assert "No class names in " in advice
    assert "val.beton: labels are compared as numbers" in advice
    assert match(([0, 1] * 2,), ([1, 0],)).remarks == ()


def test_match_classes__remarks_on_meaningless_accuracies(match):
    """A single class, and nearly one class per image, give remarks."""
    assert "all images are of one class" in match(([4, 4, 4],)).remarks[0]
    assert "5 classes for 5 images" in match(([4, 5, 6, 7, 8],)).remarks[0]


def test_numbering__is_small_for_many_large_ids():
    """200,000 samples with 100,000 ids up to 2**62 are numbered as by np.unique."""
    from ffcv_ssl.train.classes import Numbering

    stored = np.random.default_rng(0).integers(-(2**62), 2**62, 100_000).repeat(2)
    occurring, expected = np.unique(stored, return_inverse=True)
    found = Numbering(occurring, np.arange(len(occurring)))(torch.from_numpy(stored))
    np.testing.assert_array_equal(found.numpy(), expected)


def test_examine_files__logs_each_remark_once(tmp_path, caplog):
    """Remarks on classes and shared images, including those of the weights, are logged once."""
    train = write(tmp_path / "train.beton", [0, 1, 2] * 2, FRUIT)
    val = write(tmp_path / "val.beton", [0, 1], FRUIT[1:], seed=1)
    behind = write(tmp_path / "behind.beton", [0] * 2, seed=1)
    with caplog.at_level(logging.WARNING, "ffcv_ssl"):
        classes = examine_files(DataConfig(train=train, val=val), trained_on=behind)
    assert caplog.messages == list(classes.remarks)
    assert len(classes.remarks) == 3
    assert "behind.beton, byte for byte" in classes.remarks[2]
    assert (
        examine_files(
            DataConfig(train=train, val=val), trained_on=str(tmp_path / "gone.beton")
        ).remarks
        == classes.remarks[:2]
    )
    assert (
        examine_files(DataConfig(train=train, val=val), trained_on=train).remarks
        == classes.remarks[:2]
    )
