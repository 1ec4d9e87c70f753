"""The quality flags an episode may carry (column quality_flags of episodes.parquet); overlays keep or drop by them."""

QUALITY_FLAGS = {
    "idle": "the robot stands still in more than half of the steps (idle_steps.py)",
    "black_camera": "every frame of a camera is black (camera_frames.py)",
    "frozen_camera": "a camera shows one frame though the robot moves (camera_frames.py)",
    "outlier": "the hand is told to move, or moves, impossibly far in one step (motion.py)",
    "duplicate": "an episode before it has the same id, or the same states and actions (counts.py)",
    "is_first_misplaced": "the source marks another step than the first, several or none as the first (step_flags.py)",
    "is_last_misplaced": "the source marks another step than the last, several or none as the last (step_flags.py)",
    "is_last_absent": "the source marks no step as the last: the episode is cut short (step_flags.py)",
    "is_terminal_misplaced": "the source marks a step before the last as terminal (step_flags.py)",
}
"""Flag -> what it says. Readers and specs may set further ones of their own."""
