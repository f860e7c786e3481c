"""Read a PYPOWER case file as data: literals and array arithmetic are evaluated, nothing is run.

A case file may import numpy and PYPOWER's column names, define one function without arguments, and
in it build a dict: lists, ``array(...)``, arithmetic, comparisons, indexing with numbers, slices
and conditions, also on the left of ``=`` and ``*=``. Every other statement is refused by its line.
"""

from __future__ import annotations

import ast
import operator
from collections.abc import Callable
from typing import Any, NoReturn

import numpy as np

from evcm.errors import Fault, InputError
from evcm.network.mfile import FUNCTIONS, column_names

ALLOWED = "a dict of lists and arrays, arithmetic and indexing"

_BINARY: dict[type, Callable[..., Any]] = {
    ast.Add: operator.add, ast.Sub: operator.sub, ast.Mult: operator.mul,
    ast.Div: operator.truediv, ast.Pow: operator.pow, ast.BitAnd: operator.and_,
    ast.BitOr: operator.or_, ast.Eq: operator.eq, ast.NotEq: operator.ne, ast.Lt: operator.lt,
    ast.LtE: operator.le, ast.Gt: operator.gt, ast.GtE: operator.ge,
}  # fmt: skip
_UNARY: dict[type, Callable[..., Any]] = {
    ast.UAdd: operator.pos, ast.USub: operator.neg, ast.Invert: operator.invert,
}  # fmt: skip
_NUMPY: dict[str, Any] = FUNCTIONS | {
    "array": lambda x: np.array(x, float), "asarray": lambda x: np.array(x, float),
    "pi": np.pi, "inf": np.inf, "Inf": np.inf, "nan": np.nan, "arccos": np.arccos,
    "arcsin": np.arcsin, "arctan": np.arctan,
}  # fmt: skip
_MODULES = ("numpy", "pypower.idx_bus", "pypower.idx_brch", "pypower.idx_gen", "pypower.idx_cost")


def read_py(name: str, text: str) -> dict[str, Any]:
    """Entries of the case dict of a PYPOWER file; tables are 2-D arrays.

    Raises
    ------
    InputError
        The file is no Python, or a statement does more than arithmetic: its line is named.
    """
    try:
        tree = ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
        raise InputError(name, [Fault("content", str(error), "Python")]) from error
    reader = _Reader(name, text)
    try:
        reader.block(tree.body)
    except RecursionError as error:
        raise InputError(name, [Fault("content", "deeper than can be read", ALLOWED)]) from error
    return reader.found()


class _Reader:
    def __init__(self, name: str, text: str) -> None:
        self.name, self.lines = name, text.splitlines()
        self.values: dict[str, Any] = {}
        self.result: Any = None

    def refuse(self, what: str, node: ast.AST) -> NoReturn:
        line = getattr(node, "lineno", 1)
        source = self.lines[line - 1].strip() if line <= len(self.lines) else ""
        raise InputError(self.name, [Fault(f"line {line}: {source}", what, ALLOWED)])

    def found(self) -> dict[str, Any]:
        if isinstance(self.result, dict):
            return self.result
        dicts = [v for v in self.values.values() if isinstance(v, dict)]
        return dicts[0] if len(dicts) == 1 else {}

    def block(self, statements: list[ast.stmt]) -> None:
        for node in statements:
            if self.result is None:
                self.statement(node)

    def statement(self, node: ast.stmt) -> None:
        if isinstance(node, ast.Import):
            for alias in node.names:
                if alias.name != "numpy":
                    self.refuse(f"an import of {alias.name}", node)
                self.values[alias.asname or "numpy"] = _NUMPY
        elif isinstance(node, ast.ImportFrom):
            self.names(node)
        elif isinstance(node, ast.FunctionDef):
            if node.decorator_list or node.args.args:
                self.refuse("a function with arguments or decorators", node)
            self.block(node.body)
        elif isinstance(node, ast.Return) and node.value is not None:
            self.result = self.value(node.value)
        elif isinstance(node, ast.Assign) and len(node.targets) == 1:
            self.assign(node.targets[0], self.value(node.value))
        elif isinstance(node, ast.AugAssign) and type(node.op) in _BINARY:
            old = ast.copy_location(_loaded(node.target), node)
            both = self.compute(
                _BINARY[type(node.op)], node, self.value(old), self.value(node.value)
            )
            self.assign(node.target, both)
        elif not (isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)):
            self.refuse("no assignment", node)

    def names(self, node: ast.ImportFrom) -> None:
        known = _NUMPY if node.module == "numpy" else column_names(0)
        if node.module == "__future__":
            return
        if node.module not in _MODULES:
            self.refuse(f"an import of {node.module}", node)
        for alias in node.names:
            if alias.name == "*":
                self.values |= known
            elif alias.name in known:
                self.values[alias.asname or alias.name] = known[alias.name]
            else:
                self.refuse(f"{alias.name} is nothing that is read", node)

    def assign(self, target: ast.expr, value: Any) -> None:
        if isinstance(target, ast.Name):
            self.values[target.id] = value
            return
        if not isinstance(target, ast.Subscript):
            self.refuse("no assignment", target)
        holder, index = self.value(target.value), self.index(target.slice)
        if not isinstance(holder, dict | np.ndarray):
            self.refuse("an index on what is no dict or array", target)
        self.compute(holder.__setitem__, target, index, value)

    def compute(self, do: Callable[..., Any], node: ast.AST, *values: Any) -> Any:
        """Only numbers and arrays are computed with, so that nothing can grow without end."""
        try:
            with np.errstate(all="ignore"):
                return do(*values)
        except (TypeError, ValueError, IndexError, KeyError, ArithmeticError) as error:
            self.refuse(str(error), node)

    def number(self, node: ast.expr) -> Any:
        value = self.value(node)
        if isinstance(value, bool | str) or not isinstance(value, float | int | np.ndarray):
            self.refuse("arithmetic on what is no number or array", node)
        return float(value) if isinstance(value, int) else value

    def value(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Constant) and isinstance(node.value, float | int | str | bool):
            return node.value
        if isinstance(node, ast.List | ast.Tuple):
            return [self.value(x) for x in node.elts]
        if isinstance(node, ast.Dict) and all(node.keys):
            keys = [self.value(k) for k in node.keys if k is not None]
            return dict(zip(keys, [self.value(v) for v in node.values], strict=True))
        if isinstance(node, ast.Name):
            if node.id not in self.values:
                self.refuse(f"{node.id} has no value", node)
            return self.values[node.id]
        if isinstance(node, ast.UnaryOp) and type(node.op) in _UNARY:
            return self.compute(_UNARY[type(node.op)], node, self.number(node.operand))
        if isinstance(node, ast.BinOp) and type(node.op) in _BINARY:
            left, right = self.number(node.left), self.number(node.right)
            return self.compute(_BINARY[type(node.op)], node, left, right)
        if isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in _BINARY:
            left, right = self.number(node.left), self.number(node.comparators[0])
            return self.compute(_BINARY[type(node.ops[0])], node, left, right)
        if isinstance(node, ast.Subscript):
            return self.compute(
                operator.getitem, node, self.value(node.value), self.index(node.slice)
            )
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            space = self.values.get(node.value.id)
            if space is _NUMPY and node.attr in _NUMPY:
                return _NUMPY[node.attr]
        if isinstance(node, ast.Call):
            return self.call(node)
        return self.refuse(f"{ast.unparse(node)[:40]} is nothing that is read", node)

    def call(self, node: ast.Call) -> Any:
        if isinstance(node.func, ast.Attribute) and node.func.attr == "copy" and not node.args:
            value = self.value(node.func.value)
            return value.copy() if isinstance(value, np.ndarray) else value
        function = self.value(node.func)
        if not callable(function) or not node.args or len(node.args) > 2:
            self.refuse("a call of what is no function of one value", node)
        return self.compute(function, node, self.value(node.args[0]))

    def index(self, node: ast.expr) -> Any:
        if isinstance(node, ast.Tuple):
            return tuple(self.index(x) for x in node.elts)
        if isinstance(node, ast.Slice):
            ends = (node.lower, node.upper, node.step)
            return slice(*(None if x is None else int(self.number(x)) for x in ends))
        value = self.value(node)
        if isinstance(value, list):
            value = np.array(value)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            return value.astype(np.int64)
        return int(value) if isinstance(value, float) else value


def _loaded(target: ast.expr) -> ast.expr:
    """An assignment's target as an expression to read."""
    text = ast.unparse(target)
    return ast.parse(text, mode="eval").body
