"""BatchOptions: what a batch holds. Everything that changes its content is here; what changes only speed is not."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from oxe_pipeline.stats.normalizer import NormalizerConfig
from schemas.slots import CAMERAS
from schemas.spec import nearest


@dataclass(frozen=True, kw_only=True, slots=True)
class BatchOptions:
    """Checked when made: ValueError says which value does not hold and what would."""

    chunk: int = 1
    """Actions per sample, from the sample's own step on."""
    chunk_s: float | None = None
    """None: an action per recorded step. A number of seconds: the chunk spans that time in `chunk` equal intervals
    whatever the robot's rate, so that 3 Hz and 50 Hz data share one time base (see `resample`)."""
    history: int = 1
    """Observations per sample, the last being the sample's own step."""
    image_size: int | tuple[int, int] | None = None
    """(height, width), or one number for both; images of another size are stretched. None: as stored, which must then
    be one size per camera over the whole mixture."""
    cameras: Sequence[str] | None = None
    """None: every camera that some data set of the mixture has."""
    normalizer: NormalizerConfig = field(default_factory=NormalizerConfig)
    """How each data set's state and action are brought to scale."""
    instruction: Literal["any", "main"] = "any"
    """"any": one of the episode's instructions, drawn evenly per sample; "main": always the first."""
    camera_dropout: float = 0.0
    """Probability that a camera of a sample is blanked and masked; one that the sample has always stays."""
    goal_images: bool = False
    """Adds `image_goal`: the first of the cameras (the primary, where `cameras` is None and some data set has it) at a
    later step of the episode, drawn evenly."""
    decode: Literal["exact", "fast"] = "exact"
    """"fast" lets libjpeg-turbo take its fast inverse DCT and upsampling: about an eighth faster. Most pixels of a
    4:2:0 JPEG then differ: by two grey levels in the mean, along edges of colour by tens (`benchmarks.loader`)."""
    on_corrupt: Literal["error", "substitute"] = "error"
    """For an unreadable image: stop with a DataError, or show the nearest readable step before it (else after it) of
    the same episode and camera, and count it."""

    def __post_init__(self):
        for name in ("chunk", "history"):
            if not isinstance(getattr(self, name), int) or getattr(self, name) < 1:
                raise ValueError(f"{name} must be a whole number of 1 or more, is {getattr(self, name)!r}")
        if self.chunk_s is not None and not 0 < self.chunk_s < math.inf:
            raise ValueError(f"chunk_s must be a finite time above 0 seconds or None, is {self.chunk_s!r}")
        if self.size and (len(self.size) != 2 or not all(isinstance(px, int) and px >= 1 for px in self.size)):
            raise ValueError(f"image_size must be pixels, (height, width) or None, is {self.image_size!r}")
        for camera in self.cameras or ():
            if camera not in CAMERAS:
                raise ValueError(f"cameras: {camera!r} is unknown{nearest(camera, CAMERAS)}")
        if len(set(self.cameras or ())) < len(self.cameras or ()):
            raise ValueError(f"cameras must be different, are {self.cameras!r}")
        if not 0 <= self.camera_dropout <= 1:
            raise ValueError(f"camera_dropout must be a probability from 0 to 1, is {self.camera_dropout!r}")
        for name, known in (
            ("instruction", ("any", "main")),
            ("decode", ("exact", "fast")),
            ("on_corrupt", ("error", "substitute")),
        ):
            if getattr(self, name) not in known:
                raise ValueError(f"{name} must be one of {', '.join(known)}, is {getattr(self, name)!r}")

    @property
    def size(self) -> tuple[int, int] | None:
        """(height, width), or None for the stored size."""
        if self.image_size is None or isinstance(self.image_size, tuple):
            return self.image_size
        return (self.image_size, self.image_size)
