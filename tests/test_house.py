"""The house: rooms on levels, imports downward only, no circle, faces for the outside alone."""

import ast
import importlib
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

LEVELS = (
    ("blas", "compiled", "errors"), ("arrays", "data"), ("highs", "paper"), ("store",),
    ("network",), ("inputs",), ("trips",), ("aggregator",),
    ("coordination", "feeder", "reinforcement", "building"),
    ("v2x",), ("study",), ("plots",), ("live",), ("cli",), ("__main__",),
)  # fmt: skip
"""Rooms and single modules of evcm/, from the ground up. A room imports from itself and below."""

LEVEL = {room: level for level, rooms in enumerate(LEVELS) for room in rooms}
FACES = sorted(p.parent.name for p in (ROOT / "evcm").glob("*/__init__.pyi"))


@cache
def modules():
    files = sorted((ROOT / "evcm").rglob("*.py"))
    names = {}
    for file in files:
        parts = file.relative_to(ROOT).with_suffix("").parts
        names[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = file
    return names


@cache
def imports(name):
    """Modules of evcm that a module imports, those inside functions too."""
    found = set()
    for node in ast.walk(ast.parse(modules()[name].read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {a.name for a in node.names if a.name.split(".")[0] == "evcm"}
        elif isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "evcm":
            for alias in node.names:
                inner = f"{node.module}.{alias.name}"
                found.add(inner if inner in modules() else node.module)
    return found - {"evcm"}


def room(name):
    return name.split(".")[1] if "." in name else ""


def test_every_room_has_a_level():
    rooms = {room(name) for name in modules()} - {""}
    assert rooms == set(LEVEL)


def test_no_import_goes_upward():
    upward = [
        f"{name} imports {other}"
        for name in modules()
        for other in imports(name)
        if room(name) and LEVEL[room(other)] > LEVEL[room(name)]
    ]
    assert upward == []


def test_no_room_imports_another_of_its_level():
    across = [
        f"{name} imports {other}"
        for name in modules()
        for other in imports(name)
        if room(name) != room(other) and room(name)
        and LEVEL[room(other)] == LEVEL[room(name)]
    ]  # fmt: skip
    assert across == []


def test_no_import_goes_in_a_circle():
    done, path = set(), []

    def walk(name):
        if name in path:
            pytest.fail(" -> ".join([*path[path.index(name) :], name]))
        if name in done:
            return
        path.append(name)
        for other in sorted(imports(name)):
            walk(other)
        path.pop()
        done.add(name)

    for name in modules():
        walk(name)


def test_inside_imports_name_files_never_faces():
    faces = {f"evcm.{face}" for face in FACES}
    through = [f"{n} imports {o}" for n in modules() for o in imports(n) if o in faces]
    assert through == []


@pytest.mark.parametrize("face", FACES)
def test_a_face_offers_what_its_docstring_lists(face):
    package = importlib.import_module(f"evcm.{face}")
    listed = set(re.findall(r"`(\w+)`", package.__doc__.split(":", 1)[1]))
    offered = set(package.__all__)
    modules_of_room = {name.rpartition(".")[2] for name in modules() if room(name) == face}
    assert listed - modules_of_room == offered - modules_of_room
    for name in package.__all__:
        assert getattr(package, name) is not None


@pytest.mark.parametrize("face", FACES)
def test_no_name_of_a_face_hides_behind_a_module(face):
    """A module of the same name would take the place of the name once it is imported."""
    inside = {
        name.split(".")[2] for name in modules() if room(name) == face and name.count(".") > 1
    }
    text = (ROOT / "evcm" / face / "__init__.pyi").read_text("utf-8")
    offered = set(re.findall(r"from \.\w[\w.]* import (\w+) as", text))
    assert inside & offered == set()


def test_one_importer_of_highspy():
    users = [
        name
        for name, file in modules().items()
        if re.search(r"^\s*(import|from) highspy", file.read_text("utf-8"), re.MULTILINE)
    ]
    assert users == ["evcm.highs"]


def test_nothing_private_is_shown():
    """No chapter, example or README line imports a name that starts with an underscore."""
    private = re.compile(
        r"^\s*(from evcm[\w.]*\._|from evcm[\w.]* import .*\b_[a-z]|import evcm.*\._)"
    )
    pages = [
        *(ROOT / "book").rglob("*.md"),
        ROOT / "README.md",
        *(ROOT / "benchmarks").glob("*.py"),
    ]
    shown = [
        f"{page.name}: {line.strip()}"
        for page in pages
        for line in page.read_text("utf-8").splitlines()
        if private.match(line)
    ]
    assert shown == []


def test_only_one_module_compiles():
    """Kernels go through `evcm.compiled`, whose cache bears a read-only package and edits."""
    others = [
        name
        for name, file in modules().items()
        if name != "evcm.compiled"
        and re.search(
            r"^\s*(import numba as|from numba )|\bnumba\.njit\b", file.read_text("utf-8"), re.M
        )
    ]
    assert others == []


def test_only_the_outermost_modules_ask_for_the_papers_study():
    """Everybody else takes `inputs`: the paper's study is a folder like any other."""
    asking = {
        name
        for name, file in modules().items()
        if room(name) != "inputs" and re.search(r"\bpaper\(\)", file.read_text("utf-8"))
    }
    # the command line's default, and the live page whose subject is the paper
    assert asking == {"evcm.cli.common", "evcm.live.aggregator"}


def test_no_function_outside_inputs_has_the_papers_study_as_its_default():
    optional = re.compile(r"\binputs: Inputs \| None\b|\bpaper\(\) if\b|\bor paper\(\)")
    found = [name for name, file in modules().items() if optional.search(file.read_text("utf-8"))]
    assert found == ["evcm.cli.common"]


def test_what_docstrings_name_is_there():
    """A name in backticks is one of the code, or a file: prose does not outlive a rename."""
    trees = {name: ast.parse(file.read_text("utf-8")) for name, file in modules().items()}
    known = {part for name in trees for part in name.split(".")}
    for node in (node for tree in trees.values() for node in ast.walk(tree)):
        for field in ("name", "id", "attr", "arg"):
            known |= set(re.findall(r"\w+", getattr(node, field, None) or ""))
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            known |= {node.value} if node.value.isidentifier() else set()
    told = re.compile(r"(?<!`)`([A-Za-z_][\w.]*)`(?!`)")
    gone = [
        f"{name}: {found}"
        for name, file in modules().items()
        for found in told.findall(file.read_text("utf-8"))
        if not found.endswith(".js") and not set(found.split(".")) <= known
    ]
    assert gone == []
