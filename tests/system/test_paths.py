"""Paths from users, in every public class and every option."""

import dataclasses
import os
from importlib import import_module
from pathlib import Path
from typing import get_type_hints

import pytest

from ffcv_ssl.beton.seal import seal
from ffcv_ssl.cli.commands.run_options import FilesConfig, RunConfig
from ffcv_ssl.cli.commands.train import METHODS
from ffcv_ssl.cli.config.checkers import PathText, checker_for
from ffcv_ssl.cli.config.file import load_mapping
from ffcv_ssl.cli.config.parser import parse
from ffcv_ssl.cli.config.sections import FileConfig
from ffcv_ssl.errors import ConfigError
from ffcv_ssl.fields import IntField
from ffcv_ssl.loader import Loader
from ffcv_ssl.loader.dataset import BetonDataset
from ffcv_ssl.reader import Reader
from ffcv_ssl.runs.saved_config import read_run
from ffcv_ssl.sources import SourceConfig, open_source
from ffcv_ssl.system.paths import expanded_path, local_path
from ffcv_ssl.train.checkpoint import load_checkpoint
from ffcv_ssl.writer import DatasetWriter


@pytest.fixture
def home(tmp_path, monkeypatch):
    """A home folder with a file `~/x.beton`, and a variable `SETS` for a folder below it."""
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("SETS", str(tmp_path / "sets"))
    monkeypatch.delenv("UNSET", raising=False)
    monkeypatch.chdir(tmp_path)
    DatasetWriter(
        "~/x.beton", {"label": IntField()}, num_workers=0, progress=False
    ).from_indexed_dataset([(1,), (2,)])
    return tmp_path


def test_public_classes__expand_the_home_folder(home):
    """Writer, reader, loader and dataset expand `~` in strings, bytes and Path objects."""
    assert sorted(os.listdir(home)) == ["x.beton"]
    for path in ("~/x.beton", b"~/x.beton", Path("~/x.beton")):
        with Reader(path) as reader:
            assert (reader.path, reader.num_samples) == (str(home / "x.beton"), 2)
    with Loader("~/x.beton", batch_size=2) as loader:
        assert loader.path == str(home / "x.beton")
    assert len(BetonDataset("~/x.beton")) == 2
    seal("~/x.beton")


def test_public_classes__do_not_expand_variables(home):
    """Public classes treat `$` as an ordinary character of a file name."""
    assert local_path("$SETS/x") == "$SETS/x"
    (home / "$SETS").touch()
    with pytest.raises(Exception, match=r"\$SETS"):
        Reader("$SETS")


@pytest.mark.parametrize(
    ("given", "wanted"),
    [
        ("~/a", "{home}/a"),
        ("$SETS/a", "{home}/sets/a"),
        ("${SETS}/$SETS", "{home}/sets/{home}/sets"),
        ("plain/a b", "plain/a b"),
        ("./~/a", "./~/a"),
        ("a~", "a~"),
        ("cost $", "cost $"),
    ],
)
def test_options__expand_home_and_variables(home, given, wanted):
    """`~` at the beginning and variables anywhere are expanded, nothing else."""
    assert expanded_path(given) == wanted.format(home=home)


def test_options__name_a_variable_that_is_not_set(home):
    """An unset variable is an error, unless a file has that literal name."""
    for given in ("$UNSET/a", "a/${UNSET}"):
        with pytest.raises(ConfigError, match="the environment variable UNSET is not set"):
            expanded_path(given)
    (home / "$UNSET").touch()
    assert expanded_path("$UNSET") == "$UNSET"


ELSEWHERE = {
    "s3://bucket/x.beton": "an object in a bucket",
    "gs://bucket/x.beton": "an object in a bucket",
    "abfss://c@account/x": "an object in a bucket",
    "https://host/x.beton": "a web address",
    "HTTP://host/x.beton": "a web address",
    "hf://datasets/cifar10": "on the Hugging Face Hub",
    "hdfs://host/x": "a file in HDFS",
    "weird+1://host/x": "a web address",
    "file:///data/x.beton": "wanted a plain path such as /data/x.beton",
}


@pytest.mark.parametrize("text", ELSEWHERE)
def test_remote_paths__are_rejected_by_kind(text):
    """Classes and options reject buckets and URLs, also as Path objects, which lose a slash."""
    for path in (text, Path(text)) if not text.startswith("weird") else (text,):
        for use in (
            local_path,
            expanded_path,
            Reader,
            read_run,
            lambda path: Loader(path, batch_size=1),
        ):
            with pytest.raises(ConfigError, match=ELSEWHERE[text]):
                use(str(path) if use is expanded_path else path)
    for use in (
        lambda: DatasetWriter(text, {"label": IntField()}),
        lambda: seal(text),
        lambda: open_source(SourceConfig(path=text)),
        lambda: parse("p", {"file": FileConfig}, [text]),
        lambda: parse("p", {"file": FileConfig}, ["x", f"--config-file={text}"]),
    ):
        with pytest.raises(ConfigError, match=ELSEWHERE[text]):
            use()


def test_local_names_with_colons__are_local():
    """A colon or two slashes do not make a path a URL."""
    for name in ("a:b", "12:30/x", "c:/x", "a//b", "data:", "/s3://x"):
        assert local_path(name) == name


@pytest.mark.parametrize(("path", "problem"), [("", "an empty path"), ("a\0b", "null character")])
def test_impossible_paths__are_configuration_errors(path, problem):
    """Empty paths and null characters raise ConfigError, not a bare ValueError."""
    for use in (local_path, Reader, lambda path: DatasetWriter(path, {"label": IntField()})):
        with pytest.raises(ConfigError, match=problem):
            use(path)


def test_flags_and_files__are_read_alike(home):
    """Arguments, flags, YAML values and the config path are expanded; errors name the option."""
    (home / "c.yaml").write_text("data: {train: $SETS/t.beton, val: ~/v.beton}\n")
    sections = {"run": RunConfig, "data": FilesConfig}
    configs = parse("p", sections, ["~/run", "--config-file=~/c.yaml"])
    assert configs["run"].path == f"{home}/run"
    assert (configs["data"].train, configs["data"].val) == (
        f"{home}/sets/t.beton",
        f"{home}/v.beton",
    )
    assert parse("p", sections, ["run", "-C", "$HOME/c.yaml", "--data.val="])["data"].val is None
    assert load_mapping("~/c.yaml")["data"]["val"] == "~/v.beton"
    with pytest.raises(
        ConfigError, match=r"^--data.val: \$UNSET/x: the environment variable UNSET is not set"
    ):
        parse("p", sections, ["run", "--data.val=$UNSET/x"])
    (home / "c.yaml").write_text("data: {train: s3://b/x}\n")
    with pytest.raises(ConfigError, match=r"c.yaml: data.train: s3://b/x: an object in a bucket"):
        parse("p", sections, ["run", "-C", "c.yaml"])


NO_PATHS = {  # text options that are not paths
    "image", "label", "field", "backbone", "device", "keep", "wandb_project",
    "protocol", "workloads", "decode", "extras", "only",
}  # fmt: skip


def all_sections():
    """Every section of every command and recipe."""
    yield from {"run": RunConfig, "files": FilesConfig, "file": FileConfig}.values()
    for name in ("write", "preview"):
        module = import_module(f"ffcv_ssl.cli.commands.{name}")
        yield from (
            kind
            for kind in vars(module).values()
            if dataclasses.is_dataclass(kind) and isinstance(kind, type)
        )
    for module, name in (
        ("ffcv_ssl.train", "ProbeConfig"),
        ("ffcv_ssl.train", "FinetuneConfig"),
        ("ffcv_ssl.recipes.demo.files", "DemoConfig"),
        ("ffcv_ssl.recipes.sweep", "SweepConfig"),
        ("ffcv_ssl.recipes.embedding_map", "MapConfig"),
    ):
        yield getattr(import_module(module), name)
    yield from import_module("ffcv_ssl.benchmarks.config").SECTIONS.values()
    for method in METHODS:
        yield from import_module(f"ffcv_ssl.recipes.{method}").RECIPE.sections.values()


def test_every_text_option__is_a_path_or_listed_as_another():
    """A new option that takes a path must be annotated as `LocalPath`."""
    for section in all_sections():
        hints = get_type_hints(section, include_extras=True)
        for field in dataclasses.fields(section):
            checker = checker_for(hints[field.name])
            inner = getattr(checker, "inner", checker)
            is_text = inner.help().startswith("text")
            assert not is_text or field.name in NO_PATHS, f"{section.__name__}.{field.name}"
            assert not (isinstance(inner, PathText) and field.name in NO_PATHS)


def test_checkpoint__path_expands_the_home_folder(home):
    """`load_checkpoint` expands `~` before it reports a missing checkpoint."""
    with pytest.raises(Exception, match="there is no checkpoint"):
        load_checkpoint("~/checkpoint.pt")
