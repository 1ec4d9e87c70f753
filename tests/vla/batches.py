"""Hand-made batches in the loader's form, for tests of the model's parts."""

import torch


def make_batch(
    *, size: int = 4, chunk: int = 2, history: int = 1, slots: tuple[tuple[int, ...], ...] = ((0, 1, 6),), seed: int = 0
) -> dict:
    """Random samples; sample b has the action slots slots[b % len(slots)]. Two cameras of different image sizes."""
    generator = torch.Generator().manual_seed(seed)

    def uniform(*shape: int) -> torch.Tensor:
        return torch.rand(shape, generator=generator) * 2 - 1

    action_mask = torch.zeros(size, 32, dtype=torch.bool)
    for row in range(size):
        action_mask[row, list(slots[row % len(slots)])] = True
    state_mask = torch.zeros(size, 40, dtype=torch.bool)
    state_mask[:, :10] = True
    return {
        "image_primary": torch.randint(0, 256, (size, history, 48, 80, 3), generator=generator, dtype=torch.uint8),
        "image_primary_mask": torch.ones(size, history, dtype=torch.bool),
        "image_wrist": torch.randint(0, 256, (size, history, 64, 64, 3), generator=generator, dtype=torch.uint8),
        "image_wrist_mask": torch.ones(size, history, dtype=torch.bool),
        "state": uniform(size, history, 40) * state_mask[:, None],
        "state_mask": state_mask,
        "history_mask": torch.ones(size, history, dtype=torch.bool),
        "action": uniform(size, chunk, 32) * action_mask[:, None],
        "action_mask": action_mask,
        "action_pad_mask": torch.ones(size, chunk, dtype=torch.bool),
        "instruction": [f"push block {row}" for row in range(size)],
        "dataset": torch.zeros(size, dtype=torch.int64),
        "episode": torch.arange(size),
        "step": torch.zeros(size, dtype=torch.int64),
        "g": torch.arange(size),
        "control_hz": torch.full((size,), 5.0),
    }
