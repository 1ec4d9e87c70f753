"""The vocabulary of operations a spec may name: what each one is called and takes. The arithmetic is in
`oxe_pipeline/ingest`: operations.py (columns), retime.py and motion.py (whole episodes).

The published OXE transforms, some eighty functions, reduce to these. An operation is written in YAML as a mapping with
the key `op`, e.g. `{op: rotation, from: euler_xyz, to: rotation_vector}`.
"""

from typing import Annotated, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field


class Model(BaseModel):
    """Base of everything read from YAML: immutable, unknown keys refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


Rotation = Literal[
    "rotation_vector",
    "euler_xyz",
    "euler_zyx",
    "euler_zxy",
    "euler_XYZ",
    "quaternion_xyzw",
    "quaternion_wxyz",
    "matrix",
    "rotation_6d",
]
"""Lower-case Euler letters are extrinsic (fixed) axes, upper-case intrinsic, as in scipy: "euler_xyz" is
roll-pitch-yaw, R = Rz·Ry·Rx. "matrix" is 9 values row by row; "rotation_6d" the first two columns, end to end."""


class Scale(Model):
    """x * factor + offset."""

    op: Literal["scale"]
    factor: float | list[float] = 1.0
    offset: float | list[float] = 0.0


class Clip(Model):
    op: Literal["clip"]
    low: float
    high: float


class Invert(Model):
    """1 - x: a gripper that says 1 for closed."""

    op: Literal["invert"]


class BinarizeGripper(Model):
    """Above `open_above` is open (1), below `closed_below` closed (0); between, the state reached next (Bridge)."""

    op: Literal["binarize_gripper"]
    open_above: float = 0.95
    closed_below: float = 0.05


class GripperRelativeToAbsolute(Model):
    """A command "close" (+1) / "open" (-1) / "keep" (0) becomes the state it leads to, 1 open or 0 closed (RT-1).
    Commands within `threshold` of 0 keep."""

    op: Literal["gripper_relative_to_absolute"]
    threshold: float = 0.1


class GripperWidth(Model):
    """Sum of the absolute finger positions, or one width, over the width when open (same unit), clipped to 0..1."""

    op: Literal["gripper_width"]
    open_width: float = Field(gt=0)


class ConvertRotation(Model):
    """From one form of rotation to another. `degrees`: the source's angles are degrees; results are always radians."""

    op: Literal["rotation"]
    from_: Rotation = Field(alias="from")
    to: Rotation
    degrees: bool = False


class Constant(Model):
    """`value` whatever the source says: what a published transform writes for a part that the robot lacks. For
    variants alone; in a data set's own spec such a part is masked."""

    op: Literal["constant"]
    value: float


class Select(Model):
    """The named columns in this order: parts of a matrix that is stored flat, angles that are stored yaw first."""

    op: Literal["select"]
    columns: list[int] = Field(min_length=1)


class AngleToCosSin(Model):
    """An angle becomes its cosine and its sine, as base_pose has it."""

    op: Literal["angle_to_cos_sin"]


class Plus(Model):
    """x plus another column of the source: a residual becomes the target it stands for (bc_z)."""

    op: Literal["plus"]
    source: str
    """Flat key with an optional slice, as wide as x."""


ColumnOperation = Annotated[
    Scale
    | Clip
    | Invert
    | BinarizeGripper
    | GripperRelativeToAbsolute
    | GripperWidth
    | ConvertRotation
    | Constant
    | Select
    | AngleToCosSin
    | Plus,
    Field(discriminator="op"),
]


class DropFirst(Model):
    op: Literal["drop_first"]
    steps: int = Field(default=1, ge=1)


class DropLast(Model):
    op: Literal["drop_last"]
    steps: int = Field(default=1, ge=1)


class KeepEvery(Model):
    """One step in `steps` is kept. Deltas of the dropped steps are summed (rotations composed), of absolutes the last
    is taken, of velocities the mean; the episode's rate is divided by `steps`. `merge: false` throws the other steps
    away with their actions, as published code does."""

    op: Literal["keep_every"]
    steps: int = Field(ge=2)
    merge: bool = True


class ActionFromState(Model):
    """The arm's motion becomes the motion it achieved: next state against state, rotations as R[t+1]·R[t]^T (no wrap
    error); joint slots, where the action has them, become the change of the joints. The last step, which has no next
    state, is dropped.

    `angles: subtracted` is the published rule for Bridge: the state's first three rotation slots hold Euler angles,
    and these are subtracted like lengths.
    """

    op: Literal["action_from_state"]
    arm: Literal["arm0", "arm1"] = "arm0"
    angles: Literal["composed", "subtracted"] = "composed"


class TargetToDelta(Model):
    """The arm's delta slots hold an absolute target pose; they become target against the present state."""

    op: Literal["target_to_delta"]
    arm: Literal["arm0", "arm1"] = "arm0"


class JointDeltaToTarget(Model):
    """The arm's joint slots hold a change of the joints; they become the target: present joints plus change."""

    op: Literal["joint_delta_to_target"]
    arm: Literal["arm0", "arm1"] = "arm0"


class DeltaOfTargets(Model):
    """The arm's delta slots hold the pose reached next, and the source has no pose in its state: each becomes target
    against the target before. The first step, which has none, is dropped."""

    op: Literal["delta_of_targets"]
    arm: Literal["arm0", "arm1"] = "arm0"


class GripperFromState(Model):
    """The arm's gripper action becomes the gripper state of the next step, for a source without a gripper command; the
    last step, which has no next one, holds its own."""

    op: Literal["gripper_from_state"]
    arm: Literal["arm0", "arm1"] = "arm0"


class BaseMotionFromState(Model):
    """The base's slots become what it achieved until the next state, in its own frame (x ahead, y to the left), the
    turn brought into (-pi, pi]: per second, or `per: step`. The last step, which has no next state, is dropped."""

    op: Literal["base_motion_from_state"]
    per: Literal["second", "step"] = "second"


class ShiftObservations(Model):
    """The source stores the observation made *after* its action; each is moved `steps` later, the ends dropped."""

    op: Literal["shift_observations"]
    steps: int = Field(default=1, ge=1)


class ShiftActions(Model):
    """The source's observations show the world of `steps` before (a late camera, ALOHA's recorder): each action moves
    `steps` later, to the observation that shows what it was given for; the ends are dropped."""

    op: Literal["shift_actions"]
    steps: int = Field(default=1, ge=1)


class DropNoOps(Model):
    """Steps that neither move nor work the gripper go, by the rule of OpenVLA's LIBERO script, read from the source's
    own action vector: the norm of all but its last number is below `threshold`, and the last, the gripper, is that of
    the step kept before (of the very first step it is not asked)."""

    op: Literal["drop_no_ops"]
    threshold: float = Field(default=1e-4, gt=0)


class ToolToBaseFrame(Model):
    """The arm's motion is told along the axes of its own tool; it is turned by the present orientation R into the frame
    of the state: position R·p, rotation vector R·w."""

    op: Literal["tool_to_base_frame"]
    arm: Literal["arm0", "arm1"] = "arm0"
    part: Literal["pose", "rotation"] = "pose"
    """"rotation" where the position is already told in the frame of the base (furniture_bench)."""


EpisodeOperation = Annotated[
    DropFirst
    | DropLast
    | KeepEvery
    | ActionFromState
    | TargetToDelta
    | JointDeltaToTarget
    | DeltaOfTargets
    | GripperFromState
    | BaseMotionFromState
    | ShiftObservations
    | ShiftActions
    | DropNoOps
    | ToolToBaseFrame,
    Field(discriminator="op"),
]

OPERATIONS: tuple[type[Model], ...] = tuple(
    model for union in (ColumnOperation, EpisodeOperation) for model in get_args(get_args(union)[0])
)
"""The model of every operation."""
