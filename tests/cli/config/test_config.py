"""Dataclasses as configuration: flags, files, and every trap of fastargs."""

import io
import re
from dataclasses import dataclass, field, fields
from typing import Literal

import pytest

from ffcv_ssl.cli.config.parser import config_dict, config_yaml, parse, print_config
from ffcv_ssl.errors import ConfigError


@dataclass(frozen=True)
class DataConfig:
    """Where the samples come from."""

    path: str = field(metadata={"help": "folder or archive"})
    kind: Literal["folder", "archive"] = field(
        default="folder", metadata={"help": "what stands there"}
    )
    fraction: float = field(default=1.0, metadata={"help": "share of the samples, in (0, 1]"})

    def __post_init__(self):
        if not 0 < self.fraction <= 1:
            raise ValueError(f"fraction is in (0, 1], got {self.fraction}.")


@dataclass(frozen=True)
class RunConfig:
    """How it runs."""

    workers: int = field(default=-1, metadata={"help": "processes; -1: one per core"})
    resume: bool = field(default=True, metadata={"help": "go on where the last run ended"})
    max_resolution: int | None = field(default=500, metadata={"help": "longest side, pixels"})
    note: str | None = field(default=None, metadata={"help": "free text"})


@dataclass(frozen=True)
class FileConfig:
    """The file."""

    path: str = field(metadata={"help": "the file to read", "positional": "FILE"})


SECTIONS = {"data": DataConfig, "run": RunConfig}


def parsed(*flags, sections=SECTIONS, command="convert"):
    return parse(
        command, sections, ["--data.path=x", *flags] if "data" in sections else list(flags)
    )


def config_file(folder, text, name="config.yaml"):
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return f"--config-file={path}"


def error_of(*flags, **arguments):
    with pytest.raises(ConfigError) as caught:
        parsed(*flags, **arguments)
    return str(caught.value)


def test_parse__defaults_are_those_of_the_dataclasses():
    """Without flags every field has its dataclass's default."""
    assert parsed() == {"data": DataConfig("x"), "run": RunConfig()}


def test_parse__flags_reach_their_fields_with_their_types():
    """Each flag sets one field, converted to the type of its annotation."""
    configs = parsed(
        "--data.kind=archive",
        "--data.fraction=1e-1",
        "--run.workers=3",
        "--run.note=a b",
        "--run.max_resolution",
        "64",
    )
    assert configs["data"] == DataConfig("x", "archive", 0.1)
    assert configs["run"] == RunConfig(3, True, 64, "a b")


@pytest.mark.parametrize(
    ("text", "value"),
    [("0", False), ("1", True), ("false", False), ("False", False), ("true", True)],
)
def test_parse__switches_mean_what_they_say(text, value):
    """`--x=False` is False, unlike with fastargs' own boolean."""
    assert parsed(f"--run.resume={text}")["run"].resume is value


@pytest.mark.parametrize("flag", ["--run.max_resolution=none", "--run.note=none"])
def test_parse__none_is_a_value_of_optional_fields(flag):
    """A default that is not None can be set to None."""
    name = flag[6:].partition("=")[0]
    assert getattr(parsed(flag)["run"], name) is None


def test_parse__negative_numbers_may_follow_a_blank():
    """`--run.workers -1` is a value, not an option."""
    assert parsed("--run.workers", "-1")["run"].workers == -1


@pytest.mark.parametrize(
    "flag",
    [
        "--run.workers=2.5",
        "--run.workers=two",
        "--run.resume=yes",
        "--data.fraction=nan",
        "--data.kind=tape",
    ],
)
def test_parse__values_of_the_wrong_kind_are_errors(flag):
    """A bad value names its flag and what it got."""
    name, _, value = flag.partition("=")
    message = error_of(flag)
    assert message.startswith(name)
    assert value in message


def test_parse__a_bad_choice_lists_the_choices_in_order():
    """The choices stand in the order of the annotation and the closest one is offered."""
    assert (
        error_of("--data.kind=foldr")
        == "--data.kind: got 'foldr', wanted one of folder, archive. Did you mean 'folder'?"
    )


def test_parse__checks_of_the_dataclass_are_configuration_errors():
    """A ValueError of a dataclass's own check becomes a ConfigError that names the section."""
    assert error_of("--data.fraction=2") == "--data.…: fraction is in (0, 1], got 2.0."


def test_parse__missing_values_are_named_together():
    """All required values that are absent stand in one line, positional ones by their name."""
    with pytest.raises(ConfigError, match=re.escape("missing: FILE, --data.path=….")):
        parse("convert", {"file": FileConfig, "data": DataConfig}, [])


@pytest.mark.parametrize(
    ("flag", "hint"),
    [
        ("--data.pth=x", "--data.path"),
        ("--max_resolution=3", "--run.max_resolution"),
        ("--run.max-resolution=3", "--run.max_resolution"),
    ],
)
def test_parse__unknown_flags_get_a_hint(flag, hint):
    """An unknown flag is an error that offers the closest known one."""
    assert f"Did you mean '{hint}'?" in error_of(flag)


def test_parse__flags_cannot_be_shortened():
    """`--data.fr` is no way to say `--data.fraction`."""
    assert "unknown option --data.fr" in error_of("--data.fr=0.5")


def test_parse__words_without_a_flag_are_errors():
    """A stray word is refused where nothing positional is declared."""
    assert "unexpected argument 'stray'" in error_of("stray")


def test_parse__positional_may_stand_anywhere():
    """The positional FILE is taken before or after flags, and by its flag."""
    sections = {"file": FileConfig, "run": RunConfig}
    for argv in (
        ["a.beton", "--run.workers=1"],
        ["--run.workers=1", "a.beton"],
        ["--file.path=a.beton", "--run.workers=1"],
    ):
        configs = parse("info", sections, argv)
        assert configs["file"].path == "a.beton"
        assert configs["run"].workers == 1


def test_parse__alias_is_a_second_name(capsys):
    """A field with an alias is set by either flag and shown with both; the last one given wins."""

    @dataclass(frozen=True)
    class PictureConfig:
        out: str = field(default="views.png", metadata={"help": "the picture", "alias": "--out"})

    for argv in (["--out=a.png"], ["--picture.out=a.png"], ["--picture.out=b.png", "--out=a.png"]):
        assert parse("draw", {"picture": PictureConfig}, argv)["picture"].out == "a.png"
    with pytest.raises(SystemExit):
        parse("draw", {"picture": PictureConfig}, ["--help"])
    assert "--out=TEXT (or --picture.out=TEXT)" in capsys.readouterr().out


def test_parse__reads_the_process_arguments_without_changing_them(monkeypatch):
    """argv=None takes sys.argv[1:], and sys.argv stays what it was."""
    monkeypatch.setattr("sys.argv", ["convert", "--data.path=y"])
    assert parse("convert", SECTIONS)["data"].path == "y"
    assert parse("convert", SECTIONS, ["--data.path=z"])["data"].path == "z"


def test_parse__ignores_the_environment(monkeypatch):
    """A variable named like a flag changes nothing, though fastargs would let it win."""
    monkeypatch.setenv("data.fraction", "0.5")
    monkeypatch.setenv("run.workers", "7")
    assert parsed("--data.fraction=0.25") == {
        "data": DataConfig("x", fraction=0.25),
        "run": RunConfig(),
    }


def test_parse__commands_do_not_share_values():
    """Two commands with the same section and field keep their own values."""
    assert parse("one", {"data": DataConfig}, ["--data.path=first"])["data"].path == "first"
    with pytest.raises(ConfigError, match="missing"):
        parse("two", {"data": DataConfig}, [])


def test_config_file__sets_values_and_flags_win(tmp_path):
    """A file overrides the defaults, a later file an earlier one, a flag both."""
    first = config_file(
        tmp_path,
        "data: {kind: archive, fraction: 0.5}\nrun:\n  workers: 4\n  resume: false\n  max_resolution: null\n",  # noqa: E501
    )
    second = config_file(tmp_path, "run.workers: 5\n", "second.yaml")
    configs = parsed(first, second, "--data.fraction=0.25")
    assert configs["data"] == DataConfig("x", "archive", 0.25)
    assert configs["run"] == RunConfig(5, False, None)


def test_config_file__numbers_that_yaml_takes_for_text(tmp_path):
    """`1e-1`, text for YAML, is a number here."""
    assert parsed(config_file(tmp_path, "data: {fraction: 1e-1}"))["data"].fraction == 0.1


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (
            "data: {pth: x}",
            "section 'data' has no 'pth'. It has: fraction, kind, path. Did you mean 'path'?",
        ),
        ("dta: {path: x}", "no section 'dta'. Sections: data, run. Did you mean 'data'?"),
        ("dta.path: x", "no section 'dta'."),
        ("workers: 3", "'workers' stands outside of any section"),
        ("run: {workers: 3}\nrun: {resume: 0}", "not valid YAML in line 1: run given twice."),
        ("run: {workers: [1, 2]}", "run.workers: got a list"),
        ("run: {workers: true}", "run.workers: got True, wanted a whole number."),
        ("run: {workers: null}", "run.workers: got 'none', wanted a whole number."),
        ("run: {note: 1.10}", "run.note: got 1.1, wanted text"),
        ("run: {workers: 2.5}", "run.workers: got 2.5"),
        ("- a\n- b", "a config file is a mapping"),
        ("run: {workers: 3", "not valid YAML in line 1"),
        ("3: {a: b}", "no section '3'"),
        ("[" * 5000, "not valid YAML: nested too deeply"),
    ],
)
def test_config_file__anything_it_cannot_use_is_an_error(tmp_path, text, problem):
    """Unknown, doubled and ill-typed entries are refused with the file's name."""
    flag = config_file(tmp_path, text)
    message = error_of(flag)
    assert message.startswith(f"{tmp_path / 'config.yaml'}: ")
    assert problem in message
    assert "\n" not in message


def test_config_file__absent_file_is_an_error():
    """A config file that does not exist is named."""
    assert error_of("--config-file=/nowhere/c.yaml").startswith(
        "/nowhere/c.yaml: the config file cannot be read"
    )


def test_config_file__method_names_the_program(tmp_path):
    """A file made for one method is taken by it and refused by another."""
    flag = config_file(tmp_path, "method: simclr\nrun: {workers: 3}")
    assert parsed(flag, command="simclr")["run"].workers == 3
    assert "the file is for the method 'simclr', this is 'emp_ssl'" in error_of(
        flag, command="emp_ssl"
    )


def test_config_yaml__reads_back_to_the_same_values(tmp_path):
    """The printed configuration, given as a config file, yields equal dataclasses."""
    configs = parsed(
        "--data.fraction=1e-5", "--run.resume=0", "--run.max_resolution=none", "--run.note=1.10"
    )
    flag = config_file(tmp_path, config_yaml(configs, method="simclr"))
    assert parse("simclr", SECTIONS, [flag]) == configs


def test_config_dict__is_plain():
    """The dict holds sections, fields and plain values only."""
    assert config_dict(parsed())["run"] == {
        "workers": -1,
        "resume": True,
        "max_resolution": 500,
        "note": None,
    }


def test_print_config__shows_every_value():
    """Every field of every section has its line."""
    stream = io.StringIO()
    print_config(parsed("--run.workers=3"), stream)
    lines = stream.getvalue().splitlines()
    assert len(lines) == len(fields(DataConfig)) + len(fields(RunConfig))
    assert "run.workers        = 3" in lines


def test_help__names_meaning_choices_and_default(capsys):
    """--help prints each option with what it takes, means and defaults to, by section, and exits
    0.
    """
    with pytest.raises(SystemExit) as caught:
        parse("info", {"file": FileConfig} | SECTIONS, ["--help", "--bogus"], "Shows a file.")
    text = capsys.readouterr().out
    assert caught.value.code == 0
    assert text.startswith("usage: info FILE --data.path=TEXT ")
    for part in (
        "Shows a file.",
        "data: Where the samples come from.",
        "FILE (or --file.path=TEXT)",
        "--data.kind=folder|archive",
        "(0, 1]",
    ):
        assert part in text
    assert re.search(r"--run\.resume=0\|1\n +go on where the last run ended\. Default: 1\.", text)
    assert re.search(
        r"--run\.max_resolution=N\|none\n +longest side, pixels\. Default: 500\.", text
    )


def test_help__lines_fit_the_terminal(capsys, monkeypatch):
    """No line of the help is wider than the terminal, except a flag that has no blank to break at."""  # noqa: E501
    monkeypatch.setenv("COLUMNS", "60")
    with pytest.raises(SystemExit):
        parse("x", SECTIONS, ["--help"])
    assert max(len(line) for line in capsys.readouterr().out.splitlines()[1:]) <= 60


def test_sections__without_help_or_with_other_types_are_refused():
    """A field that no help explains, or of a type no flag can carry, is a programming error."""

    @dataclass(frozen=True)
    class Silent:
        size: int = 3

    @dataclass(frozen=True)
    class Listed:
        sizes: list = field(default=(), metadata={"help": "sizes"})

    with pytest.raises(TypeError, match=r"Silent\.size needs metadata"):
        parse("x", {"silent": Silent}, [])
    with pytest.raises(TypeError, match="configuration field is"):
        parse("x", {"listed": Listed}, [])
