import json
import pickle

import numpy as np
import pytest
from PIL import Image

from ffcv_ssl.errors import ConfigError, SourceError
from ffcv_ssl.fields import IntField, RGBImageField
from ffcv_ssl.sources import SourceConfig, indexed, open_source
from tests.reference import cifar
from tests.reference.images import coordinates

IMAGES = np.stack([coordinates(32, 32, seed) for seed in range(12)])
LABELS = np.arange(12) % 3
NAMES = ["ant", "bee", "cat"]


def make_npz(path):
    np.savez(path / "a.npz", images=IMAGES, labels=LABELS, class_names=NAMES)
    return path / "a.npz"


def make_folder(path):
    for number, label in enumerate(LABELS):
        (path / NAMES[label]).mkdir(exist_ok=True)
        Image.fromarray(IMAGES[number]).save(path / NAMES[label] / f"{number:02}.png")
    return path


def make_cifar(files, folder):
    def make(path):
        (path / folder).mkdir()
        for name, data in files(IMAGES, LABELS, NAMES).items():
            (path / folder / name).write_bytes(data)
        return path

    return make


MAKERS = {
    "npz": make_npz,
    "imagefolder": make_folder,
    "flat": make_folder,
    "cifar10": make_cifar(cifar.cifar10_files, "cifar-10-batches-py"),
    "cifar100": make_cifar(cifar.cifar100_files, "cifar-100-python"),
}


@pytest.mark.parametrize("name", MAKERS)
def test_open_source__gives_indexable_picklable_samples(name, tmp_path):
    """Every source has a length, samples that fit its fields, ends with IndexError, and pickles."""
    source = open_source(SourceConfig(source=name, path=str(MAKERS[name](tmp_path))))
    assert len(source) == (60 if name == "cifar10" else 12)
    fields = source.fields(RGBImageField("raw"))
    assert list(fields) == (["image"] if name == "flat" else ["image", "label"])
    copy = pickle.loads(pickle.dumps(source))
    for sample, again in ((source[index], copy[index]) for index in range(len(source))):
        encoded = [
            field.encode(value, 0) for field, value in zip(fields.values(), sample, strict=True)
        ]
        assert encoded[0].record == (1, 32, 32)
        np.testing.assert_array_equal(np.asarray(again[0]), np.asarray(sample[0]))
        assert again[1:] == sample[1:]
    for index in (len(source), -1):
        with pytest.raises(IndexError):
            source[index]


@pytest.mark.parametrize("name", ["npz", "imagefolder", "cifar10", "cifar100"])
def test_open_source__selects_classes_and_fraction(name, tmp_path):
    """A class list and a fraction work alike for every source with labels."""
    (tmp_path / "classes.txt").write_text("cat\nant\n")
    path = MAKERS[name](tmp_path)
    config = SourceConfig(
        source=name,
        path=str(path),
        split="train",
        classes=str(tmp_path / "classes.txt"),
        fraction=0.5,
        seed=3,
    )
    source = open_source(config)
    labels = [label for _, label in (source[index] for index in range(len(source)))]
    assert source.class_names == ["cat", "ant"]
    assert np.bincount(labels).tolist() == ([10, 10] if name == "cifar10" else [2, 2])
    assert isinstance(source.fields(RGBImageField())["label"], IntField)


def test_open_source__describes_where_it_came_from(tmp_path):
    """The description holds the configuration and the number of samples, and is fit for JSON."""
    config = SourceConfig(source="npz", path=str(make_npz(tmp_path)), fraction=0.25, seed=9)
    description = open_source(config).describe()
    assert json.loads(json.dumps(description)) == description
    assert description == {
        "source": "npz",
        "path": config.path,
        "split": "train",
        "classes": None,
        "fraction": 0.25,
        "seed": 9,
        "num_samples": 3,
    }


def test_open_source__one_split_sources_refuse_the_other(tmp_path):
    """An image folder has no test split to give: its path names the split."""
    make_folder(tmp_path)
    for name in ("imagefolder", "flat"):
        with pytest.raises(SourceError, match="let path name the folder of the test images"):
            open_source(SourceConfig(source=name, path=str(tmp_path), split="test"))


def test_open_source__refuses_class_lists_without_classes(tmp_path):
    """A flat folder has no classes to choose from."""
    (tmp_path / "classes.txt").write_text("ant\n")
    with pytest.raises(SourceError, match="class names"):
        open_source(
            SourceConfig(
                source="flat",
                path=str(make_folder(tmp_path)),
                classes=str(tmp_path / "classes.txt"),
            )
        )


def test_open_source__refuses_empty_datasets(tmp_path):
    """No samples is an error, not an empty file."""
    np.savez(tmp_path / "a.npz", images=IMAGES[:0])
    with pytest.raises(SourceError, match="no samples"):
        open_source(SourceConfig(source="npz", path=str(tmp_path / "a.npz")))


def test_open_source__expands_the_home_folder(tmp_path, monkeypatch):
    """`--data.path=~/…` is not expanded by shells."""
    make_npz(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert len(open_source(SourceConfig(source="npz", path="~/a.npz"))) == 12


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"source": "imagenet", "path": "x"}, "imagefolder, flat"),
        ({"path": ""}, "path is missing"),
        ({"path": "x", "split": "val"}, "train or test"),
        ({"path": "x", "fraction": 0.0}, "fraction"),
        ({"path": "x", "fraction": 1.1}, "fraction"),
        ({"path": "x", "fraction": float("nan")}, "fraction"),
        ({"path": "x", "seed": -1}, "seed"),
        ({"path": "x", "seed": 2**64}, "seed"),
    ],
)
def test_config__refuses_values_out_of_range(arguments, message):
    """A configuration is checked when it is built."""
    with pytest.raises(ConfigError, match=message):
        SourceConfig(**arguments)


class Dataset:
    """Samples as they are given."""

    def __init__(self, samples, **attributes):
        self.samples = samples
        self.__dict__.update(attributes)

    def __len__(self):
        return len(self.samples)

    def __getitem__(self, index):
        return self.samples[index]


PAIRS = list(zip(IMAGES, LABELS, strict=True))


@pytest.mark.parametrize(
    "attributes",
    [{}, {"targets": LABELS.tolist()}, {"targets": LABELS}],
    ids=["read", "list", "array"],
)
def test_indexed__selects_from_any_dataset(attributes):
    """Labels come from `targets` or from the samples; classes and fraction are those of the named
    sources.
    """
    source = indexed(
        Dataset(PAIRS, classes=NAMES, **attributes), classes=["cat", "bee"], fraction=0.5, seed=1
    )
    assert source.class_names == ["cat", "bee"]
    assert len(source) == 4
    for image, label in (source[index] for index in range(4)):
        original = next(number for number in range(12) if np.array_equal(IMAGES[number], image))
        assert NAMES[LABELS[original]] == source.class_names[label]
    assert json.dumps(source.describe())


@pytest.mark.parametrize(
    "samples", [list(IMAGES), [(image,) for image in IMAGES]], ids=["bare", "tuples of one"]
)
def test_indexed__takes_datasets_without_labels(samples):
    """Bare images and tuples of one have no label field."""
    source = indexed(Dataset(samples), fraction=0.5)
    assert len(source) == 6
    assert len(source[0]) == 1
    assert list(source.fields(RGBImageField())) == ["image"]
    assert source[0][0].shape == (32, 32, 3)


DICTS = [{"image": image, "label": int(label), "caption": "…"} for image, label in PAIRS]


class Table(Dataset):
    """Rows that are dicts, with the columns and features of Hugging Face's datasets; rows are not
    read for labels.
    """

    column_names = ("image", "label", "caption")

    def __getitem__(self, index):
        return (
            [sample[index] for sample in self.samples]
            if isinstance(index, str)
            else self.samples[index]
        )


class Names:
    names = NAMES


@pytest.mark.parametrize(
    "dataset",
    [Dataset(DICTS, classes=NAMES), Table(DICTS, features={"label": Names(), "image": None})],
    ids=["dicts", "table"],
)
def test_indexed__takes_samples_that_are_dicts(dataset):
    """Image and label are found by name, the classes in the features; other keys are ignored."""
    source = indexed(dataset, classes=["cat", "bee"])
    assert source.class_names == ["cat", "bee"]
    assert len(source) == 8
    for image, label in (source[index] for index in range(8)):
        original = next(number for number in range(12) if np.array_equal(IMAGES[number], image))
        assert NAMES[LABELS[original]] == source.class_names[label]
    assert len(indexed(Dataset([{"image": image} for image in IMAGES]))[0]) == 1


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        (
            Dataset([{"img": 1, "fine_label": 2}]),
            "sample 0 has no 'image'; it has the keys img, fine_label. Rename",
        ),
        (Dataset([(1, 2, 3)]), "sample 0 has 3 values"),
        (Dataset([(1, 0), (1,)]), "1 of 2 samples have no label"),
        (Dataset([(1, "cat")]), "wanted .* integers"),
        (Dataset([(1, 0.5)]), "float64"),
        (Dataset([(1, 7)], classes=["a"]), "from 7 to 7, wanted 0 to 0"),
        (Dataset([(1, -1)]), "from -1"),
        (Dataset(PAIRS, targets=[0, 1]), r"\(2,\), wanted \(12,\)"),
    ],
)
def test_indexed__refuses_other_samples(dataset, message):
    """Samples and labels of another form are refused with what was found."""
    with pytest.raises(SourceError, match=message):
        indexed(dataset)


@pytest.mark.shared_data
def test_imagefolder__of_real_photos(shared_data):
    """The photos' folder has its classes and all 315 images."""
    source = open_source(SourceConfig(path=str(shared_data / "photos")))
    assert len(source) == 315
    assert len(source.class_names) == len(set(source.labels)) == 153
