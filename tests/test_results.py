import pandas as pd
import pytest

from evcm.store.results import StaleError, Store, versions


def test_round_trip_and_staleness(tmp_path):
    store = Store(tmp_path)
    table = pd.DataFrame({"a": [1, 2], "b": [0.5, 1.5]})
    store.save_table("x/t.parquet", "key1", table, {"solver": "HiGHS"})
    pd.testing.assert_frame_equal(store.load_table("x/t.parquet", "key1"), table)
    assert store.is_fresh("x/t.parquet", "key1")
    assert store.record("x/t.parquet")["solver"] == "HiGHS"
    assert store.record("x/t.parquet")["versions"]["python"] == versions()["python"]
    with pytest.raises(StaleError, match="made by other code"):
        store.load_table("x/t.parquet", "key2")


def test_missing(tmp_path):
    with pytest.raises(StaleError, match=r"missing.t\.parquet: missing\..*`evcm study`"):
        Store(tmp_path).load_table("missing.t.parquet")


def test_without_a_record_an_artifact_counts_as_absent(tmp_path):
    store = Store(tmp_path)
    store.save_table("t.parquet", "k", pd.DataFrame({"a": [1]}))
    (tmp_path / "t.parquet.json").write_text("{ torn")
    assert not store.is_fresh("t.parquet", "k")


def test_an_interrupted_write_leaves_the_old_file(tmp_path, monkeypatch):
    store = Store(tmp_path)
    store.save_table("t.parquet", "k", pd.DataFrame({"a": [1]}))

    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr(pd.DataFrame, "to_parquet", interrupted)
    with pytest.raises(KeyboardInterrupt):
        store.save_table("t.parquet", "k2", pd.DataFrame({"a": [2]}))
    assert pd.read_parquet(tmp_path / "t.parquet")["a"].tolist() == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["t.parquet"]
    assert not store.is_fresh("t.parquet", "k2")
