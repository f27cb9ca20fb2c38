"""Find the image files below a folder and count the files that are ignored."""

from __future__ import annotations

import os
from collections.abc import Iterable

from ffcv_ssl.codecs.formats import HEAD_BYTES, format_of, plugin_of, readable_extensions
from ffcv_ssl.errors import SourceError
from ffcv_ssl.sources.ignored import IgnoredFiles
from ffcv_ssl.system.names import unicode_name

# Names that file managers, archives and file servers create next to the files of users.
_SYSTEM = """
@eaDir #recycle #snapshot @tmp @Recycle @Recently-Snapshot ~snapshot $RECYCLE.BIN RECYCLER __MACOSX
lost+found desktop.ini Thumbs.db ehthumbs.db ehthumbs_vista.db __pycache__
"""
_WITH_BLANKS = ("System Volume Information", "Icon\r")
SYSTEM_NAMES = {name.casefold(): name for name in (*_SYSTEM.split(), *_WITH_BLANKS)}

# Extensions of files that are never training images, even if their first bytes look like one: raw
# photos start as TIFF and contain a thumbnail, backups and thumbnails would count an image twice,
# and incomplete downloads would stop the conversion.
_OTHERS = """
txt csv tsv json jsonl xml yaml yml toml md rst html htm log pdf doc docx xls xlsx py ipynb sh lst
npy npz mat pkl pt pth h5 hdf5 tfrecord parquet arrow db sqlite lmdb
zip tar gz tgz bz2 xz zst 7z rar
mp4 mov avi mkv webm mp3 wav flac svg eps
3fr arw cr2 cr3 dcr dng erf fff iiq kdc mef mos mrw nef nrw orf pef raf raw rw2 rwl sr2 srf srw x3f
thm jpg_original bak tmp part crdownload download
"""
NEVER_IMAGES = frozenset(f".{name}" for name in _OTHERS.split())
# Formats whose first bytes occur in other files too: slide scans and maps are TIFF, a text may
# start like PPM. A file with such a start is an image only if it has no extension that says
# otherwise.
_AMBIGUOUS = ("TIFF", "PPM", "JXL")
NO_EXTENSION = "without extension"
SPECIAL = "not a regular file"


def image_files(root: str, below: str = "", ignored: IgnoredFiles | None = None) -> list[str]:
    """List the image files in a folder and all folders below it.

    A file is an image if it has a known extension, in upper or lower case. A file with an unknown
    extension, or none, is an image if its first bytes are those of an image. Hidden and system
    files and folders are ignored; links are followed.

    Parameters
    ----------
    root
        Folder that the paths are relative to.
    below
        Folder to search, relative to `root`.
    ignored
        Counts of ignored files, updated in place. None counts nothing.

    Returns
    -------
    list of str
        Sorted paths relative to `root`.

    Raises
    ------
    SourceError
        If a folder cannot be read.
    """
    ignored = IgnoredFiles() if ignored is None else ignored
    known = readable_extensions()
    files = []
    folders: list[tuple[str, frozenset[str]]] = [(below, frozenset())]
    while folders:
        folder, ancestors = folders.pop()
        identity = os.path.realpath(os.path.join(root, folder))
        if identity in ancestors:
            ignored.links += 1
            continue
        for entry in visible_entries(os.path.join(root, folder), ignored):
            if is_folder(entry):
                folders.append((os.path.join(folder, entry.name), ancestors | {identity}))
            elif is_image(entry, known, ignored):
                files.append(os.path.join(folder, entry.name))
    return sorted(files, key=unicode_name)


def visible_entries(
    folder: str, ignored: IgnoredFiles, wanted: Iterable[str] = ()
) -> list[os.DirEntry[str]]:
    """List the entries of a folder that are neither hidden nor system files.

    Parameters
    ----------
    folder
        Folder to list.
    ignored
        Counts of ignored files, updated in place.
    wanted
        Names of entries to list in any case.

    Returns
    -------
    list of os.DirEntry
        The entries, unsorted.

    Raises
    ------
    SourceError
        If the folder cannot be read.
    """
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise SourceError(f"{folder}: not a folder that can be read: {error.strerror}.") from error
    visible = []
    for entry in found:
        name = system_name(entry.name)
        if name is None or unicode_name(entry.name) in wanted:
            visible.append(entry)
        else:
            ignored.hidden[name] += 1
    return visible


def system_name(name: str) -> str | None:
    """Return the name under which to count a hidden or system file.

    Parameters
    ----------
    name
        Name of a file or folder.

    Returns
    -------
    str or None
        The name, or the pattern that it matches; None for any other file.
    """
    if name.startswith("._"):
        return "._*"  # AppleDouble: one for each file copied from a Mac
    if name.startswith("."):
        return name
    return SYSTEM_NAMES.get(name.casefold())


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a circular link is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_image(entry: os.DirEntry[str], known: frozenset[str], ignored: IgnoredFiles) -> bool:
    """Return whether an entry that is not a folder is an image.

    Parameters
    ----------
    entry
        Entry of a folder.
    known
        Extensions of images, in lower case with the dot.
    ignored
        Counts, updated if the entry is not an image or is recognized by its content.

    Returns
    -------
    bool
        True for a link to a missing file with a known extension too, so that reading it raises an
        error instead of losing the image silently.
    """
    extension = extension_of(entry.name)
    try:
        is_regular = entry.is_file()
    except OSError:  # a circular link
        is_regular = False
    if extension in known and (is_regular or entry.is_symlink()):
        return True
    may_be = is_regular and extension not in known and extension not in NEVER_IMAGES
    if may_be and _begins_as_image(entry.path, extension):
        ignored.by_content[extension or NO_EXTENSION] += 1
        return True
    ignored.others[(extension or NO_EXTENSION) if is_regular else SPECIAL] += 1
    return False


def extension_of(name: str) -> str:
    """Return the extension of a file name in lower case, with the dot; empty if there is none.

    Examples
    --------
    >>> from ffcv_ssl.sources.listing import extension_of
    >>> extension_of("a.JPG"), extension_of("README")
    ('.jpg', '')
    """
    extension = os.path.splitext(name)[1].lower()
    return "" if extension == "." else extension


def _begins_as_image(path: str, extension: str) -> bool:
    """Return whether the first bytes of a file are those of an image that can be decoded."""
    try:
        with open(path, "rb", buffering=0) as file:
            found = format_of(file.read(HEAD_BYTES))
    except OSError:
        return False
    if found is None or (extension and found in _AMBIGUOUS):
        return False
    plugin = plugin_of(found)
    return plugin is None or plugin.installed()
