"""Unified RLDS: one TFDS FeaturesDict for every data set, so that one reader entry fits all of them.

Step keys are those of the `rlds` package plus `language_instruction`, with all cameras under `observation`, which is
what existing Octo- and OpenVLA-style loaders look for. The price of one shape for all is masks and a few empty fields;
the fixed raw width of 64 is there because TFDS cannot read an unknown inner dimension back without TensorFlow.
"""

import base64

from schemas.slots import ACTION_WIDTH, CAMERAS, RAW_WIDTH, STATE_WIDTH

EPISODE_METADATA = "episode_metadata"
LANGUAGE_INSTRUCTION = "language_instruction"

ABSENT_IMAGE = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAIAAACQd1PeAAAADElEQVR4nGNgYGAAAAAEAAH2FzhVAAAAAElFTkSuQmCC"
)
"""A black 1x1 PNG: what stands for each image of a camera that an episode lacks (its `has_image_...` is false)."""


def image_key(camera: str) -> str:
    """The observation key of a camera out of schemas.slots.CAMERAS: "image_primary"."""
    return f"image_{camera}"


def has_image_key(camera: str) -> str:
    """The episode_metadata flag that says whether the episode has the camera: "has_image_primary"."""
    return f"has_image_{camera}"


def unified_features():
    """The tfds.features.FeaturesDict of every unified data set. Images are stored as the bytes given, JPEG or PNG.

    Raises ImportError with the remedy when the build extra is not installed.
    """
    try:
        import numpy as np
        import rlds
        import tensorflow_datasets as tfds
    except ImportError as error:
        raise ImportError(f"{error.name} is missing; unified RLDS needs the [build] extra of this package") from error

    tensor, text, image = tfds.features.Tensor, tfds.features.Text, tfds.features.Image
    observation = {image_key(camera): image(shape=(None, None, 3)) for camera in CAMERAS}
    observation["state"] = tensor(shape=(STATE_WIDTH,), dtype=np.float32)
    observation["state_raw"] = tensor(shape=(RAW_WIDTH,), dtype=np.float32)
    step = {
        rlds.OBSERVATION: tfds.features.FeaturesDict(observation),
        rlds.ACTION: tensor(shape=(ACTION_WIDTH,), dtype=np.float32),
        "action_raw": tensor(shape=(RAW_WIDTH,), dtype=np.float32),
        rlds.REWARD: np.float32,
        rlds.DISCOUNT: np.float32,
        rlds.IS_FIRST: np.bool_,
        rlds.IS_LAST: np.bool_,
        rlds.IS_TERMINAL: np.bool_,
        LANGUAGE_INSTRUCTION: text(),
    }
    metadata = {
        "dataset": text(),
        "episode_id": text(),
        "lab": text(),
        "robot": text(),
        "control_hz": np.float32,
        "source_path": text(),
        "success": np.int32,
        "split": text(),
        "action_mask": tensor(shape=(ACTION_WIDTH,), dtype=np.bool_),
        "state_mask": tensor(shape=(STATE_WIDTH,), dtype=np.bool_),
        "action_raw_width": np.int32,
        "state_raw_width": np.int32,
        **{has_image_key(camera): np.bool_ for camera in CAMERAS},
        "alternatives": tfds.features.Sequence(text()),
        "label_raw": text(),
        "label_flags": tfds.features.Sequence(text()),
        "quality_flags": tfds.features.Sequence(text()),
    }
    return tfds.features.FeaturesDict(
        {rlds.STEPS: tfds.features.Dataset(step), EPISODE_METADATA: tfds.features.FeaturesDict(metadata)}
    )
