"""Sphinx side of the book: offline assets, stale chapters, source of functions, API pages."""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import textwrap
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path
from typing import Any

import nbformat
import plotly
from docutils import nodes
from jupyter_cache import get_cache
from jupyter_cache.base import CacheBundleIn
from jupyter_cache.executors.utils import single_nb_execution
from myst_nb.core.read import create_nb_reader
from sphinx import addnodes
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.transforms import SphinxTransform
from sphinx.util import logging
from sphinx.util.docutils import SphinxDirective

from evcm import __version__, plots
from evcm.store import archive

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))  # the tools lie beside the package

from book._ext import evcm_live as npm
from book._tools import build as book
from book._tools import registry
from book._tools.execution import ForkManager, preload
from book._tools.notebook import find_source, plain_cells

ASSETS = Path(__file__).parent / "assets"
SCRIPTS = ("plotly.min.js", "evcm-templates.js", "evcm.js")
SOURCE = "evcm-source.zip"
"""The source of the book, in the root of the built pages where no repository is named."""

SHORT_SOURCE = 16
"""Lines up to which a function is shown in full; a longer one opens on request."""

logger = logging.getLogger(__name__)


def substitute(app: Sphinx, config: Any) -> None:
    """Values that pages name in double braces, and the theme's button for the repository."""
    address = repository()
    if re.search("github|gitlab|bitbucket", address):  # the theme knows no other
        button = {"repository_url": address, "use_repository_button": True}
        config.html_theme_options = {**config.html_theme_options, **button}
    if not address and pack_source(Path(app.outdir) / SOURCE):
        address = f"../{SOURCE}"
    words = {"source": "source", "source_es": "código fuente"}
    if address:
        words = {name: f'<a href="{address}">{word}</a>' for name, word in words.items()}
    config.myst_substitutions = {**config.myst_substitutions, "version": __version__, **words}


def repository() -> str:
    """Address of the repository: GitHub's own variables, else that of CITATION.cff, else none."""
    name = os.environ.get("GITHUB_REPOSITORY")
    if name:
        return f"{os.environ.get('GITHUB_SERVER_URL', 'https://github.com')}/{name}"
    text = (book.ROOT / "CITATION.cff").read_text("utf-8")
    said = re.search(r"^repository-code: *[\"']?([^\"'\s]+)", text, re.MULTILINE)
    return said[1] if said else ""


def pack_source(target: Path) -> bool:
    """Put the committed source beside the pages; False where there is no git or no checkout."""
    target.parent.mkdir(parents=True, exist_ok=True)
    command = ["git", "archive", "--format=zip", "--prefix=evcm/", f"--output={target}", "HEAD"]
    try:
        return subprocess.run(command, cwd=book.ROOT, capture_output=True).returncode == 0
    except OSError:
        return False


def prepare_assets(app: Sphinx) -> None:
    """Collect the shared scripts from the installed packages and from here."""
    folder = Path(app.outdir).parent / ".assets"
    folder.mkdir(parents=True, exist_ok=True)
    place_plotly(folder)
    templates = json.dumps(plots.templates(), sort_keys=True)
    (folder / "evcm-templates.js").write_text(f"window.evcmTemplates={templates};\n", "utf-8")
    for name in ("evcm.js", "evcm-print.js", "evcm-search.js", "evcm.css"):
        shutil.copy2(ASSETS / name, folder)
    app.config.html_static_path.append(str(folder))
    app.add_css_file("evcm.css")
    app.add_js_file("evcm-print.js", loading_method="defer")


def place_plotly(folder: Path) -> None:
    """The script that draws figures: plotly's cartesian build, a third of the whole one.

    It comes from npm at build time. Without npm or a network the whole build is taken from the
    plotly package; pages are then larger, and the same.
    """
    target = folder / "plotly.min.js"
    try:
        script = npm.member(npm.CARTESIAN, folder.parent / ".npm", "plotly-cartesian.min.js")
        target.write_bytes(script)
    except (npm.MissingError, KeyError, OSError, tarfile.TarError) as error:
        logger.info(f"figures are drawn by the whole of plotly.js: {error}")
        shutil.copy2(Path(plotly.__file__).parent / "package_data" / "plotly.min.js", target)


def speak(_app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any) -> None:
    """Name the language of a page: one that ends in ``_es`` is Spanish."""
    context["language"] = "es" if page.endswith("_es") else "en"
    if page.endswith("_es"):
        body = context.get("body", "")
        body = re.sub(r'(caption-number">)Table ', r"\1Tabla ", body)
        said = r'(?:data-texts|aria-valuetext)="[^"]*"|<output>[^<]*'
        apart = lambda match: re.sub(r"(\d),(?=\d{3})", "\\1\u202f", match[0])  # noqa: E731
        context["body"] = re.sub(said, apart, body)


def add_scripts(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    """Load plotly only on pages that show a figure."""
    if 'class="evcm-plot' in context.get("body", ""):
        for name in SCRIPTS:
            app.add_js_file(name, loading_method="defer")
    if page == "search":
        app.add_js_file("evcm-search.js", loading_method="defer", priority=900)
    # Anchors stand between the items of a list of references: a list in looks, not for a reader.
    body = context.get("body", "")
    context["body"] = body.replace('<div role="list" class="citation', '<div class="citation')


def offer_notebook(
    app: Sphinx, page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    """Put the page's notebook beside it, plain and without outputs."""
    made = Path(app.outdir).parent / "jupyter_execute" / f"{page}.ipynb"
    if not made.is_file() or page not in app.env.found_docs:
        return
    notebook = nbformat.read(made, as_version=4)
    notebook = plain_cells(notebook)
    target = Path(app.outdir) / "_sources" / f"{page}.ipynb"
    target.parent.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, target)
    context["ipynb_source"] = f"{page}.ipynb"


def pack_results(app: Sphinx, error: Exception | None) -> None:
    """Put the tables behind the book beside its pages, for `evcm results get`."""
    folder = archive.folder()
    if error is None and folder.is_dir():
        archive.pack(folder, Path(app.outdir) / archive.NAME)


def shorten_toctree(
    app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    """Draw the navigation from the titles of pages: all it shows, a tenth of what Sphinx copies."""
    whole, drawn = app.env.tocs, context["toctree"]

    def titles(**options: Any) -> str:
        app.env.tocs = short_tocs(app.env) if options.get("titles_only") else whole
        try:
            return str(drawn(**options))
        finally:
            app.env.tocs = whole

    context["toctree"] = titles


def short_tocs(env: BuildEnvironment) -> dict[str, nodes.bullet_list]:
    """Contents of every page without its sections, as Sphinx cuts them where titles are asked."""
    if not hasattr(env, "evcm_tocs"):
        env.evcm_tocs = {name: toc.deepcopy() for name, toc in env.tocs.items()}  # type: ignore[attr-defined]
        for toc in env.evcm_tocs.values():  # type: ignore[attr-defined]
            for top in toc:
                if len(top) > 1:
                    trees = list(top.findall(addnodes.toctree))
                    top[1:] = [nodes.bullet_list("", *trees)] if trees else []
    return env.evcm_tocs  # type: ignore[attr-defined, no-any-return]


def drop_scripts(
    _app: Sphinx, _page: str, _template: str, context: dict[str, Any], _tree: Any
) -> None:
    """Leave out what a page does not use: the live-kernel client, and MathJax without formulas."""
    unused = ["thebe"] if 'class="math' in context.get("body", "") else ["thebe", "mathjax"]
    for kind in ("script_files", "css_files"):
        files = context.get(kind, [])
        context[kind] = [f for f in files if not any(mentions(f, word) for word in unused)]


UNUSED = re.compile(
    r"[ ]*<script[^>]*(?:scripts/fontawesome|searchtools|language_data|searchindex)\.js[^>]*>"
    r"</script>\n?"
)
"""Scripts that the theme loads on every page: icons that its style sheet draws as well, and the
index of the search, which has a page of its own."""


SIGNATURE = re.compile(r"<dl>\n((?:<dd>.*\n)+)</dl>")
"""Parameters of a signature over several lines: a list without terms, which is none."""


def mend(text: str) -> str:
    """A page whose folds have names, whose signatures are no lists, and without icons of brands."""
    text = re.sub(r"\bfab fa-(?:github|gitlab|bitbucket)\b", "fas fa-code", text)
    folds = '<summary><span class="toctree-toggle"'
    text = text.replace(folds, folds.replace("<summary>", '<summary aria-label="Pages below">'))

    def lines(match: re.Match[str]) -> str:
        rows = match[1].replace("<dd>", '<span class="evcm-sig-line">').replace("</dd>", "</span>")
        return f"<span>{rows}</span>"

    return SIGNATURE.sub(lines, text)


def lighten(app: Sphinx, error: Exception | None) -> None:
    """Take from every page the scripts that it does not use, give it its icons, and mend it."""
    out = Path(app.outdir)
    if error is not None or app.builder.format != "html":
        return
    names: set[str] = set()
    for page in out.rglob("*.html"):
        text = page.read_text("utf-8")
        less = mend(text if page.name == "search.html" else UNUSED.sub("", text))
        names |= set(re.findall(r"\bfa-[a-z0-9-]+", less))
        if less != text:
            page.write_text(less, "utf-8")
    theme = out / "_static" / "styles" / "pydata-sphinx-theme.css"
    if theme.is_file():
        (out / "_static" / "evcm-icons.woff").write_bytes(icons(theme, names))


def icons(theme: Path, names: set[str]) -> bytes:
    """The theme's font of icons, with those alone that pages name or the theme's rules draw."""
    from fontTools import subset

    style = theme.read_text("utf-8")
    codes = {int(c, 16) for c in re.findall(r'--pst-icon[\w-]+:"\\([0-9a-f]+)"', style)}
    codes |= {ord(c) for c in re.findall(r'--pst-icon[\w-]+:"([^"\\])"', style)}
    for selectors, code in re.findall(r'([^{}]*)\{content:"\\([0-9a-f]+)"\}', style):
        if names & set(re.findall(r"\.(fa-[a-z0-9-]+):", selectors)):
            codes.add(int(code, 16))
    font = theme.parents[1] / "vendor" / "fontawesome" / "webfonts" / "fa-solid-900.ttf"
    options = subset.Options(layout_features=[])
    loaded = subset.load_font(str(font), options)
    cut = subset.Subsetter(options)
    cut.populate(unicodes=codes)
    cut.subset(loaded)
    loaded.flavor = "woff"
    made = io.BytesIO()
    loaded.save(made)
    return made.getvalue()


def mentions(file: Any, word: str) -> bool:
    """Whether a script or style sheet of a page, linked or inline, names something."""
    parts = [str(file), str(getattr(file, "filename", "")), *map(str, vars(file).values())]
    return any(word in part.lower() for part in parts)


def drop_stale(app: Sphinx, _env: Any, _added: Any, _changed: Any, _removed: Any) -> list[str]:
    """Forget the executed form of chapters whose fingerprint changed, and read them again."""
    root = Path(app.srcdir)
    known = book.read_record(root)
    outdated = book.stale(known, root)
    cache = get_cache(app.config.nb_execution_cache_path)
    records = {Path(r.uri): r for r in cache.list_cache_records()}
    for name in outdated:
        record = records.get(root / f"{name}.md")
        if record is not None:
            cache.remove_cache(record.pk)
        known.pop(name, None)
    app.evcm_fingerprints = {**known, **outdated}  # type: ignore[attr-defined]
    book.write_record(known, root)
    again = set(outdated)
    modules = book.all_modules()
    if getattr(app.env, "evcm_modules", modules) != modules:
        again |= {f"book/{p.stem}" for p in (root / "book").glob("api*.md")}
    app.env.evcm_modules = modules  # type: ignore[attr-defined]
    again |= generated(root)
    return [name for name in again if name in app.env.found_docs]


def generated(root: Path) -> set[str]:
    """Pages that show the registry: they are read again at every build."""
    pages = (root / "book").glob("*.md")
    return {f"book/{p.stem}" for p in pages if "{evcm-registry}" in p.read_text("utf-8")}


def keep_record(app: Sphinx, _env: BuildEnvironment) -> None:
    """Note under which fingerprint each cached chapter was executed."""
    root = Path(app.srcdir)
    cache = get_cache(app.config.nb_execution_cache_path)
    cached = {Path(r.uri) for r in cache.list_cache_records()}
    now = app.evcm_fingerprints  # type: ignore[attr-defined]
    book.write_record({n: f for n, f in now.items() if root / f"{n}.md" in cached}, root)


def execute_ahead(app: Sphinx, env: BuildEnvironment, names: list[str]) -> None:
    """Execute the chapters that are about to be read, several at a time, into the cache.

    A chapter that raises is left to the reader of its page, which runs it again and reports it.
    """
    cache = get_cache(app.config.nb_execution_cache_path)
    todo = []
    for name in names:
        path = Path(env.doc2path(name))
        text = path.read_text("utf-8")
        reader = create_nb_reader(str(path), env.myst_config, env.mystnb_config, text)  # type: ignore[attr-defined]
        if reader is None or not book.is_executed(path):
            continue
        notebook = reader.read(text)
        try:
            cache.match_cache_notebook(notebook)
        except KeyError:
            todo.append((path, reader, notebook))
    if len(todo) < 2:
        return
    preload(sorted({name for path, _, _ in todo for name in book.modules(path)}))
    with ThreadPoolExecutor(max_workers=os.cpu_count()) as pool:
        jobs = {pool.submit(run_notebook, path, notebook): (path, r) for path, r, notebook in todo}
        for done, job in enumerate(as_completed(jobs), 1):
            path, reader = jobs[job]
            result = job.result()
            word = f"{result.time:.1f} s"
            if result.err:
                last = (result.exc_string or "").strip().splitlines()[-1:]
                word = f"raises, to be run again: {' '.join(last)}"
            logger.info(f"executed {path.stem} ({done} of {len(jobs)}): {word}")
            if result.err is None:
                stage = cache.add_nb_to_project(str(path), read_data=reader.read_fmt)
                data = {"execution_seconds": result.time}
                bundle = CacheBundleIn(result.nb, stage.uri, data=data)
                cache.cache_notebook_bundle(bundle, check_validity=False, overwrite=True)


def run_notebook(path: Path, notebook: Any) -> Any:
    """Execute one notebook in a kernel of its own, a fork of one that has nothing but imports."""
    return single_nb_execution(
        notebook, cwd=str(path.parent), timeout=600, allow_errors=False,
        kernel_manager_class=ForkManager,
    )  # fmt: skip


class Captions(SphinxTransform):
    """A cell's caption belongs to its table where it shows one: numbered and named as a table."""

    default_priority = 500

    def apply(self, **_: Any) -> None:
        """Move caption, name and target from the figure around a table to the table."""
        for figure in list(self.document.findall(nodes.figure)):
            table = next(iter(figure.findall(nodes.table)), None)
            caption = next((c for c in figure if isinstance(c, nodes.caption)), None)
            if table is None or caption is None:
                continue
            table.insert(0, nodes.title("", "", *caption.children))
            table["ids"] += figure["ids"]
            table["names"] += figure["names"]
            self.document.ids.update(dict.fromkeys(figure["ids"], table))
            figure.remove(caption)
            figure.replace_self(figure.children)


class Source(SphinxDirective):
    """``{evcm-source} evcm.trips.legs.draw``: source of a function as it stands in the package."""

    required_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Find the function without importing it, and show it with a link to the reference."""
        target = self.arguments[0]
        try:
            file, text = find_source(target)
        except LookupError as error:
            raise self.error(str(error)) from error
        self.env.note_dependency(str(file))
        block = nodes.literal_block(text, text, language="python")
        # Private functions have no page in the reference.
        private = any(word.startswith("_") for word in target.split("."))
        link, _ = self.parse_inline(f"`{target}`" if private else f"{{py:obj}}`{target}`")
        count = text.count("\n") + 1
        if count <= SHORT_SOURCE:
            return [nodes.paragraph("", "", *link), block]
        start = f'<details class="evcm-source"><summary>Source, {count} lines</summary>'
        said = first_sentence(text)
        words = [*link, nodes.Text(f": {said}")] if said else link
        return [
            nodes.paragraph("", "", *words), nodes.raw("", start, format="html"), block,
            nodes.raw("", "</details>", format="html"),
        ]  # fmt: skip


def first_sentence(text: str) -> str:
    """First line of the docstring of a function or class."""
    node: Any = ast.parse(textwrap.dedent(text)).body[0]
    return (ast.get_docstring(node) or "").split("\n")[0].replace("`", "")


class Registry(SphinxDirective):
    """``{evcm-registry} paper_map 2.3``: what a function of the registry says, as MyST text."""

    required_arguments = 1
    optional_arguments = 1

    def run(self) -> list[nodes.Node]:
        """Call the function and parse its text in the place of the directive."""
        name, *arguments = self.arguments
        text = getattr(registry, name)(*arguments)
        container = nodes.Element()
        container.document = self.state.document
        self.state.nested_parse(_lines(text), self.content_offset, container)
        return container.children


class Api(SphinxDirective):
    """``{evcm-api} evcm.trips.legs evcm.trips.cars``: reference of modules, from their docstrings.

    A name that ends in ``.*`` stands for a package and all its public modules.
    """

    required_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """One section per module."""
        made: list[nodes.Node] = []
        for name in expand(self.arguments[0].split()):
            section = nodes.section(ids=[nodes.make_id(f"module-{name}")])
            section += nodes.title(name, name)
            lines = [f".. automodule:: {name}", "   :members:", "   :show-inheritance:"]
            lines.append("   :ignore-module-all:")
            text = "```{eval-rst}\n" + "\n".join(lines) + "\n```"
            container = nodes.Element()
            container.document = self.state.document
            self.state.nested_parse(_lines(text), 0, container)
            section += container.children
            made.append(section)
            spec = book.ROOT.joinpath(*name.split("."))
            for file in (spec.with_suffix(".py"), spec / "__init__.py"):
                if file.is_file():
                    self.env.note_dependency(str(file))
        return made


def _lines(text: str) -> Any:
    from docutils.statemachine import StringList

    return StringList(text.splitlines(), "evcm-api")


def expand(names: list[str]) -> list[str]:
    """Names of modules: ``evcm.v2x.*`` is a folder and all public modules in it.

    ``rest`` stands for every public module that no page names: a new module is never left out.
    """
    found: list[str] = []
    for name in names:
        if name == "rest":
            found += rest()
        elif name.endswith(".*"):
            base = name.removesuffix(".*")
            inside = [m for m in book.all_modules() if m.startswith(f"{base}.")]
            found += [base, *(m for m in inside if not any(w[0] == "_" for w in m.split(".")))]
        else:
            found.append(name)
    return list(dict.fromkeys(n for n in found if exists(n)))


def rest() -> list[str]:
    """Public modules that no page of the reference names."""
    named: set[str] = set()
    for page in (book.ROOT / "book").glob("*.md"):
        for words in re.findall(r"^```\{evcm-api\} (.*)$", page.read_text("utf-8"), re.MULTILINE):
            named |= set(expand([w for w in words.split() if w != "rest"]))
    public = [m for m in book.all_modules() if not any(w[0] == "_" for w in m.split("."))]
    return [m for m in public if m not in named and m != "evcm"]


def exists(name: str) -> bool:
    """Whether a module of the package exists."""
    base = book.ROOT.joinpath(*name.split("."))
    return base.with_suffix(".py").is_file() or (base / "__init__.py").is_file()


def keep_bars(
    _app: Sphinx, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Let ``|x|`` in a docstring mean an absolute value, not a substitution."""
    for i, line in enumerate(lines):
        parts = line.split("``")
        parts[::2] = [re.sub(r"(?<!\\)\|", r"\\|", part) for part in parts[::2]]
        lines[i] = "``".join(parts)


def setup(app: Sphinx) -> dict[str, Any]:
    """Register everything."""
    app.add_directive("evcm-source", Source)
    app.add_directive("evcm-api", Api)
    app.add_directive("evcm-registry", Registry)
    app.add_transform(Captions)
    app.connect("autodoc-process-docstring", keep_bars)
    app.connect("config-inited", substitute)
    app.connect("builder-inited", prepare_assets)
    app.connect("env-get-outdated", drop_stale)
    app.connect("env-before-read-docs", execute_ahead, priority=900)
    app.connect("env-updated", keep_record)
    app.connect("build-finished", pack_results)
    app.connect("build-finished", lighten)
    app.connect("html-page-context", add_scripts)
    app.connect("html-page-context", speak)
    app.connect("html-page-context", shorten_toctree)
    app.connect("html-page-context", offer_notebook, priority=400)
    app.connect("html-page-context", drop_scripts, priority=900)
    return {"version": "1", "parallel_read_safe": False, "parallel_write_safe": True}
