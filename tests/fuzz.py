"""Mutations of input files and options, each from a seed, and what a command may do with one."""

from __future__ import annotations

import io
import random
import warnings
import zipfile
from pathlib import Path

import numpy as np
from typer.testing import CliRunner

from evcm import cli
from evcm.errors import EvcmError

NUMBERS = ("inf", "-inf", "nan", "1e30", "-1", "0", "99999999999999999999", "1e-320", "1.5", "",
           "x", "1,5", "0x10", "1_0", "true", "None", "١", "1e400", "-0.0", "00:30")  # fmt: skip
"""What people and programs write where a number belongs."""

WORDS = ("", "\0", "é", "\ufeff", "'", '"', "[", "]" * 50, "[" * 3000, "{", "\x1b[31m", "#", ";",
         "\n\n", ",,,", "\t", "a" * 5000, "../..", "NaN", "-", "=", "\r\n", "//")  # fmt: skip

ALLOWED = {0, 1, 2}
"""Exit codes: done, not certified, one message."""


def text(rng: random.Random, content: str) -> str:
    """One to three faults in a text: numbers, lines, characters."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        lines = content.split("\n")
        k = rng.randrange(len(lines))
        what = rng.randrange(9)
        if what == 0:
            del lines[k]
        elif what == 1:
            lines.insert(k, lines[rng.randrange(len(lines))] if lines else "")
        elif what == 2:
            lines[k] = lines[k][: rng.randrange(len(lines[k]) + 1)]
        elif what == 3:
            rng.shuffle(lines)
        elif what in (4, 5, 6):
            parts = _split(lines[k])
            digits = [i for i, part in enumerate(parts) if part[:1].isdigit()]
            if digits:
                parts[rng.choice(digits)] = rng.choice(NUMBERS)
            lines[k] = "".join(parts)
        elif what == 7:
            at = rng.randrange(len(lines[k]) + 1)
            lines[k] = lines[k][:at] + rng.choice(WORDS) + lines[k][at:]
        else:
            other = rng.randrange(len(lines))
            lines[k], lines[other] = lines[other], lines[k]
        content = "\n".join(lines) or "\n"
    return content


def _split(line: str) -> list[str]:
    """A line as numbers and what is between them."""
    parts, now = [], ""
    for c in line:
        kind = c.isdigit() or c == "."
        if now and kind != (now[-1].isdigit() or now[-1] == "."):
            parts.append(now)
            now = ""
        now += c
    return [*parts, now]


def raw(rng: random.Random, content: bytes) -> bytes:
    """A cut, a flipped byte, or bytes of no meaning."""
    at = rng.randrange(len(content) + 1)
    what = rng.randrange(4)
    if what == 0:
        return content[:at]
    if what == 1:
        return content[:at] + rng.randbytes(rng.randrange(1, 40)) + content[at:]
    if what == 2:
        return rng.randbytes(rng.randrange(200))
    changed = bytearray(content or b"\0")
    changed[min(at, len(changed) - 1)] ^= 1 << rng.randrange(8)
    return bytes(changed)


def archive(rng: random.Random, content: bytes) -> bytes:
    """An .npz file with an array gone, of another shape or type, or with impossible numbers."""
    if rng.random() < 0.25:
        return raw(rng, content)
    with np.load(io.BytesIO(content), allow_pickle=False) as found:
        arrays = {name: found[name] for name in found.files}
    name = rng.choice(sorted(arrays))
    a = arrays[name]
    what = rng.randrange(7)
    if what == 0:
        del arrays[name]
    elif what == 1:
        kinds = ["float32", "int8", "complex128", "U8", "bool"]
        arrays[name] = a.astype(rng.choice(kinds if a.dtype.kind != "U" else ["S8"]))
    elif what == 2:
        arrays[name] = a.reshape(rng.choice([(-1,), (1, -1), (-1, 1, 1)]))
    elif what == 3:
        arrays[name] = np.zeros(rng.choice([(0,), (), (2, 2), (48,), (1, 1, 1, 1)]))
    elif what == 4 and a.ndim:
        arrays[name] = a[: rng.randrange(a.shape[0] + 1)]
    elif a.dtype.kind == "f" and a.size:
        a = a.copy()
        at = rng.randrange(a.size)
        a.ravel()[at] = rng.choice([np.nan, np.inf, -np.inf, -1.0, 1e30, 0.0, -a.ravel()[at]])
        arrays[name] = a
    elif a.dtype.kind in "iub" and a.size:
        a = a.astype(np.int64)
        a.ravel()[rng.randrange(a.size)] = rng.choice([-1, 0, 2**62, 7])
        arrays[name] = a
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive_:
        for key, value in arrays.items():
            with archive_.open(f"{key}.npy", "w") as stream:
                np.lib.format.write_array(stream, np.asanyarray(value), allow_pickle=True)
    return out.getvalue()


def faults(words: list[str]) -> list[str]:
    """What a command did that it may not: a traceback, a strange code, a message without words."""
    with warnings.catch_warnings():
        # numbers out of all range overflow on their way to a message, which is no fault of a user's
        warnings.simplefilter("ignore", RuntimeWarning)
        done = CliRunner().invoke(cli.app, words)
    error = done.exception
    if isinstance(error, SystemExit) or error is None:
        return [] if done.exit_code in ALLOWED else [f"exit code {done.exit_code}"]
    if isinstance(error, (EvcmError, OSError)):
        said = str(error)
        bad = [w for w in ("np.float64(", "KeyError", "Traceback", "\x1b", "\0") if w in said]
        if not said.strip() or len(said) > 20_000:
            bad.append(f"a message of {len(said)} characters")
        return [f"{w!r} in the message {said[:200]}" for w in bad]
    return [f"{type(error).__name__}: {str(error)[:200]}"]


def none_left(folder: Path, before: set[str]) -> list[str]:
    """Temporary files that a command left behind."""
    now = {p.name for p in folder.iterdir()} - before
    return [f"left behind: {name}" for name in sorted(now) if name.startswith(".")]
