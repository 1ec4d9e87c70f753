"""Writes small recordings as ALOHA and Mobile ALOHA HDF5 files (tonyzhaozh/aloha aloha_scripts/record_episodes.py,
MarkFzp/mobile-aloha): `<task>/episode_<N>.hdf5`, left arm first, images bare or as padded JPEG.

The habits that a reader has to meet are kept: JPEG made from RGB pixels by an encoder that takes BGR, rows padded with
zeros to the longest image, `compress_len` in the recorder's order of cameras (not the file's), actions and observations
in one row although the cameras are a step late, gripper values a little beyond 0..1.
"""

from pathlib import Path

import numpy as np

from samples.drawn import drawn_frames, smooth_joints

CAMERAS = ("cam_high", "cam_low", "cam_left_wrist", "cam_right_wrist")
MOBILE_CAMERAS = ("cam_high", "cam_left_wrist", "cam_right_wrist")
JPEG_QUALITY = 50


def write_episode(
    path: Path,
    *,
    steps: int = 12,
    seed: int = 0,
    compressed: bool = False,
    mobile: bool = False,
    sim: bool = False,
    height: int = 48,
    width: int = 64,
) -> None:
    """One `episode_<N>.hdf5` with all that the recorder writes. Deterministic."""
    import h5py

    cameras = ("top",) if sim else MOBILE_CAMERAS if mobile else CAMERAS
    joints = smooth_joints(steps + 1, 14, seed=seed)
    joints[:, [6, 13]] = np.linspace(1.2, -0.2, steps + 1)[:, None]
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        file.attrs["sim"] = sim
        file["action"] = joints[1:].astype(np.float32)
        file["observations/qpos"] = joints[:-1].astype(np.float32)
        file["observations/qvel"] = np.gradient(joints[:-1], axis=0).astype(np.float32)
        if not sim:
            file["observations/effort"] = np.zeros((steps, 14), np.float32)
        if mobile:
            file["base_action"] = np.column_stack([np.linspace(0, 0.3, steps), np.full(steps, -0.1)])
        lengths = []
        for view, camera in enumerate(cameras):
            frames = drawn_frames(steps, height=height, width=width, view=view)
            if compressed:
                rows, length = padded_jpeg(frames)
                lengths.append(length)
                file.create_dataset(f"observations/images/{camera}", data=rows, chunks=(1, rows.shape[1]))
            else:
                file.create_dataset(f"observations/images/{camera}", data=frames, chunks=(1, height, width, 3))
        if compressed:
            file.attrs["compress"] = True
            file["compress_len"] = np.array(lengths, np.float32)


def padded_jpeg(frames: np.ndarray) -> tuple[np.ndarray, list[int]]:
    """(uint8 [T, longest] rows of JPEG and zeros, true lengths), channels exchanged as by cv2.imencode on RGB."""
    import simplejpeg

    images = [
        np.frombuffer(simplejpeg.encode_jpeg(frame, quality=JPEG_QUALITY, colorspace="BGR"), np.uint8)
        for frame in frames
    ]
    lengths = [len(image) for image in images]
    rows = np.zeros((len(images), max(lengths)), np.uint8)
    for row, image in zip(rows, images, strict=True):
        row[: len(image)] = image
    return rows, lengths
