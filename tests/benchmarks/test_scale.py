"""Streams that are holes are streams, and what `benchmarks.scale` prints of them is what they hold."""

import json

import numpy as np
import pytest

from benchmarks.scale import main, measure_case
from benchmarks.sparse_streams import make_sparse_mixture
from oxe_pipeline.mixture.mixture import load_mixture


@pytest.fixture(scope="module")
def mixture_file(tmp_path_factory):
    """Two data sets of 3 and 2 shards."""
    return make_sparse_mixture(tmp_path_factory.mktemp("sparse"), datasets=2, episodes=50)


def test_a_sparse_mixture_opens_as_it_is_and_has_the_size_asked_for(mixture_file):
    mixture = load_mixture(mixture_file)
    assert [len(dataset.stream.episodes) for dataset in mixture.datasets] == [30, 20]
    assert [dataset.stream.num_steps for dataset in mixture.datasets] == [30_000, 20_000]
    held_out = [~dataset.stream.episodes.split_is("train") for dataset in mixture.datasets]
    assert [mask.sum() for mask in held_out] == [0, 0]
    assert mixture.datasets[0].stream.vector("action", 29).shape[1] == 7
    assert mixture.datasets[1].stream.instruction(4).startswith("put object")


def test_shards_are_of_the_size_of_real_ones_and_take_no_disk(mixture_file):
    files = list(mixture_file.parent.glob("*/shards/*"))
    assert len(files) == 10
    assert sum(file.stat().st_size for file in files) > 5 * 250e6
    assert sum(file.stat().st_blocks * 512 for file in files) < 10 * 32768


def test_a_case_is_measured_cold_and_warm_in_processes_of_their_own(tmp_path):
    cold, warm = measure_case(tmp_path / "case", 2, 60)
    assert [row["cache"] for row in (cold, warm)] == ["cold", "warm"]
    for row in (cold, warm):
        assert (row["datasets"], row["episodes"]) == (2, 60) and 55_000 < row["windows"] <= 60_000
        assert 0 < row["open_s"] <= row["first_indices_s"] <= row["first_batch_s"]
        assert row["peak_rss_mb"] > row["rss_growth_mb"] and np.isfinite(row["late_indices_ms"])
    assert not (tmp_path / "case").exists()


def test_command_prints_one_line_for_a_case_it_does_not_understand(capsys):
    assert main(["--cases", "many"]) == 2
    assert capsys.readouterr().err == "error: case 'many' does not parse; write it as 100x1000000\n"


def test_command_measures_one_mixture_in_this_process(mixture_file, capsys):
    assert main(["--measure", str(mixture_file)]) == 0
    assert json.loads(capsys.readouterr().out)["episodes"] == 50
