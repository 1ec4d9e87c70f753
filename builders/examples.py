"""episode_to_example: an Episode as the nested dict that TFDS encodes with `schemas.rlds.unified_features`."""

from typing import Any

import numpy as np

from oxe_pipeline.episode import Episode
from schemas.rlds import ABSENT_IMAGE, EPISODE_METADATA, LANGUAGE_INSTRUCTION, has_image_key, image_key
from schemas.slots import CAMERAS, RAW_WIDTH


def episode_to_example(episode: Episode) -> dict[str, Any]:
    """One example of the unified layout. Images are the episode's own bytes; an absent camera is a 1x1 PNG each step.

    Raw vectors are padded with zeros to 64, their true widths are in the metadata. A reward or discount that the source
    lacks is written as published RLDS has it: reward 1 on the last step and 0 before, discount 1.
    """
    steps = len(episode)
    last = np.arange(steps) == steps - 1
    reward = last.astype(np.float32) if episode.reward is None else episode.reward
    discount = np.ones(steps, np.float32) if episode.discount is None else episode.discount
    action_raw, state_raw = _padded(episode.action_raw), _padded(episode.state_raw)
    images = {image_key(camera): episode.images.get(camera, [ABSENT_IMAGE] * steps) for camera in CAMERAS}
    return {
        "steps": [
            {
                "observation": {
                    **{key: frames[t] for key, frames in images.items()},
                    "state": episode.state[t],
                    "state_raw": state_raw[t],
                },
                "action": episode.action[t],
                "action_raw": action_raw[t],
                "reward": reward[t],
                "discount": discount[t],
                "is_first": t == 0,
                "is_last": bool(last[t]),
                "is_terminal": bool(last[t]) and episode.is_terminal,
                LANGUAGE_INSTRUCTION: episode.instruction,
            }
            for t in range(steps)
        ],
        EPISODE_METADATA: _metadata(episode),
    }


def _metadata(episode: Episode) -> dict[str, Any]:
    return {
        "dataset": episode.dataset,
        "episode_id": episode.episode_id,
        "lab": episode.lab,
        "robot": episode.robot,
        "control_hz": np.float32(episode.control_hz),
        "source_path": episode.source_path,
        "success": episode.success,
        "split": episode.split,
        "action_mask": episode.action_mask,
        "state_mask": episode.state_mask,
        "action_raw_width": episode.action_raw.shape[1],
        "state_raw_width": episode.state_raw.shape[1],
        **{has_image_key(camera): camera in episode.images for camera in CAMERAS},
        "alternatives": list(episode.alternatives),
        "label_raw": episode.label_raw,
        "label_flags": list(episode.label_flags),
        "quality_flags": list(episode.quality_flags),
    }


def _padded(vectors: np.ndarray) -> np.ndarray:
    """[T, A] -> [T, 64] with zeros behind."""
    return np.pad(vectors, ((0, 0), (0, RAW_WIDTH - vectors.shape[1])))
