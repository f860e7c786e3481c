"""Sphinx side of the live pages: the solver from npm, its hash checked, as one script.

The npm packages are fetched once with npm (of the environment or of the system) into
``_build/.npm``; every build checks their hashes. Where they cannot be had, the pages keep the
figures computed at build time and say so: the build says it, and goes on.
"""

from __future__ import annotations

import base64
import gzip
import hashlib
import json
import shutil
import subprocess
import sys
import tarfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sphinx.application import Sphinx
from sphinx.util import logging

from evcm.live.page import SCRIPTS

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Package:
    """An npm package at one version, with the integrity that the registry states for it."""

    name: str
    version: str
    integrity: str

    @property
    def file(self) -> str:
        return f"{self.name}-{self.version}.tgz"


SOLVER = Package(
    "highs", "1.15.3",
    "sha512-5rzjBlAkqRxr7FOv+iZjxF8nNfKsEt8uOaP3S6gls6yRf4+Jv4BqBIE3iPFsgfOHutQBMNxRE9jWhxRAM7Oycw==",
)  # fmt: skip
DRAWING = Package(
    "plotly.js-basic-dist-min", "4.1.1",
    "sha512-1oNF8PeQx2hv/y7tqEVWKD3JGwn/MGEMQ8mL9HUwsaqG9FGy/OU5FHUHvzqbqxN4mnwZGI9abTiE775C4kkjMQ==",
)  # fmt: skip
"""Lines and bars alone, a third of the whole: live pages carry the solver already."""


CARTESIAN = Package(
    "plotly.js-cartesian-dist-min", "4.1.1",
    "sha512-o8GrFeusncwBIxbBynRJpY4pkgVB6caM+JLpwrLYbbsO7dZ8FJ+SVN2Fr+L7kiG/Z6w4P5O0Jus/Qr5EefHVeg==",
)  # fmt: skip
"""Everything in two dimensions, for all other pages."""


class MissingError(Exception):
    """A package cannot be had; the message says why."""


def npm() -> str:
    """The npm of this environment, or else of the system."""
    own = Path(sys.executable).parent / "npm"
    found = str(own) if own.is_file() else shutil.which("npm")
    if found is None:
        raise MissingError("npm is not installed")
    return found


def check(package: Package, content: bytes) -> bytes:
    """The content itself, if its hash is the pinned one."""
    kind, _, wanted = package.integrity.partition("-")
    made = base64.b64encode(hashlib.new(kind, content).digest()).decode()
    if made != wanted:
        raise MissingError(f"{package.file} does not have the pinned hash")
    return content


def fetch(package: Package, folder: Path) -> bytes:
    """The package's archive, from `folder` or with npm into it."""
    kept = folder / package.file
    if kept.is_file():
        try:
            return check(package, kept.read_bytes())
        except MissingError:
            kept.unlink()  # damaged: once more
    folder.mkdir(parents=True, exist_ok=True)
    command = [npm(), "pack", f"{package.name}@{package.version}", "--ignore-scripts", "--silent",
               "--pack-destination", str(folder)]  # fmt: skip
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=180, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise MissingError(f"npm failed: {error}") from error
    if done.returncode != 0 or not kept.is_file():
        last = (done.stderr or done.stdout).strip().splitlines()[-1:]
        raise MissingError(
            f"npm cannot fetch {package.name}: {' '.join(last) or 'no reason given'}"
        )
    try:
        return check(package, kept.read_bytes())
    except MissingError:
        kept.unlink()
        raise


def member(package: Package, folder: Path, name: str) -> bytes:
    """One file of a package."""
    fetch(package, folder)
    with tarfile.open(folder / package.file) as archive:
        found = archive.extractfile(f"package/{name}")
        if found is None:
            raise MissingError(f"{package.file} has no {name}")
        return found.read()


def solver_script(folder: Path) -> str:
    """One script with the worker's source and the solver, packed; the same from http and file."""
    loader = member(SOLVER, folder, "build/highs.js").decode("utf-8")
    packed = gzip.compress(member(SOLVER, folder, "build/highs.wasm"), 9, mtime=0)
    worker = loader + "\n" + (SCRIPTS / "worker.js").read_text("utf-8")
    content = {"worker": worker, "wasm": base64.b64encode(packed).decode()}
    return f"window.evcmHighs={json.dumps(content)};\n"


def prepare(app: Sphinx) -> None:
    """Put the scripts of live pages where the book's own assets are."""
    build = Path(app.outdir).parent
    folder, packages = build / ".assets", build / ".npm"
    folder.mkdir(parents=True, exist_ok=True)
    shutil.copy2(SCRIPTS / "live.js", folder / "evcm-live.js")
    shutil.copy2(SCRIPTS / "live.css", folder / "evcm-live.css")
    made: dict[str, bytes] = {}
    try:
        made["evcm-highs.js"] = solver_script(packages).encode()
        made["plotly-basic.min.js"] = member(DRAWING, packages, "plotly-basic.min.js")
    except (MissingError, KeyError, OSError, tarfile.TarError) as error:
        logger.info(f"live pages show the figures computed now, without a solver: {error}")
    for name in ("evcm-highs.js", "plotly-basic.min.js"):
        (folder / name).unlink(missing_ok=True)
        if name in made:
            (folder / name).write_bytes(made[name])
    app.evcm_live = sorted(made)  # type: ignore[attr-defined]


def add_scripts(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    """Load the solver only on pages with a live figure, and there the small drawing library."""
    if 'class="evcm-live"' not in context.get("body", ""):
        return
    made = app.evcm_live  # type: ignore[attr-defined]
    app.add_css_file("evcm-live.css")
    if "plotly-basic.min.js" in made:
        files = context["script_files"]
        for n, file in enumerate(files):
            if "plotly.min.js" in str(getattr(file, "filename", file)):
                del files[n]
                break
        app.add_js_file("plotly-basic.min.js", loading_method="defer", priority=400)
    if "evcm-highs.js" in made:
        app.add_js_file("evcm-highs.js", loading_method="defer")
    app.add_js_file("evcm-live.js", loading_method="defer")


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    app.connect("builder-inited", prepare)
    app.connect("html-page-context", add_scripts, priority=600)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
