"""The registry of equations: none missing, every change with a reason and a test that exists."""

import ast
import functools
import importlib
import re
from functools import cache
from pathlib import Path

import pytest
from typer.testing import CliRunner

from book._tools import registry as book_registry
from evcm import data, paper
from evcm.cli import app

TESTS = Path(__file__).resolve().parent
PAPERS = sorted(file.stem for file in (data.root() / "paper").glob("*.toml"))


@cache
def test_functions(file):
    tree = ast.parse((TESTS.parent / file).read_text("utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}


test_functions.__test__ = False


def test_no_equation_of_the_paper_is_missing():
    assert [e.number for e in paper.equations()] == [str(n) for n in range(1, 58)]


@pytest.mark.parametrize("key", PAPERS)
def test_each_equation_has_a_function_or_a_reason_why_not(key):
    functions = paper.implementations(key)
    bare = [e.number for e in paper.equations(key) if not functions.get(e.number) and not e.reason]
    assert bare == []


@pytest.mark.parametrize("key", PAPERS)
def test_tags_name_equations_that_exist(key):
    numbers = {e.number for e in paper.equations(key)}
    assert set(paper.implementations(key)) <= numbers


@pytest.mark.parametrize("key", PAPERS)
def test_tags_are_functions_with_the_role_that_their_file_says(key):
    for number, functions in paper.implementations(key).items():
        assert functions[0].role == "model", number
        for f in functions:
            module = f.path.removesuffix(".py").replace("/", ".")
            names = f.name.removeprefix(f"{module}.").split(".")
            assert callable(functools.reduce(getattr, names, importlib.import_module(module))), f
            assert (f.role == "certificate") == module.endswith("certificate"), f
            line = (TESTS.parent / f.path).read_text("utf-8").splitlines()[f.line - 1].strip()
            assert line.startswith((f"def {names[-1]}(", f"class {names[-1]}")), f.place


def test_every_equation_of_a_solver_has_a_certificate():
    made = paper.implementations()
    bare = {n for n, fs in made.items() if not any(f.role == "certificate" for f in fs)}
    inputs_and_steps = {"1", "2", "3", "4", "43"} | {str(n) for n in (27, 28, *range(31, 43))}
    assert bare == inputs_and_steps  # a price is re-checked by (22)-(26), without any step variable


def test_an_unknown_role_is_named():
    with pytest.raises(ValueError, match="role: got proof; allowed: model, bound"):
        paper.implements("1", role="proof")


@pytest.mark.parametrize("key", PAPERS)
def test_every_equation_has_a_chapter_of_the_book(key):
    missing = {e.number for e in paper.equations(key)} - set(paper.chapters(key))
    assert missing == set()
    assert set(paper.chapters(key).values()) <= book_registry.book.labels()


def test_figures_and_tables_are_made_in_the_chapter_that_is_named():
    found = [(e.kind, e.number) for e in paper.exhibits()]
    assert found == [*(("Figure", n) for n in range(1, 10)), *(("Table", n) for n in range(1, 6))]
    for e in paper.exhibits():
        page = (TESTS.parent / "book" / f"{e.chapter}.md").read_text("utf-8")
        for name in e.made_by.split():
            module, _, function = name.rpartition(".")
            assert hasattr(importlib.import_module(module), function), name
            assert f"{function}" in page or e.note, (e.chapter, e.title, name)


@pytest.mark.parametrize("number", ["45", "20", "33"])
def test_command_shows_an_equation(number):
    said = CliRunner().invoke(app, ["equation", number]).output
    e = paper.equation(number)
    assert e.printed in said
    assert (e.adopted or "as printed") in said
    for f in paper.implementations()[number]:
        assert f"{f.role} " in said
        assert f.place in said
    assert paper.chapters()[number] in said


def test_command_lists_every_equation():
    lines = CliRunner().invoke(app, ["equation"]).output.splitlines()
    assert [line.split()[0] for line in lines] == [str(n) for n in range(1, 58)]
    other = CliRunner().invoke(app, ["equation", "--paper", "building"]).output.splitlines()
    assert len(other) == len(paper.equations("building"))


@pytest.mark.parametrize("key", PAPERS)
def test_a_change_has_both_forms_a_reason_and_a_kind(key):
    for e in paper.equations(key):
        assert e.printed
        assert e.title
        assert bool(e.adopted) == bool(e.kind) == bool(e.reason), e.number
        assert e.kind in ("", *book_registry.KINDS), e.number
        assert e.adopted != e.printed


@pytest.mark.parametrize("key", PAPERS)
def test_a_correction_names_a_test_that_exists(key):
    entries = [e for e in paper.equations(key) if e.kind == "correction"] + list(paper.errata(key))
    without = [e.title for e in entries if not e.test]
    assert without == []


@pytest.mark.parametrize("key", PAPERS)
def test_named_tests_exist(key):
    for e in [*paper.equations(key), *paper.errata(key)]:
        for node in filter(None, re.split(r"[,\s]+", e.test)):
            file, _, name = node.partition("::")
            assert (TESTS.parent / file).is_file(), node
            assert name.split("[")[0] in test_functions(file), node


@pytest.mark.parametrize("key", PAPERS)
def test_formulas_are_balanced(key):
    texts = [t for e in paper.equations(key) for t in (e.printed, e.adopted)]
    texts += [s.tex for s in paper.symbols(key)]
    for text in texts:
        bare = re.sub(r"\\[{}]", "", text)
        assert bare.count("{") == bare.count("}"), text
        assert len(re.findall(r"\\left\b", text)) == len(re.findall(r"\\right\b", text)), text


@pytest.mark.parametrize("key", PAPERS)
def test_symbols_have_a_name_a_unit_and_a_meaning(key):
    for symbol in paper.symbols(key):
        assert symbol.name
        assert symbol.unit
        assert symbol.meaning


def test_map_names_every_equation_once_with_its_functions():
    text = "\n".join(book_registry.paper_map(section) for section in book_registry.sections())
    assert re.findall(r"^\(eq-(\d+)\)=$", text, re.MULTILINE) == [str(n) for n in range(1, 58)]
    for number, functions in paper.implementations().items():
        block = text.split(f"(eq-{number})=")[1].split("(eq-")[0]
        assert all(f.name in block for f in functions)


def test_errata_page_shows_every_change():
    text = "".join(book_registry.errata_equations(kind) for kind in book_registry.KINDS)
    changed = [e for e in paper.equations() if e.corrected]
    assert all(e.printed in text and e.adopted in text and e.reason in text for e in changed)
    other = book_registry.errata_other()
    assert all(e.printed in other and e.adopted in other for e in paper.errata())


def test_unknown_equation_is_named():
    with pytest.raises(ValueError, match="number: got 58"):
        paper.equation("58")
