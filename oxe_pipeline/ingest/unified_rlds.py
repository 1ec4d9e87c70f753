"""From unified RLDS (schemas/rlds.py) back to an Episode: the inverse of builders.unified.episode_to_example."""

from typing import Any

from oxe_pipeline.episode import DataError, Episode, SourceEpisode
from oxe_pipeline.ingest.features_json import Features
from schemas.slots import CAMERAS

_META = "episode_metadata/"


def is_unified(features: Features) -> bool:
    """Whether the features are those of unified RLDS rather than of a lab's own layout."""
    return {"action_raw", "observation/state_raw"} <= features.step_leaves().keys() and (
        f"{_META}action_mask" in features.episode_leaves()
    )


def unified_episode(source: SourceEpisode) -> Episode:
    """The Episode that was written. Raw vectors get back their true width, cameras that were absent are left out."""
    steps: dict[str, Any] = source.steps

    def meta(key: str) -> Any:
        try:
            return source.metadata[_META + key]
        except KeyError:
            raise DataError("absent", dataset="?", episode=source.key, field=_META + key) from None

    def text(key: str) -> str:
        return meta(key).decode()

    def texts(key: str) -> tuple[str, ...]:
        return tuple(item.decode() for item in meta(key))

    instructions = steps["language_instruction"]
    is_terminal = steps["is_terminal"]
    return Episode(
        dataset=text("dataset"),
        episode_id=text("episode_id"),
        split=text("split"),
        action=steps["action"],
        action_mask=meta("action_mask"),
        state=steps["observation/state"],
        state_mask=meta("state_mask"),
        action_raw=steps["action_raw"][:, : int(meta("action_raw_width"))],
        state_raw=steps["observation/state_raw"][:, : int(meta("state_raw_width"))],
        images={camera: steps[f"observation/image_{camera}"] for camera in CAMERAS if meta(f"has_image_{camera}")},
        instruction=instructions[0].decode() if instructions else "",
        alternatives=texts("alternatives"),
        label_raw=text("label_raw"),
        label_flags=texts("label_flags"),
        quality_flags=texts("quality_flags"),
        success=int(meta("success")),
        control_hz=float(meta("control_hz")),
        lab=text("lab"),
        robot=text("robot"),
        source_path=text("source_path"),
        reward=steps["reward"],
        discount=steps["discount"],
        is_terminal=bool(is_terminal[-1]) if len(is_terminal) else True,
    )
