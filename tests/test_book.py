"""The book: what depends on what, that faults fail the build, and the built pages in a browser."""

from __future__ import annotations

import ast
import functools
import gzip
import http.server
import re
import shutil
import subprocess
import sys
import threading
import zipfile
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest

from book._ext import evcm_book
from book._tools import build as book
from book._tools import notebook, pages, registry
from book._tools.execution import SlicedManager
from evcm import __version__
from evcm.store import fingerprint
from tests import browser as b

BUILT = (b.HTML / "index.html").is_file()
needs_book = pytest.mark.skipif(not BUILT, reason="the book is not built (make book)")
needs_chromium = pytest.mark.skipif(
    not b.CHROMIUM.is_file(), reason=f"{b.CHROMIUM} is not installed"
)
PAGES = b.pages()
HEAD = """---
jupytext: {text_representation: {extension: .md, format_name: myst}}
kernelspec: {name: python3, display_name: Python 3, language: python}
---
"""


# ---------------------------------------------------------------------------- what depends on what


def chapter(name: str) -> Path:
    return book.ROOT / "book" / f"{name}.md"


def test_every_page_is_in_the_table_of_contents_and_exists():
    text = (book.ROOT / "_toc.yml").read_text("utf-8")
    listed = re.findall(r"(?:file|root): (\S+)", text)
    assert sorted(listed) == sorted(
        p.relative_to(book.ROOT).with_suffix("").as_posix() for p in book.chapters()
    )


@pytest.mark.parametrize("page", book.chapters(), ids=lambda p: p.stem)
def test_pages_have_a_label_of_their_own_name(page):
    assert f"({page.stem})=" in page.read_text("utf-8")


def test_code_of_a_chapter_is_python_without_cell_options():
    for page in book.chapters():
        compile(book.code(page), str(page), "exec")


@pytest.mark.parametrize(
    "page", [p for p in book.chapters() if book.is_executed(p)], ids=lambda p: p.stem
)
def test_code_of_a_chapter_knows_every_name(page):
    """No undefined name, no unused import: a cell that would fail is known before it runs."""
    assert name_faults(book.code(page)) == ""


def name_faults(code: str) -> str:
    command = [sys.executable, "-m", "ruff", "check", "--isolated", "--quiet", "--select", "F"]
    return subprocess.run(
        [*command, "--output-format", "concise", "-"], input=code, capture_output=True, text=True
    ).stdout


def test_an_unknown_name_is_a_fault():
    assert "F821" in name_faults("from evcm.plots import pages\npages.show(cover)\n")


@pytest.mark.parametrize(
    "page", [p for p in book.chapters() if book.is_executed(p)], ids=lambda p: p.stem
)
def test_cells_in_view_are_short_and_start_with_what_to_change(page):
    """At most 12 lines of 76 columns; plumbing and asserts are folded, solutions are gated."""
    cells = pages.cells(page.read_text("utf-8"))
    faults = {cell.line: cell.faults() for cell in cells if cell.in_view and cell.faults()}
    assert faults == {}


def numbered() -> list[str]:
    """Chapters that are executed: all with a number but the conclusions."""
    text = (book.ROOT / "_toc.yml").read_text("utf-8")
    parts = [part for part in text.split("- caption: ") if "numbered: true" in part]
    names = re.findall(r"file: book/(\S+)", "".join(parts))
    return [n for n in names if n != "conclusions" and book.is_executed(chapter(n))]


@pytest.mark.parametrize("name", numbered())
def test_a_chapter_has_a_cell_to_change(name):
    assert any(cell.in_view for cell in pages.cells(chapter(name).read_text("utf-8")))


REGISTRY = re.compile(r"^```\{evcm-registry\} (.+)\n```$", re.MULTILINE)
FROM_RESULTS = "study_time"
"""The text of the registry that needs the whole study; it has no table."""


def registered(match: re.Match) -> str:
    """What a directive of the registry puts into its page."""
    name, *arguments = match[1].split()
    return "" if name == FROM_RESULTS else getattr(registry, name)(*arguments)


@pytest.mark.parametrize("page", book.chapters(), ids=lambda p: p.stem)
def test_figures_and_tables_have_a_caption_that_says_what_to_see(page):
    assert pages.without_caption(REGISTRY.sub(registered, page.read_text("utf-8"))) == []


def test_a_figure_or_table_without_a_caption_is_a_fault():
    cell = "```{code-cell} python\n%s%s\n```\n"
    options = "---\nmystnb:\n  figure:\n    name: a\n    caption: %s\n---\n"
    for shown in ("draw(1).show()", "pages.frame(t)", "plots.explore(f, {})", "market.page()"):
        assert len(pages.without_caption(cell % ("", shown))) == 1
        assert len(pages.without_caption(cell % (options % "A line.", shown))) == 1
        assert pages.without_caption(cell % (options % "A line. See it rise.", shown)) == []
    assert pages.without_caption(cell % ("", "pages.show('words')")) == []
    two = cell % (options % "See both.", "pages.frame(t)\npages.frame(u)")
    assert len(pages.without_caption(two)) == 1
    inside = "for t in tables:\n    pages.show(f'{t}' + pages.table([], t))"
    assert len(pages.without_caption(cell % ("", inside))) == 1
    table = "| a |\n|---|\n| 1 |\n"
    assert len(pages.without_caption(table)) == 1
    assert pages.without_caption(f"```{{table}} See one.\n:name: t\n\n{table}```\n") == []


CAPTIONED = """() => Array.from(document.querySelectorAll(
  '.bd-article :is(table, .evcm-plot, .evcm-live)')).filter(x => !x.closest('figure')
  && !x.querySelector('caption') && !x.parentElement.closest('table, .evcm-plot, .evcm-live')
).map(x => x.textContent.trim().slice(0, 60))"""


@needs_book
@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("name", ["transmission", "monte_carlo", "hosting", "intro_es"])
def test_what_a_page_shows_is_numbered(chromium, name):
    with b.visit(chromium, (b.HTML / "book" / f"{name}.html").as_uri()) as seen:
        assert seen.page.evaluate(CAPTIONED) == []
        first = seen.page.locator(".bd-article :is(caption, figcaption) .caption-number").first
        assert re.search(r"\d+ *$", first.inner_text())


WORDS = {
    r"\bdear(?:er|est)?\b": "expensive",
    r"\b(?:the|its|this|each) prints?\b(?! *\()": "the printed form",
    r"\bdeficits? (?:at|of (?:energy|power|\d))|\blargest deficit": "shortage, or not supplied",
    r"\b(?:[Pp]eriod|[Hh]alf-hour)s? \d": "the time of the clock",
    r"\}\s\$(?=[;, .)\"])(?!.*\\)": "USD",
}
"""Words that the book does not use, and what it says."""


@pytest.mark.parametrize("page", book.chapters(), ids=lambda p: p.stem)
def test_one_word_for_one_thing(page):
    text = page.read_text("utf-8")
    found = [m[0] for word in WORDS for m in re.finditer(word, text, re.IGNORECASE)]
    assert found == []


def test_every_claim_has_its_words_in_spanish():
    page = chapter("conclusions_es").read_text("utf-8")
    tree = ast.parse(book.ROOT.joinpath("evcm", "study", "claims.py").read_text("utf-8"))
    calls = [n for n in ast.walk(tree) if getattr(getattr(n, "func", None), "id", "") == "Claim"]
    said = [ast.literal_eval(call.args[k]) for call in calls for k in (0, 4)]
    assert len(calls) >= 10
    assert [text for text in said if f'"{text}": ' not in page] == []


def test_a_long_cell_in_view_is_a_fault():
    wide, checked = "x = 1  # " + 70 * "w", "x = 1\nassert x"
    page = "```{code-cell} python\n%s\n```\n"
    assert [c.faults() for c in pages.cells(page % wide)] == [["79 columns"]]
    assert [c.faults() for c in pages.cells(page % checked)] == [["an assert"]]
    assert [c.faults() for c in pages.cells(page % ("x = 1\n" * 13))] == [["13 lines"]]
    for late in ("f(1)", "x = f(1)", "import x"):
        assert [c.faults() for c in pages.cells(page % late)] == [["no parameters first"]]
    assert not any(c.in_view for c in pages.cells(page % (":tags: [hide-input]\n" + checked)))
    gate = "```{solution-start} a\n```\n\n%s\n```{solution-end}\n```\n"
    assert not any(c.in_view for c in pages.cells(gate % (page % checked)))


def edited(monkeypatch, name):
    """Pretend that one module of the package has another source."""
    read = Path.read_bytes

    def bytes_of(path):
        return read(path) + (b"#" if path.as_posix().endswith(f"evcm/{name}") else b"")

    monkeypatch.setattr(Path, "read_bytes", bytes_of)


def test_an_edit_makes_exactly_the_dependent_chapters_stale(monkeypatch):
    pages = {name: chapter(name) for name in ("resolving", "trips", "introduction")}
    before = {name: book.of_chapter(page) for name, page in pages.items()}
    edited(monkeypatch, "aggregator/bigm.py")
    stale = {name for name, page in pages.items() if book.of_chapter(page) != before[name]}
    assert stale == {"resolving"}  # the chapter that imports it


def test_data_of_a_chapter_is_what_its_modules_name():
    folders = book.data_folders(["evcm.reinforcement"])
    assert "reinforcement" in folders
    assert "v2x" not in folders
    assert book.data_folders([], 'data.read_table("published/table2.csv")') == ("published",)


def test_results_count_by_content(tmp_path, monkeypatch):
    monkeypatch.setenv("EVCM_RESULTS", str(tmp_path))
    (tmp_path / "system.parquet").write_bytes(b"1")
    (tmp_path / "system.parquet.json").write_text('{"made": "today"}')
    book._results.cache_clear()
    first = book._results(book.ROOT)
    (tmp_path / "system.parquet.json").write_text('{"made": "tomorrow"}')
    book._results.cache_clear()
    assert book._results(book.ROOT) == first
    (tmp_path / "system.parquet").write_bytes(b"2")
    book._results.cache_clear()
    assert book._results(book.ROOT) != first
    book._results.cache_clear()


def test_record_survives_and_a_broken_one_counts_as_empty(tmp_path):
    book.write_record({"book/intro": "abc"}, tmp_path)
    assert book.read_record(tmp_path) == {"book/intro": "abc"}
    book.record_file(tmp_path).write_text("{")
    assert book.read_record(tmp_path) == {}


def test_command_line_names_its_words(capsys):
    assert book.main(["bake"]) == 2
    assert "usage" in capsys.readouterr().err
    assert book.main(["fingerprints"]) == 0
    assert "book/introduction" in capsys.readouterr().out


def test_modules_of_the_package_are_all_found():
    names = book.all_modules()
    assert {"evcm", "evcm.trips.legs", "evcm.aggregator", "evcm.aggregator.model"} <= set(names)
    assert set(fingerprint.closure(["evcm.trips.legs"])) <= set(names)


# ---------------------------------------------------------------------------- faults fail the build


def test_signatures_are_no_lists_and_folds_have_names():
    made = "<dl>\n<dd><em>a</em>,</dd>\n<dd><em>b</em></dd>\n</dl>\n<dl class='x'><dt></dt></dl>"
    line = '<span class="evcm-sig-line"><em>{}</span>\n'
    lines = line.format("a</em>,") + line.format("b</em>")
    assert evcm_book.mend(made) == f"<span>{lines}</span>\n<dl class='x'><dt></dt></dl>"
    folds = evcm_book.mend('<summary><span class="toctree-toggle"></span></summary>')
    assert folds.startswith('<summary aria-label="Pages below">')


def test_source_link_is_the_repository_or_an_archive(tmp_path, monkeypatch):
    """What CITATION.cff or GitHub names; else an archive of the source beside the pages."""
    monkeypatch.delenv("GITHUB_REPOSITORY", raising=False)
    monkeypatch.setattr(book, "ROOT", tmp_path)
    cff = tmp_path / "CITATION.cff"
    cff.write_text("title: x\n")
    assert evcm_book.repository() == ""
    assert not evcm_book.pack_source(tmp_path / "out" / "source.zip")  # no checkout
    cff.write_text('title: x\nrepository-code: "https://host/a/b"\n')
    assert evcm_book.repository() == "https://host/a/b"
    monkeypatch.setenv("GITHUB_SERVER_URL", "https://server")
    monkeypatch.setenv("GITHUB_REPOSITORY", "c/d")
    assert evcm_book.repository() == "https://server/c/d"


@pytest.mark.skipif(not (b.ROOT / ".git").exists(), reason="not a checkout")
def test_source_is_packed(tmp_path):
    assert evcm_book.pack_source(tmp_path / "source.zip")
    with zipfile.ZipFile(tmp_path / "source.zip") as packed:
        assert {"evcm/Makefile", "evcm/book/intro.md"} <= set(packed.namelist())


def test_sliders_of_a_spanish_page_set_thousands_apart_by_a_space():
    body = (
        '<output>3,750</output> 1,000 <input data-texts="[&quot;3,750&quot;, &quot;30,000&quot;]">'
    )
    context = {"body": body}
    evcm_book.speak(None, "book/intro_es", "", context, None)
    made = (
        '<output>3 750</output> 1,000 <input data-texts="[&quot;3 750&quot;, &quot;30 000&quot;]">'
    )
    assert context == {"language": "es", "body": made.replace("3 750", "3\u202f750").replace(
        "30 000", "30\u202f000")}  # fmt: skip


def test_kernels_of_pages_share_nothing(tmp_path):
    import nbformat

    made = []
    for _ in range(2):
        notebook = nbformat.v4.new_notebook()
        cell = "import evcm, os\nprint(evcm.__dict__.setdefault('seen', os.getcwd()), os.getpid())"
        notebook.cells.append(nbformat.v4.new_code_cell(cell))
        notebook.cells.append(nbformat.v4.new_code_cell("print(evcm.seen); evcm.seen = 'changed'"))
        result = evcm_book.run_notebook(tmp_path / "page.md", notebook)
        assert result.err is None
        made.append([c.outputs[0]["text"].split() for c in result.nb.cells])
    assert made[0][1] == made[1][1] == [str(tmp_path)]
    assert made[0][0][1] != made[1][0][1]


def small_book(folder: Path, cell: str) -> Path:
    """A book of two pages with this project's configuration."""
    (folder / "book").mkdir()
    for name in ("_config.yml", "requirements.txt"):
        shutil.copy(book.ROOT / name, folder)
    shutil.copytree(book.ROOT / "book" / "_ext", folder / "book" / "_ext")
    shutil.copy(book.ROOT / "book" / "references.bib", folder / "book")
    contents = "format: jb-book\nroot: book/intro\nchapters:\n- file: book/a\n- file: book/b\n"
    (folder / "_toc.yml").write_text(contents)
    second = f"{HEAD}(b)=\n# B\n\n```{{code-cell}} ipython3\nprint(6 * 111)\n```\n"
    (folder / "book" / "b.md").write_text(second)
    (folder / "book" / "intro.md").write_text(f"{HEAD}(intro)=\n# Intro\n\nSee {{ref}}`a`.\n")
    page = f"{HEAD}(a)=\n# A\n\n```{{code-cell}} ipython3\n{cell}\n```\n"
    (folder / "book" / "a.md").write_text(page)
    return folder


@pytest.mark.slow
def test_a_sound_book_builds_once(tmp_path, capfd):
    root = small_book(tmp_path, "from evcm import plots\n1 + 1")
    assert book.build(root)
    page = (root / "_build" / "html" / "book" / "a.html").read_text("utf-8")
    assert '<span class="mi">1</span>' in page
    assert ">666\n" in (root / "_build" / "html" / "book" / "b.html").read_text("utf-8")
    assert not book.build(root)  # nothing changed
    (root / "book" / "intro.md").write_text(f"{HEAD}(intro)=\n# Intro again\n\nSee {{ref}}`a`.\n")
    capfd.readouterr()
    assert book.build(root)
    assert "Executing notebook" not in capfd.readouterr().out  # the other page is kept


@pytest.mark.slow
@pytest.mark.parametrize(
    "cell",
    ["raise ValueError('x')", "assert 2 + 2 == 5, 'a wrong claim'"],
    ids=["raises", "claims"],
)
def test_a_broken_chapter_fails_the_build(tmp_path, cell):
    root = small_book(tmp_path, cell)
    with pytest.raises(book.BookError, match="cells raise in: a"):
        book.build(root)
    with pytest.raises(book.BookError):  # and again: no half-built page is taken for a whole one
        book.build(root)


@pytest.mark.slow
def test_a_broken_reference_fails_the_build(tmp_path):
    root = small_book(tmp_path, "1")
    (root / "book" / "intro.md").write_text(f"{HEAD}(intro)=\n# Intro\n\nSee {{ref}}`nowhere`.\n")
    with pytest.raises(book.BookError):
        book.build(root)


# ------------------------------------------------------------------------------- the built pages


class Links(HTMLParser):
    """Addresses and anchors of a page."""

    def __init__(self) -> None:
        super().__init__()
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.assets: list[str] = []

    def handle_starttag(self, tag, attrs):
        values = dict(attrs)
        if values.get("id"):
            self.anchors.add(values["id"])
        if tag == "a" and values.get("name"):
            self.anchors.add(values["name"])
        if tag == "a" and values.get("href"):
            self.links.append(values["href"])
        for name in ("src", "href"):
            if tag in ("script", "img", "link", "iframe", "source") and values.get(name):
                self.assets.append(values[name])


@functools.cache
def parsed(page: Path) -> Links:
    links = Links()
    links.feed(page.read_text("utf-8"))
    return links


def target(page: Path, link: str) -> tuple[Path, str] | None:
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    file = (page.parent / unquote(parts.path)).resolve() if parts.path else page
    return file, unquote(parts.fragment)


@needs_book
@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_links_lead_somewhere(name):
    page = b.HTML / name
    broken = []
    for link in parsed(page).links:
        found = target(page, link)
        if found is None:
            continue
        file, anchor = found
        if not file.is_file() or (
            anchor and file.suffix == ".html" and anchor not in parsed(file).anchors
        ):
            broken.append(link)
    assert broken == []


@needs_book
@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_pages_are_light_and_bring_their_own_assets(name):
    page = b.HTML / name
    assert page.stat().st_size < 3_000_000
    for asset in parsed(page).assets:
        found = target(page, asset)
        if asset.startswith("data:"):
            continue
        assert found is not None, asset
        assert found[0].exists(), asset


@pytest.fixture(scope="module")
def chromium():
    from playwright.sync_api import sync_playwright

    with sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=str(b.CHROMIUM), args=b.FLAGS)
        yield opened
        opened.close()


TEX = re.compile(
    r"\$\$|\\(?:frac|sum|quad|text|begin|left|Delta|leq|lambda|pi)\b|\{(?:ref|cite|eq|py:obj|eval)\}|:py:obj:"
)

VISIBLE_TEXT = """() => {
  const copy = document.querySelector('.bd-article').cloneNode(true);
  const code = 'pre, code, script, mjx-container, .evcm-graph, .tooltip';
  copy.querySelectorAll(code).forEach(n => n.remove());
  return copy.textContent;
}"""


@needs_book
@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_page_in_a_browser(chromium, name):
    """From disk and offline: no error, no request, all figures drawn, all sliders alive."""
    options = {"viewport": {"width": 1200, "height": 900}, "offline": True}
    with b.visit(chromium, (b.HTML / name).as_uri(), **options) as seen:
        tab = seen.page
        assert TEX.findall(tab.evaluate(VISIBLE_TEXT)) == []
        assert tab.locator("mjx-merror, [data-mjx-error]").count() == 0
        for block in tab.query_selector_all(".evcm-plot"):
            graph = block.query_selector(".evcm-graph")
            assert graph.get_attribute("aria-label")
            assert graph.evaluate(b.MARKS) > 0, graph.get_attribute("aria-label")
            for slider in block.query_selector_all("input[type=range]"):
                shown = b.move(tab, graph, slider)
                label = slider.get_attribute("aria-label")
                assert len(set(shown)) > 1, f"slider {label} changes nothing"
            for control in block.query_selector_all(".evcm-control:has(select, [type=radio])"):
                assert len(set(b.choose(tab, graph, control))) > 1, control.inner_text()
            if graph.evaluate("g => !!(g._fullLayout.sliders || []).length"):
                assert len(set(b.frames(graph))) > 1
        images = tab.evaluate(
            "Array.from(document.images).map(i => [i.src, i.alt, i.naturalWidth])"
        )
        assert all(width > 0 for _, _, width in images)
        assert seen.errors == []
        assert seen.requests == []


@needs_book
@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("name", PAGES)
def test_page_on_a_phone(chromium, name):
    options = {"viewport": {"width": 390, "height": 844}, "color_scheme": "dark"}
    with b.visit(chromium, (b.HTML / name).as_uri(), **options) as seen:
        widths = seen.page.evaluate(
            "[document.documentElement.scrollWidth, document.body.scrollWidth, innerWidth]"
        )
        assert max(widths[:2]) <= widths[2] == 390
        assert seen.page.evaluate("document.documentElement.dataset.theme") == "dark"
        assert seen.errors == []


@needs_book
@needs_chromium
@pytest.mark.browser
def test_figures_follow_the_theme(chromium):
    page = (b.HTML / "book" / "introduction.html").as_uri()
    with b.visit(chromium, page, color_scheme="light") as seen:
        colour = "document.querySelector('.evcm-graph')._fullLayout.font.color"
        light = seen.page.evaluate(colour)
        seen.page.evaluate("document.documentElement.dataset.theme = 'dark'")
        seen.page.wait_for_function(f"{colour} !== '{light}'", timeout=10_000)


@pytest.fixture(scope="module")
def served():
    handler = functools.partial(QuietHandler, directory=str(b.HTML))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()


class QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        pass


@needs_book
@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("name", ["intro", "introduction", "resolving"])
def test_first_figure_is_visible(chromium, served, name):
    context = chromium.new_context()
    tab = context.new_page()
    tab.goto(f"{served}/book/{name}.html", wait_until="commit")
    tab.wait_for_selector(".evcm-graph .trace", state="attached", timeout=30_000)
    context.close()


# ----------------------------------------------------------------------- notebooks, run as they are

MOVE_ALL = """
from evcm.plots import Explorer

for explorer in list(Explorer.made):
    calls, ask = [], explorer.function
    def timed(ask=ask, calls=calls, **values):
        answer = ask(**values)
        calls.append(answer)
        return answer
    explorer.function = timed
    widget = explorer.widget()
    moves = 0
    for slider in widget.children[: len(explorer.parameters)]:
        for _, value in slider.options:
            moves += slider.value != value
            slider.value = value
    assert len(calls) >= moves, "a callback failed"
"""


@needs_book
@pytest.mark.slow
@pytest.mark.parametrize("name", [p.stem for p in book.chapters() if book.is_executed(p)])
def test_downloaded_notebook_runs_in_a_fresh_kernel(name, tmp_path, monkeypatch):
    import nbformat
    from nbclient import NotebookClient

    files = list((b.HTML / "_sources" / "book").glob(f"{name}.ipynb"))
    assert files, "the page offers no notebook"
    notebook = nbformat.read(files[0], as_version=4)
    notebook.cells.append(nbformat.v4.new_code_cell(MOVE_ALL))
    monkeypatch.delenv("EVCM_BOOK", raising=False)
    kernel = {"metadata": {"path": str(tmp_path)}}
    NotebookClient(
        notebook, timeout=600, kernel_name="python3", resources=kernel,
        kernel_manager_class=SlicedManager,
    ).execute()  # fmt: skip


def test_columns_of_numbers_are_set_to_the_right():
    from evcm.plots.pages import table

    lines = table(["bus", "cost", "gap"], [["bus 2", "1,234.5", "0.1 %"], ["3", "-7", ""]]).split(
        "\n"
    )
    assert lines[1] == "|---|---:|---:|"
    assert table(["a", "b"], []).split("\n")[1] == "|---|---|"


@needs_book
@needs_chromium
@pytest.mark.browser
def test_a_long_function_opens_on_request(chromium):
    with b.visit(chromium, b.HTML.joinpath("book", "hosting.html").as_uri()) as seen:
        source = seen.page.locator("details.evcm-source").first
        assert not source.locator("pre").is_visible()
        source.locator("summary").press("Enter")
        assert "def " in source.locator("pre").inner_text()
        assert source.locator("pre").is_visible()


@needs_book
@needs_chromium
@pytest.mark.browser
@pytest.mark.slow
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("name", PAGES)
def test_page_is_accessible(chromium, name, theme):
    """No finding of axe-core that it calls serious or critical."""
    from axe_playwright_python.sync_playwright import Axe

    with b.visit(chromium, (b.HTML / name).as_uri(), color_scheme=theme) as seen:
        found = Axe().run(seen.page).response["violations"]
    grave = {
        v["id"]: [node["html"][:120] for node in v["nodes"][:2]]
        for v in found
        if v["impact"] in ("serious", "critical")
    }
    assert grave == {}


@needs_book
@needs_chromium
@pytest.mark.browser
def test_search_finds_hosting_capacity_and_shows_words(chromium, served):
    tab = chromium.new_page()
    tab.goto(f"{served}/search.html?q=hosting+capacity")
    tab.wait_for_selector(".search li .context, .search li p", timeout=30_000)
    tab.wait_for_timeout(2000)
    results = tab.locator("#search-results li")
    assert any("hosting" in (a.get_attribute("href") or "") for a in results.locator("a").all())
    assert TEX.findall(tab.locator("#search-results").inner_text()) == []
    tab.close()


@needs_book
@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize(
    "name", ["intro", "hosting", "live_aggregator", "live_market", "live_building"]
)
def test_a_first_visit_is_light(chromium, served, name):
    """Bytes of a page with everything that it asks for, packed as servers pack them."""
    context, answers = chromium.new_context(), []
    tab = context.new_page()
    tab.on("response", lambda answer: answers.append(answer))
    tab.goto(f"{served}/book/{name}.html", wait_until="networkidle")
    tab.wait_for_timeout(1000)
    assert 200_000 < sum(packed(answer) for answer in answers if answer.ok) < 2_000_000
    context.close()


def packed(answer):
    body = answer.body()
    return len(body) if ".woff" in answer.url else len(gzip.compress(body, 6))


CUT = """() => {
  const sheet = document.documentElement.clientWidth;
  const kinds = 'pre, table, .main-svg, img, mjx-container[display=true] > mjx-math';
  const parts = Array.from(document.querySelectorAll('.bd-article :is(' + kinds + ')'));
  const wide = parts.filter(p => p.getClientRects().length && (
    p.getBoundingClientRect().right > sheet + 1 ||
    (p.tagName === 'PRE' && p.scrollWidth > p.clientWidth + 1)));
  const closed = document.querySelectorAll('.bd-article details:not([open])').length;
  return {closed, wide: wide.map(p => p.outerHTML.slice(0, 120))};
}"""
A4_PX = 718


@needs_book
@needs_chromium
@pytest.mark.browser
@pytest.mark.parametrize("name", ["hosting", "aggregators", "resolving"])
def test_a_chapter_prints_whole(chromium, name):
    """On A4 no code, table, figure or formula is cut, and nothing stays folded."""
    page = (b.HTML / "book" / f"{name}.html").as_uri()
    with b.visit(chromium, page, viewport={"width": A4_PX, "height": 1000}) as seen:
        seen.page.emulate_media(media="print")
        seen.page.evaluate("window.dispatchEvent(new Event('beforeprint'))")
        seen.page.wait_for_timeout(1000)
        assert seen.page.evaluate(CUT) == {"closed": 0, "wide": []}
        paper = seen.page.pdf(format="A4", print_background=True)
        assert paper.startswith(b"%PDF")
        assert len(paper) > 50_000
        assert seen.errors == []


# ------------------------------------------------------------------------ notebooks are plain


PLAIN_PAGE = """(price)=
# Price

See {ref}`what changes <resolving>`, {ref}`operator`, {cite}`villanueva2025,villanueva2024data`,
{py:obj}`evcm.x.f`, {{ version }} · {{ source }}.

```{evcm-source} evcm.trips.montecarlo.gchr_kwh
```

::::{grid} 1 1 3 3
:gutter: 2

:::{grid-item-card} You plan
Start here.
:::
::::

````{exercise}
:label: ex-1

How many?
````

```{solution-start} ex-1
:class: dropdown
```
"""


def test_a_notebook_is_plain():
    text = notebook.plain_text(PLAIN_PAGE)
    cited = "(Villanueva-Machado et al., 2025; Villanueva, 2024)"
    assert f"See what changes, The operator's day, {cited},\n`evcm.x.f`, {__version__}." in text
    assert "```python\n@implements" in text
    assert "def gchr_kwh" in text
    assert "**You plan.** Start here." in text
    assert "**Exercise.** How many?" in text
    assert text.strip().endswith("**Solution.**")
    assert not re.search(r"\{[\w:-]+\}|^:\w+:|^\(\w+\)=|:::", text, re.MULTILINE)


def test_no_page_leaves_a_directive_in_its_notebook(tmp_path):
    """`make lab` writes every chapter; what a reader changed is kept."""
    import nbformat

    pytest.importorskip("jupytext", reason="requirements-lab.txt is not installed")
    made = notebook.write_all(tmp_path)
    assert [m.stem for m in made] == [p.stem for p in book.chapters() if book.is_executed(p)]
    raw = re.compile(r"^(?:`{3,}|:{3,})\{|\{(?:ref|cite|py:obj|eq)\}`", re.MULTILINE)
    for file in made:
        content = nbformat.read(file, as_version=4)
        texts = [c.source for c in content.cells if c.cell_type == "markdown"]
        assert [t for t in texts if raw.search(t)] == [], file.stem
    made[0].write_text("{}")
    assert made[0] not in notebook.write_all(tmp_path)
    assert made[0].read_text() == "{}"


@pytest.mark.slow
def test_start_here_of_the_reference_runs(capsys):
    code = re.search(r"```python\n(.*?)```", chapter("api").read_text("utf-8"), re.DOTALL)
    exec(compile(code[1], "api.md", "exec"), {})
    assert "optimal within the gap" in capsys.readouterr().out


def test_a_name_of_a_figure_or_table_is_given_once_in_the_book():
    places: dict[str, list[str]] = {}
    for page in sorted((book.ROOT / "book").glob("*.md")):
        for name in re.findall(r"^\s*:?name:\s*(\S+)\s*$", page.read_text("utf-8"), re.M):
            places.setdefault(name, []).append(page.name)
    assert len(places) > 100
    assert {name: found for name, found in places.items() if len(found) > 1} == {}
