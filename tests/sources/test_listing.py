import os

import pytest
from PIL import Image

from ffcv_ssl.codecs import formats
from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources import listing
from ffcv_ssl.sources.folder import class_folders, flat_folder
from ffcv_ssl.sources.ignored import IgnoredFiles
from ffcv_ssl.sources.listing import NEVER_IMAGES, image_files
from tests.codecs.test_formats import HEIC, no_plugins  # noqa: F401  # a fixture
from tests.sources.test_folder import make_files

JPEG = b"\xff\xd8\xff\xe0\0\x10JFIF\0"
TIFF = b"II*\0\x08\0\0\0"


def write(root, files):
    for name, content in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


def test_files__without_a_known_extension_are_tried_by_content(tmp_path):
    """What begins as an image is one, and is counted; what does not is counted by extension."""
    images = {
        "a/none": JPEG,
        "b.jpg_large": JPEG,
        "c.JPG.1": JPEG,
        "d.tga": b"\x89PNG\r\n\x1a\n",
        "e.": TIFF,
        "f.dat": JPEG,
    }
    others = {
        "g": b"notes",
        "h.dat": b"numbers",
        "i.tga": bytes(18),
        "j.txt": b"text",
        "k.TXT": b"text",
    }
    write(tmp_path, {**images, **others, "known.JPEG": b"not looked into"})
    found = IgnoredFiles()
    assert image_files(str(tmp_path), "", found) == sorted([*images, "known.JPEG"])
    assert found.by_content == {
        "without extension": 2,
        ".jpg_large": 1,
        ".1": 1,
        ".tga": 1,
        ".dat": 1,
    }
    assert found.others == {".txt": 2, "without extension": 1, ".dat": 1, ".tga": 1}
    assert found.lines() == [
        "ignored: 5 files that are not images (2 .txt, 1 .dat, 1 .tga, 1 without extension)",
        "6 files recognized by their content (2 without extension, 1 .1, 1 .dat, 1 .jpg_large, 1 .tga)",  # noqa: E501
    ]


def test_files__named_as_something_else_are_no_images(tmp_path):
    """Raw photos, slides, thumbnails, backups and torn downloads begin as images do, and are
    ignored.
    """
    contents = {
        "a.nef": TIFF,
        "b.dng": TIFF,
        "c.svs": TIFF,
        "d.thm": JPEG,
        "e.jpg_original": JPEG,
        "f.part": JPEG,
        "g.notes": b"P6 12 3\n",
    }
    write(tmp_path, {**contents, "photo.jpg": JPEG})
    assert image_files(str(tmp_path)) == ["photo.jpg"]


def test_files__of_known_extensions_are_not_opened(tmp_path, monkeypatch):
    """Listing a million images, or as many annotations, opens none of them."""
    write(
        tmp_path,
        {
            f"{number}{extension}": b""
            for number, extension in enumerate(sorted(formats.EXTENSIONS | NEVER_IMAGES))
        },
    )
    monkeypatch.setattr(listing, "open", None, raising=False)
    assert len(image_files(str(tmp_path))) == len(formats.EXTENSIONS)


def test_files__of_missing_plugins_are_counted_with_what_to_install(tmp_path, no_plugins):  # noqa: F811
    """A HEIC image without its plug-in is ignored by name; one that is a JPEG inside is taken."""
    write(
        tmp_path, {"a.HEIC": HEIC, "b.heif": HEIC, "c.jxl": b"\xff\x0a", "d.heic": JPEG, "e": HEIC}
    )
    found = IgnoredFiles()
    assert image_files(str(tmp_path), "", found) == ["d.heic"]
    assert found.others == {".heic": 1, ".heif": 1, ".jxl": 1, "without extension": 1}
    assert any(line.endswith("pip install pillow-heif") for line in found.lines())
    assert any(line.endswith("pip install pillow-jxl-plugin") for line in found.lines())


SYSTEM = [
    "@eaDir/a.jpg", "__MACOSX/x/._a.jpg", ".ipynb_checkpoints/a.jpg", "lost+found/a.jpg", "$RECYCLE.BIN/a.jpg",  # noqa: E501
    "System Volume Information/a.jpg", "#recycle/a.jpg", ".Trash-1000/a.jpg", "__pycache__/a.jpg",
    "._b.jpg", "Thumbs.db", "THUMBS.DB.jpg/Thumbs.db", ".DS_Store", "desktop.ini", ".hidden.jpg",
]  # fmt: skip


def test_system_files__are_left_out_at_every_level_and_counted(tmp_path):
    """What servers, archives and file managers leave is no class and no image, below the root and
    below a class.
    """
    make_files(tmp_path, "a/1.jpg", "b/2.jpg", "b/deep/3.jpg", *SYSTEM[:9])
    make_files(tmp_path, *(f"{folder}/{name}" for folder in ("a", "b/deep") for name in SYSTEM))
    source = class_folders(str(tmp_path))
    assert source.class_names == ["a", "b"]
    assert [os.path.relpath(source[index][0], tmp_path) for index in range(len(source))] == [
        "a/1.jpg",
        "b/2.jpg",
        "b/deep/3.jpg",
    ]
    (line,) = source.notes
    assert line.startswith(
        "ignored: 39 hidden or system files and folders (4 Thumbs.db, 3 #recycle, 3 $RECYCLE.BIN, "
    )
    assert line.endswith("… and 8 more)")
    assert len(flat_folder(str(tmp_path))) == 3


def test_system_folders__are_not_opened(tmp_path, monkeypatch):
    """`lost+found` belongs to root: nobody else may look into it."""
    make_files(tmp_path, "a/1.jpg", "lost+found/x")
    scandir = os.scandir
    monkeypatch.setattr(
        os, "scandir", lambda path: 1 / 0 if "lost+found" in path else scandir(path)
    )
    assert len(class_folders(str(tmp_path))) == 1


def test_folders__that_cannot_be_read_are_errors(tmp_path, monkeypatch):
    """Nothing below them would be reported to be missing."""
    make_files(tmp_path, "a/1.jpg", "a/locked/x.jpg")
    scandir = os.scandir

    def refuse(path):
        if path.endswith("locked"):
            raise PermissionError(13, "Permission denied", path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(
        SourceError, match="locked: not a folder that can be read: Permission denied"
    ):
        class_folders(str(tmp_path))


def test_links__in_circles_are_counted(tmp_path):
    """A link to itself is no folder and no image unless its name says so; a link to a folder above
    is reported.
    """
    make_files(tmp_path, "a/1.jpg", "a/b/2.jpg")
    (tmp_path / "a" / "b" / "up").symlink_to(tmp_path / "a")
    (tmp_path / "a" / "self").symlink_to("self")
    (tmp_path / "a" / "gone.txt").symlink_to("nowhere")
    (tmp_path / "a" / "self.jpg").symlink_to("self.jpg")
    os.mkfifo(tmp_path / "a" / "pipe")
    found = IgnoredFiles()
    assert image_files(str(tmp_path), "", found) == ["a/1.jpg", "a/b/2.jpg", "a/self.jpg"]
    assert found.links == 1
    assert found.others == {"not a regular file": 3}
    assert "ignored: 1 link to a folder above" in found.lines()


def test_lines__name_the_most_frequent_kinds(tmp_path):
    """Names of any bytes are fit to be shown, and many kinds are cut short."""
    make_files(tmp_path, "a.jpg", *(f"{number}.x{number}" for number in range(20)), "1.md", "2.md")
    make_files(tmp_path, os.fsdecode(b".caf\xe9"), ".new\nline")
    others, hidden = flat_folder(str(tmp_path)).notes
    assert others.startswith("ignored: 22 files that are not images (2 .md, 1 .x0, ")
    assert others.endswith(" … and 15 more)")
    assert r"1 .caf\xe9" in hidden
    assert r"1 .new\nline" in hidden


def test_images__of_a_png_without_extension_convert(tmp_path):
    """A file recognized by its content is read as what it is."""
    (tmp_path / "a").mkdir()
    Image.new("RGB", (5, 4), (1, 2, 3)).save(tmp_path / "a" / "picture", "PNG")
    source = class_folders(str(tmp_path))
    with Image.open(source[0][0]) as image:
        assert image.size == (5, 4)
