"""The commands that write, show and check files."""

import shutil

import numpy as np
import pytest
from PIL import Image

from ffcv_ssl.fields import BytesField, FloatField, NDArrayField
from ffcv_ssl.reader import Reader
from ffcv_ssl.writer import DatasetWriter
from tests.reference.older_files import rewrite, without_block


def written(run, tmp_path, folder, *flags):
    """Write a folder; return the outcome and the file's path."""
    out = tmp_path / "out.beton"
    return run(
        "write", f"--data.path={folder}", f"--data.out={out}", "--write.workers=0", *flags
    ), out


def test_write__keeps_jpegs_and_converts_the_rest(run, tmp_path, image_folder):
    """A class folder becomes a file with labels, class names and counts."""
    outcome, out = written(run, tmp_path, image_folder)
    assert outcome.status == 0
    assert "5 samples" in outcome.out
    assert "3 JPEGs kept unchanged" in outcome.out
    assert "2 other images encoded as JPEG" in outcome.out
    assert "image.jpeg_quality         = 90" in outcome.err
    with Reader(out) as reader:
        assert reader.class_names == ["cat", "dog"]
        assert [reader.value(i, "label") for i in range(5)] == [0, 0, 0, 1, 1]
        assert reader.read(0, "image") == (image_folder / "cat" / "0.jpg").read_bytes()
        assert reader.metadata["source"]["path"] == str(image_folder)
        assert "out" not in reader.metadata["source"]


def test_write__options_reach_the_field(run, tmp_path, image_folder):
    """Raw mode, resolution, shuffling and a fraction do what they say."""
    outcome, out = written(
        run,
        tmp_path,
        image_folder,
        "--image.write_mode=raw",
        "--image.max_resolution=20",
        "--write.shuffle=1",
        "--write.seed=4",
    )
    assert outcome.status == 0
    with Reader(out) as reader:
        assert (
            sorted(map(tuple, reader.records["image"][["mode", "width", "height"]].tolist()))
            == [(1, 13, 20)] * 2 + [(1, 20, 15)] * 3
        )
        assert reader.metadata["seed"] == 4
        assert reader.metadata["fields"]["image"]["max_resolution"] == 20


def test_write__takes_a_config_file(run, tmp_path, image_folder):
    """The same conversion from a YAML file, a flag overriding it."""
    out, config = tmp_path / "out.beton", tmp_path / "write.yaml"
    config.write_text(
        f"data: {{path: {image_folder}, out: {out}}}\nimage: {{write_mode: raw}}\nwrite: {{workers: 0}}\n"  # noqa: E501
    )
    assert run("write", f"--config-file={config}", "--image.write_mode=jpg").status == 0
    with Reader(out) as reader:
        assert set(reader.records["image"]["mode"]) == {0}


def test_write__npz_arrays(run, tmp_path):
    """Arrays in an .npz file become samples."""
    source = tmp_path / "arrays.npz"
    images = np.random.default_rng(0).integers(0, 256, (4, 9, 11, 3), np.uint8)
    np.savez(source, images=images, labels=np.arange(4))
    outcome, out = written(run, tmp_path, source, "--data.source=npz", "--image.write_mode=raw")
    assert outcome.status == 0
    with Reader(out) as reader:
        assert np.array_equal(reader.value(2, "image"), images[2])


@pytest.mark.parametrize(
    ("flags", "problem"),
    [
        (("--data.source=imagefoldr",), "Did you mean 'imagefolder'?"),
        (("--data.fraction=0",), "fraction is in (0, 1], got 0.0."),
        (("--image.jpeg_quality=101",), "jpeg_quality"),
        (("--image.write_mode=smart",), "write_mode=smart needs smart_threshold"),
        (("--write.page_size=3",), "page_size"),
        (("--image.quality=3",), "unknown option --image.quality."),
    ],
)
def test_write__bad_input_leaves_one_line_and_no_file(run, tmp_path, image_folder, flags, problem):
    """A value out of range ends with status 2 and one clear line, before anything is written."""
    outcome, out = written(run, tmp_path, image_folder, *flags)
    assert outcome.status == 2
    assert problem in outcome.err.splitlines()[-1]
    assert outcome.err.splitlines()[-1].startswith("ffcv-ssl: ")
    assert not out.exists()


def test_write__names_what_is_missing(run):
    """Without path and target both are asked for."""
    assert (
        run("write").err
        == "ffcv-ssl: missing: --data.path=…, --data.out=…. --help describes them.\n"
    )


def test_write__skips_on_request(run, tmp_path, image_folder):
    """A broken image ends the conversion with its name, or is listed with on_error=skip."""
    folder = tmp_path / "images"
    (folder / "cat").mkdir(parents=True)
    (folder / "cat" / "good.jpg").write_bytes((image_folder / "cat" / "0.jpg").read_bytes())
    (folder / "cat" / "torn.png").write_bytes((image_folder / "dog" / "0.png").read_bytes()[:200])
    outcome, out = written(run, tmp_path, folder)
    assert outcome.status == 2
    assert "torn.png" in outcome.err
    assert not out.exists()
    outcome, out = written(run, tmp_path, folder, "--write.on_error=skip")
    assert outcome.status == 0
    assert f"1 skipped, listed in {out}.skipped.csv" in outcome.out


def test_write__names_the_classes_and_the_ignored_files(run, tmp_path, image_folder):
    """The summary names the first classes, and counts what is no image, hidden, or recognized by
    its content.
    """
    folder = tmp_path / "images"
    shutil.copytree(image_folder, folder)
    for number in range(5):
        shutil.copytree(folder / "dog", folder / f"ewe{number}")
    (folder / "cat" / "0.jpg").rename(folder / "cat" / "photo")
    (folder / "cat" / "notes.txt").touch()
    (folder / "cat" / "Thumbs.db").touch()
    outcome, out = written(run, tmp_path, folder)
    assert outcome.status == 0
    assert outcome.out.splitlines()[-4:] == [
        "  7 classes: cat, dog, ewe0, ewe1, ewe2 … and 2 more",
        "  ignored: 1 file that is not an image (1 .txt)",
        "  ignored: 1 hidden or system file or folder (1 Thumbs.db)",
        "  1 file recognized by its content (1 without extension)",
    ]
    before = out.read_bytes()
    (folder / "cat" / "more.txt").touch()
    written(run, tmp_path, folder)
    assert out.read_bytes() == before  # of the same images, whatever lies beside them


def test_write__validation_with_the_classes_of_training(run, tmp_path, image_folder):
    """A class that the folder lacks keeps its label; classes of two splits in one folder are
    refused with what to run.
    """
    (tmp_path / "classes.txt").write_text("ant\ncat\ndog\n")
    with pytest.warns(UserWarning, match=r"ant \(label 0\)"):
        outcome, out = written(
            run, tmp_path, image_folder, f"--data.classes={tmp_path / 'classes.txt'}"
        )
    assert outcome.status == 0
    assert "3 classes: ant, cat, dog" in outcome.out
    with Reader(out) as reader:
        assert reader.class_names == ["ant", "cat", "dog"]
        assert set(reader.records["label"]) == {1, 2}
    for split in ("train", "val"):
        shutil.copytree(image_folder, tmp_path / "root" / split)
    outcome, _ = written(run, tmp_path, tmp_path / "root")
    assert outcome.status == 2
    assert f"`ffcv-ssl write --data.path={tmp_path}/root/val --data.out=val.beton`" in outcome.err


def test_info__shows_fields_sizes_and_origin(run, tmp_path, image_folder):
    """info names everything that the issue of a file may ask for."""
    _, out = written(run, tmp_path, image_folder)
    outcome = run("info", out)
    assert outcome.status == 0
    for part in (
        "5 samples",
        "pages of 8 MiB",
        "written by        ffcv_ssl",
        "source=imagefolder",
        "converted=2",
        "kept=3",
        "checksums         one per value",
        "classes           2: cat, dog",
        "image: RGBImageField",
        "jpeg_quality=90",
        "5 JPEG",
        "width 24 to 40, height 30 to 36",
        "2 different",
        "label: IntField",
        "0 to 1, 2 different",
        "samples per value 2 to 3",
    ):
        assert part in outcome.out


def test_info__of_one_resolution_and_other_fields(run, tmp_path):
    """Raw images of one size, floats, arrays and bytes are described, and many class names cut
    short.
    """
    path = tmp_path / "mixed.beton"
    image = np.zeros((7, 9, 3), np.uint8)
    fields = {
        "half": FloatField(),
        "vector": NDArrayField(np.dtype("<f4"), (3,)),
        "note": BytesField(),
    }
    samples = [(i / 2, np.full(3, i, "<f4"), b"x" * i) for i in range(3)]
    names = [f"class{i}" for i in range(30)]
    DatasetWriter(
        path, fields, num_workers=0, metadata={"class_names": names}, progress=False
    ).from_indexed_dataset(samples)
    out = run("info", path).out
    for part in (
        "0.0 to 1.0, 3 different",
        "float32 (3,)",
        "12 bytes per sample (12)",
        "0 to 2",
        "… and 10 more",
    ):
        assert part in out
    source = tmp_path / "one.npz"
    np.savez(source, images=image[None], labels=np.zeros(1, int))
    _, out_path = written(run, tmp_path, source, "--data.source=npz", "--image.write_mode=raw")
    assert "9 x 7, all the same" in run("info", out_path).out


def test_verify__of_a_sound_file(run, shapes_files):
    """A sound file gives 0 and one line."""
    outcome = run("verify", shapes_files[0])
    assert outcome.status == 0
    assert (
        outcome.out == f"{shapes_files[0]}: 60 samples decoded, checksums compared: no problems.\n"
    )


def test_verify__lists_what_is_broken(run, tmp_path, image_folder):
    """An overwritten image gives 1, its page and its sample."""
    _, out = written(run, tmp_path, image_folder)
    data = bytearray(out.read_bytes())
    jpeg = (image_folder / "cat" / "1.jpg").read_bytes()
    start = data.find(jpeg) + len(jpeg) * 7 // 8  # behind the tables, inside the picture
    data[start : start + 20] = b"\xff\xd9" * 10
    out.write_bytes(data)
    outcome = run("verify", out)
    assert outcome.status == 1
    assert "sample 1, field 'image': " in outcome.out
    assert "checksum" in outcome.out
    assert outcome.out.endswith("2 problem(s).\n")


@pytest.mark.parametrize("command", ["info", "verify"])
def test_files__that_are_none_are_bad_input(run, tmp_path, command):
    """A missing path, a missing file and another format end with 2."""
    Image.new("RGB", (4, 4)).save(tmp_path / "image.png")
    assert run(command).err == "ffcv-ssl: missing: FILE. --help describes them.\n"
    for path in ("nothing.beton", "image.png"):
        outcome = run(command, tmp_path / path)
        assert outcome.status == 2
        assert path in outcome.err


def test_seal__adds_checksums_once(run, tmp_path, image_folder):
    """A file without block is sealed, info and verify say so; the second time there is nothing to
    do.
    """
    _, out = written(run, tmp_path, image_folder)
    rewrite(out, without_block)
    assert "checksums         none; `ffcv-ssl seal` adds one per value" in run("info", out).out
    outcome = run("seal", out)
    assert (outcome.status, outcome.out) == (
        0,
        f"{out}: decoded every value and added its checksum.\n",
    )
    assert "checksums         one per value" in run("info", out).out
    assert run("verify", out).status == 0
    assert run("seal", out).out == f"{out}: has a checksum for every value already.\n"


def test_seal__of_a_broken_file_is_bad_input(run, tmp_path, image_folder):
    """The error names the sample, the file stays as it was."""
    _, out = written(run, tmp_path, image_folder)
    rewrite(out, without_block)
    data = bytearray(out.read_bytes())
    start = data.find((image_folder / "cat" / "1.jpg").read_bytes())
    data[start : start + 2] = b"no"
    out.write_bytes(data)
    outcome = run("seal", out)
    assert outcome.status == 2
    assert "not sealed" in outcome.err
    assert "sample 1, field 'image'" in outcome.err
    assert out.read_bytes() == data


def test_verify__warns_of_blemished_images(run, tmp_path, image_folder):
    """Stray bytes behind the last block are a warning: the image loads, the status is 0."""
    jpeg = image_folder / "cat" / "1.jpg"
    data = jpeg.read_bytes()
    jpeg.write_bytes(data[:-2] + bytes(40) + data[-2:])
    _, out = written(run, tmp_path, image_folder, "--image.check=header")
    outcome = run("verify", out)
    assert outcome.status == 0
    assert "sample 1, field 'image': " in outcome.out
    assert "(warning: the image decodes completely)" in outcome.out
    assert outcome.out.endswith("no problems, 1 warning(s).\n")
