"""What a sample is told of its task: the instruction, an image of the goal, or both.

A model that is always given both learns to go by one of them. In training one of the two is therefore withheld wherever
a sample has both, as published (`delete_task_conditioning` of octo/data/utils/task_augmentation.py): the goal is kept
with a given probability, else the instruction; what a sample has alone is never taken from it.
"""

import torch
from torch import Tensor

from oxe_pipeline.vla.noise import NoiseStream, counter_uniform

TASK_MODES = ("both", "text", "goal")


def given_conditions(
    batch: dict, *, goal_camera: str | None, keep_goal_probability: float | None
) -> tuple[Tensor, Tensor]:
    """bool [B] twice: the sample is given its instruction; it is given its goal image.

    The batch's `task_mode`, where it has one, decides for samples that have both: "both", or "text" or "goal" alone.
    Without it the sample's number `g` decides, or both are given where `keep_goal_probability` is None. A goal counts
    only where an image of its camera is shown, since it reaches the model beside that (`goal_camera` None: none does).
    ValueError for an unknown mode, and for "goal" without goal images in the batch.
    """
    device, mode = batch["history_mask"].device, batch.get("task_mode")
    if mode not in (None, *TASK_MODES):
        raise ValueError(f"task_mode must be one of {', '.join(TASK_MODES)}, is {mode!r}")
    if mode == "goal" and goal_camera is None:
        raise ValueError("task_mode 'goal', and the batch has no goal images; load it with goal_images=True")
    text_B = torch.tensor([bool(text.strip()) for text in batch["instruction"]], device=device)
    if goal_camera is None:
        return text_B, torch.zeros_like(text_B)
    goal_B = batch["image_goal_mask"] & (batch[f"image_{goal_camera}_mask"] & batch["history_mask"]).any(1)
    if mode in ("text", "goal"):
        keep_goal_B = torch.full_like(text_B, mode == "goal")
    elif mode is None and keep_goal_probability is not None:
        drawn_B = counter_uniform(batch["g"], (), stream=NoiseStream.CONDITION_DELETION)
        keep_goal_B = drawn_B < keep_goal_probability
    else:
        return text_B, goal_B
    has_both_B = text_B & goal_B
    return text_B & ~(has_both_B & keep_goal_B), goal_B & ~(has_both_B & ~keep_goal_B)
