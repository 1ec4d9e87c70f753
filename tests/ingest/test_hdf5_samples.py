"""Samples in the labs' HDF5 layouts: what their commands write, the reader reads and the audits believe."""

from importlib import import_module

import pytest

from oxe_pipeline.ingest import agibot, aloha, hdf5_demo, maniskill, robomind
from oxe_pipeline.ingest.apply_spec import apply_spec
from oxe_pipeline.ingest.robomind_labels import find_label_files
from schemas.spec import load_spec
from tests.quality.motions import judged

pytest.importorskip("h5py")

FRANKA = frozenset({"h5_franka_3rgb"})


def read_aloha(root):
    return [aloha.read_episode(key, root=root) for key in aloha.find_episodes(root)[0]]


def read_robomind(root):
    labels = find_label_files(root, FRANKA)
    keys = robomind.find_episodes(root, FRANKA)
    return [robomind.read_episode(key, root=root, embodiments=FRANKA, labels=labels) for key in keys]


def read_agibot(root):
    cameras = ("head_color", "hand_right_color", "hand_left_color")
    return [agibot.read_episode(key, root=root, cameras=cameras) for key in agibot.find_episodes(root)[0]]


def read_files(reader):
    return lambda root: [reader.read_episode(key, root=root) for key in reader.find_episodes(root)]


LAYOUTS = {
    "aloha": (read_aloha, "mobile_aloha", {"joint_targets", "joint_targets_lag"}),
    "maniskill": (read_files(maniskill), "maniskill3_ee_delta", {"motion_axes", "motion_frame", "motion_scale"}),
    "robomimic": (read_files(hdf5_demo), "robomimic", {"motion_axes", "motion_frame", "motion_scale"}),
    "robomind": (read_robomind, "robomind_franka", {"joint_targets", "joint_targets_lag"}),
    "agibot": (read_agibot, "agibot_world", {"joint_targets", "joint_targets_lag"}),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_a_sample_is_read_as_its_spec_says_and_no_audit_contradicts(name, tmp_path):
    read, spec_name, proven = LAYOUTS[name]
    assert import_module(f"samples.{name}_layout").main(["--out", str(tmp_path / "raw")]) == 0
    spec = load_spec(spec_name)
    episodes = [apply_spec(source, spec) for source in read(tmp_path / "raw")]
    found = judged(episodes, spec=spec)
    assert len({episode.episode_id for episode in episodes}) == 6
    assert [finding.evidence for finding in found.values() if finding.verdict == "fault"] == []
    assert {finding.verdict for (audit, _), finding in found.items() if audit in proven} == {"ok"}
