"""Which function carries out which episode operation of a spec; the arithmetic is in retime.py and motion.py."""

from collections.abc import Mapping

from oxe_pipeline.episode import Episode
from oxe_pipeline.ingest import motion, retime
from schemas import operations as ops


def apply_episode_operation(episode: Episode, op: ops.EpisodeOperation, kinds: Mapping[str, str]) -> Episode:
    """One operation on one episode. `kinds` maps an action slot's name to "delta", "absolute" or "velocity".

    Pure and deterministic. Raises DataError when the episode is too short for the operation to leave a step.
    """
    lost = _steps_lost(op)
    if len(episode) <= lost:
        raise episode.fault("steps", f"{len(episode)} step(s) long; {op.op} drops {lost} and would leave nothing")
    match op:
        case ops.DropFirst():
            return retime.select_steps(episode, slice(op.steps, None))
        case ops.DropLast():
            return retime.select_steps(episode, slice(None, -op.steps))
        case ops.KeepEvery():
            return retime.keep_every(episode, op.steps, kinds) if op.merge else retime.throw_between(episode, op.steps)
        case ops.ActionFromState():
            return motion.action_from_state(episode, op.arm, subtract_angles=op.angles == "subtracted")
        case ops.TargetToDelta():
            return motion.target_to_delta(episode, op.arm)
        case ops.JointDeltaToTarget():
            return motion.joint_delta_to_target(episode, op.arm)
        case ops.DeltaOfTargets():
            return motion.delta_of_targets(episode, op.arm)
        case ops.GripperFromState():
            return motion.gripper_from_state(episode, op.arm)
        case ops.BaseMotionFromState():
            return motion.base_motion_from_state(episode, per_second=op.per == "second")
        case ops.ShiftObservations():
            return retime.shift_observations(episode, op.steps)
        case ops.ShiftActions():
            return retime.shift_actions(episode, op.steps)
        case ops.DropNoOps():
            return retime.drop_no_ops(episode, op.threshold)
        case ops.ToolToBaseFrame():
            return motion.tool_to_base_frame(episode, op.arm, rotation_only=op.part == "rotation")


def _steps_lost(op: ops.EpisodeOperation) -> int:
    if isinstance(op, ops.ActionFromState | ops.DeltaOfTargets | ops.BaseMotionFromState):
        return 1
    shortening = ops.DropFirst | ops.DropLast | ops.ShiftObservations | ops.ShiftActions
    return op.steps if isinstance(op, shortening) else 0
