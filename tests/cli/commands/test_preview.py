"""`ffcv-ssl preview`."""

import pytest
from matplotlib.figure import Figure
from PIL import Image

from ffcv_ssl import views
from ffcv_ssl.cli.commands.train import METHODS, load_recipe
from ffcv_ssl.cli.config.file import load_mapping, recipe_names


def test_preview__writes_the_picture(run, tmp_path, shapes_files):
    """Flags as in the documentation give a picture with a row per sample and a column per view."""
    out = tmp_path / "views.png"
    outcome = run(
        "preview",
        shapes_files[0],
        "--view.preset=simclr",
        "--view.size=24",
        "--preview.samples=3",
        f"--out={out}",
    )
    assert outcome.status == 0
    assert str(out) in outcome.out
    with Image.open(out) as picture:
        width, height = picture.size
    assert 0.6 < width / height < 1.0  # three columns, three rows with titles


@pytest.mark.parametrize(
    "flags",
    [
        ("--view.preset=emp_ssl", "--view.n=4", "--view.patch=8", "--view.size=16"),
        ("--view.preset=multi_crop",),
    ],
)
def test_preview__other_presets(run, tmp_path, shapes_files, flags):
    """Presets with options of their own, and those with several sizes, are drawn."""
    out = tmp_path / "views.pdf"
    assert (
        run(
            "preview", shapes_files[0], *flags, "--preview.samples=1", f"--preview.out={out}"
        ).status
        == 0
    )
    assert out.read_bytes().startswith(b"%PDF")


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--view.preset=simclr2",), "Did you mean 'simclr'?"),
        (("--view.preset=byol", "--view.n=3"), "--view.n: byol does not take it; it takes size."),
        (("--view.size=0",), "size must be one or two integers"),
        (("--out=views",), "--out: got 'views', wanted a .png, .pdf or .svg file."),
        (("--out=/nowhere/views.png",), "/nowhere: the folder to write to does not exist"),
    ],
)
def test_preview__bad_input(run, shapes_files, flags, problem):
    """What cannot be drawn ends with 2 and one line."""
    outcome = run("preview", shapes_files[0], "--preview.samples=1", *flags)
    assert outcome.status == 2
    assert problem in outcome.err
    assert outcome.err.count("\n") == 1


@pytest.mark.parametrize("method", METHODS)
def test_preview__shows_what_a_recipe_trains(run, tmp_path, monkeypatch, shapes_files, method):
    """With a recipe's file the views are those of its training: the same transforms."""
    drawn = []
    monkeypatch.setattr(
        "ffcv_ssl.preview.preview_figure",
        lambda path, pipeline, *_, **__: drawn.append(pipeline) or Figure(),
    )
    config = next(name for name in recipe_names() if name.startswith(f"{method}_cpu"))
    outcome = run(
        "preview",
        shapes_files[0],
        f"--config-file={config}",
        "--view.flip=0.25" if method != "emp_ssl" else "--view.patch=4",
        f"--out={tmp_path / 'views.png'}",
    )
    assert outcome.status == 0, outcome.err
    content = load_mapping(config)["view"] | (
        {"flip": 0.25} if method != "emp_ssl" else {"patch": 4.0}
    )
    content = {name: None if value == "none" else value for name, value in content.items()}
    view = load_recipe(method).view(**content)
    assert drawn == [view.pipeline(view.size, view.num_views)]


def test_preview__of_a_method_has_its_defaults(run, tmp_path, monkeypatch, shapes_files):
    """Without a file the options are those of `ffcv-ssl train --method`, which are the preset's."""
    drawn = []
    monkeypatch.setattr(
        "ffcv_ssl.preview.preview_figure",
        lambda path, pipeline, *_, **__: drawn.append(pipeline) or Figure(),
    )
    assert (
        run("preview", shapes_files[0], "--method=byol", f"--out={tmp_path / 'views.png'}").status
        == 0
    )
    assert drawn == [views.byol(32)]
