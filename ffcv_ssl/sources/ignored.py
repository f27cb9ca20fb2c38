"""Count the files that a source ignores, and describe them in messages."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ffcv_ssl.codecs.formats import PLUGINS
from ffcv_ssl.system.names import printable

_MAX_NAMES = 6  # names to show in a line


@dataclass
class IgnoredFiles:
    """Counts of the files that a listing ignored, or accepted because of their content.

    Parameters
    ----------
    others
        Files that are not images, by extension.
    hidden
        Hidden and system files and folders, by name.
    beside
        Images next to the class folders, which belong to no class, by extension.
    links
        Number of links to a folder above.
    unlisted
        Class folders that the class list does not name.
    by_content
        Files accepted as images because of their first bytes, by extension.
    """

    others: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    links: int = 0
    unlisted: list[str] = field(default_factory=list)
    by_content: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """Return a short line for each kind of file that was counted."""
        links = "link" if self.links == 1 else "links"
        lines = [
            _counted(self.others, "file that is not an image", "files that are not images"),
            _counted(
                self.hidden, "hidden or system file or folder", "hidden or system files and folders"
            ),
            _counted(
                self.beside,
                "image next to the class folders",
                "images next to the class folders",
            ),
            f"class folders that are not in the class list: {named(self.unlisted)}"
            if self.unlisted
            else "",
            f"{self.links:,} {links} to a folder above" if self.links else "",
        ]
        ignored = [f"ignored: {line}" for line in lines if line]
        accepted = _counted(
            self.by_content, "file recognized by its content", "files recognized by their content"
        )
        return ignored + self.plugin_lines() + ([accepted] if accepted else [])

    def plugin_lines(self) -> list[str]:
        """Return a line for each package that would read some of the ignored files."""
        needed = {
            plugin.package: extension
            for extension, plugin in PLUGINS.items()
            if self.others[extension]
        }
        return [
            f"to read {extension} files: pip install {package}"
            for package, extension in needed.items()
        ]


def named(names: Iterable[str], most: int = _MAX_NAMES) -> str:
    """Join the first few names for a message and count the others.

    Parameters
    ----------
    names
        Names of files or classes.
    most
        Number of names to show, >= 1.

    Returns
    -------
    str
        The names, printable in any locale.

    Examples
    --------
    >>> from ffcv_ssl.sources.ignored import named
    >>> named(["ant", "bee", "cat"], 2)
    'ant, bee … and 1 more'
    """
    names = list(names)
    more = f" … and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def as_sentences(lines: Iterable[str]) -> str:
    """Join lines to sentences that can follow an error message.

    Examples
    --------
    >>> from ffcv_ssl.sources.ignored import as_sentences
    >>> as_sentences(["ignored: 1 file", "to read .heic files: pip install pillow-heif"])
    ' Ignored: 1 file. To read .heic files: pip install pillow-heif.'
    """
    return "".join(f" {line[0].upper()}{line[1:]}." for line in lines)


def _counted(kinds: Counter[str], one: str, many: str) -> str:
    """Format counts as `3 files … (2 .txt, 1 .heic)`, most frequent first; empty if all are 0."""
    total = kinds.total()
    if not total:
        return ""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    shown = named(f"{count:,} {kind}" for kind, count in ordered)
    return f"{total:,} {one if total == 1 else many} ({shown})"
