"""BagLayout: which messages of a bag (ROS 1, ROS 2, MCAP) make which columns of an episode, and how their times are
brought together. Part of a spec, because a bag knows topics and no convention.
"""

from typing import Literal

from pydantic import Field, model_validator

from schemas.operations import Model


class BagColumn(Model):
    """One column: the values of one topic's messages, taken at each step."""

    topics: list[str] = Field(min_length=1)
    """Names under which recordings have the topic; the first that a bag holds is read."""
    kind: Literal["numbers", "image", "text"] = "numbers"
    """"image": sensor_msgs/Image or CompressedImage, or messages of their form. "text": the first message of the
    episode becomes metadata, e.g. the instruction."""
    fields: list[str] = Field(default_factory=list)
    """Where the values stand in a message: "pose.position.x", "data[0:3]", "points[0].positions". Laid end to end."""
    names: list[str] = Field(default_factory=list)
    """For messages that name their values (sensor_msgs/JointState): which of them, in this order. A message that lacks
    one of them is not meant and passed over."""
    take: Literal["at_step", "before_next"] = "at_step"
    """"at_step": the last value at or before the step's time. "before_next": the last value before the next step's
    time, for commands that are sent between two observations and lead to the second."""
    max_age_s: float | None = Field(default=0.5, gt=0, allow_inf_nan=False)
    """How long a value holds; a step without one is a gap. None: until the next, as for a gripper command that is sent
    when it changes."""
    optional: bool = False
    """A bag without the topic has no such key, instead of being a fault."""

    @model_validator(mode="after")
    def _fields_fit_the_kind(self) -> "BagColumn":
        if self.kind == "image" and self.fields:
            raise ValueError("an image column takes no fields: the whole message is the image")
        if self.kind != "image" and not self.fields:
            raise ValueError(f"a column of kind {self.kind} needs fields, e.g. [data]")
        if self.names and (self.kind != "numbers" or len(self.fields) != 1):
            raise ValueError("names pick values out of one field of numbers")
        return self


class BagLayout(Model):
    """All columns of a bag, the clock, and what is one episode."""

    columns: dict[str, BagColumn] = Field(min_length=1)
    """Flat key of the column, as the spec's sources name it, to its column."""
    clock: str = ""
    """The column whose messages are the steps; "" makes steps evenly spaced at the spec's control_hz."""
    on_gap: Literal["set_aside", "cut"] = "set_aside"
    """What a gap in the middle of a recording does: it is a fault, or it ends one episode and begins another."""
    min_steps: int = Field(default=2, ge=1)
    """Pieces shorter than this are no episodes, where a recording is cut into several."""
    recording: BagColumn | None = None
    """A topic whose first field is true while an episode is recorded; without it the whole bag is one episode."""

    @model_validator(mode="after")
    def _clock_is_a_column(self) -> "BagLayout":
        if self.clock and (self.clock not in self.columns or self.columns[self.clock].kind == "text"):
            raise ValueError(f"clock {self.clock!r} is no column of numbers or images")
        if all(column.kind == "text" for column in self.columns.values()):
            raise ValueError("no column of numbers or images")
        return self

    @property
    def several_episodes(self) -> bool:
        """Whether a bag may hold more than one episode."""
        return self.on_gap == "cut" or self.recording is not None
