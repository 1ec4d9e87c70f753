"""Evaluation results as tables for people: one per data set, model beside baselines, the best of each row in bold."""

from rich.table import Table

from oxe_pipeline.vla.evaluate import PREDICTORS, DatasetResult, SlotResult

_TITLES = {"model": "model", "mean_action": "mean action", "previous_action": "previous action"}


def result_table(result: DatasetResult) -> Table | str:
    """A table of the data set's slots, or one line where nothing is held out."""
    if not result.windows:
        return f"{result.dataset}: no held-out episode (split val is empty); give its spec a larger split.val_share"
    title = f"{result.dataset}: {result.windows} windows of {result.episodes} held-out episodes"
    caption = (
        f"mean absolute error, or share right for slots that are 0 or 1; token accuracy {result.token_accuracy:.1%}"
    )
    table = Table(title=title, title_justify="left", caption=caption, caption_justify="left")
    table.add_column("action slot", no_wrap=True)
    table.add_column("unit", no_wrap=True)
    for predictor in PREDICTORS:
        table.add_column(_TITLES[predictor], justify="right")
    for slot in result.slots:
        table.add_row(slot.name, *_unit_and_values(slot))
    if result.error_of_range:
        shares = [result.error_of_range[predictor] for predictor in PREDICTORS]
        table.add_section()
        table.add_row("mean of those in units", "% of range", *_marked(shares, [f"{100 * s:.1f}" for s in shares], min))
    return table


def _unit_and_values(slot: SlotResult) -> list[str]:
    values = [getattr(slot, predictor) for predictor in PREDICTORS]
    if slot.measure == "accuracy":
        return ["% right", *_marked(values, [f"{100 * value:.1f}" for value in values], max)]
    unit = "source's" if slot.unit == "source" else slot.unit
    return [unit, *_marked(values, [f"{value:.4f}" for value in values], min)]


def _marked(values: list[float], texts: list[str], best) -> list[str]:
    return [
        f"[bold]{text}[/bold]" if value == best(values) else text for value, text in zip(values, texts, strict=True)
    ]
