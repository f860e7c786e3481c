"""Files with a few bytes changed, as tests of every reader use them: seeded, one file at a time."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np

from evcm.errors import EvcmError

WORDS = [
    "", "nan", "-1", "1e9", "inf", "true", "25:00", "[", "'", '"', ";", "\x1b[31m", "ü", "0", "=",
    "2024-01-01", "[[pv_group]]", "99999999999999999999", "\x00", "{a={b={}}}",
]  # fmt: skip


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    """The bytes with one to three places changed, cut, or a number replaced by a word."""
    data = bytearray(content)
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(data) + 1))
        what = int(rng.integers(4))
        word = WORDS[int(rng.integers(len(WORDS)))].encode()
        numbers = [m.span() for m in re.finditer(rb"[0-9.:]+", bytes(data))]
        if what == 0:
            data[at : at + 1] = bytes([int(rng.integers(256))])
        elif what == 1:
            del data[at : at + int(rng.integers(1, 12))]
        elif what == 2 or not numbers:
            data[at:at] = word
        else:
            first, last = numbers[int(rng.integers(len(numbers)))]
            data[first:last] = word
    return bytes(data)


def refused_or_done(files: Iterable[Path], use: Callable[[], object], seeds: Iterable[int]) -> int:
    """Change one of `files` at a time and `use` them; how often nothing was raised.

    `use` may raise an `EvcmError` of one printable message, and nothing else.
    """
    originals = {file: file.read_bytes() for file in sorted(files)}
    done, said = 0, []
    for seed in seeds:
        rng = np.random.default_rng(seed)
        file = list(originals)[int(rng.integers(len(originals)))]
        file.write_bytes(mutated(originals[file], rng))
        try:
            use()
            done += 1
        except EvcmError as error:
            said.append(str(error))
        finally:
            file.write_bytes(originals[file])
    assert [s for s in said if not s.replace("\n", " ").isprintable()] == []
    return done
