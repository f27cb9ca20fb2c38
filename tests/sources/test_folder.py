import os
import pickle

import numpy as np
import pytest

from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.folder import class_folders, flat_folder, image_files


def make_files(root, *names):
    for name in names:
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"contents do not matter here")


def samples(source, root):
    return [(os.path.relpath(image, root), *label) for image, *label in (source[index] for index in range(len(source)))]


def test_class_folders__label_by_sorted_folder_name(tmp_path):
    """Classes and their files come sorted; nested files count, other files and hidden ones do not; extensions have any case."""
    make_files(tmp_path, "cat/b.JPEG", "cat/a.png", "cat/deep/er/c.webp", "cat/notes.txt", "cat/.hidden.jpg", "cat/._d.jpg")
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
    """Only the listed folders are read, and labelled by the order of the list; an unknown one is refused."""
    make_files(tmp_path, "a/1.jpg", "b/2.jpg", "c/3.jpg")
    (tmp_path / "empty").mkdir()
    source = class_folders(str(tmp_path), ["c", "a"])
    assert samples(source, tmp_path) == [("c/3.jpg", 0), ("a/1.jpg", 1)]
    with pytest.raises(SourceError, match=r"1 of 2 listed classes are not in the dataset: dog\. It has 4: a, b, c, empty"):
        class_folders(str(tmp_path), ["a", "dog"])


def test_class_folders__refuse_empty_classes(tmp_path):
    """A class without images is named, not dropped: it would shift labels."""
    make_files(tmp_path, "a/1.jpg", "b/readme.txt")
    with pytest.raises(SourceError, match=r"1 of 2 class folders hold no images: b;"):
        class_folders(str(tmp_path))


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
    """The extensions that were looked for are named."""
    make_files(tmp_path, "a.txt")
    with pytest.raises(SourceError, match=r"no images .*\.jpg"):
        flat_folder(str(tmp_path))


def test_image_files__follow_links_but_not_in_circles(tmp_path):
    """Linked folders count under their own names, a link to a folder above is passed over, a broken link is kept to fail aloud."""
    make_files(tmp_path, "real/1.jpg", "real/sub/2.jpg")
    (tmp_path / "linked").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "sub" / "up").symlink_to(tmp_path / "real")
    (tmp_path / "gone.jpg").symlink_to(tmp_path / "nowhere")
    os.mkfifo(tmp_path / "pipe.jpg")
    assert image_files(str(tmp_path)) == ["gone.jpg", "linked/1.jpg", "linked/sub/2.jpg", "real/1.jpg", "real/sub/2.jpg"]


def test_image_files__take_any_name(tmp_path):
    """Spaces, accents and bytes that are no UTF-8 survive to the path."""
    names = ["ä ö.jpg", "日本.png", os.fsdecode(b"\xff\xfe.jpg")]
    make_files(tmp_path, *names)
    source = flat_folder(str(tmp_path))
    assert sorted(os.path.basename(source[index][0]) for index in range(3)) == sorted(names)
    assert all(os.path.exists(source[index][0]) for index in range(3))


def test_folders__are_absolute_and_pickle(tmp_path, monkeypatch):
    """Paths stay valid when the working directory changes, and a source travels to spawned workers without repeating its root."""
    make_files(tmp_path, *(f"data/a/{number}.jpg" for number in range(50)))
    monkeypatch.chdir(tmp_path)
    source = class_folders("data")
    monkeypatch.chdir("/")
    pickled = pickle.dumps(source)
    assert pickle.loads(pickled)[7] == source[7]
    assert os.path.exists(source[7][0])
    assert pickled.count(bytes(tmp_path)) == 1
