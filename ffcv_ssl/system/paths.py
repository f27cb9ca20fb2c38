"""Paths as people write them: `~` and `$VARIABLES` expanded, what is no local path refused in one wording."""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from ffcv_ssl.errors import ConfigError

EXPANDED = "expanded"  # marks an annotation whose values are paths
LocalPath = Annotated[
    str, EXPANDED
]  # of a configuration field: `~` and `$VARIABLES` in its value are expanded when it is read

_BUCKET, _URL = "an object in a bucket", "a web address"
_SCHEMES = {
    **dict.fromkeys(
        (
            "s3",
            "s3a",
            "s3n",
            "gs",
            "gcs",
            "az",
            "abfs",
            "abfss",
            "wasb",
            "wasbs",
            "oci",
            "r2",
            "oss",
            "swift",
        ),
        _BUCKET,
    ),
    **dict.fromkeys(("http", "https", "ftp", "ftps"), _URL),
    "hf": "a file on the Hugging Face Hub",
    "hdfs": "a file in HDFS",
    "dbfs": "a file in DBFS",
}
# pathlib makes one slash of two, so a known scheme is recognised with one.
_SCHEME = re.compile(rf"({'|'.join(_SCHEMES)}|file):/|([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)  # as `os.path.expandvars` sees them


def local_path(path: str | bytes | os.PathLike) -> str:
    """The path of a file or folder on this machine, with `~` expanded.

    Variables stay as they are: a program has `os.path.expandvars`, and `$` may be part of a name. Every public class that takes a path
    calls this; the configuration calls `expanded_path`.

    Raises
    ------
    ConfigError
        If it is empty, holds a null character, or names something elsewhere: an object in a bucket, a web address.
    """
    text = os.fsdecode(path)
    if not text:
        raise ConfigError("got an empty path, wanted that of a file or folder.")
    if "\0" in text:
        raise ConfigError(f"{text!r}: a path cannot hold a null character.")
    if found := _SCHEME.match(text):
        raise ConfigError(_elsewhere(text, (found[1] or found[2]).lower()))
    return os.path.expanduser(text)


def expanded_path(text: str) -> str:
    """`local_path` of a configuration value, in which variables are expanded too.

    A variable that is not set is an error, unless a file has that very name.

    Raises
    ------
    ConfigError
        As `local_path`, and naming a variable that is not set.
    """
    path = local_path(text)
    unset = [name for name in _VARIABLE.findall(path) if name.strip("{}") not in os.environ]
    if not unset:
        return local_path(os.path.expandvars(path))
    if not os.path.lexists(path):
        raise ConfigError(f"{text}: the environment variable {unset[0].strip('{}')} is not set.")
    return path


@contextmanager
def utf8_path(path: str | os.PathLike) -> Iterator[str]:
    """The path of an existing file or folder for libraries that want UTF-8: as it is, or by a descriptor that is open for the block.

    Only Linux allows other names, and there a descriptor has a path.
    """
    text = os.fspath(path)
    try:
        text.encode()
    except UnicodeEncodeError:
        descriptor = os.open(text, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield f"/proc/self/fd/{descriptor}"
        finally:
            os.close(descriptor)
    else:
        yield text


def _elsewhere(text: str, scheme: str) -> str:
    """What a path with a scheme is, and what to do instead."""
    if scheme == "file":
        return f"{text}: got a file:// address, wanted a plain path such as /{text.partition(':')[2].lstrip('/')}."
    kind = _SCHEMES.get(scheme, _URL)
    return f"{text}: {kind} ({scheme}://) cannot be read or written in this version. Copy it to a local disk and give the path of the copy."
