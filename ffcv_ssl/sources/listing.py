"""Find the image files below a folder, and count what is passed over."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ffcv_ssl.codecs.formats import HEAD_BYTES, PLUGINS, format_of, plugin_of, readable_extensions
from ffcv_ssl.errors import SourceError
from ffcv_ssl.system.names import printable, unicode_name

# What file managers, archives and file servers put beside people's files.
_SYSTEM = """
@eaDir #recycle #snapshot @tmp @Recycle @Recently-Snapshot ~snapshot $RECYCLE.BIN RECYCLER __MACOSX
lost+found desktop.ini Thumbs.db ehthumbs.db ehthumbs_vista.db __pycache__
"""
_WITH_BLANKS = ("System Volume Information", "Icon\r")
SYSTEM_NAMES = {name.casefold(): name for name in (*_SYSTEM.split(), *_WITH_BLANKS)}

# Extensions whose files are not looked into: they are no images to train on, whatever they begin
# with. Raw photos begin as TIFF does and hold a thumbnail; backups and thumbnails would count an
# image twice; torn downloads would end the conversion.
_OTHERS = """
txt csv tsv json jsonl xml yaml yml toml md rst html htm log pdf doc docx xls xlsx py ipynb sh lst
npy npz mat pkl pt pth h5 hdf5 tfrecord parquet arrow db sqlite lmdb zip tar gz tgz bz2 xz zst 7z rar
mp4 mov avi mkv webm mp3 wav flac svg eps
3fr arw cr2 cr3 dcr dng erf fff iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f
thm jpg_original bak tmp part crdownload download
"""
NEVER_IMAGES = frozenset(f".{name}" for name in _OTHERS.split())
# Formats that other files begin like: scans of slides and maps are TIFF, a text may begin as PPM
# does. Such a file is an image only where its name does not say that it is something else.
_AMBIGUOUS = ("TIFF", "PPM", "JXL")
NO_EXTENSION = "without extension"
SPECIAL = "not a regular file"
_MOST_KINDS = 6  # named in a line


@dataclass
class PassedOver:
    """What a listing left out, and what it took for its content alone.

    Parameters
    ----------
    others
        Files that are no images, by extension.
    hidden
        Hidden and system files and folders, by name.
    beside
        Images beside the class folders, which belong to no class, by extension.
    links
        Links back to a folder above.
    unlisted
        Class folders that the class list does not name.
    by_content
        Files taken as images for what they begin with, by extension.
    """

    others: Counter[str] = field(default_factory=Counter)
    hidden: Counter[str] = field(default_factory=Counter)
    beside: Counter[str] = field(default_factory=Counter)
    links: int = 0
    unlisted: list[str] = field(default_factory=list)
    by_content: Counter[str] = field(default_factory=Counter)

    def lines(self) -> list[str]:
        """All of it in words, a short line each; nothing where nothing was left out."""
        lines = [
            _counted(self.others, "file that is not an image", "files that are not images"),
            _counted(self.hidden, "hidden or system file or folder", "hidden or system files and folders"),
            _counted(self.beside, "image beside the class folders", "images beside the class folders"),
            f"class folders that are not in the class list: {named(self.unlisted)}" if self.unlisted else "",
            f"{self.links:,} links back to a folder above" if self.links else "",
        ]
        passed_over = [f"passed over: {line}" for line in lines if line]
        taken = _counted(self.by_content, "file taken for its content", "files taken for their content")
        return passed_over + self.plugin_lines() + ([taken] if taken else [])

    def plugin_lines(self) -> list[str]:
        """What to install to read images that were left out."""
        needed = {plugin.package: extension for extension, plugin in PLUGINS.items() if self.others[extension]}
        return [f"to read {extension} files: pip install {package}" for package, extension in needed.items()]


def image_files(root: str, below: str = "", passed_over: PassedOver | None = None) -> list[str]:
    """Paths, relative to `root`, of the image files in `root/below` and its folders, sorted.

    A file is an image by its extension, in any case. One of an unknown extension, or of none, is an
    image if its first bytes are those of one. Hidden and system files and folders are left out.

    Parameters
    ----------
    passed_over
        Takes the counts.

    Raises
    ------
    SourceError
        If a folder cannot be read.
    """
    passed_over = PassedOver() if passed_over is None else passed_over
    known = readable_extensions()
    files = []
    folders: list[tuple[str, frozenset[str]]] = [(below, frozenset())]
    while folders:
        folder, ancestors = folders.pop()
        identity = os.path.realpath(os.path.join(root, folder))
        if identity in ancestors:
            passed_over.links += 1
            continue
        for entry in visible_entries(os.path.join(root, folder), passed_over):
            if is_folder(entry):
                folders.append((os.path.join(folder, entry.name), ancestors | {identity}))
            elif is_image(entry, known, passed_over):
                files.append(os.path.join(folder, entry.name))
    return sorted(files, key=unicode_name)


def visible_entries(folder: str, passed_over: PassedOver, wanted: Iterable[str] = ()) -> list[os.DirEntry]:
    """Entries of a folder that are neither hidden nor a system's, or are wanted by name."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise SourceError(f"{folder}: not a folder that can be read: {error.strerror}.") from error
    visible = []
    for entry in found:
        system = system_name(entry.name)
        if system is None or unicode_name(entry.name) in wanted:
            visible.append(entry)
        else:
            passed_over.hidden[system] += 1
    return visible


def system_name(name: str) -> str | None:
    """What to call a hidden or system file or folder; None for any other."""
    if name.startswith("._"):
        return "._*"  # AppleDouble: one beside each file that a Mac copied
    if name.startswith("."):
        return name
    return SYSTEM_NAMES.get(name.casefold())


def is_folder(entry: os.DirEntry) -> bool:
    """Whether an entry is a folder or leads to one; a link in a circle leads nowhere."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_image(entry: os.DirEntry, known: frozenset[str], passed_over: PassedOver) -> bool:
    """Whether an entry that is no folder is an image; counted if not, or if by its content alone."""
    extension = extension_of(entry.name)
    try:
        regular = entry.is_file()
    except OSError:  # a link in a circle
        regular = False
    if extension in known and (regular or entry.is_symlink()):
        return True  # a broken link too: it is better missed aloud, when it is read
    may_be = regular and extension not in known and extension not in NEVER_IMAGES
    if may_be and _begins_as_image(entry.path, extension):
        passed_over.by_content[extension or NO_EXTENSION] += 1
        return True
    passed_over.others[(extension or NO_EXTENSION) if regular else SPECIAL] += 1
    return False


def extension_of(name: str) -> str:
    """`.jpg` of `a.JPG`, in small letters; empty where there is none."""
    extension = os.path.splitext(name)[1].lower()
    return "" if extension == "." else extension


def named(names: Iterable[str], most: int = _MOST_KINDS) -> str:
    """The first few names, fit to be shown, and how many more there are."""
    names = list(names)
    more = f" … and {len(names) - most:,} more" if len(names) > most else ""
    return ", ".join(map(printable, names[:most])) + more


def _begins_as_image(path: str, extension: str) -> bool:
    """Whether a file's first bytes are those of an image that can be read here."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = format_of(file.read(HEAD_BYTES))
    except OSError:
        return False
    if found is None or (extension and found in _AMBIGUOUS):
        return False
    plugin = plugin_of(found)
    return plugin is None or plugin.installed()


def _counted(kinds: Counter[str], one: str, many: str) -> str:
    """`3 files that … (2 .txt, 1 .heic)`, the most frequent first; empty where there are none."""
    total = kinds.total()
    if not total:
        return ""
    ordered = sorted(kinds.items(), key=lambda item: (-item[1], item[0]))
    shown = named(f"{count:,} {kind}" for kind, count in ordered)
    return f"{total:,} {one if total == 1 else many} ({shown})"
