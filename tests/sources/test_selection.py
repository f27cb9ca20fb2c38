import numpy as np
import pytest

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.selection import read_class_list, select_classes, select_fraction
from ffcv_ssl.sources.source import Source

NAMES = ["ant", "bee", "cat", "dog"]
LABELS = np.random.default_rng(0).permutation(np.repeat(np.arange(4), [100, 50, 7, 1]))
SOURCE = Source(np.arange(len(LABELS)), LABELS, NAMES)


def images_of(source):
    return [int(source[index][0]) for index in range(len(source))]


def test_class_list__is_one_name_per_line(tmp_path):
    """Empty lines and blanks around names are ignored; names may hold blanks; a byte order mark is
    no part of the first.
    """
    path = tmp_path / "classes.txt"
    path.write_bytes("\ufeffn01\n\n  great white shark \r\nn02".encode())
    assert read_class_list(str(path)) == ["n01", "great white shark", "n02"]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"\n \n", "empty"),
        (b"a\nb\na\n", "'a' more than once"),
        (b"\xff\xfea\0", "UTF-16"),
        (b"a\0b", "UTF-8 text"),
    ],
)
def test_class_list__refuses_nonsense(content, message, tmp_path):
    """Empty lists, repeated names and files that are no text are refused with the path."""
    path = tmp_path / "classes.txt"
    path.write_bytes(content)
    with pytest.raises(SourceError, match=rf"classes\.txt: .*{message}"):
        read_class_list(str(path))


def test_class_list__may_name_folders_of_any_bytes(tmp_path):
    """A name that is not UTF-8 is listed by its bytes, as the folder's name is."""
    (tmp_path / "classes.txt").write_bytes(b"caf\xe9\n")
    assert read_class_list(str(tmp_path / "classes.txt")) == ["caf\udce9"]


def test_class_list__must_exist(tmp_path):
    """A missing file is named."""
    with pytest.raises(SourceError, match="absent"):
        read_class_list(str(tmp_path / "absent"))


def test_select_classes__relabels_by_the_order_of_the_list():
    """Only samples of the listed classes stay, in the order of the dataset, with labels 0, 1, … in
    the order of the list.
    """
    source = select_classes(SOURCE, ["cat", "ant"])
    assert source.class_names == ["cat", "ant"]
    assert images_of(source) == np.flatnonzero((LABELS == 0) | (LABELS == 2)).tolist()
    for index in range(len(source)):
        image, label = source[index]
        assert NAMES[LABELS[image]] == source.class_names[label]


def test_select_classes__keeps_the_labels_of_absent_classes():
    """A listed class that the dataset lacks keeps its label; a warning names it and what is not
    listed.
    """
    with pytest.warns(
        UserWarning, match=r"1 of 3 .* cow \(label 1\)\. Classes that are not listed: bee, dog\."
    ) as caught:
        source = select_classes(SOURCE, ["ant", "cow", "cat"])
    assert caught[0].filename == __file__
    assert source.class_names == ["ant", "cow", "cat"]
    assert set(source.labels[source.positions]) == {0, 2}


def test_select_classes__names_known_classes_without_samples():
    """A class that the dataset names but has no samples of is absent too."""
    source = Source(np.arange(2), np.array([0, 2]), ["a", "b", "c"])
    with pytest.warns(UserWarning, match=r"b \(label 0\)"):
        assert select_classes(source, ["b", "c"]).labels.tolist() == [-1, 1]


def test_select_classes__refuses_unknown_classes():
    """A list of which nothing is known is a mistake; some of the classes there are named."""
    with pytest.raises(
        SourceError,
        match=r"none of the 1 listed classes is there: cow\. It has 4: ant, bee, cat, dog",
    ):
        select_classes(SOURCE, ["cow"])
    for source in (Source(np.arange(3), None, None), Source(np.arange(3), np.zeros(3, int), None)):
        with pytest.raises(SourceError, match="needs a dataset with class names"):
            select_classes(source, ["ant"])
    with pytest.raises(SourceError, match="more than one class is called 'crane'"):
        select_classes(Source(np.arange(2), np.arange(2), ["crane", "crane"]), ["crane"])


@pytest.mark.parametrize(
    ("fraction", "counts"),
    [(0.1, [10, 5, 1, 1]), (0.5, [50, 25, 4, 1]), (0.999, [100, 50, 7, 1]), (1e-9, [1, 1, 1, 1])],
)
def test_fraction__is_taken_of_each_class(fraction, counts):
    """Each class gives its share, rounded, and at least one sample; the order is the dataset's."""
    source = select_fraction(SOURCE, fraction, 0)
    images = images_of(source)
    assert np.bincount(LABELS[images]).tolist() == counts
    assert images == sorted(images)
    assert all(source[index][1] == LABELS[image] for index, image in enumerate(images))


def test_fraction__depends_on_the_seed_alone():
    """The same seed gives the same samples, another seed others, a smaller fraction a part of
    them, 1 everything.
    """
    assert images_of(select_fraction(SOURCE, 0.3, 5)) == images_of(select_fraction(SOURCE, 0.3, 5))
    assert images_of(select_fraction(SOURCE, 0.3, 5)) != images_of(select_fraction(SOURCE, 0.3, 6))
    assert set(images_of(select_fraction(SOURCE, 0.1, 5))) < set(
        images_of(select_fraction(SOURCE, 0.3, 5))
    )
    assert select_fraction(SOURCE, 1.0, 5) is SOURCE


def test_fraction__of_a_class_does_not_depend_on_the_others():
    """A class keeps the same samples when only some classes are listed."""
    alone = select_fraction(select_classes(SOURCE, ["bee"]), 0.3, 1)
    among_all = [
        image for image in images_of(select_fraction(SOURCE, 0.3, 1)) if LABELS[image] == 1
    ]
    assert images_of(alone) == among_all


def test_fraction__is_uniform_over_samples():
    """Over 400 seeds, each of 50 samples is chosen about as often as the others."""
    source = Source(np.arange(50), None, None)
    counts = np.zeros(50)
    for seed in range(400):
        counts[images_of(select_fraction(source, 0.2, seed))] += 1
    assert counts.sum() == 400 * 10
    assert 40 < counts.min() < counts.max() < 125  # expected 80, standard deviation 8


def test_fraction__differs_between_classes():
    """Two classes of equal size do not keep the same places."""
    source = select_fraction(Source(np.arange(200), np.arange(200) % 2, ["a", "b"]), 0.3, 0)
    chosen = np.array(images_of(source))
    assert set(chosen[chosen % 2 == 0] // 2) != set(chosen[chosen % 2 == 1] // 2)
