"""The verdict of a soak run on rows whose growth is known."""

import io
import json

import numpy as np
import pytest

from benchmarks.scenes import make_scene_stream
from benchmarks.soak import Row, measure, summarise


def rows(*, minutes=60.0, leak_mb_per_h=0.0, noise_mb=3.0, files_per_h=0, seed=0) -> list[Row]:
    """A reading each 10 s. Memory first rises by 200 MB within a minute, as buffers fill."""
    rng = np.random.default_rng(seed)
    made = []
    for seconds in np.arange(10, minutes * 60 + 1, 10):
        held = 400 + 200 * min(1, seconds / 60) + leak_mb_per_h * seconds / 3600 + rng.normal(0, noise_mb)
        made.append(
            Row(
                seconds=float(seconds),
                samples_per_s=1000 + 10 * rng.normal(),
                rss_mb=held + 100,
                anon_mb=held - 50,
                file_mb=50.0,
                shmem_mb=50.0,
                pss_mb=held + 90,
                open_files=40 + int(files_per_h * seconds / 3600) + int(rng.integers(0, 3)),
                threads=12,
                processes=1,
            )
        )
    return made


@pytest.mark.parametrize("seed", range(5))
def test_memory_that_only_fluctuates_is_flat(seed):
    summary = summarise(rows(seed=seed))
    assert summary.verdict == "flat"
    assert abs(summary.slope_mb_per_h) < 4 * summary.standard_error_mb_per_h
    assert summary.minutes == pytest.approx(60) and summary.samples_per_s == pytest.approx(1000, rel=0.01)


@pytest.mark.parametrize("leak_mb_per_h", [15.0, 60.0, 2000.0])
def test_a_planted_leak_is_found_and_measured(leak_mb_per_h):
    summary = summarise(rows(leak_mb_per_h=leak_mb_per_h))
    assert summary.verdict == "growing"
    assert summary.slope_mb_per_h == pytest.approx(leak_mb_per_h, abs=4 * summary.standard_error_mb_per_h)
    assert summary.held_at_end_mb - summary.held_after_warm_up_mb == pytest.approx(leak_mb_per_h * 55 / 60, abs=20)


def test_slope_and_error_are_those_of_a_straight_line_through_the_minutes():
    made = rows(leak_mb_per_h=30, minutes=40)
    of_minute: dict[int, list[Row]] = {}
    for row in made[29:]:
        of_minute.setdefault(int(row.seconds / 60), []).append(row)
    hours = [np.mean([row.seconds for row in group]) / 3600 for group in of_minute.values()]
    held = [np.mean([row.anon_mb + row.shmem_mb for row in group]) for group in of_minute.values()]
    line, covariance = np.polyfit(hours, held, 1, cov=True)
    summary = summarise(made)
    assert summary.slope_mb_per_h == pytest.approx(line[0])
    assert summary.standard_error_mb_per_h == pytest.approx(covariance[0, 0] ** 0.5)


def test_filling_of_buffers_at_the_start_is_no_leak():
    first_minute = rows(noise_mb=0.1)[:6]
    assert first_minute[-1].held_mb - first_minute[0].held_mb > 100
    assert summarise(rows(noise_mb=0.1)).verdict == "flat"


def test_a_leak_of_files_is_growth_even_where_memory_is_flat():
    assert summarise(rows(files_per_h=60)).verdict == "growing"


def test_a_run_that_is_too_short_or_too_noisy_is_undecided_not_flat():
    assert summarise(rows(minutes=2)).verdict == "undecided"
    assert summarise(rows(minutes=5, leak_mb_per_h=500)).verdict == "undecided"
    assert summarise(rows(minutes=20, noise_mb=60)).verdict == "undecided"
    with pytest.raises(ValueError, match="too few"):
        summarise(rows(minutes=0.2)[:1])


def test_a_real_run_writes_each_row_as_a_line(tmp_path):
    folders = [make_scene_stream(tmp_path / n, n, episodes=4, steps=20, image_px=32, seed=0) for n in ("a", "b")]
    log = io.StringIO()
    with pytest.raises(ValueError, match="too few"):
        measure(folders, seconds=0.3, workers=0, log=log)
    (row,) = [Row(**json.loads(line)) for line in log.getvalue().splitlines()]
    assert row.samples_per_s > 0 and row.anon_mb > 10 and row.open_files > 2 and row.threads >= 1
    assert row.rss_mb == pytest.approx(row.anon_mb + row.file_mb + row.shmem_mb, rel=0.01)
