"""Commands take streams behind a URL as they take folders, and keep them where they are told."""

import pytest
import yaml

from oxe_pipeline.mix import main as mix
from oxe_pipeline.mixture.mixture import load_mixture
from oxe_pipeline.samples import main as samples
from oxe_pipeline.stream.cache import CacheOptions
from tests.stream.servers import FaultyServer
from tests.synthetic import make_stream

pytest.importorskip("aiohttp", reason="aiohttp is not installed (pip install aiohttp)")


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("served")
    for name in ("alpha", "beta"):
        make_stream(root / name, name)
    with FaultyServer(root).running() as server:
        yield server


def test_a_mixture_below_a_url_is_mixed_written_and_read_again(server, tmp_path, capsys):
    out, cache = tmp_path / "mix.yaml", tmp_path / "cache"
    words = ["--root", server.url, "--weights", "alpha=1,beta=1", "--out", str(out), "--cache-dir", str(cache)]
    assert mix(words) == 0
    paths = [entry["path"] for entry in yaml.safe_load(out.read_text())["datasets"]]
    assert paths == [f"{server.url}/alpha", f"{server.url}/beta"]
    mixture = load_mixture(out, cache=CacheOptions(folder=cache))
    assert [dataset.stream.path for dataset in mixture.datasets] == paths
    assert list(cache.glob("*.parquet")) and not list(cache.glob("*.arrow")), "the index alone was needed"
    capsys.readouterr()
    assert samples(["--mixture", str(out), "--step", "3", "--batch-size", "4", "--cache-dir", str(cache)]) == 0
    assert "push block" in capsys.readouterr().out


def test_a_data_set_that_is_not_below_the_url_is_named_or_left_out(server, tmp_path, capsys):
    words = ["--root", f"{server.url}/", "--weights", "alpha=1,gamma=1", "--cache-dir", str(tmp_path)]
    assert mix(words) == 2
    assert f"{server.url}/: there is no data set 'gamma'" in capsys.readouterr().err
    assert mix([*words, "--skip-missing"]) == 0
    assert "left out, not under --root: gamma" in capsys.readouterr().out


@pytest.mark.parametrize("size", ["0", "-1", "lots", "nan", "inf", "1e-12"])
def test_a_cache_of_no_size_is_refused(size, capsys):
    with pytest.raises(SystemExit, match="2"):
        mix(["--weights", "a=1", "--cache-gb", size])
    assert "is not a number of gigabytes above 0" in capsys.readouterr().err


def test_a_cache_smaller_than_a_shard_is_refused_with_the_option_that_helps(server, tmp_path, capsys):
    words = ["--root", server.url, "--weights", "alpha=1", "--cache-dir", str(tmp_path), "--cache-gb", "0.00002"]
    assert mix(words) == 2
    error = capsys.readouterr().err
    assert error.startswith("error: ") and "--cache-gb" in error and error.count("\n") == 1
