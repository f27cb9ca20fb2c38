import os
import pickle
import subprocess
import sys

import numpy as np
import pytest

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources import SourceConfig, open_source
from ffcv_ssl.sources.folder import class_folders, flat_folder
from ffcv_ssl.sources.listing import image_files


def make_files(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"contents do not matter here")


def samples(source, root):
    return [
        (os.path.relpath(image, root), *label)
        for image, *label in (source[index] for index in range(len(source)))
    ]


def test_class_folders__label_by_sorted_folder_name(tmp_path):
    """Classes and their files come sorted; nested files count, other files and hidden ones do not;
    extensions have any case.
    """
    make_files(
        tmp_path,
        "cat/b.JPEG",
        "cat/a.png",
        "cat/deep/er/c.webp",
        "cat/notes.txt",
        "cat/.hidden.jpg",
        "cat/._d.jpg",
    )
    make_files(tmp_path, "ant/z.gif", ".git/x.jpg", "stray.jpg", "Bee/1.tiff")
    source = class_folders(str(tmp_path))
    assert source.class_names == ["Bee", "ant", "cat"]
    assert samples(source, tmp_path) == [
        ("Bee/1.tiff", 0),
        ("ant/z.gif", 1),
        ("cat/a.png", 2),
        ("cat/b.JPEG", 2),
        (os.path.join("cat", "deep", "er", "c.webp"), 2),
    ]
    assert source.labels.dtype == np.int64


def test_class_folders__take_listed_classes_in_their_order(tmp_path):
    """Only the listed folders are read, and labeled by the order of the list; the others are
    named.
    """
    make_files(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg", ".net/4.jpg")
    (tmp_path / "empty").mkdir()
    source = class_folders(str(tmp_path), ["c", "a"])
    assert samples(source, tmp_path) == [("c/3.jpg", 0), ("a/1.jpg", 1)]
    assert "ignored: class folders that are not in the class list: b, empty" in source.notes
    assert samples(class_folders(str(tmp_path), ["b", ".net"]), tmp_path) == [
        ("b/2.jpg", 0),
        (".net/4.jpg", 1),
    ]


@pytest.mark.parametrize("there", [True, False], ids=["empty folder", "no folder"])
def test_class_folders__listed_but_without_images_keep_their_labels(there, tmp_path):
    """A validation folder that lacks a class has the labels of the training folder, and a warning
    names the class.
    """
    make_files(tmp_path, "val/banana/1.jpg", "val/cherry/2.jpg")
    (tmp_path / "classes.txt").write_text("apple\nbanana\ncherry\n")
    if there:
        (tmp_path / "val" / "apple").mkdir()
    with pytest.warns(
        UserWarning,
        match=r"1 of 3 listed classes have no samples and keep their labels: apple \(label 0\)\.",
    ):
        source = open_source(
            SourceConfig(path=str(tmp_path / "val"), classes=str(tmp_path / "classes.txt"))
        )
    assert source.class_names == ["apple", "banana", "cherry"]
    assert samples(source, tmp_path / "val") == [("banana/1.jpg", 1), ("cherry/2.jpg", 2)]


def test_class_folders__refuse_lists_of_other_classes(tmp_path):
    """A list of which nothing is there, or a class in another spelling, is a mistake; both
    spellings are named.
    """
    make_files(tmp_path, "Apple/1.jpg", "cafe\u0301/2.jpg", "pear/3.jpg")
    with pytest.raises(
        SourceError, match=r"none of the 2 listed classes is there: dog, cat\. It has 3: Apple, caf"
    ):
        class_folders(str(tmp_path), ["dog", "cat"])
    with pytest.raises(
        SourceError, match="the class list has 'apple', but the class is called 'Apple'"
    ):
        class_folders(str(tmp_path), ["apple", "pear"])
    with pytest.raises(SourceError, match="capitals and accents count"):
        class_folders(str(tmp_path), ["caf\u00e9", "pear"])


def test_class_folders__refuse_empty_classes(tmp_path):
    """Without a list a class without images is named, not dropped: it would shift labels. What it
    holds is reported.
    """
    make_files(tmp_path, "a/1.jpg", "b/readme.txt", "c/2.jpg")
    with pytest.raises(
        SourceError,
        match=r"class folders without images: b\. .*--data\.classes=FILE.*1 file that is not an image \(1 \.txt\)",  # noqa: E501
    ):
        class_folders(str(tmp_path))
    (tmp_path / "classes.txt").write_text("a\nb\nc\n")
    with pytest.warns(UserWarning, match=r"b \(label 1\)"):  # what the message says to do works
        source = open_source(
            SourceConfig(path=str(tmp_path), classes=str(tmp_path / "classes.txt"))
        )
    assert list(source.labels) == [0, 2]


def test_class_folders__without_any_image_are_refused(tmp_path):
    """Also where a list keeps the classes; what the folders hold is reported."""
    make_files(tmp_path, "root/a/1.txt", "root/b/2.txt")
    (tmp_path / "classes.txt").write_text("a\nb\n")
    with pytest.raises(
        SourceError,
        match=r"no samples of the listed classes\. Ignored: 2 files that are not images \(2 \.txt\)",  # noqa: E501
    ):
        open_source(
            SourceConfig(path=str(tmp_path / "root"), classes=str(tmp_path / "classes.txt"))
        )


@pytest.mark.parametrize(
    "splits",
    [("train", "val"), ("Train", "Test"), ("training", "validation", "testing"), ("train",)],
)
def test_class_folders__refuse_splits_with_the_commands_to_run(splits, tmp_path):
    """A root that holds nothing but splits is not two classes; each split has its command, which
    runs.
    """
    make_files(
        tmp_path,
        *(f"{split}/{name}/1.jpg" for split in splits for name in ("a", "b")),
        "readme.txt",
        ".git/x",
    )
    with pytest.raises(SourceError, match="look like splits, not classes") as caught:
        class_folders(str(tmp_path))
    for split in splits:
        assert (
            f"`ffcv-ssl write --data.path={tmp_path}/{split} --data.out={split.lower()}.beton`"
            in str(caught.value)
        )
        assert class_folders(str(tmp_path / split)).class_names == ["a", "b"]
    make_files(tmp_path, "cat/1.jpg")
    assert len(class_folders(str(tmp_path)).class_names) == len(splits) + 1


def test_class_folders__take_splits_that_are_listed_as_classes(tmp_path):
    """A class list says that they are classes; splits without class folders are named as flat
    ones.
    """
    make_files(tmp_path, "a b/train/1.jpg", "a b/test/2.jpg")
    assert len(class_folders(str(tmp_path / "a b"), ["train", "test"])) == 2
    with pytest.raises(
        SourceError,
        match=r"--data.path='.*/a b/test' --data.out=test.beton --data.source=flat` and ",
    ):
        class_folders(str(tmp_path / "a b"))


def test_class_folders__name_images_beside_the_classes(tmp_path):
    """An image that lies in no class folder is not lost without a word."""
    make_files(tmp_path, "a/1.jpg", "b/2.jpg", "stray.jpg", "notes.txt", "classes")
    assert class_folders(str(tmp_path)).notes == (
        "ignored: 2 files that are not images (1 .txt, 1 without extension)",
        "ignored: 1 image next to the class folders (1 .jpg)",
    )


LIST_IN_A_PROCESS = """
import os, sys
from ffcv_ssl.sources import SourceConfig, open_source
for classes in (None, sys.argv[1] + "/classes.txt"):
    source = open_source(SourceConfig(path=sys.argv[1], classes=classes))
    names = [os.path.basename(os.fsencode(source[index][0])) for index in range(4)]
    assert all(os.path.exists(source[index][0]) for index in range(4))
    print(ascii(source.class_names), source.labels.tolist(), b" ".join(names))
"""
LOCALES = [{"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}, {"LC_ALL": "C.UTF-8"}]


def test_names_and_order__are_the_same_in_every_locale(tmp_path):
    """An ASCII locale lists bytes; names, labels and order are those of a UTF-8 locale."""
    make_files(tmp_path, "café/日.jpg", f"café/{os.fsdecode(bytes([0x80]))}.jpg", "日本/2.jpg")
    make_files(tmp_path, f"{os.fsdecode(bytes([0xE9]))}/3.jpg")
    (tmp_path / "classes.txt").write_bytes("日本\n".encode() + b"\xe9\n" + "café\n".encode())
    command = [sys.executable, "-c", LIST_IN_A_PROCESS, str(tmp_path)]
    runs = [
        subprocess.run(
            command, env={**os.environ, **locale}, capture_output=True, text=True, check=True
        )
        for locale in LOCALES
    ]
    for run in runs:
        assert run.stdout.splitlines() == [
            r"['caf\xe9', '\u65e5\u672c', '\udce9'] [0, 0, 1, 2] b'\xe6\x97\xa5.jpg \x80.jpg 2.jpg 3.jpg'",  # noqa: E501
            r"['\u65e5\u672c', '\udce9', 'caf\xe9'] [0, 1, 2, 2] b'2.jpg 3.jpg \xe6\x97\xa5.jpg \x80.jpg'",  # noqa: E501
        ]


def test_class_folders__refuse_folders_without_classes(tmp_path):
    """A folder of images is told what to use instead; a missing one is named."""
    make_files(tmp_path, "1.jpg")
    with pytest.raises(SourceError, match="source=flat"):
        class_folders(str(tmp_path))
    with pytest.raises(SourceError, match="No such file"):
        class_folders(str(tmp_path / "absent"))
    with pytest.raises(SourceError, match="Not a directory"):
        class_folders(str(tmp_path / "1.jpg"))


def test_flat_folder__takes_all_images_without_labels(tmp_path):
    """Every image at any depth, sorted, as a sample of one value."""
    make_files(tmp_path, "b.jpg", "a/2.jpg", "a/1.jpg", "a/notes.md")
    source = flat_folder(str(tmp_path))
    assert samples(source, tmp_path) == [("a/1.jpg",), ("a/2.jpg",), ("b.jpg",)]
    assert source.labels is None
    assert source.class_names is None


def test_flat_folder__without_images_is_refused(tmp_path):
    """The extensions that were looked for are named, and what is there."""
    make_files(tmp_path, "a.txt")
    with pytest.raises(
        SourceError, match=r"no images .*\.jpg.*Ignored: 1 file that is not an image \(1 \.txt\)\."
    ):
        flat_folder(str(tmp_path))


def test_image_files__follow_links_but_not_in_circles(tmp_path):
    """Linked folders count under their own names, a link to a folder above is ignored, a broken
    link is kept to fail aloud.
    """
    make_files(tmp_path, "real/1.jpg", "real/sub/2.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "sub" / "up").symlink_to(tmp_path / "real")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert image_files(str(tmp_path)) == [
        "gone.jpg",
        "linked/1.jpg",
        "linked/sub/2.jpg",
        "real/1.jpg",
        "real/sub/2.jpg",
    ]


def test_image_files__take_any_name(tmp_path):
    """Spaces, accents and bytes that are no UTF-8 survive to the path."""
    names = ["ä ö.jpg", "日本.png", os.fsdecode(b"\xff\xfe.jpg")]
    make_files(tmp_path, *names)
    source = flat_folder(str(tmp_path))
    assert sorted(os.path.basename(source[index][0]) for index in range(3)) == sorted(names)
    assert all(os.path.exists(source[index][0]) for index in range(3))


def test_folders__are_absolute_and_pickle(tmp_path, monkeypatch):
    """Paths stay valid when the working directory changes, and a source travels to spawned workers
    without repeating its root.
    """
    make_files(tmp_path, *(f"data/a/{number}.jpg" for number in range(50)))
    monkeypatch.chdir(tmp_path)
    source = class_folders("data")
    monkeypatch.chdir("/")
    pickled = pickle.dumps(source)
    assert pickle.loads(pickled)[7] == source[7]
    assert os.path.exists(source[7][0])
    assert pickled.count(bytes(tmp_path)) == 1
