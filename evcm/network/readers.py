"""Read networks from MATPOWER .m, PYPOWER .py and .json case files, as data: no code is run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from evcm.errors import Checks, Fault, InputError
from evcm.network.case import Network
from evcm.network.mfile import read_m
from evcm.network.pyfile import read_py


def from_case(case: str | Path) -> Network:
    """A network from a MATPOWER .m, PYPOWER .py or .json file, or a PYPOWER case by name.

    No code of the file is run: literals and arithmetic are evaluated (see `evcm.network.mfile` and
    `evcm.network.pyfile`), every other statement is refused by its line.

    Parameters
    ----------
    case : path or str
        A file, or a name such as ``case30``.

    Raises
    ------
    InputError
        There is no such file or case, it is of another kind, a statement computes more than
        arithmetic, or tables are missing, malformed or contradict each other. Every offending row
        is named with its table, row and value.

    See Also
    --------
    evcm.network.ppc.network_fields : what is read, left out and refused.
    """
    path = Path(case)
    if not path.suffix and not path.exists():
        from evcm.network.pypower import built_in_case

        return Network.from_case(built_in_case(str(case)), str(case))
    if not path.is_file():
        raise InputError(str(path), [Fault("file", "missing", "an existing case file")])
    readers = {".m": read_m, ".py": read_py, ".json": _read_json}
    checks = Checks(str(path))
    checks.require(
        path.suffix in readers, "file type", path.suffix, ".m (MATPOWER), .py or .json (PYPOWER)"
    )
    checks.done()
    try:
        text = path.read_text("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(str(path), [Fault("content", str(error), "UTF-8 text")]) from error
    except OSError as error:
        why = error.strerror or "unreadable"
        raise InputError(str(path), [Fault("file", why, "a readable file")]) from error
    return Network.from_case(readers[path.suffix](str(path), text), path.stem)


def _read_json(name: str, text: str) -> dict[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InputError(name, [Fault("content", str(error), "JSON")]) from error
    checks = Checks(name)
    checks.require(isinstance(content, dict), "content", type(content).__name__, "a JSON object")
    checks.done()
    return dict(content)
