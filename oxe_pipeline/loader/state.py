"""The state of a loader, as JSON: which step and sample come next, and of which mixture. Tens of numbers."""

from collections.abc import Mapping

from oxe_pipeline.loader.steps import StepSamples
from oxe_pipeline.mixture.data_identity import StateError
from oxe_pipeline.mixture.mixture import Mixture

STATE_FORMAT = 2


def state_at(step: int, samples: StepSamples, mixture: Mixture) -> dict:
    """What says that `step` comes next; a loader with other ranks, threads, workers or batch size may go on from it."""
    return {
        "format": STATE_FORMAT,
        "step": step,
        "batch_size": samples.batch_size,
        "mixture": mixture.state_dict(samples.first_g(step)),
    }


def samples_from(state: Mapping, samples: StepSamples, mixture: Mixture) -> tuple[int, StepSamples]:
    """The step that comes next in `state`, and `samples` counted from there.

    Raises StateError when the mixture's data, seed, or weights so far differ from the state's, naming both.
    """
    if state.get("format") != STATE_FORMAT:
        raise StateError(f"loader state has format {state.get('format')!r}, this package reads {STATE_FORMAT}")
    if missing := {"step", "mixture"} - set(state):
        raise StateError(f"this is no state of a loader: {', '.join(sorted(missing))} missing")
    mixture.check_state(state["mixture"])
    step, g = int(state["step"]), int(state["mixture"]["g"])
    return step, samples.starting(step, g)
