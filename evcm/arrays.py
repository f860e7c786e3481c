"""Array types, and the read-only copies that frozen dataclasses keep."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
ComplexArray = NDArray[np.complex128]


def read_only(array: object, dtype: Any = np.float64) -> NDArray[Any]:
    """A read-only copy of `array` with elements of type `dtype`."""
    copy: NDArray[Any] = np.array(array, dtype=dtype)
    copy.setflags(write=False)
    return copy


def freeze(instance: object, dtypes: Mapping[str, Any] | None = None) -> None:
    """Replace every array field of a frozen dataclass by a read-only copy, in ``__post_init__``.

    `dtypes` are element types by field, for fields that may be lists and arrays of no floats.
    """
    wanted = dtypes or {}
    for item in fields(instance):  # type: ignore[arg-type]
        value = getattr(instance, item.name)
        if item.name in wanted:
            object.__setattr__(instance, item.name, read_only(value, wanted[item.name]))
        elif isinstance(value, np.ndarray):
            object.__setattr__(instance, item.name, read_only(value))
