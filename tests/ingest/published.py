"""Source episodes with exactly the keys, shapes and dtypes of published RLDS data sets, filled with random values."""

import numpy as np
import simplejpeg

from oxe_pipeline.episode import SourceEpisode

STEPS = 8


def frames(rng, height: int, width: int, steps: int = STEPS) -> list[bytes]:
    """JPEG images of random colour gradients, as the source encodes them."""
    result = []
    for _ in range(steps):
        corner = rng.integers(0, 200, 3)
        ramp = np.linspace(0, 55, height)[:, None, None] * np.ones((1, width, 1))
        result.append(simplejpeg.encode_jpeg(np.ascontiguousarray((ramp + corner).astype(np.uint8)), quality=90))
    return result


def unit_quaternions(rng, steps: int = STEPS) -> np.ndarray:
    values = rng.normal(size=(steps, 4))
    return (values / np.linalg.norm(values, axis=1, keepdims=True)).astype(np.float32)


def text(sentence: str, steps: int = STEPS) -> list[bytes]:
    return [sentence.encode()] * steps


def flags(steps: int = STEPS) -> dict[str, np.ndarray]:
    last = np.arange(steps) == steps - 1
    return {"is_first": np.arange(steps) == 0, "is_last": last, "is_terminal": last, "reward": last.astype(np.float32)}


def make_fractal(seed: int = 0) -> SourceEpisode:
    rng = np.random.default_rng(seed)
    pose = np.concatenate([rng.normal(size=(STEPS, 3)), unit_quaternions(rng)], axis=1).astype(np.float32)
    shapes = {
        "action/world_vector": (3,),
        "action/rotation_delta": (3,),
        "action/base_displacement_vector": (2,),
        "action/base_displacement_vertical_rotation": (1,),
        "observation/height_to_bottom": (1,),
        "observation/orientation_box": (2, 3),
        "observation/natural_language_embedding": (512,),
        "observation/gripper_closedness_commanded": (1,),
    }
    steps = {key: rng.normal(0, 0.1, (STEPS, *shape)).astype(np.float32) for key, shape in shapes.items()}
    commands = np.array([0, 0, 1, 0, 0, -1, 0, 0], np.float32)[:, None]
    steps |= {
        "action/gripper_closedness_action": commands,
        "action/terminate_episode": np.tile(np.array([[0, 1, 0]], np.int32), (STEPS, 1)),
        "observation/image": frames(rng, 32, 40),
        "observation/base_pose_tool_reached": pose,
        "observation/gripper_closed": rng.random((STEPS, 1)).astype(np.float32),
        "observation/natural_language_instruction": text("pick coke can"),
        **flags(),
    }
    rated = {"aspects/has_aspects": np.bool_(True), "aspects/success": np.bool_(True)}
    return SourceEpisode(key="fractal#0", source_path="fractal#0", steps=steps, metadata=rated, split="")


def make_language_table(seed: int = 0, instruction: str = "push the blue cube to the café") -> SourceEpisode:
    rng = np.random.default_rng(seed)
    codes = np.zeros(512, np.int32)
    letters = np.frombuffer(instruction.encode(), np.uint8)
    codes[: len(letters)] = letters
    steps = {
        "action": rng.normal(0, 0.01, (STEPS, 2)).astype(np.float32),
        "observation/effector_target_translation": rng.normal(size=(STEPS, 2)).astype(np.float32),
        "observation/effector_translation": rng.normal(size=(STEPS, 2)).astype(np.float32),
        "observation/instruction": np.tile(codes, (STEPS, 1)),
        "observation/rgb": frames(rng, 36, 64),
        **flags(),
    }
    return SourceEpisode(key="lt#0", source_path="lt#0", steps=steps, metadata={"episode_id": b"1"}, split="")


def make_taco_play(seed: int = 0) -> SourceEpisode:
    rng = np.random.default_rng(seed)
    relative = rng.normal(0, 0.5, (STEPS, 7)).astype(np.float32)
    relative[:, 6] = np.where(np.arange(STEPS) < 4, 1, -1)
    state = rng.normal(size=(STEPS, 15)).astype(np.float32)
    state[:, 6] = np.linspace(0.08, 0, STEPS)
    steps = {
        "action/actions": rng.normal(size=(STEPS, 7)).astype(np.float32),
        "action/rel_actions_gripper": rng.normal(size=(STEPS, 7)).astype(np.float32),
        "action/rel_actions_world": relative,
        "action/terminate_episode": np.zeros(STEPS, np.float32),
        "observation/depth_gripper": rng.random((STEPS, 84, 84)).astype(np.float32),
        "observation/rgb_static": frames(rng, 30, 40),
        "observation/rgb_gripper": frames(rng, 21, 21),
        "observation/robot_obs": state,
        "observation/natural_language_instruction": text("open the drawer"),
        "observation/structured_language_instruction": text("open_drawer"),
        **flags(),
    }
    return SourceEpisode(key="taco#0", source_path="taco#0", steps=steps, split="test")


def make_ur5(seed: int = 0) -> SourceEpisode:
    rng = np.random.default_rng(seed)
    state = rng.normal(size=(STEPS, 15)).astype(np.float32)
    state[:, 9:13] = unit_quaternions(rng)
    state[:, 13] = np.arange(STEPS) >= 3
    steps = {
        "action/world_vector": rng.uniform(-0.02, 0.02, (STEPS, 3)).astype(np.float32),
        "action/rotation_delta": rng.uniform(-0.07, 0.07, (STEPS, 3)).astype(np.float32),
        "action/gripper_closedness_action": np.array([0, 0, 1, 0, 0, 0, -1, 0], np.float32),
        "action/terminate_episode": np.zeros(STEPS, np.float32),
        "observation/image": frames(rng, 48, 64),
        "observation/hand_image": frames(rng, 48, 64),
        "observation/image_with_depth": rng.random((STEPS, 6, 8, 1)).astype(np.float32),
        "observation/robot_state": state,
        "observation/natural_language_instruction": text("Sweep the green cloth to the left side of the table."),
        **flags(),
    }
    return SourceEpisode(key="ur5#0", source_path="ur5#0", steps=steps, split="train")


def make_droid(seed: int = 0, path: str = "r2d2/AUTOLab/success/2023-07-07/x/trajectory.h5") -> SourceEpisode:
    rng = np.random.default_rng(seed)
    widths = {
        "action_dict/cartesian_velocity": 6,
        "action_dict/cartesian_position": 6,
        "action_dict/joint_position": 7,
        "action_dict/joint_velocity": 7,
        "action_dict/gripper_position": 1,
        "action_dict/gripper_velocity": 1,
        "observation/cartesian_position": 6,
        "observation/joint_position": 7,
        "observation/gripper_position": 1,
        "action": 7,
    }
    steps = {key: rng.uniform(0, 1, (STEPS, width)) for key, width in widths.items()}
    steps |= {
        "observation/exterior_image_1_left": frames(rng, 18, 32),
        "observation/exterior_image_2_left": frames(rng, 18, 32),
        "observation/wrist_image_left": frames(rng, 18, 32),
        "language_instruction": text("put the marker in the cup"),
        "language_instruction_2": text("move the marker into the mug"),
        "language_instruction_3": text(""),
        "discount": np.ones(STEPS, np.float32),
        **flags(),
    }
    metadata = {"episode_metadata/file_path": path.encode(), "episode_metadata/recording_folderpath": b"x"}
    return SourceEpisode(key="droid#0", source_path="droid#0", steps=steps, metadata=metadata, split="")


def make_bridge(seed: int = 0, steps: int = STEPS) -> SourceEpisode:
    rng = np.random.default_rng(seed)
    state = rng.normal(0, 0.5, (steps, 7)).astype(np.float32)
    state[:, 5] = np.where(np.arange(steps) % 2, 3.1, -3.1)
    state[:, 6] = rng.uniform(0, 1.1, steps)
    action = rng.normal(0, 0.02, (steps, 7)).astype(np.float32)
    action[:, 6] = np.linspace(1, 0, steps)
    black = simplejpeg.encode_jpeg(np.zeros((32, 32, 3), np.uint8))
    columns = {
        "action": action,
        "observation/state": state,
        "observation/image_0": frames(rng, 32, 32, steps),
        "observation/image_1": [black] * steps,
        "observation/image_2": frames(rng, 32, 32, steps),
        "observation/image_3": [black] * steps,
        "language_instruction": text("put the pot on the stove", steps),
        "language_embedding": np.zeros((steps, 512), np.float32),
        "discount": np.ones(steps, np.float32),
        **flags(steps),
    }
    metadata = {"episode_metadata/file_path": b"a/out.npy", "episode_metadata/has_language": np.bool_(True)}
    return SourceEpisode(key="bridge#0", source_path="bridge#0", steps=columns, metadata=metadata, split="val")
