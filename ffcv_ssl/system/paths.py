"""Paths from users: `~` and `$VARIABLES` are expanded, paths that are not local are rejected."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

from ffcv_ssl.errors import ConfigError

EXPANDED = "expanded"  # marks the annotation of a configuration value that is a path
LocalPath = Annotated[str, EXPANDED]  # a configuration field whose value `expanded_path` expands

_BUCKET, _URL = "an object in a bucket", "a web address"
_BUCKET_SCHEMES = (
    *("s3", "s3a", "s3n", "gs", "gcs", "az", "abfs", "abfss"),
    *("wasb", "wasbs", "oci", "r2", "oss", "swift"),
)
_SCHEMES = {
    **dict.fromkeys(_BUCKET_SCHEMES, _BUCKET),
    **dict.fromkeys(("http", "https", "ftp", "ftps"), _URL),
    "hf": "a file on the Hugging Face Hub",
    "hdfs": "a file in HDFS",
    "dbfs": "a file in DBFS",
}
# pathlib collapses two slashes to one, so one slash is enough after a known scheme.
_SCHEME = re.compile(rf"({'|'.join(_SCHEMES)}|file):/|([a-z][a-z0-9+.-]+)://", re.IGNORECASE)
_VARIABLE = re.compile(r"\$(\w+|\{[^}]*\})", re.ASCII)  # the syntax of `os.path.expandvars`


def local_path(path: str | bytes | os.PathLike[str]) -> str:
    """Return the path of a local file or folder, with `~` expanded.

    Every public class that takes a path calls this function. It does not expand variables, because
    `$` is a valid character in file names; configuration values go through `expanded_path`.

    Parameters
    ----------
    path
        Path as given by the user.

    Raises
    ------
    ConfigError
        If the path is empty, contains a null character, or is a URL or an object in a bucket.
    """
    text = os.fsdecode(path)
    if not text:
        raise ConfigError("got an empty path; give the path of a file or folder.")
    if "\0" in text:
        raise ConfigError(f"{text!r}: a path cannot contain a null character.")
    if match := _SCHEME.match(text):
        raise ConfigError(_not_local_message(text, (match[1] or match[2]).lower()))
    return os.path.expanduser(text)


def expanded_path(text: str) -> str:
    """Return the path of a configuration value, with `~` and environment variables expanded.

    Parameters
    ----------
    text
        Path in which `$NAME` and `${NAME}` are variables. A variable that is not set is kept
        literally if a file with that literal name exists.

    Raises
    ------
    ConfigError
        As `local_path`, or if a variable is not set.
    """
    path = local_path(text)
    unset = [name for name in _VARIABLE.findall(path) if name.strip("{}") not in os.environ]
    if not unset:
        return local_path(os.path.expandvars(path))
    if not os.path.lexists(path):
        raise ConfigError(f"{text}: the environment variable {unset[0].strip('{}')} is not set.")
    return path


@contextmanager
def utf8_path(path: str | os.PathLike[str]) -> Iterator[str]:
    """Provide a UTF-8 path to an existing file or folder, for libraries that require one.

    Parameters
    ----------
    path
        Path that may contain bytes that are not UTF-8. Only Linux allows such names.

    Yields
    ------
    str
        The path itself if it is valid UTF-8, else a path under `/proc/self/fd`, valid inside the
        block.
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


def _not_local_message(text: str, scheme: str) -> str:
    """Return the error message for a path with a scheme."""
    if scheme == "file":
        plain = f"/{text.partition(':')[2].lstrip('/')}"
        return f"{text}: got a file:// address, wanted a plain path such as {plain}."
    kind = _SCHEMES.get(scheme, _URL)
    return (
        f"{text}: {kind} ({scheme}://) is not supported. "
        "Copy it to a local disk and give the path of the copy."
    )
