"""`python -m samples.<format>_layout --out FOLDER`: whole, always the same, and never over something that exists."""

from pathlib import Path

import pytest

from samples import (
    agibot_layout,
    aloha_layout,
    calvin_layout,
    droid_layout,
    gnm_layout,
    lerobot_layout,
    maniskill_layout,
    robomimic_layout,
    robomind_layout,
    roboturk_layout,
)

COMMANDS = {
    "calvin": (calvin_layout.main, "training/lang_annotations/auto_lang_ann.npy"),
    "gnm": (gnm_layout.main, "drawn/jackal_1/traj_data.pkl"),
    "roboturk": (roboturk_layout.main, "SawyerTowerCreation_aligned_dataset.hdf5"),
    "droid": (droid_layout.main, "aggregated-annotations-030724.json"),
    "lerobot": (lerobot_layout.main, "meta/episodes/chunk-000/file-000.parquet"),
    "aloha": (aloha_layout.main, "wipe_the_table/episode_1.hdf5"),
    "maniskill": (maniskill_layout.main, "PickCube-v1/motionplanning/trajectory.rgb.pd_ee_delta_pose.json"),
    "robomimic": (robomimic_layout.main, "can/image.hdf5"),
    "robomind": (robomind_layout.main, "RoboMIND_v1_2_instr.csv"),
    "agibot": (agibot_layout.main, "task_info/task_327.json"),
}


@pytest.mark.parametrize("name", COMMANDS)
def test_a_sample_is_the_same_every_time_and_nothing_is_overwritten(tmp_path, capsys, name):
    for package in () if name in ("calvin", "gnm") else ("h5py", "av"):
        pytest.importorskip(package)
    main, file = COMMANDS[name]
    first, second = tmp_path / "first", tmp_path / "second"
    for folder in (first, second):
        assert main(["--out", str(folder), "--episodes", "2"]) == 0
    assert (first / file).is_file() and contents(first) == contents(second)
    assert main(["--out", str(first), "--episodes", "2"]) == 2
    assert capsys.readouterr().err == f"error: {first} exists; remove it or choose another --out\n"
    assert main(["--out", str(tmp_path / "none"), "--episodes", "0"]) == 2
    assert not (tmp_path / "none").exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
