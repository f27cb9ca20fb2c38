import numpy as np
import pytest

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.tiny_imagenet import tiny_imagenet

WNIDS = ["n03", "n01", "n02"]  # the official file is not sorted either


@pytest.fixture
def root(tmp_path):
    """A Tiny-ImageNet of three classes."""
    root = tmp_path / "tiny-imagenet-200"
    for wnid in WNIDS:
        (root / "train" / wnid / "images").mkdir(parents=True)
        (root / "train" / wnid / f"{wnid}_boxes.txt").write_text(f"{wnid}_0.JPEG\t0\t0\t9\t9\n")
        for number in range(2):
            (root / "train" / wnid / "images" / f"{wnid}_{number}.JPEG").touch()
    (root / "val" / "images").mkdir(parents=True)
    lines = []
    for number, wnid in enumerate(["n02", "n03", "n03", "n01"]):
        (root / "val" / "images" / f"val_{number}.JPEG").touch()
        lines.append(f"val_{number}.JPEG\t{wnid}\t0\t32\t44\t62\n")
    (root / "val" / "val_annotations.txt").write_text("".join(reversed(lines)))
    (root / "wnids.txt").write_text("\n".join(WNIDS) + "\n")
    (root / "words.txt").write_text(
        "n01\tgoldfish, Carassius auratus\nn02\ttarantula\nn03\tbanana\nn99\tsomething else\n"
    )
    return root


def test_train__labels_by_sorted_wordnet_id(root):
    """The folders' images, labeled as an image folder would; boxes are ignored."""
    source = tiny_imagenet(str(root), "train")
    assert source.class_names == ["n01", "n02", "n03"]
    assert [
        (image.rsplit("/", 1)[1], label)
        for image, label in (source[index] for index in range(len(source)))
    ] == [
        ("n01_0.JPEG", 0),
        ("n01_1.JPEG", 0),
        ("n02_0.JPEG", 1),
        ("n02_1.JPEG", 1),
        ("n03_0.JPEG", 2),
        ("n03_1.JPEG", 2),
    ]
    assert source.describe()["class_words"] == {
        "n01": "goldfish, Carassius auratus",
        "n02": "tarantula",
        "n03": "banana",
    }


def test_validation__labels_come_from_the_annotations(root):
    """Each validation image has the label that the text file gives it, whatever the order of its
    lines.
    """
    source = tiny_imagenet(str(root.parent), "test")
    assert [source[index][1] for index in range(4)] == [1, 2, 2, 0]
    assert [source[index][0][-10:] for index in range(4)] == [
        f"val_{number}.JPEG" for number in range(4)
    ]


def test_tiny_imagenet__without_words_is_fine(root):
    """The words are optional."""
    (root / "words.txt").unlink()
    assert tiny_imagenet(str(root), "test").describe()["class_words"] == {}


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda root: (root / "wnids.txt").unlink(), r"no wnids\.txt"),
        (
            lambda root: (root / "val" / "val_annotations.txt").unlink(),
            r"val_annotations\.txt: cannot be read",
        ),
        (
            lambda root: (root / "val" / "images" / "val_2.JPEG").unlink(),
            r"1 are missing \['val_2\.JPEG'\]",
        ),
        (
            lambda root: (root / "val" / "images" / "val_9.JPEG").touch(),
            r"1 images have no label \['val_9\.JPEG'\]",
        ),
        (
            lambda root: (root / "wnids.txt").write_text("n01\nn02\n"),
            r"wnids\.txt does not name: n03",
        ),
        (
            lambda root: (root / "val" / "val_annotations.txt").write_text("val_0.JPEG n01\n"),
            "1 columns, wanted 2",
        ),
        (
            lambda root: (root / "val" / "val_annotations.txt").write_text(
                "v.JPEG\tn01\nv.JPEG\tn02\n"
            ),
            r"more than one class for v\.JPEG",
        ),
    ],
)
def test_validation__refuses_other_layouts(root, damage, message):
    """What is missing or too much is named."""
    damage(root)
    with pytest.raises(SourceError, match=message):
        tiny_imagenet(str(root), "test")


@pytest.mark.filterwarnings("ignore")
def test_train__refuses_missing_classes(root):
    """A class of wnids.txt without a folder, or without images in it, is an error: the folder is
    not whole.
    """
    (root / "train" / "n01" / "images" / "n01_0.JPEG").unlink()
    (root / "train" / "n01" / "images" / "n01_1.JPEG").unlink()
    (root / "wnids.txt").write_text("n01\nn02\nn03\nn04\n")
    with pytest.raises(
        SourceError, match=r"no images of classes that wnids\.txt names: n01, n04\."
    ):
        tiny_imagenet(str(root), "train")


def test_tiny_imagenet__leaves_out_what_systems_leave(root):
    """Thumbnails beside the images neither lack a label nor count as images."""
    for folder in (root / "val" / "images", root / "train", root / "train" / "n01" / "images"):
        (folder / "@eaDir").mkdir()
        (folder / "@eaDir" / "val_0.JPEG").touch()
        (folder / "._val_0.JPEG").touch()
    for split, count, hidden in (("train", 6, 4), ("test", 4, 2)):
        source = tiny_imagenet(str(root), split)
        assert len(source) == count
        assert any(
            line.startswith(f"ignored: {hidden} hidden or system files and folders")
            for line in source.notes
        )


def test_mutated_text_files__give_one_kind_of_error(root):
    """400 times a text file with some bytes changed: the dataset, or a SourceError."""
    rng = np.random.default_rng(0)
    paths = [root / "wnids.txt", root / "words.txt", root / "val" / "val_annotations.txt"]
    contents = [path.read_bytes() for path in paths]
    outcomes = [0, 0]
    for number in range(400):
        path, content = paths[number % 3], bytearray(contents[number % 3])
        for place in rng.integers(0, len(content), rng.integers(1, 4)):
            content[place] = rng.choice([0, 9, 10, 13, 28, 45, 47, 0x85, 0xFF, rng.integers(256)])
        path.write_bytes(content)
        try:
            tiny_imagenet(str(root), "test")
            outcomes[0] += 1
        except SourceError:
            outcomes[1] += 1
        path.write_bytes(contents[number % 3])
    assert min(outcomes) > 40
