"""Which Meta-World tasks each of the two demo labs recorded, and what its annotators called them.

The labs share no task, so a mixture of both knows more than either. The sentences are our own.
"""

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Task:
    """One scripted task and its sentences."""

    environment: str
    """Name in Meta-World, e.g. "push-v3"; the scripted expert follows from it."""
    name: str
    """What the lab calls the task in its folder or file names."""
    sentences: tuple[str, ...]
    """Paraphrases, the plainest first."""


BRIDGE_TASKS = (
    Task(
        environment="drawer-open-v3",
        name="open_drawer",
        sentences=("open the green drawer", "pull the drawer open by its handle", "Please open the drawer."),
    ),
    Task(
        environment="push-v3",
        name="push_puck",
        sentences=(
            "push the puck to the green ball",
            "slide the red puck to the green mark",
            "move puck to green spot",
        ),
    ),
    Task(
        environment="plate-slide-v3",
        name="slide_plate",
        sentences=(
            "slide the plate into the cage",
            "push the black disc into the white goal",
            "put the plate in the net",
        ),
    ),
    Task(
        environment="reach-v3",
        name="reach_ball",
        sentences=("reach for the red ball", "move the gripper to the ball", "touch the red ball with the gripper"),
    ),
)

LIBERO_TASKS = (
    Task(
        environment="pick-place-v3",
        name="TABLE_SCENE1_pick_up_the_red_puck_and_bring_it_to_the_blue_ball",
        sentences=("pick up the red puck and bring it to the blue ball", "Pick the puck and carry it to the ball"),
    ),
    Task(
        environment="button-press-topdown-v3",
        name="TABLE_SCENE2_press_the_red_button_from_above",
        sentences=("press the red button from above", "Push the button down"),
    ),
    Task(
        environment="window-close-v3",
        name="TABLE_SCENE3_close_the_sliding_window",
        sentences=("close the sliding window", "Slide the window shut"),
    ),
    Task(
        environment="faucet-open-v3",
        name="TABLE_SCENE4_turn_the_faucet_handle_to_open_it",
        sentences=("turn the faucet handle to open it", "Open the faucet"),
    ),
)
