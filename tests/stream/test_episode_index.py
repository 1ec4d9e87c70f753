import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from oxe_pipeline.stream.episode_index import EpisodeIndex
from oxe_pipeline.stream.format import EPISODE_SCHEMA

EPISODES = 50


def table() -> pa.Table:
    """Episode i has i % 3 instructions; every fifth is held out."""
    return pa.Table.from_pylist(
        [
            {
                "episode_id": f"{i:016x}",
                "shard": i // 10,
                "first_row": 100 * (i % 10),
                "length": 90 + i % 10,
                "split": "val" if i % 5 == 4 else "train",
                "cameras": 5 if i % 2 else 1,
                "instruction_ids": list(range(i, i + i % 3)),
                "success": i % 3 - 1,
                "control_hz": 10.0 + i,
                "label_raw": "",
                "label_flags": [],
                "quality_flags": [],
                "source_path": f"raw/{i}",
            }
            for i in range(EPISODES)
        ],
        EPISODE_SCHEMA,
    )


@pytest.fixture(params=[EPISODES, 7], ids=["one row group", "several"])
def index(request, tmp_path) -> EpisodeIndex:
    pq.write_table(table(), tmp_path / "episodes.parquet", row_group_size=request.param)
    return EpisodeIndex(tmp_path / "episodes.parquet")


def test_columns_are_those_of_the_file_however_it_is_cut_into_row_groups(index):
    number = np.arange(EPISODES)
    assert len(index) == EPISODES
    assert np.array_equal(index.shard, number // 10) and np.array_equal(index.first_row, 100 * (number % 10))
    assert np.array_equal(index.length, 90 + number % 10) and index.length.dtype == np.int64
    assert np.array_equal(index.success, number % 3 - 1) and np.array_equal(index.control_hz, 10.0 + number)
    assert np.array_equal(index.split_is("val"), number % 5 == 4) and not index.split_is("test").any()
    assert sorted(index.split_names()) == ["train", "val"]
    assert np.array_equal(index.has_camera("wrist"), number % 2 == 1) and index.has_camera("primary").all()
    assert index.column("source_path").to_pylist() == [f"raw/{i}" for i in number]
    assert index.episode_id(17) == f"{17:016x}" and index.source_path(17) == "raw/17"


def test_instructions_are_found_one_by_one_and_many_at_once(index):
    assert [index.instruction_ids(i).tolist() for i in (0, 1, 2, 49)] == [[], [1], [2, 3], [49]]
    episode, share = np.array([2, 2, 3, 4, 49, 5]), np.array([0.0, 0.99, 0.5, 0.5, 0.7, 0.5])
    assert index.instruction_at(episode, share).tolist() == [2, 3, -1, 4, 49, 6]


def test_an_index_opened_as_a_mapped_file_outlives_the_file(tmp_path):
    path = tmp_path / "episodes.parquet"
    pq.write_table(table(), path)
    index = EpisodeIndex(pa.memory_map(str(path)))
    path.unlink()
    assert index.instruction_ids(2).tolist() == [2, 3] and index.episode_id(3) == f"{3:016x}"


def test_reading_an_index_does_not_import_pandas(tmp_path):
    pq.write_table(table(), tmp_path / "episodes.parquet")
    code = (
        "import sys; from pathlib import Path; from oxe_pipeline.stream.episode_index import EpisodeIndex;"
        f"index = EpisodeIndex(Path({str(tmp_path / 'episodes.parquet')!r})); index.instruction_ids(2);"
        "assert 'pandas' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
