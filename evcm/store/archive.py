"""The tables behind the book as one archive: packed by its build, fetched by `evcm results get`."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path, PurePosixPath
from urllib.error import URLError
from urllib.parse import urljoin, urlsplit
from urllib.request import urlopen

from evcm import data
from evcm.errors import Checks, EvcmError
from evcm.store.results import STEPS

NAME = "evcm-results.zip"
"""Name of the archive, in the root of the built book."""

MOST_BYTES = 200_000_000
"""An archive, or what it unpacks to, that is larger is refused."""

SECONDS = 60


def home() -> Path:
    """Where fetched tables are kept: ``evcm/results`` in the user's folder for data."""
    base = os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share"
    return Path(base) / "evcm" / "results"


def folder() -> Path:
    """Where chapters read: EVCM_RESULTS, else ``results/`` of the checkout, else `home`."""
    named, root = os.environ.get("EVCM_RESULTS"), data.checkout()
    if named:
        return Path(named)
    return root / "results" if root is not None else home()


def pack(results: Path, target: Path) -> int:
    """Write the tables of a folder of results, without plans and parts; return how many.

    An archive that is there is replaced.
    """
    tables = [
        table
        for table in sorted(results.rglob("*.parquet"))
        if table.relative_to(results).parts[0] != STEPS
    ]
    target.parent.mkdir(parents=True, exist_ok=True)
    scratch = target.with_suffix(".tmp")
    with zipfile.ZipFile(scratch, "w", zipfile.ZIP_DEFLATED) as archive:
        records = [results / "manifest.json", results / "manifest.json.json"]
        records += [table.with_name(table.name + ".json") for table in tables]
        for file in [*tables, *(r for r in records if r.is_file())]:
            # A fixed date: the same tables give the same archive.
            entry = zipfile.ZipInfo(file.relative_to(results).as_posix())
            entry.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(entry, file.read_bytes())
    scratch.replace(target)
    return len(tables)


def fetch(source: str, target: Path) -> list[str]:
    """Unpack an archive into a folder and return the names of its files.

    `source` is the address of the built book or of a page of it, or the path of an archive. Files
    of the same names are replaced; others stay.

    Raises
    ------
    InputError
        Neither an address nor a file, or an archive that is not one of tables.
    EvcmError
        The address does not answer.
    """
    content = _content(source)
    checks = Checks("results")
    try:
        archive = zipfile.ZipFile(io.BytesIO(content))
    except zipfile.BadZipFile:
        checks.require(False, "source", source, "an archive of tables, evcm-results.zip")
        checks.done()
        raise
    with archive:
        entries = [entry for entry in archive.infolist() if not entry.is_dir()]
        size = sum(entry.file_size for entry in entries)
        checks.require(size <= MOST_BYTES, "unpacked size", size, f"<= {MOST_BYTES}")
        for entry in entries:
            path = PurePosixPath(entry.filename)
            good = path.suffix in (".parquet", ".json") and not path.is_absolute()
            good = good and ".." not in path.parts and "\\" not in entry.filename
            checks.require(good, "file in the archive", entry.filename, "a table or its record")
        checks.done()
        for entry in entries:
            file = target / entry.filename
            file.parent.mkdir(parents=True, exist_ok=True)
            scratch = file.with_name(file.name + ".tmp")
            scratch.write_bytes(archive.read(entry))
            scratch.replace(file)
    return [entry.filename for entry in entries]


def _content(source: str) -> bytes:
    """Bytes of an archive, from a file or from the root of a built book."""
    file, parts = Path(source), urlsplit(source)
    if file.is_dir():
        file = file / NAME
    if file.is_file() and file.stat().st_size <= MOST_BYTES:
        return file.read_bytes()
    checks = Checks("results")
    allowed = "http:// or https:// address of the book, or path of its archive"
    checks.require(parts.scheme in ("http", "https"), "source", source, allowed)
    checks.done()
    address = source if source.endswith(".zip") else urljoin(source.split("/book/")[0] + "/", NAME)
    try:
        with urlopen(address, timeout=SECONDS) as answer:
            return bytes(answer.read(MOST_BYTES))
    except (URLError, OSError) as error:
        raise EvcmError(f"{address}: {error}") from error
