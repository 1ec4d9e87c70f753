"""The shipped episodes: small, whole, in the labs' layouts, and good enough to learn from."""

import hashlib
import io
import json
import pickle
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from oxe_pipeline.episode import Episode
from oxe_pipeline.ingest import bridge_raw, hdf5_demo
from oxe_pipeline.ingest.apply_spec import apply_spec
from schemas.spec import load_spec

SAMPLES = Path(__file__).parents[2] / "samples"
MANIFEST = json.loads((SAMPLES / "MANIFEST.json").read_text())
BRIDGE = [entry for entry in MANIFEST["content"] if entry["path"].startswith("metaworld_bridge/")]
LIBERO = [entry for entry in MANIFEST["content"] if entry["path"].startswith("metaworld_libero/")]
READERS = {"metaworld_bridge": bridge_raw, "metaworld_libero": hdf5_demo}


@pytest.fixture(scope="module")
def episodes() -> dict[str, list[Episode]]:
    """Data set -> all its episodes in unified form."""
    pytest.importorskip("h5py")
    result = {}
    for name, reader in READERS.items():
        root = SAMPLES / name
        sources = (reader.read_episode(key, root=root) for key in reader.find_episodes(root))
        result[name] = [apply_spec(source, load_spec(name)) for source in sources]
    return result


def test_both_labs_together_stay_under_ten_megabytes():
    total = sum(path.stat().st_size for name in READERS for path in (SAMPLES / name).rglob("*") if path.is_file())
    assert total < 10e6


def test_every_file_is_as_recorded():
    for entry in MANIFEST["content"]:
        path = SAMPLES / entry["path"]
        if path.is_file():
            digest = hashlib.sha256(path.read_bytes())
        else:
            digest = hashlib.sha256()
            for file in sorted(path.rglob("*"), key=lambda file: file.relative_to(path).as_posix()):
                if file.is_file():
                    line = f"{hashlib.sha256(file.read_bytes()).hexdigest()}  {file.relative_to(path).as_posix()}\n"
                    digest.update(line.encode())
        assert digest.hexdigest() == entry["sha256"], entry["path"]


def test_bridge_folders_hold_one_action_less_than_observations_and_images():
    for entry in BRIDGE:
        folder = SAMPLES / entry["path"]
        observations = pickle.loads((folder / "obs_dict.pkl").read_bytes())
        actions = pickle.loads((folder / "policy_out.pkl").read_bytes())
        assert observations["full_state"].shape == (len(actions) + 1, 7)
        assert [len(actions)] == entry["actions"]
        for camera in folder.glob("images?"):
            assert {file.name for file in camera.iterdir()} == {f"im_{t}.jpg" for t in range(len(actions) + 1)}
        assert (folder.parents[2] / "collection_metadata.json").is_file()


def test_the_dirt_is_what_the_specs_announce():
    without_label = [entry["path"] for entry in BRIDGE if not (SAMPLES / entry["path"] / "lang.txt").exists()]
    one_camera = [entry["path"] for entry in BRIDGE if not (SAMPLES / entry["path"] / "images1").exists()]
    assert [path.split("/")[3] + "/" + path.split("/")[-1] for path in without_label] == ["slide_plate/traj3"]
    assert [path.split("/")[3] + "/" + path.split("/")[-1] for path in one_camera] == ["open_drawer/traj5"]


def test_libero_files_have_the_layout_of_the_lab():
    h5py = pytest.importorskip("h5py")
    for entry in LIBERO:
        with h5py.File(SAMPLES / entry["path"]) as file:
            data = file["data"]
            assert json.loads(data.attrs["problem_info"])["language_instruction"]
            assert data.attrs["num_demos"] == len(entry["actions"]) == len(data)
            assert data.attrs["total"] == sum(entry["actions"])
            for number, steps in enumerate(entry["actions"]):
                demo = data[f"demo_{number}"]
                shapes = {name: demo[name].shape for name in ("actions", "robot_states", "obs/ee_states", "dones")}
                expected = {"actions": (7,), "robot_states": (9,), "obs/ee_states": (6,), "dones": ()}
                assert shapes == {name: (steps, *rest) for name, rest in expected.items()}
                assert demo["dones"][()].tolist() == [0] * (steps - 1) + [1]
                assert np.abs(demo["actions"][()]).max() <= 1
                assert set(demo["actions"][:, 6]) <= {-1.0, 1.0}


def test_every_episode_reads_and_nothing_is_lost(episodes):
    recorded = {"metaworld_bridge": BRIDGE, "metaworld_libero": LIBERO}
    for name, content in recorded.items():
        assert len(episodes[name]) == sum(len(entry["seeds"]) for entry in content)
        assert len({episode.episode_id for episode in episodes[name]}) == len(episodes[name])
        assert {"train": len(episodes[name])} == load_spec(name).expected_episodes
        assert {episode.split for episode in episodes[name]} == {"train", "val"}


def test_a_command_and_the_motion_that_follows_it_go_together():
    h5py = pytest.importorskip("h5py")
    commanded, achieved = [], []
    for entry in BRIDGE:
        source = bridge_raw.read_episode(
            entry["path"].removeprefix("metaworld_bridge/"), root=SAMPLES / "metaworld_bridge"
        )
        commanded.append(source.steps["action"][:-1, :3])
        achieved.append(np.diff(source.steps["observation/state"][:, :3], axis=0))
    assert np.corrcoef(np.concatenate(commanded).ravel(), np.concatenate(achieved).ravel())[0, 1] > 0.95
    commanded, achieved = [], []
    for entry in LIBERO:
        with h5py.File(SAMPLES / entry["path"]) as file:
            for demo in file["data"].values():
                # Observations are late: row t was seen after action t, so action t led from row t-1 to row t.
                commanded.append(demo["actions"][1:, :3] * 0.05)
                achieved.append(np.diff(demo["obs/ee_pos"][()], axis=0))
    assert np.corrcoef(np.concatenate(commanded).ravel(), np.concatenate(achieved).ravel())[0, 1] > 0.9


def test_the_robot_hangs_down_from_the_top_of_every_upright_picture(episodes):
    # The arm is the only large red thing. On its head, the picture would have it in the lower half.
    for name in READERS:
        for episode in episodes[name]:
            pixels = np.asarray(Image.open(io.BytesIO(episode.images["primary"][0])).convert("RGB")).astype(int)
            red = (pixels[..., 0] > 80) & (pixels[..., 0] > 2 * pixels[..., 1]) & (pixels[..., 0] > 2 * pixels[..., 2])
            upper, lower = np.array_split(red, 2)
            assert upper.sum() > 50 and upper.sum() > 2 * lower.sum(), episode.source_path


def test_the_state_of_other_episodes_predicts_the_action_better_than_the_mean(episodes):
    """Nearest neighbour within the task: if this failed, no model could learn anything from these episodes."""
    for name in READERS:
        error, error_of_mean = [], []
        every_action = np.concatenate([episode.action[:, :3] for episode in episodes[name]])
        for episode in episodes[name]:
            task = episode.source_path.rsplit("/", 1)[0]
            others = [e for e in episodes[name] if e is not episode and e.source_path.startswith(task)]
            states = np.concatenate([other.state[:, [0, 1, 2, 9]] for other in others])
            actions = np.concatenate([other.action[:, :3] for other in others])
            distance = ((episode.state[:, None, [0, 1, 2, 9]] - states) ** 2).sum(-1)
            error.append(np.abs(actions[distance.argmin(1)] - episode.action[:, :3]))
            error_of_mean.append(np.abs(every_action.mean(0) - episode.action[:, :3]))
        assert np.concatenate(error).mean() < 0.6 * np.concatenate(error_of_mean).mean()


@pytest.mark.parametrize("lab", ["bridge", "libero"])
def test_the_simulator_ends_where_the_recorded_actions_lead(lab):
    """Sends recorded actions to Meta-World again: they alone, without the expert, must reach the recorded states."""
    pytest.importorskip("metaworld", reason="replaying needs the extra [sim]")
    from samples import bridge_layout, libero_layout
    from samples.scene import Scene

    entry = {"bridge": BRIDGE, "libero": LIBERO}[lab][0]
    scene = Scene(entry["environment"], {}, image_px=1)
    if lab == "bridge":
        actions = [e["actions"] for e in pickle.loads((SAMPLES / entry["path"] / "policy_out.pkl").read_bytes())]
        states = pickle.loads((SAMPLES / entry["path"] / "obs_dict.pkl").read_bytes())["full_state"]
        metres, is_open, control = np.array(actions)[:, :3], np.array(actions)[:, 6], bridge_layout.CONTROL
    else:
        h5py = pytest.importorskip("h5py")
        with h5py.File(SAMPLES / entry["path"]) as file:
            actions, states = file["data/demo_0/actions"][()], file["data/demo_0/obs/ee_pos"][()]
        metres, is_open, control = actions[:, :3] * 0.05, (1 - actions[:, 6]) / 2, libero_layout.CONTROL
    replayed = scene.replay(entry["seeds"][0], metres, is_open, control)
    assert np.abs(np.array(replayed.hand_position)[-1] - states[-1, :3]).max() < 1e-3
