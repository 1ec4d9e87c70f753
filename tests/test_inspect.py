"""`python -m oxe_pipeline.inspect`, as typed."""

import subprocess
import sys

import pytest

from oxe_pipeline.inspect import main
from oxe_pipeline.stream.format import read_manifest, write_manifest
from tests.inspection.html_reading import PageReader
from tests.stream.servers import FaultyServer
from tests.synthetic import make_stream


@pytest.fixture(scope="module")
def streams(tmp_path_factory):
    """Folder with the streams alpha (three shards) and beta (one)."""
    root = tmp_path_factory.mktemp("streams")
    make_stream(root / "alpha", "alpha", episodes=10, image_px=16)
    make_stream(root / "beta", "beta", episodes=3, image_px=16)
    return root


def test_one_stream_one_page(streams, tmp_path, capsys):
    out = tmp_path / "report.html"
    assert main([str(streams / "alpha"), "--out", str(out), "--episodes", "2", "--images", "4"]) == 0
    assert capsys.readouterr().out == f"wrote {out}: {out.stat().st_size / 1e6:.1f} MB\n"
    reader = PageReader(out.read_bytes())
    assert len(reader.all("img")) == 2 * 4 + 2 * 2 * 8 and len(reader.all("article")) == 2


def test_several_streams_several_pages_in_a_folder(streams, tmp_path, monkeypatch):
    assert main([str(streams / "alpha"), str(streams / "beta"), "--out", str(tmp_path / "reports")]) == 0
    assert sorted(path.name for path in (tmp_path / "reports").iterdir()) == ["alpha.html", "beta.html"]
    monkeypatch.chdir(tmp_path)
    assert main([str(streams / "beta")]) == 0
    assert (tmp_path / "beta.html").read_bytes() == (tmp_path / "reports" / "beta.html").read_bytes()


def test_a_remote_stream_gives_the_same_page_and_only_the_shards_asked_for_travel(streams, tmp_path):
    pytest.importorskip("aiohttp", reason="aiohttp is not installed (pip install aiohttp)")
    words = ["--shards", "2", "--out"]
    assert main([str(streams / "alpha"), *words, str(tmp_path / "here.html")]) == 0
    with FaultyServer(streams).running() as server:
        cache = ["--cache-dir", str(tmp_path / "cache")]
        assert main([f"{server.url}/alpha", *words, str(tmp_path / "there.html"), *cache]) == 0
        shards = read_manifest(streams / "alpha").shards
        fetched = [shard.name for shard in shards if server.bytes_of(f"alpha/{shard.images_name}")]
    assert (tmp_path / "here.html").read_bytes() == (tmp_path / "there.html").read_bytes()
    assert len(shards) == 3 and len(fetched) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("alpha beta --out one.html", "--out one.html: 2 streams give as many pages; name a folder"),
        ("alpha alpha --out pages", "2 of the streams are data set alpha; write one by one"),
        ("alpha --episodes -1", "--episodes must be 0 or more, is -1"),
        ("alpha --shards 0", "--shards must be 1 or more, is 0"),
        ("alpha --max-mb nan", "--max-mb must be 0.1 to 1000, is nan"),
        ("alpha --rerun 0", "--rerun needs --out with a name that ends in .rrd, got none"),
        ("alpha beta --rerun 0 --out e.rrd", "--rerun takes an episode of one stream; 2 are named"),
        ("alpha --rerun 99 --out e.rrd", "alpha has episodes 0 to 10, and none with this id"),
        ("nowhere", "nowhere: no stream"),
    ],
)
def test_bad_input_gets_one_line_and_status_2_and_writes_nothing(streams, monkeypatch, capsys, words, message):
    monkeypatch.chdir(streams)
    assert main(words.split()) == 2
    printed = capsys.readouterr()
    assert printed.err.startswith("error: ") and printed.err.count("\n") == 1 and message in printed.err
    assert not printed.out and sorted(path.name for path in streams.iterdir()) == ["alpha", "beta"]


def test_the_name_of_a_data_set_leads_to_no_other_folder(tmp_path, monkeypatch, capsys):
    folder = make_stream(tmp_path / "s", "alpha", episodes=2, image_px=16)
    write_manifest(folder, read_manifest(folder).model_copy(update={"dataset": "../evil"}))
    monkeypatch.chdir(folder)
    assert main([str(folder)]) == 2
    assert "'../evil' is no name of a file; give --out" in capsys.readouterr().err
    assert not list(tmp_path.glob("*.html"))


def test_importing_it_loads_no_framework():
    code = (
        "import sys, oxe_pipeline.inspect; print({'torch', 'tensorflow', 'scipy', 'rerun', 'rich'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
