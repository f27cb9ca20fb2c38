"""`ffcv-ssl train`: which recipe runs, and with what."""

import json

import pytest

from ffcv_ssl.cli.commands.train import METHODS, split_method
from ffcv_ssl.cli.config.file import load_mapping, recipe_names
from ffcv_ssl.errors import ConfigError

TINY = (
    "--train.epochs=1",
    "--train.batch_size=20",
    "--model.width=2",
    "--model.stem=cifar_stride2",
    "--data.workers=0",
    "--eval.linear_epochs=2",
)


@pytest.mark.parametrize(
    ("arguments", "method", "rest"),
    [
        (["--method=simclr", "--a.b=1"], "simclr", ["--a.b=1"]),
        (["--a.b=1", "--method", "emp_ssl"], "emp_ssl", ["--a.b=1"]),
        (["--a.b=1"], None, ["--a.b=1"]),
        ([], None, []),
    ],
)
def test_split_method__takes_the_flag_out(arguments, method, rest):
    """--method is found anywhere, in both spellings, and the recipe does not see it."""
    assert split_method(arguments) == (method, rest)


def test_split_method__reads_config_files(tmp_path):
    """Without a flag the last config file that names a method decides; a flag wins."""
    first, second = tmp_path / "a.yaml", tmp_path / "b.yaml"
    first.write_text("method: simclr\n")
    second.write_text("run: {x: 1}\n")
    arguments = [f"--config-file={first}", "-C", str(second)]
    assert split_method(arguments) == ("simclr", arguments)
    assert split_method([*arguments, "--method=emp_ssl"])[0] == "emp_ssl"
    with pytest.raises(ConfigError, match="expected one argument"):
        split_method(["--config-file"])


def test_train__asks_for_a_method(run):
    """Without method the choices are named; an unknown one gets a hint."""
    assert "give --method=simclr|emp_ssl|barlow_twins" in run("train").err
    outcome = run("train", "--method=simcrl")
    assert outcome.status == 2
    assert "Did you mean 'simclr'?" in outcome.err


def test_train__help_of_a_method(run):
    """--help with a method lists that recipe's options; its program bears its name and says
    something of its own.
    """
    helps = {}
    for method in METHODS:
        outcome = run("train", f"--method={method}", "--help")
        assert outcome.status == 0
        assert outcome.out.startswith(f"usage: {method} ")
        assert "--optim.lr=X" in outcome.out
        helps[method] = outcome.out
    assert len(set(helps.values())) == len(METHODS)
    assert "--view.patch=X" in helps["emp_ssl"]


def test_train__bad_input_is_two(run):
    """A recipe's configuration errors end with 2."""
    outcome = run("train", "--method=simclr", "--data.trian=x")
    assert outcome.status == 2
    assert "Did you mean '--data.train'?" in outcome.err


def test_train__runs_the_recipe(run, tmp_path, shapes_files):
    """A config file that names its method, with flags for the rest, trains and leaves a result."""
    config = tmp_path / "tiny.yaml"
    config.write_text(
        "method: simclr\nmodel: {normalization: half}\noptim: {name: sgd, lr: 0.1}\nloss: {hidden: 8, out: 4}\n"  # noqa: E501
        "log: {tensorboard: false, progress: false}\n"
    )
    train, val = shapes_files
    out = tmp_path / "run"
    outcome = run(
        "train",
        f"--config-file={config}",
        f"--data.train={train}",
        f"--data.val={val}",
        f"--log.out={out}",
        *TINY,
    )
    assert outcome.status == 0, outcome.err
    result = json.loads((out / "result.json").read_text())
    assert result["method"] == "simclr"
    assert result["steps"] == 3
    assert 0 <= result["scores"]["knn"] <= 1


def test_recipe_name__stands_for_its_file():
    """A bare name that is no file is looked up among the installed recipes; others are an error
    that names the file.
    """
    assert {"simclr_cifar10", "emp_ssl_cifar10", "simclr_cpu", "emp_ssl_cpu"} <= set(recipe_names())
    assert load_mapping("simclr_cifar10")["method"] == "simclr"
    with pytest.raises(ConfigError, match="simclr_cifar11"):
        load_mapping("simclr_cifar11")
