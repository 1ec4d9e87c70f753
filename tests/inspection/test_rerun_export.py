"""An exported episode is the stream's episode: read back from the recording with the viewer's own package."""

import subprocess
import sys

import numpy as np
import pytest

from oxe_pipeline.inspection.rerun_export import export_episode, find_episode, media_type, vector_names
from oxe_pipeline.stream.reader import open_stream
from tests.conftest import ROOT
from tests.synthetic import make_stream


@pytest.fixture(scope="module")
def stream(tmp_path_factory):
    return open_stream(make_stream(tmp_path_factory.mktemp("rerun"), "alpha", episodes=5, image_px=16))


def test_an_episode_is_found_by_number_and_by_id(stream):
    assert find_episode(stream, "3") == 3
    assert find_episode(stream, f"{4:016x}") == 4
    for wrong in ("6", "-1", "x"):
        with pytest.raises(ValueError, match="alpha has episodes 0 to 5, and none with this id"):
            find_episode(stream, wrong)


def test_columns_have_the_names_of_their_slots(stream):
    names = vector_names(stream.manifest)
    assert names["action"][6] == "arm0.gripper" and len(names["action"]) == 7 and len(names["state"]) == 10
    bare = stream.manifest.model_copy(update={"action_slots": []})
    assert vector_names(bare)["action_raw"] == [str(i) for i in range(7)]


def test_media_types():
    assert media_type(b"\xff\xd8\xff") == "image/jpeg" and media_type(b"\x89PNG") == "image/png"


def test_without_the_package_one_line_says_how_to_get_it(stream, tmp_path):
    hidden = tmp_path / "rerun.py"
    hidden.write_text("raise ModuleNotFoundError('No module named rerun', name='rerun')")
    out = tmp_path / "e.rrd"
    words = [sys.executable, "-m", "oxe_pipeline.inspect", str(stream.path), "--rerun", "0", "--out", str(out)]
    path = f"{tmp_path}:{ROOT}"
    done = subprocess.run(words, capture_output=True, text=True, env={"PYTHONPATH": path}, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (2, "error: rerun-sdk is not installed; pip install 'rerun-sdk>=0.23'\n")
    assert sorted(tmp_path.iterdir()) == sorted([hidden, *tmp_path.glob("__pycache__")])


def test_the_recording_holds_images_scalars_times_and_the_instruction(stream, tmp_path):
    pytest.importorskip("rerun", reason="rerun-sdk is not installed: the recording cannot be made or read")
    chunk = pytest.importorskip("rerun.chunk", reason="this rerun-sdk cannot read recordings back")
    out = tmp_path / "e.rrd"
    export_episode(stream, 1, out)
    assert list(tmp_path.iterdir()) == [out]
    read = {part.entity_path: part.to_record_batch() for part in chunk.RrdReader(str(out)).stream().to_chunks()}
    columns = [(vector, name) for vector, names in vector_names(stream.manifest).items() for name in names]
    expected = {f"/{vector}/{name.replace('.', '/')}" for vector, name in columns}
    assert set(read) == expected | {"/camera/primary", "/camera/wrist", "/instruction", "/source"}
    gripper = read["/action/arm0/gripper"]
    assert np.array_equal(np.ravel(gripper["Scalars:scalars"].to_pylist()), stream.vector("action", 1)[:, 6])
    seconds = [moment.total_seconds() for moment in gripper["time"].to_pylist()]
    assert seconds == pytest.approx(np.arange(11) / 10) and gripper["step"].to_pylist() == list(range(11))
    images = read["/camera/wrist"]["EncodedImage:blob"].to_pylist()
    assert [bytes(image[0]) for image in images] == [bytes(stream.image(1, step, "wrist")) for step in range(11)]
    assert read["/instruction"]["TextDocument:text"].to_pylist() == [["push block 1\nshove block 1"]]
