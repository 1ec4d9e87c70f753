"""What Octo's and OpenVLA's loaders share: RLDS through TFDS, whole episodes, then frames, as one tf.data graph.

Written anew from the documented order of operations (Octo and OpenVLA, both on dlimp); it is not their code. Where the
two leave a choice, it is made for speed: statistics are ready, one frame of history is decoded without a map over the
window, and no image dropout is drawn.
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.peers.episodes import CAMERAS, CHUNK
from benchmarks.peers.rlds_data import NAME, VERSION, read_statistics


@dataclass(frozen=True, kw_only=True)
class Augmentation:
    """Ranges of the colour and crop changes. `crop_scale` are shares of the area; None leaves the frame whole."""

    crop_scale: tuple[float, float] | None
    crop_ratio: tuple[float, float] = (1.0, 1.0)
    brightness: float
    contrast: tuple[float, float]
    saturation: tuple[float, float]
    hue: float


def chunked_episodes(folder: Path, *, normalise: Callable, goals: bool, calls: int):
    """Endless tf.data of episodes: read, restructured, normalised, masked, given goals if asked for, and chunked.

    Images stay encoded. `normalise(values, statistics of one vector)`; `goals` adds the observation of a random later
    step to each step's task.
    """
    import tensorflow as tf
    import tensorflow_datasets as tfds

    builder = tfds.builder_from_directory(folder / NAME / VERSION)
    reading = tfds.ReadConfig(
        skip_prefetch=True, num_parallel_calls_for_interleave_files=calls, interleave_cycle_length=calls
    )
    skip = {"steps": tfds.decode.SkipDecoding()}
    episodes = builder.as_dataset(split="train", shuffle_files=True, decoders=skip, read_config=reading)
    statistics = read_statistics(folder)

    def normalised(episode: dict) -> dict:
        proprio = normalise(episode["observation"]["proprio"], statistics["state"])
        observation = {**episode["observation"], "proprio": proprio}
        return {**episode, "observation": observation, "action": normalise(episode["action"], statistics["action"])}

    episodes = episodes.with_options(_options()).map(_restructured, num_parallel_calls=calls)
    episodes = episodes.filter(lambda episode: tf.shape(episode["action"])[0] > 0)
    episodes = episodes.map(normalised, num_parallel_calls=calls).repeat()
    episodes = episodes.filter(lambda episode: tf.reduce_any(episode["task"]["language_instruction"] != ""))
    for operation in (_masked, _with_goals, _chunked) if goals else (_masked, _chunked):
        episodes = episodes.map(operation, num_parallel_calls=calls)
    return episodes


def _restructured(episode: dict) -> dict:
    """The columns that training needs, under the names both loaders use; T steps each."""
    import tensorflow as tf

    steps = episode["steps"]
    length = tf.shape(steps["action"])[0]
    observation = {f"image_{camera}": steps["observation"][f"image_{camera}"] for camera in CAMERAS}
    observation["proprio"] = tf.cast(steps["observation"]["state"], tf.float32)
    observation["timestep"] = tf.range(length)
    task = {"language_instruction": steps["language_instruction"]}
    action = tf.cast(steps["action"], tf.float32)
    return {"observation": observation, "task": task, "action": action, "dataset_name": tf.repeat(NAME, length)}


def _masked(episode: dict) -> dict:
    """Marks what is there and what is padding."""
    import tensorflow as tf

    present = {
        key: tf.strings.length(value) > 0 if value.dtype == tf.string else tf.ones_like(value[..., 0], tf.bool)
        for key, value in episode["observation"].items()
        if key != "timestep"
    }
    return {**episode, "observation": {**episode["observation"], "pad_mask_dict": present}}


def _with_goals(episode: dict) -> dict:
    """Each step's task gets the whole observation of a later step, drawn evenly."""
    import tensorflow as tf

    length = tf.shape(episode["action"])[0]
    now = tf.range(length)
    ahead = tf.random.uniform([length]) * tf.cast(length - now - 1, tf.float32)
    goal = tf.minimum(now + 1 + tf.cast(ahead, tf.int32), length - 1)
    later = tf.nest.map_structure(lambda values: tf.gather(values, goal), episode["observation"])
    return {**episode, "task": {**episode["task"], **later}}


def _chunked(episode: dict) -> dict:
    """One observation of history and CHUNK actions per step; past the end the last action is repeated."""
    import tensorflow as tf

    length = tf.shape(episode["action"])[0]
    ahead = tf.range(length)[:, None] + tf.range(CHUNK)[None]
    return {
        **episode,
        "observation": tf.nest.map_structure(lambda values: values[:, None], episode["observation"]),
        "action": tf.gather(episode["action"], tf.minimum(ahead, length - 1)),
        "action_pad_mask": ahead < length,
    }


def frames(episodes, *, shuffle_buffer: int, size: int | None, augment: dict[str, Augmentation], calls: int):
    """Endless tf.data of shuffled frames with uint8 images, resized to `size` (None: as stored) and augmented.

    All images are treated alike, the goal's too. `augment`: camera -> ranges; empty for none.
    """
    import tensorflow as tf

    flat = episodes.interleave(tf.data.Dataset.from_tensor_slices, cycle_length=calls, num_parallel_calls=calls)
    flat = tf.data.Dataset.sample_from_datasets([flat], [1.0]).shuffle(shuffle_buffer)

    def over_images(frame: dict, change: Callable) -> dict:
        observation, task = dict(frame["observation"]), dict(frame["task"])
        for camera in CAMERAS:
            key = f"image_{camera}"
            observation[key] = change(observation[key][0], camera)[None]
            if key in task:
                task[key] = change(task[key], camera)
        return {**frame, "observation": observation, "task": task}

    def decode(encoded, _: str):
        image = tf.io.decode_image(encoded, expand_animations=False, dtype=tf.uint8)
        image.set_shape((None, None, 3))
        if size is None:
            return image
        resized = tf.image.resize(image, (size, size), method="lanczos3", antialias=True)
        return tf.cast(tf.clip_by_value(tf.round(resized), 0, 255), tf.uint8)

    flat = flat.map(lambda frame: over_images(frame, decode), num_parallel_calls=calls)
    if not augment:
        return flat

    def augmented(frame: dict) -> dict:
        seed = tf.random.uniform([2], maxval=tf.int32.max, dtype=tf.int32)
        return over_images(frame, lambda image, camera: _augmented(image, augment[camera], seed))

    return flat.map(augmented, num_parallel_calls=calls)


def _augmented(image, ranges: Augmentation, seed):
    """uint8 to uint8: crop and resize back, brightness, contrast, saturation, hue, clipped after each."""
    import tensorflow as tf

    pixels = tf.image.convert_image_dtype(image, tf.float32)
    if ranges.crop_scale:
        pixels = _random_resized_crop(pixels, ranges.crop_scale, ranges.crop_ratio, seed)
    for change in (
        lambda x: tf.image.stateless_random_brightness(x, ranges.brightness, seed),
        lambda x: tf.image.stateless_random_contrast(x, *ranges.contrast, seed),
        lambda x: tf.image.stateless_random_saturation(x, *ranges.saturation, seed),
        lambda x: tf.image.stateless_random_hue(x, ranges.hue, seed),
    ):
        pixels = tf.clip_by_value(change(pixels), 0.0, 1.0)
    return tf.image.convert_image_dtype(pixels, tf.uint8, saturate=True)


def _random_resized_crop(pixels, scale: tuple[float, float], ratio: tuple[float, float], seed):
    import tensorflow as tf

    area = tf.random.stateless_uniform([], seed, *scale)
    aspect = tf.exp(tf.random.stateless_uniform([], seed + 1, *np.log(ratio).tolist()))
    height, width = tf.minimum(1.0, tf.sqrt(area / aspect)), tf.minimum(1.0, tf.sqrt(area * aspect))
    top = tf.random.stateless_uniform([], seed + 2) * (1 - height)
    left = tf.random.stateless_uniform([], seed + 3) * (1 - width)
    box = tf.stack([top, left, top + height, left + width])[None]
    return tf.image.crop_and_resize(pixels[None], box, [0], tf.shape(pixels)[:2])[0]


def within_a_gigabyte(dataset):
    """The dataset with tf.data's autotuning told to stay within 1 GB, as both loaders do last."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.ram_budget = 2**30
    return dataset.with_options(options)


def _options():
    """dlimp's: order may differ from run to run, no injected prefetch, warm start."""
    import tensorflow as tf

    options = tf.data.Options()
    options.autotune.enabled = True
    options.deterministic = False
    options.experimental_optimization.apply_default_optimizations = True
    options.experimental_optimization.map_fusion = True
    options.experimental_optimization.inject_prefetch = False
    options.experimental_warm_start = True
    return options
