"""An error is one line, the last on standard error, without a table of options before it, a
traceback or a warning's code.
"""

import os
import signal
import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from PIL import Image

from ffcv_ssl.cli.status import exit_status
from ffcv_ssl.errors import ConfigError

TRAIN = (
    "train",
    "--method=simclr",
    "--config-file=simclr_cpu",
    "--train.epochs=1",
    "--train.batch_size=20",
    "--model.width=2",
    "--data.workers=0",
    "--eval.linear_epochs=1",
)
WRITE = ("write", "--write.workers=0", "--data.path=images", "--data.out=new.beton")


@pytest.fixture
def scene(tmp_path, monkeypatch, shapes_files):
    """A folder to work in: good and bad files of every kind."""
    monkeypatch.chdir(tmp_path)
    for name, path in zip(("train.beton", "val.beton"), shapes_files, strict=True):
        (tmp_path / name).symlink_to(path)
    for name in ("images/a", "no_images/a", "empty", "folder.beton", "run", "odd_run"):
        (tmp_path / name).mkdir(parents=True)
    Image.new("RGB", (9, 9)).save(tmp_path / "images/a/1.png")
    texts = {
        "text.beton": "hello " * 100,
        "deep.yaml": "[" * 3000,
        "date.yaml": "data: {train: 2020-99-99}",
        "method.yaml": "method: [simclr]",
        "study.yaml": "base: simclr_cpu\ngrid: {train.epochs: [1, 2]}\nx: train.epochs\ny: scores.knn",  # noqa: E501
        "axis.yaml": "base: simclr_cpu\ngrid: {train.epochs: [1, 2]}\nx: [1]\ny: scores.knn",
        "run/config.yaml": "method: simclr\ndata: {train: train.beton}",
        "odd_run/config.yaml": "method: simclr\ndata: 3",
        "x.safetensors": "x",
    }
    for name, text in texts.items():
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    "arguments",
    [
        ("info",),
        ("info", "nowhere.beton"),
        ("info", "folder.beton"),
        ("info", "text.beton"),
        ("info", ""),
        ("info", "s3://bucket/x.beton"),
        ("verify", "text.beton"),
        ("seal", "folder.beton"),
        ("preview", "text.beton"),
        ("preview", "train.beton", "--preview.seed=-1"),
        ("preview", "train.beton", "--out=nowhere/x.png"),
        ("preview", "train.beton", "--config-file=deep.yaml"),
        (*WRITE, "--data.path=nowhere"),
        (*WRITE, "--data.path=no_images"),
        (*WRITE, "--data.out=nowhere/x.beton"),
        (*WRITE, "--data.out=folder.beton"),
        (*WRITE, "--data.source=cifar10"),
        (*WRITE, "--data.source=npz", "--data.path=text.beton"),
        (*WRITE, "--data.classes=nowhere"),
        (*WRITE, "--write.chunksize=0"),
        (*WRITE, "--write.page_size=3"),
        (*WRITE, "--image.jpeg_quality=0"),
        (*WRITE, "--config-file=date.yaml"),
        ("train", "--config-file=method.yaml"),
        ("train", "--config-file=deep.yaml"),
        (*TRAIN, "--data.train=nowhere", "--log.out=new"),
        (*TRAIN, "--data.train=text.beton", "--log.out=new"),
        (*TRAIN, "--data.train=train.beton", "--log.out=new", "--data.val=nowhere"),
        (*TRAIN, "--data.train=train.beton", "--log.out=new", "--data.image=label"),
        (
            *TRAIN,
            "--data.train=train.beton",
            "--log.out=new",
            "--data.val=val.beton",
            "--data.label=image",
        ),
        (*TRAIN, "--data.train=train.beton", "--log.out=new", "--train.device=tpu"),
        (*TRAIN, "--data.train=train.beton", "--log.out=new", f"--train.seed={10**30}"),
        (*TRAIN, "--data.train=train.beton", "--log.out=new", f"--train.threads={10**12}"),
        (*TRAIN, "--data.train=train.beton", "--log.out=new", "--train.sync_batch_norm=1"),
        (*TRAIN, "--data.train=train.beton", "--log.out=text.beton"),
        ("probe", "nowhere"),
        ("probe", "odd_run"),
        ("probe", "run"),
        ("finetune", "x.safetensors"),
        ("export", "run"),
        ("sweep", "nowhere"),
        ("sweep", "axis.yaml"),
        ("sweep", "deep.yaml"),
        ("sweep", "study.yaml", "--data.train=nowhere", "--data.val=nowhere"),
        ("demo", "--demo.data=no_images", "--demo.out=new"),
        ("demo", "--demo.out=text.beton"),
        ("demo", "--demo.workers=-9"),
        ("bench", "nowhere"),
        ("bench", "text.beton"),
    ],
    ids=" ".join,
)
def test_error__is_one_line(run, scene, arguments):
    """Whatever is wrong with arguments or files, every command says so in one line and ends with
    2.
    """
    outcome = run(*arguments)
    assert outcome.status == 2
    assert outcome.out == "" or arguments[0] == "bench"  # it names the machine first
    (line,) = outcome.err.splitlines()
    assert line.partition(":")[0] in {"ffcv-ssl", "simclr", "sweep"}


def test_options__are_printed_when_the_work_begins(run, scene):
    """A run whose files are good shows every resolved value."""
    assert "image.jpeg_quality " in run(*WRITE).err
    assert "train.batch_size " in run(*TRAIN, "--data.train=train.beton", "--log.out=new").err


def test_warning__is_one_line(capsys):
    """A warning bears the program's name and no line of code; afterwards warnings look as they
    did.
    """
    usual = warnings.formatwarning
    exit_status(
        "p",
        lambda argv: (
            sys.stderr.write(warnings.formatwarning("few\n  images", UserWarning, "file.py", 3)) * 0
        ),
    )
    assert capsys.readouterr().err == "p: warning: few images\n"
    assert warnings.formatwarning is usual


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT])
def test_signal__runs_what_cleans_up(number):
    """A command that is told to end runs its `finally` blocks and leaves with 128 + the number."""
    cleaned = []

    def main(argv):
        try:
            os.kill(os.getpid(), number)
        finally:
            cleaned.append(number)

    with pytest.raises(SystemExit) as left:
        exit_status("p", main)
    assert (left.value.code, cleaned) == (128 + number, [number])


PIPE = """
import sys
from ffcv_ssl.cli.main import main
sys.exit(main(["info", sys.argv[1]]))
"""


@pytest.mark.parametrize(
    ("redirection", "status", "message"),
    [("| true", 141, ""), ("> /dev/full", 2, "No space left on device"), (">&-", 0, "")],
)
def test_output__that_nobody_takes(scene, redirection, status, message):
    """A reader that left, a full disk and a closed output end with a status of their own, in one
    line or none, also of short output.
    """
    if redirection == "> /dev/full" and not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    command = f'set -o pipefail; "$0" -c "$1" train.beton {redirection}'
    if redirection == "| true":  # which has ended before anything is written
        command = (
            '"$0" -c "import time; time.sleep(0.5); $1" train.beton | true; exit ${PIPESTATUS[0]}'
        )
    result = subprocess.run(
        ["bash", "-c", command, sys.executable, PIPE], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == status
    assert result.stderr == (f"ffcv-ssl: {message}\n" if message else "")


def test_error__of_user_code_keeps_its_traceback():
    """What is no error of ours passes as it is."""

    def broken(argv):
        raise ZeroDivisionError("a user's transform")

    with pytest.raises(ZeroDivisionError, match="a user's transform"):
        exit_status("p", broken)
    assert exit_status("p", lambda argv: (_ for _ in ()).throw(ConfigError("ours"))) == 2
