"""What a mixture will do and what it did, as numbers: shares, passes over each data set, shares of a real draw."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from oxe_pipeline.mixture.mixture import Mixture
from oxe_pipeline.mixture.schedule import block_start

_CHUNK = 1 << 16


@dataclass(frozen=True, kw_only=True, slots=True)
class ShareRow:
    """One data set in one segment of the schedule."""

    dataset: str
    episodes: int
    steps: int
    """Windows of one epoch: the steps that can be drawn, each as often as an overlay repeats it, else once."""
    split_steps: int
    """Steps there are in the split, drawn or not."""
    overlay: str
    """Name of the overlay that says which steps are drawn; "" for none: all of them."""
    weight: float
    """As written, before balance or temperature."""
    share: float
    """Of all samples, as asked for."""
    share_error: float
    """By how much the share that is held differs, since the schedule holds whole-number proportions of weights."""
    samples_per_epoch: float | None
    """Samples of the whole mixture until this data set was seen once; None at share 0."""
    epochs_per_million: float
    """How often this data set is seen in a million samples of the mixture."""


@dataclass(frozen=True, kw_only=True, slots=True)
class DrawRow:
    """One data set in a real draw."""

    dataset: str
    requested_share: float
    realised_share: float
    samples: int
    error_samples: float
    """Samples drawn minus samples asked for."""


def share_rows(
    mixture: Mixture, written: Mapping[int, Mapping[str, float]], effective: Mapping[int, Mapping[str, Fraction]]
) -> dict[int, list[ShareRow]]:
    """{first sample number of a segment: rows in the order of its data sets' listing}.

    `written` and `effective` are {sample number: {data set: weight}} before and after weights by size, as from
    MixtureConfig.weights_from and effective_weights.
    """
    datasets = {dataset.name: dataset for dataset in mixture.datasets}
    tables = {}
    for start, weights in effective.items():
        total = sum(weights.values())
        held = mixture.schedule.shares_at(block_start(start))
        rows = []
        for name, weight in weights.items():
            share, steps = weight / total, datasets[name].num_steps
            rows.append(
                ShareRow(
                    dataset=name,
                    episodes=datasets[name].num_episodes,
                    steps=steps,
                    split_steps=datasets[name].split_steps,
                    overlay=datasets[name].overlay,
                    weight=float(written[start][name]),
                    share=float(share),
                    share_error=abs(float(share) - held.get(name, 0.0)),
                    samples_per_epoch=float(steps / share) if share else None,
                    epochs_per_million=float(1_000_000 * share / steps) if steps else 0.0,
                )
            )
        tables[block_start(start)] = rows
    return tables


def chunks(samples: int) -> Iterator[range]:
    """range(samples) in pieces of 65,536."""
    return (range(start, min(start + _CHUNK, samples)) for start in range(0, samples, _CHUNK))


def count_draw(mixture: Mixture, pieces: Iterable[range]) -> np.ndarray:
    """int64 [D]: samples of each of mixture.datasets among the given sample numbers, drawn by Mixture.locate."""
    counts = np.zeros(len(mixture.datasets), np.int64)
    for piece in pieces:
        dataset, _, _ = mixture.locate(np.array(piece, np.int64))
        counts += np.bincount(dataset, minlength=len(counts))
    return counts


def draw_rows(mixture: Mixture, effective: Mapping[int, Mapping[str, Fraction]], counts: np.ndarray) -> list[DrawRow]:
    """`counts` from count_draw over range(N) beside what was asked for, in the order of mixture.datasets."""
    samples = int(counts.sum())
    asked = requested_counts(effective, samples)
    return [
        DrawRow(
            dataset=dataset.name,
            requested_share=float(asked.get(dataset.name, Fraction(0)) / samples),
            realised_share=int(count) / samples,
            samples=int(count),
            error_samples=float(int(count) - asked.get(dataset.name, Fraction(0))),
        )
        for dataset, count in zip(mixture.datasets, counts, strict=True)
    ]


def requested_counts(effective: Mapping[int, Mapping[str, Fraction]], samples: int) -> dict[str, Fraction]:
    """Exact, fractional number of samples each data set should have among the first `samples`."""
    starts = sorted(effective)
    asked: dict[str, Fraction] = {}
    for start, following in zip(starts, [*starts[1:], None], strict=True):
        end = samples if following is None else min(block_start(following), samples)
        length = max(0, end - block_start(start))
        total = sum(effective[start].values())
        for name, weight in effective[start].items():
            asked[name] = asked.get(name, Fraction(0)) + length * weight / total
    return asked
