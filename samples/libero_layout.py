"""Writes recordings as LIBERO HDF5 files, one a task (Lifelong-Robot-Learning/LIBERO scripts/create_dataset.py).

Three habits of those files are kept, because a reader has to meet them: images stand on their heads (OpenGL's row
order), `obs/*` holds what was seen *after* the action of the same row while `states` is from before it, and a gripper
action of -1 opens. Actions are fractions of 0.05 m, as the simulator's operational-space controller takes them.
"""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from samples.scene import Control, Recording, View

CONTROL = Control(hz=20, max_speed_m_s=0.4, first_step_still=False, steps_after_success=3)
VIEWS = {
    "agentview_rgb": View(azimuth_deg=-135, elevation_deg=-35),
    "eye_in_hand_rgb": View(mounted="gripperPOV"),
}
IMAGE_PX = 84
"""A frame of 21 kB: gzip looks back 32 kB, so what stands still since the last frame costs next to nothing."""

METRES_PER_UNIT = 0.05
RADIANS_PER_UNIT = 0.5


def write_task(path: Path, recordings: Sequence[Recording], *, environment: str, problem: str, sentence: str) -> None:
    """One `<task>_demo.hdf5` with demo_0, demo_1, ... in the order given."""
    import h5py

    controller = {
        "type": "OSC_POSE",
        "output_max": [METRES_PER_UNIT] * 3 + [RADIANS_PER_UNIT] * 3,
        "control_delta": True,
    }
    with h5py.File(path, "w") as file:
        data = file.create_group("data")
        data.attrs["env_name"] = environment
        data.attrs["env_args"] = json.dumps(
            {
                "type": 1,
                "env_name": environment,
                "env_kwargs": {"control_freq": CONTROL.hz, "controller_configs": controller},
            }
        )
        data.attrs["problem_info"] = json.dumps(
            {"problem_name": problem, "domain_name": "metaworld", "language_instruction": sentence}
        )
        data.attrs["macros_image_convention"] = "opengl"
        data.attrs["num_demos"] = len(recordings)
        data.attrs["total"] = sum(len(recording.displacement) for recording in recordings)
        for number, recording in enumerate(recordings):
            _write_demo(data.create_group(f"demo_{number}"), recording)


def _write_demo(group, recording: Recording) -> None:
    from scipy.spatial.transform import Rotation

    steps = len(recording.displacement)
    hand = Rotation.from_matrix(np.array(recording.hand_matrix)[1:])
    position = np.array(recording.hand_position)[1:]
    fingers = np.array(recording.finger_opening)[1:] * (1, -1)
    moved = np.array(recording.displacement) / METRES_PER_UNIT
    last = np.zeros(steps, np.uint8)
    last[-1] = 1
    group.attrs["num_samples"] = steps
    group.attrs["init_state"] = recording.simulator_state[0]
    columns = {
        "actions": np.column_stack([moved, np.zeros((steps, 3)), 1 - 2 * np.array(recording.gripper_open)]),
        "states": np.array(recording.simulator_state)[:-1],
        "robot_states": np.column_stack([fingers, position, hand.as_quat()]),
        "rewards": last,
        "dones": last,
        "obs/ee_states": np.column_stack([position, hand.as_rotvec()]),
        "obs/ee_pos": position,
        "obs/ee_ori": hand.as_rotvec(),
        "obs/gripper_states": fingers,
        "obs/joint_states": np.array(recording.joint_position)[1:],
    }
    for name, values in columns.items():
        group.create_dataset(name, data=values)
    for name in VIEWS:
        upside_down = np.array(recording.images[name])[1:, ::-1]
        group.create_dataset(
            f"obs/{name}", data=upside_down, chunks=upside_down.shape, compression="gzip", compression_opts=9
        )
