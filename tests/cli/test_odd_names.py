"""Folders and files whose names are no UTF-8, hold control characters or look like options: from
disk to pictures and lists.
"""

import csv
import os
import sys

import numpy as np
import pytest
from PIL import Image

from ffcv_ssl.reader import Reader
from ffcv_ssl.system.names import unicode_name

NAMES = {  # class folder -> file, as bytes
    b"caf\xe9": b"r\xe9sum\xe9.jpg",
    "日本語".encode(): ("画" * 83 + ".jpg").encode(),
    b'a,"b"$c$': b"new\nline\t.jpg",
    b" lead": b"-rf.jpg",
    b"\x1b[31m": b"x.jpg",
}


@pytest.fixture
def odd_folder(tmp_path):
    """An image folder with such names, one file of it broken."""
    if sys.platform != "linux":
        pytest.skip("file systems elsewhere refuse such names")
    root = os.fsencode(tmp_path / "images")
    Image.fromarray(np.full((16, 16, 3), 90, np.uint8)).save(tmp_path / "x.jpg")
    content = (tmp_path / "x.jpg").read_bytes()
    for folder, name in NAMES.items():
        os.makedirs(os.path.join(root, folder))
        with open(os.path.join(root, folder, name), "wb") as file:
            file.write(content)
    with open(os.path.join(root, b"caf\xe9", b"br\xe9k\n.jpg"), "wb") as file:
        file.write(b"nothing")
    return tmp_path / "images"


def test_odd_names__pass_through_every_command(run, tmp_path, odd_folder):
    """They are written, listed, shown and drawn; whatever is printed or listed is one line of
    valid UTF-8 each.
    """
    out = os.path.join(tmp_path, os.fsdecode(b"o\xe9.beton"))
    written = run(
        "write",
        f"--data.path={odd_folder}",
        f"--data.out={out}",
        "--write.workers=0",
        "--write.on_error=skip",
    )
    assert written.status == 0
    assert r"o\xe9.beton" in written.out
    with Reader(out) as reader:
        assert [os.fsencode(name) for name in reader.class_names] == sorted(NAMES)
    with open(f"{out}.skipped.csv", encoding="utf-8", newline="") as file:
        (header, row) = csv.reader(file)
    assert header == ["index", "path", "reason"]
    assert row[1] == str(odd_folder / r"caf\xe9" / r"br\xe9k\n.jpg")
    shown = run("info", out)
    assert r"caf\xe9, 日本語" in shown.out
    assert r"\x1b[31m" in shown.out
    assert "\x1b" not in shown.out
    assert run("verify", out).status == 0
    picture = os.path.join(tmp_path, os.fsdecode(b"p\xe9.png"))
    assert run("preview", out, f"--out={picture}", "--view.size=16").status == 0
    with Image.open(picture) as image:
        assert min(image.size) > 100


def test_odd_names__in_errors(run, tmp_path, odd_folder):
    """A file that is refused is named in one valid line."""
    outcome = run(
        "write",
        f"--data.path={odd_folder}",
        f"--data.out={tmp_path / 'x.beton'}",
        "--write.workers=0",
    )
    assert outcome.status == 2
    assert r"caf\xe9/br\xe9k .jpg: not an image" in outcome.err.splitlines()[-1]


def test_class_names__are_those_of_a_utf8_locale(tmp_path):
    """A file written in an ASCII locale, where names are listed as bytes, holds the letters."""
    from ffcv_ssl.fields import IntField
    from ffcv_ssl.writer import DatasetWriter

    listed = "日本語".encode().decode("ascii", "surrogateescape")
    metadata = {"class_names": [listed, os.fsdecode(b"caf\xe9")], "source": {"path": f"/{listed}"}}
    DatasetWriter(
        tmp_path / "x.beton",
        {"label": IntField()},
        num_workers=0,
        progress=False,
        metadata=metadata,
    ).from_indexed_dataset([(0,)])
    with Reader(tmp_path / "x.beton") as reader:
        assert (
            reader.class_names
            == [unicode_name(listed), os.fsdecode(b"caf\xe9")]
            == ["日本語", "caf\udce9"]
        )
        assert reader.metadata["source"] == {"path": "/日本語"}
