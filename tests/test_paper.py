"""The registry of equations: none missing, every change with a reason and a test that exists."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from book._tools import registry as book_registry
from evcm import data, paper

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
        assert all(paper.reference(f) in block for f in functions)


def test_errata_page_shows_every_change():
    text = "".join(book_registry.errata_equations(kind) for kind in book_registry.KINDS)
    changed = [e for e in paper.equations() if e.corrected]
    assert all(e.printed in text and e.adopted in text and e.reason in text for e in changed)
    other = book_registry.errata_other()
    assert all(e.printed in other and e.adopted in other for e in paper.errata())


def test_unknown_equation_is_named():
    with pytest.raises(ValueError, match="number: got 58"):
        paper.equation("58")
