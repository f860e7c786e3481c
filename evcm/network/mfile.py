"""Read a MATPOWER case file as data: literals and arithmetic are evaluated, nothing is run.

What a case file may contain: assignments to a struct, its nested fields and plain variables;
matrices, cells, strings; ``+ - * / ^``, comparisons and ``& | ~``; indexing with numbers, ``:``,
``end`` and logical arrays, also on the left of ``=``; a few functions (`FUNCTIONS`); and
MATPOWER's column names (``define_constants``, ``idx_bus`` and its like). This covers the idiom of
the distribution cases, which convert ohm and kW at the end. Every other statement is refused by its
line.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, NamedTuple, NoReturn

import numpy as np
from numpy.typing import NDArray

from evcm.errors import Fault, InputError

COLUMNS = {
    "idx_bus": (
        "PQ PV REF NONE", 1, "BUS_I BUS_TYPE PD QD GS BS BUS_AREA VM VA BASE_KV ZONE VMAX VMIN "
        "LAM_P LAM_Q MU_VMAX MU_VMIN"),
    "idx_brch": (
        "", 0, "F_BUS T_BUS BR_R BR_X BR_B RATE_A RATE_B RATE_C TAP SHIFT BR_STATUS ANGMIN ANGMAX "
        "PF QF PT QT MU_SF MU_ST MU_ANGMIN MU_ANGMAX"),
    "idx_gen": (
        "", 0, "GEN_BUS PG QG QMAX QMIN VG MBASE GEN_STATUS PMAX PMIN PC1 PC2 QC1MIN QC1MAX QC2MIN "
        "QC2MAX RAMP_AGC RAMP_10 RAMP_30 RAMP_Q APF MU_PMAX MU_PMIN MU_QMAX MU_QMIN"),
    "idx_cost": ("PW_LINEAR POLYNOMIAL", 1, "MODEL STARTUP SHUTDOWN NCOST COST"),
}  # fmt: skip
"""MATPOWER's names of bus types and columns: values from 1, then columns from 1."""

FUNCTIONS: dict[str, Callable[..., Any]] = {
    "sqrt": np.sqrt, "abs": np.abs, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "exp": np.exp, "log": np.log,
}  # fmt: skip
"""Functions of one number or array that a case file may call."""

ALLOWED = (
    "assignments of numbers, arithmetic and indexing; save the case from MATPOWER with savecase"
)

_CONSTANTS = {"pi": np.pi, "Inf": np.inf, "inf": np.inf, "NaN": np.nan, "nan": np.nan}
_NUMBERS = re.compile(r"\[[\s0-9eE+\-.,;\x01]*\]")
_OPERATION = re.compile(r"[+\-][\s\x01]|[\d.][+\-]|[^\s\x01eE,;\[\]\d.+\-]")
_TOKEN = re.compile(
    r"(?P<number>(?:\d+\.?\d*|\.\d+)(?:[eE][+-]?\d+)?)|(?P<name>[A-Za-z]\w*)"
    r"|(?P<op>\.\*|\./|\.\^|==|~=|!=|<=|>=|&&|\|\||\.'|[-+*/^<>&|~!=:.,;()\[\]{}'])"
)


class _Token(NamedTuple):
    kind: str
    value: Any
    line: int
    spaced: bool  # white space before it


def column_names(base: int) -> dict[str, float]:
    """Every constant of `COLUMNS`, with columns that count from `base`."""
    found: dict[str, float] = {}
    for types, first, columns in COLUMNS.values():
        found |= {name: float(i) for i, name in enumerate(types.split(), first)}
        found |= {name: float(i) for i, name in enumerate(columns.split(), base)}
    return found


def read_m(name: str, text: str) -> dict[str, Any]:
    """Fields of the case struct of a MATPOWER file; tables are 2-D arrays.

    Raises
    ------
    InputError
        A statement computes more than arithmetic: its line is named.
    """
    return _Reader(name, text).run()


class _Reader:
    """A recursive-descent evaluator over the tokens of one file."""

    def __init__(self, name: str, text: str) -> None:
        self.name = name
        self.lines = text.splitlines()
        self.tokens: list[_Token] = list(self._scan(_without_comments(text)))
        self.at = 0
        self.values: dict[str, Any] = {}
        self.case: list[str] = []
        self.inside: list[tuple[NDArray[Any], int, int]] = []  # what `end` stands for

    # words

    def refuse(self, what: str, line: int | None = None) -> NoReturn:
        line = self.peek().line if line is None else line
        source = self.lines[line - 1].strip() if 0 < line <= len(self.lines) else ""
        raise InputError(self.name, [Fault(f"line {line}: {source}", what, ALLOWED)])

    def _scan(self, text: str) -> Any:
        at, line, depth, spaced = 0, 1, [], False
        previous = _Token("newline", "\n", 1, False)
        while at < len(text):
            c = text[at]
            if c in " \t\r\x01":
                line, at, spaced = line + (c == "\x01"), at + 1, True
                continue
            made: _Token | None = None
            if c == "\n":
                made, end = _Token("newline", "\n", line, spaced), at + 1
            elif (
                c == "[" and (match := _NUMBERS.match(text, at)) and not _OPERATION.search(match[0])
            ):
                made = _Token("matrix", self._numbers(match[0], line), line, spaced)
                end = match.end()
            elif c in "'\"" and not (c == "'" and not spaced and _ends_value(previous)):
                match = re.compile(r"'((?:[^'\n]|'')*)'|\"([^\"\n]*)\"").match(text, at)
                if match is None:
                    self.refuse("a text without an end", line)
                made, end = _Token("text", match[1] or match[2] or "", line, spaced), match.end()
            elif match := _TOKEN.match(text, at):
                kind = str(match.lastgroup)
                value = float(match[0]) if kind == "number" else match[0]
                made, end = _Token(kind, value, line, spaced), match.end()
                if made.value in ("[", "{", "("):
                    depth.append(made.value)
                elif made.value in ("]", "}", ")"):
                    if not depth:
                        self.refuse(f"{made.value} without its opening", line)
                    depth.pop()
            else:
                self.refuse(f"the character {c!r}", line)
            if made.kind == "newline" and depth and depth[-1] == "(":
                made = None
            if made is not None:
                yield made
                previous = made
            line, at, spaced = (
                line + text.count("\n", at, end) + text.count("\x01", at, end),
                end,
                False,
            )
        if depth:
            self.refuse(f"{depth[-1]} without its end", line)
        yield _Token("newline", "\n", line, False)
        yield _Token("end", None, line, False)

    def _numbers(self, text: str, line: int) -> NDArray[np.float64]:
        rows = [
            r.replace(",", " ").split() for r in re.split(r"[;\n]", text[1:-1].replace("\x01", " "))
        ]
        rows = [r for r in rows if r]
        try:
            values = [np.array([[float(x) for x in r]]) for r in rows]
        except ValueError as error:
            self.refuse(str(error), line)
        return _stacked(values)

    def peek(self, ahead: int = 0) -> _Token:
        return self.tokens[min(self.at + ahead, len(self.tokens) - 1)]

    def take(self, value: Any = None) -> _Token:
        token: _Token = self.peek()
        if value is not None and token.value != value:
            self.refuse(f"{token.value!r} where {value!r} is expected")
        self.at += 1
        return token

    def is_op(self, *values: str) -> bool:
        return self.peek().kind == "op" and self.peek().value in values

    # statements

    def run(self) -> dict[str, Any]:
        while self.peek().kind != "end":
            if self.peek().kind == "newline" or self.is_op(";", ","):
                self.at += 1
                continue
            self.statement()
            if self.peek().kind != "newline" and not self.is_op(";", ","):
                self.refuse(f"{self.peek().value!r} after a statement")
        if len(self.case) > 1:  # version 1: the tables are the function's results
            return {k: v for k, v in self.values.items() if k in self.case}
        if self.case and self.case[0] in self.values:
            found = self.values[self.case[0]]
        else:
            structs = [v for v in self.values.values() if isinstance(v, dict)]
            found = structs[0] if len(structs) == 1 else self.values
        return found if isinstance(found, dict) else self.values

    def statement(self) -> None:
        token = self.peek()
        if token.kind == "name" and token.value == "function":
            while self.peek().kind != "newline":
                names = self.take()
                if names.value == "=":
                    break
                if names.kind == "name" and names.value != "function":
                    self.case.append(names.value)
            while self.peek().kind != "newline":
                self.at += 1
        elif token.kind == "name" and token.value in ("end", "return", "endfunction"):
            self.at += 1
        elif token.kind == "name" and token.value == "define_constants":
            self.at += 1
            self.values |= column_names(1)
        elif self.is_op("["):
            self.constants()
        elif token.kind == "name":
            self.assignment()
        else:
            self.refuse("no assignment")

    def constants(self) -> None:
        """``[PQ, PV, ...] = idx_bus``: names that mean what they say."""
        line, known, names = self.take("[").line, column_names(1), []
        while not self.is_op("]"):
            token = self.take()
            if token.kind == "name":
                names.append(token.value)
            elif token.value not in (",", "~", "\n"):
                self.refuse("no list of names", line)
        self.take("]")
        self.take("=")
        source = self.take()
        if source.value not in COLUMNS or any(n not in known for n in names):
            self.refuse("names of no column of MATPOWER", line)
        self.values |= {n: known[n] for n in names}

    def assignment(self) -> None:
        line, path = self.peek().line, [self.take().value]
        while self.is_op(".") and self.peek(1).kind == "name":
            self.at += 1
            path.append(self.take().value)
        index = self.indices(self.lookup(path, line)) if self.is_op("(") else None
        if not self.is_op("="):
            self.refuse("no assignment", line)
        self.take("=")
        value = self.expression()
        holder = self.values
        for part in path[:-1]:
            holder = holder.setdefault(part, {})
            if not isinstance(holder, dict):
                self.refuse(f"{part} is no struct", line)
        if index is None:
            holder[path[-1]] = value.copy() if isinstance(value, np.ndarray) else value
            return
        target = self.lookup(path, line)
        try:
            if isinstance(index, np.ndarray) and index.dtype == bool:
                target[index] = value
            else:
                rows, columns = index
                new = np.broadcast_to(_array(value), (len(rows), len(columns)))
                target[np.ix_(rows, columns)] = new
        except (ValueError, IndexError, TypeError) as error:
            self.refuse(str(error), line)

    def lookup(self, path: list[str], line: int) -> Any:
        found: Any = self.values
        for part in path:
            if not isinstance(found, dict) or part not in found:
                self.refuse(f"{'.'.join(path)} has no value yet", line)
            found = found[part]
        return found

    # expressions, loosest first

    def expression(self) -> Any:
        return self.binary(0)

    _LEVELS = (
        ("|", "||"), ("&", "&&"), ("==", "~=", "!=", "<", "<=", ">", ">="), ("+", "-"),
        ("*", "/", ".*", "./"),
    )  # fmt: skip

    def binary(self, level: int) -> Any:
        if level == len(self._LEVELS):
            return self.unary()
        left = self.binary(level + 1)
        while self.is_op(*self._LEVELS[level]) and not self.splits():
            line, operator = self.peek().line, self.take().value
            left = self.apply(operator, left, self.binary(level + 1), line)
        return left

    def splits(self) -> bool:
        """Inside a matrix, ``1 -2`` are two elements and ``1 - 2`` is one."""
        return (
            bool(self._matrix) and self.is_op("+", "-") and self.peek().spaced
            and not self.peek(1).spaced
        )  # fmt: skip

    _matrix = 0

    def apply(self, operator: str, left: Any, right: Any, line: int) -> Any:
        a, b = _array(left), _array(right)
        if a.dtype.kind not in "fb" or b.dtype.kind not in "fb":
            self.refuse(f"{operator} between texts", line)
        both = min(a.size, b.size) > 1
        if (operator == "*" and both) or (operator == "/" and b.size > 1):
            self.refuse("matrix algebra", line)
        do: dict[str, Callable[..., Any]] = {
            "|": np.logical_or, "||": np.logical_or, "&": np.logical_and, "&&": np.logical_and,
            "==": np.equal, "~=": np.not_equal, "!=": np.not_equal, "<": np.less,
            "<=": np.less_equal, ">": np.greater, ">=": np.greater_equal, "+": np.add,
            "-": np.subtract, "*": np.multiply, ".*": np.multiply, "/": np.divide,
            "./": np.divide, "^": np.power, ".^": np.power,
        }  # fmt: skip
        try:
            with np.errstate(all="ignore"):
                found = do[operator](a, b) if operator[0] in "|&=~!<>" else do[operator](
                    a.astype(float), b.astype(float))  # fmt: skip
        except ValueError as error:
            self.refuse(str(error), line)
        return found if found.size != 1 or found.dtype == bool else float(found.item())

    def unary(self) -> Any:
        if self.is_op("-", "+"):
            sign = -1.0 if self.take().value == "-" else 1.0
            return self.apply("*", sign, self.unary(), self.peek().line)
        if self.is_op("~", "!"):
            self.at += 1
            return np.logical_not(_array(self.unary()))
        base = self.postfix()
        while self.is_op("^", ".^") and not self.splits():
            line, operator = self.peek().line, self.take().value
            power = self.unary() if self.is_op("-", "+") else self.postfix()
            if operator == "^" and max(_array(base).size, _array(power).size) > 1:
                self.refuse("matrix algebra", line)
            base = self.apply(operator, base, power, line)
        return base

    def postfix(self) -> Any:
        value = self.primary()
        while True:
            spaced = bool(self._matrix) and self.peek().spaced
            if self.is_op("(") and not spaced:
                value = self.pick(value)
            elif self.is_op(".") and isinstance(value, dict) and self.peek(1).kind == "name":
                line = self.take(".").line
                name = self.take().value
                value = value[name] if name in value else self.refuse(f"no field {name}", line)
            elif self.is_op("'", ".'") and not self.peek().spaced:
                self.at += 1
                value = _array(value).T
            else:
                return value

    def primary(self) -> Any:
        token = self.take()
        if token.kind in ("number", "text", "matrix"):
            return token.value
        if token.kind == "name":
            return self.named(token)
        if token.value == "(":
            held, self._matrix = self._matrix, 0
            value = self.expression()
            self.take(")")
            self._matrix = held
            return value
        if token.value in ("[", "{"):
            return self.matrix("]" if token.value == "[" else "}", token.line)
        return self.refuse(f"{token.value!r} where a value is expected", token.line)

    def named(self, token: _Token) -> Any:
        name = token.value
        if name == "end" and self.inside:
            array, axis, count = self.inside[-1]
            return float(array.size if count == 1 else array.shape[axis])
        if name in self.values:
            return self.values[name]
        if name in _CONSTANTS:
            return _CONSTANTS[name]
        if name in FUNCTIONS and self.is_op("("):
            self.take("(")
            held, self._matrix = self._matrix, 0
            value = self.expression()
            self.take(")")
            self._matrix = held
            with np.errstate(all="ignore"):
                return FUNCTIONS[name](_array(value)) if np.ndim(value) else float(
                    FUNCTIONS[name](value))  # fmt: skip
        return self.refuse(f"{name} is no value or function that is read", token.line)

    def matrix(self, close: str, line: int) -> Any:
        self._matrix += 1
        rows: list[list[Any]] = [[]]
        while not self.is_op(close):
            if self.peek().kind == "newline" or self.is_op(";"):
                self.at += 1
                rows.append([])
            elif self.is_op(","):
                self.at += 1
            else:
                rows[-1].append(self.expression())
        self.take(close)
        self._matrix -= 1
        rows = [r for r in rows if r]
        if close == "}":
            return rows
        try:
            parts = [np.concatenate([_array(x).astype(float) for x in r], axis=1) for r in rows]
        except ValueError as error:
            self.refuse(str(error), line)
        return _stacked(parts)

    # indexing

    def indices(self, value: Any) -> Any:
        """A pair of index arrays from 0, or one logical array."""
        line, array = self.peek().line, value
        if not isinstance(array, np.ndarray):
            self.refuse("an index on what is no matrix", line)
        start, depth, count = self.at, 0, 1
        while True:  # how many indices there are decides what `end` means
            token = self.peek(1)
            self.at += 1
            if token.kind in ("end", "newline"):
                self.refuse("an index without its end", line)
            if token.value in ("(", "[", "{"):
                depth += 1
            elif token.value in (")", "]", "}"):
                if depth == 0:
                    break
                depth -= 1
            elif token.value == "," and depth == 0:
                count += 1
        self.at = start + 1
        held, self._matrix = self._matrix, 0
        found = []
        for axis in range(count):
            if axis:
                self.take(",")
            if self.is_op(":"):
                self.at += 1
                found.append(np.arange(array.size if count == 1 else array.shape[axis]))
                continue
            self.inside.append((array, axis, count))
            found.append(_array(self.expression()))
            self.inside.pop()
        self.take(")")
        self._matrix = held
        if count == 1 and found[0].dtype == bool and found[0].shape == array.shape:
            return found[0]
        if count == 1 and 1 in array.shape:
            found = (
                [found[0], np.ones((1, 1))] if array.shape[1] == 1 else [np.ones((1, 1)), found[0]]
            )
        if len(found) != 2:
            self.refuse("other than a row and a column as index", line)
        return tuple(self._whole(i, size, line) for i, size in zip(found, array.shape, strict=True))

    def _whole(self, index: NDArray[Any], size: int, line: int) -> NDArray[np.int64]:
        if index.ndim == 1:  # a colon
            return index
        if index.dtype == bool:
            if index.size != size:
                self.refuse(f"{index.size} conditions for {size} rows or columns", line)
            return np.flatnonzero(index)
        flat = index.ravel()
        if not (np.isfinite(flat) & (flat == np.round(flat)) & (flat >= 1) & (flat <= size)).all():
            self.refuse(f"an index outside 1..{size}", line)
        return flat.astype(np.int64) - 1

    def pick(self, value: Any) -> Any:
        index = self.indices(value)
        if isinstance(index, np.ndarray):
            return value[index].reshape(-1, 1)
        found = value[np.ix_(*index)]
        return float(found.item()) if found.size == 1 else found


def _stacked(rows: list[NDArray[Any]]) -> NDArray[Any]:
    """Rows as one matrix; what a row lacks against the longest is nan."""
    width = max((r.shape[1] for r in rows), default=0)
    padded = [np.pad(r, ((0, 0), (0, width - r.shape[1])), constant_values=np.nan) for r in rows]
    return np.concatenate(padded) if rows else np.zeros((0, 0))


def _array(value: Any) -> NDArray[Any]:
    """A value as a 2-D array."""
    return np.atleast_2d(np.asarray(value))


def _ends_value(token: _Token) -> bool:
    return token.kind in ("number", "name", "matrix", "text") or token.value in (")", "]", "}", "'")


def _without_comments(text: str) -> str:
    """The text without comments; a continued line's end becomes \\x01, which is white space."""
    kept, block = [], 0
    for line in text.splitlines():
        word = line.strip()
        if word in ("%{", "#{"):
            block += 1
        elif word in ("%}", "#}") and block:
            block -= 1
        elif not block:
            code, continued = _code(line)
            kept.append(code + ("\x01" if continued else "\n"))
            continue
        kept.append("\n")
    return "".join(kept)


def _code(line: str) -> tuple[str, bool]:
    """The code of a line, and whether it goes on in the next."""
    at, value_before = 0, False
    while at < len(line):
        c = line[at]
        if c in "%#":
            return line[:at], False
        if line.startswith("...", at):
            return line[:at], True
        if c == '"' or (c == "'" and not value_before):
            end = line.find(c, at + 1)
            at = len(line) if end < 0 else end
        value_before = c.isalnum() or c in "_)]}'."
        at += 1
    return line, False
