"""What a task gives: facts about how it went, and arrays."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray


@dataclass(frozen=True, eq=False)
class Result:
    """A finished task: `record` holds what JSON can hold, `arrays` numbers and short texts.

    See Also
    --------
    evcm.store.steps.Step : where results are kept.
    """

    record: Mapping[str, Any]
    arrays: Mapping[str, NDArray[Any]] = field(default_factory=dict)

    @classmethod
    def of_tables(cls, record: Mapping[str, Any] | None = None, **tables: pd.DataFrame) -> Result:
        """Tables by name, as arrays by table and column; `table` makes them tables again."""
        arrays = {
            f"{name}.{column}": _column(table[column])
            for name, table in tables.items()
            for column in table.columns
        }
        return cls(record or {}, arrays)

    def table(self, name: str) -> pd.DataFrame:
        """A table of `of_tables`, its columns in their order."""
        mine = {c.partition(".")[2]: v for c, v in self.arrays.items() if c.startswith(f"{name}.")}
        texts = {c: v.astype(object) if v.dtype.kind == "U" else v for c, v in mine.items()}
        return pd.DataFrame(texts).infer_objects()

    def pack(self) -> tuple[str, str, bytes]:
        """Record as JSON, what the arrays are as JSON, and their bytes one after another."""
        found = {name: np.ascontiguousarray(values) for name, values in self.arrays.items()}
        kinds = {
            name: [a.dtype.str, list(np.shape(self.arrays[name]))] for name, a in found.items()
        }
        if wrong := [name for name, a in found.items() if a.dtype.kind not in "biufcU"]:
            raise TypeError(f"arrays of objects cannot be stored: {', '.join(wrong)}")
        body = b"".join(a.tobytes() for a in found.values())
        return json.dumps(dict(self.record), sort_keys=True), json.dumps(kinds), body

    @classmethod
    def unpack(cls, record: str, kinds: str, body: bytes) -> Result:
        """The inverse of `pack`; ValueError or TypeError where the three do not fit."""
        arrays, at = {}, 0
        for name, (kind, shape) in json.loads(kinds).items():
            dtype = np.dtype(kind)
            count = int(np.prod(shape, dtype=np.int64))
            arrays[name] = np.frombuffer(body, dtype, count, at).reshape(shape)
            at += count * dtype.itemsize
        return cls(json.loads(record), arrays)


def _column(values: pd.Series[Any]) -> NDArray[Any]:
    array = values.to_numpy()
    return array if array.dtype.kind in "biufc" else np.array([str(v) for v in array])
