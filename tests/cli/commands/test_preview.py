"""`ffcv-ssl preview`."""

import pytest
from PIL import Image


def test_preview__writes_the_picture(run, tmp_path, shapes_files):
    """Flags as in the documentation give a picture with a row per sample and a column per view."""
    out = tmp_path / "views.png"
    outcome = run("preview", shapes_files[0], "--view.preset=simclr", "--view.size=24", "--preview.samples=3", f"--out={out}")
    assert outcome.status == 0
    assert str(out) in outcome.out
    with Image.open(out) as picture:
        width, height = picture.size
    assert 0.6 < width / height < 1.0  # three columns, three rows with titles


@pytest.mark.parametrize(
    "flags", [("--view.preset=emp_ssl", "--view.n=4", "--view.patch=8", "--view.size=16"), ("--view.preset=multi_crop",)]
)
def test_preview__other_presets(run, tmp_path, shapes_files, flags):
    """Presets with options of their own, and those with several sizes, are drawn."""
    out = tmp_path / "views.pdf"
    assert run("preview", shapes_files[0], *flags, "--preview.samples=1", f"--preview.out={out}").status == 0
    assert out.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--view.preset=simclr2",), "Did you mean 'simclr'?"),
        (("--view.preset=byol", "--view.n=3"), "--view.n: byol does not take it; it takes size."),
        (("--view.size=0",), "size is one or two integers"),
        (("--out=views",), "--out: the name of a .png, .pdf or .svg file, got 'views'."),
        (("--out=/nowhere/views.png",), "/nowhere: the folder to write to does not exist"),
    ],
)
def test_preview__bad_input(run, shapes_files, flags, problem):
    """What cannot be drawn ends with 2 and one line."""
    outcome = run("preview", shapes_files[0], "--preview.samples=1", *flags)
    assert outcome.status == 2
    assert problem in outcome.err
    assert outcome.err.count("\n") == 1
