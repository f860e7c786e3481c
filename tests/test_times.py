"""Times and tables as people write them."""

from datetime import UTC, datetime

import numpy as np
import pytest

from evcm.errors import Checks, InputError
from evcm.store import times


@pytest.mark.parametrize(
    ("text", "hour"),
    [
        ("13.5", 13.5), ("13,5", 13.5), ("13:30", 13.5), ("7:05", 7 + 1 / 12), ("24:00", 24.0),
        ("13:30:18", 13.505), (" 25:15 ", 25.25), ("0", 0.0),
    ],
)  # fmt: skip
def test_clocks(text, hour):
    assert times.moment(text) == pytest.approx(hour, abs=1e-12)


@pytest.mark.parametrize(
    "text",
    ["2024-03-01T13:30", "2024-03-01 13:30:00", "Fri, 01 Mar 2024 13:30:00 -0000"],
)
def test_dates(text):
    assert times.moment(text) == datetime(2024, 3, 1, 13, 30)


@pytest.mark.parametrize("text", ["Fri, 01 Mar 2024 13:30:00 GMT", "2024-03-01T13:30Z",
                                  "2024-03-01T15:30+02:00"])  # fmt: skip
def test_dates_with_a_zone(text):
    assert times.moment(text) == datetime(2024, 3, 1, 13, 30, tzinfo=UTC)


@pytest.mark.parametrize(
    "text", ["", "-3", "13:60", "1:5", "nan", "inf", "1e3", "0x10", "noon", "13:30:75", "31 Foo"]
)
def test_what_is_no_time(text):
    assert times.moment(text) is None


def test_hours_count_from_the_first_midnight():
    found = [times.moment(t) for t in ("2024-03-01T22:00", "2024-03-02T06:00")]
    start = times.midnight(found)
    assert times.hours(found, start) == pytest.approx([22.0, 30.0])
    assert times.midnight([22.0, 6.0]) is None


@pytest.mark.parametrize(
    ("content", "values"),
    [
        (b"hour,load_kw\n0,1.5\n\n1,2e1\n", [1.5, 20.0]),
        (b"\xef\xbb\xbfhour;load_kw\r\n0;1,5\r\n1;20\r\n", [1.5, 20.0]),
        (b"hour\tload_kw\n0\t1,5\n1\t20.0\n", [1.5, 20.0]),
        ("hour;load_kw\n0;1,5\n1;20\n".encode("utf-16"), [1.5, 20.0]),
        (b'hour,load_kw\n"0","1.5"\n1, 20 \n', [1.5, 20.0]),
    ],
)
def test_tables(tmp_path, content, values):
    file = tmp_path / "load.csv"
    file.write_bytes(content)
    table, checks = times.read_table(file, ["hour", "load_kw"]), Checks("load")
    np.testing.assert_array_equal(times.numbers(table, "load_kw", checks, 0.0), values)
    assert list(table.index) == [1, 2]
    checks.done()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "empty"),
        (b"hour,load_kw\n", "rows: got none"),
        (b"hour,colour\n0,1\n", r"column load_kw: got missing.*column colour: got not used"),
        (b"hour,load_kw,load_kw\n0,1,1\n", "column load_kw: got twice"),
        (b"hour,load_kw\n0,1\n1\n2,3,4\n", r"row 2: got 1 cells.*row 3: got 3 cells"),
        (b"\xff\x00\xff", "content"),
    ],
)
def test_what_is_no_table(tmp_path, content, message):
    file = tmp_path / "load.csv"
    file.write_bytes(content)
    with pytest.raises(InputError, match=message):
        times.read_table(file, ["hour", "load_kw"])


def test_every_bad_cell_is_named(tmp_path):
    file = tmp_path / "load.csv"
    file.write_text("hour,load_kw\n0,1_000\n2024-01-01,nan\nx,-1\n")
    table, checks = times.read_table(file, ["hour", "load_kw"]), Checks("load")
    times.moments(table, "hour", checks)
    times.numbers(table, "load_kw", checks, 0.0)
    assert [f.field for f in checks.faults] == [
        "row 2, hour", "row 3, hour", "row 1, load_kw", "row 2, load_kw", "row 3, load_kw",
    ]  # fmt: skip
