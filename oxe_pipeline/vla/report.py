"""Evaluation results as tables for people: one per data set, the best of each row in bold."""

from rich.table import Table
from rich.text import Text

from oxe_pipeline.terminal import table
from oxe_pipeline.vla.evaluate import PREDICTORS, DatasetResult, SlotResult
from oxe_pipeline.vla.language_use import Effect, LanguageResult

_TITLES = {"model": "model", "mean_action": "mean action", "previous_action": "previous action"}
_EFFECTS = {
    "change": "change by instruction",
    "change_by_noise": "change by noise",
    "error": "error",
    "error_exchanged": "error when exchanged",
}


def result_table(result: DatasetResult) -> Table | str:
    """A table of the data set's slots, or one line where nothing is held out."""
    if not result.windows:
        return f"{result.dataset}: no held-out episode (split val is empty); give its spec a larger split.val_share"
    title = f"{result.dataset}: {result.windows} windows of {result.episodes} held-out episodes"
    if result.task_mode != "text":
        title += {"goal": ", task by goal image", "both": ", task by text and goal image"}[result.task_mode]
    made = _table(title, _caption(result), [_TITLES[predictor] for predictor in PREDICTORS])
    for slot in result.slots:
        made.add_row(slot.name, *_unit_and_values(slot))
    if result.error_of_range:
        shares = [result.error_of_range[predictor] for predictor in PREDICTORS]
        made.add_section()
        made.add_row("mean of those in units", "% of range", *_marked(shares, [f"{100 * s:.1f}" for s in shares], min))
    return made


def language_table(result: LanguageResult) -> Table | str:
    """A table of what exchanged instructions did, or one line where there is nothing to exchange."""
    if not result.windows:
        return (
            f"{result.dataset}: {result.instructions} different instruction(s) in its held-out windows, "
            "nothing to exchange"
        )
    title = f"{result.dataset}: {result.windows} windows, {result.instructions} instructions exchanged"
    caption = "means of absolute changes and errors; for slots that are 0 or 1 shares of other and of wrong decisions"
    made = _table(title, caption, list(_EFFECTS.values()))
    for name, (unit, effect) in (result.slots or {}).items():
        if unit == "1":
            made.add_row(name, "%", *(f"{100 * value:.1f}" for value in _values(effect)))
        else:
            made.add_row(name, _unit(unit), *(f"{value:.4f}" for value in _values(effect)))
    if result.mean:
        made.add_section()
        made.add_row("mean of those in units", "% of range", *(f"{100 * value:.1f}" for value in _values(result.mean)))
    return made


def _table(title: str, caption: str, columns: list[str]) -> Table:
    made = table(title, texts=["action slot", "unit"], numbers=columns)
    made.caption, made.caption_justify = caption, "left"
    return made


def _caption(result: DatasetResult) -> str:
    parts = [f"mean absolute error, or share right for slots that are 0 or 1; loss {result.loss:.4g}"]
    for name, value in result.metrics.items():
        shown = f"{value:.1%}" if name.endswith("accuracy") else f"{value:.4g}"
        parts.append(f"{name.replace('_', ' ')} {shown}")
    if result.error_by_position and len(result.error_by_position) > 1:
        first, last = result.error_by_position[0], result.error_by_position[-1]
        parts.append(f"first action of the chunk {first:.1%} of range, last {last:.1%}")
    return "; ".join(parts)


def _unit_and_values(slot: SlotResult) -> list[str | Text]:
    values = [getattr(slot, predictor) for predictor in PREDICTORS]
    if slot.measure == "accuracy":
        return ["% right", *_marked(values, [f"{100 * value:.1f}" for value in values], max)]
    return [_unit(slot.unit), *_marked(values, [f"{value:.4f}" for value in values], min)]


def _unit(unit: str) -> str:
    return "source's" if unit == "source" else unit


def _values(effect: Effect) -> list[float]:
    return [getattr(effect, name) for name in _EFFECTS]


def _marked(values: list[float], texts: list[str], best) -> list[Text]:
    return [Text(text, "bold" if value == best(values) else "") for value, text in zip(values, texts, strict=True)]
