"""`python -m benchmarks.train_presets --mixture NAME=MIX.yaml ...`: what each preset learns, by the user's commands.

Every preset is trained in its `--tiny` form (nano as it is) for the same number of steps on each mixture, in processes
of their own, one after the other; then evaluated on the held-out episodes, beside the two predictions that need no
model, and with exchanged instructions. It shows that every preset trains through the code that the full sizes take,
not what the published sizes reach: those start from pretrained weights, these from noise.
"""

import argparse
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.loss_curves import curves_svg

PRESETS = ("nano", "rt2", "palm_e", "openvla", "octo", "oft", "pi0", "pi0_fast")
SETTLED = {"nano": ()}
"""Presets without a tiny form: they are tiny."""


@dataclass(frozen=True, kw_only=True)
class Run:
    """One preset on one mixture."""

    preset: str
    mixture: str
    parameters: int
    seconds: float
    """Of the training command, its start included."""
    samples_per_s: float
    """Median over the steps."""
    wait_share: float
    """Part of a step spent waiting for the loader; median."""
    loss: float
    """Mean of the last tenth of the steps."""
    errors: dict[str, dict[str, float]]
    """Data set -> model, mean_action, previous_action: held-out error as a share of the slots' range."""
    instruction_effect: dict[str, float]
    """Data set -> how far exchanged instructions move the predicted actions, as a share of the slots' range."""


def train(preset: str, mixture: Path, out: Path, options: Sequence[str]) -> float:
    """Seconds that the command took; RuntimeError with what it printed when it failed."""
    command = [sys.executable, "-m", "oxe_pipeline.train", "--preset", preset, "--mixture", str(mixture)]
    tiny = [] if preset in SETTLED else ["--tiny"]
    started = time.perf_counter()
    done = subprocess.run([*command, "--out", str(out), *tiny, *options], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{preset} on {mixture}: {done.stderr[-2000:]}")
    return time.perf_counter() - started


def evaluate(run: Path, max_windows: int) -> dict:
    command = [sys.executable, "-m", "oxe_pipeline.eval", str(run), "--language", "--json"]
    done = subprocess.run([*command, "--max-windows", str(max_windows)], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"evaluation of {run}: {done.stderr[-2000:]}")
    return json.loads(done.stdout)


def losses(run: Path) -> list[float]:
    return [record["loss"] for record in steps(run)]


def steps(run: Path) -> list[dict]:
    records = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [record for record in records if "loss" in record]


def measure(preset: str, name: str, mixture: Path, folder: Path, options: Sequence[str], max_windows: int) -> Run:
    """Trains and evaluates; the run's folder is `folder`/preset_name."""
    out = folder / f"{preset}_{name}"
    seconds = train(preset, mixture, out, options)
    record, done = evaluate(out, max_windows), steps(out)
    tail = losses(out)[-max(1, len(done) // 10) :]
    return Run(
        preset=preset,
        mixture=name,
        parameters=record["num_parameters"],
        seconds=seconds,
        samples_per_s=statistics.median([step["samples_per_s"] for step in done]),
        wait_share=statistics.median([step["wait_share"] for step in done]),
        loss=sum(tail) / len(tail),
        errors={dataset: values["error_of_range"] for dataset, values in record["datasets"].items()},
        instruction_effect={
            dataset: values["mean"]["change"] for dataset, values in record["language"].items() if values["mean"]
        },
    )


def table(runs: Sequence[Run]) -> str:
    """Markdown: a row for each preset and data set."""
    lines = [
        "| preset | data set | parameters | samples/s | wait | loss | model | mean action | previous action "
        "| instructions move |",
        "|---|---|---|---|---|---|---|---|---|---|",
    ]
    for run in runs:
        for dataset, errors in run.errors.items():
            shares = (f"{100 * errors[who]:.1f} %" for who in ("model", "mean_action", "previous_action"))
            effect = run.instruction_effect.get(dataset)
            lines.append(
                f"| {run.preset} | {dataset} | {run.parameters / 1e6:.2f} M | {run.samples_per_s:.0f} | "
                f"{100 * run.wait_share:.1f} % | {run.loss:.3f} | {' | '.join(shares)} | "
                f"{'' if effect is None else f'{100 * effect:.1f} %'} |"
            )
    return "\n".join(lines)


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.train_presets", description=__doc__.partition(":")[2])
    parser.add_argument("--mixture", nargs="+", required=True, metavar="NAME=MIX.yaml")
    parser.add_argument("--presets", nargs="+", default=PRESETS, choices=PRESETS)
    parser.add_argument("--out", type=Path, required=True, help="folder for the runs, runs.json and curves.svg")
    parser.add_argument("--steps", type=int, default=300)
    parser.add_argument("--batch-size", type=int, default=32)
    parser.add_argument("--max-windows", type=int, default=128, help="held-out windows per data set")
    arguments = parser.parse_args(argv)
    options = ["--steps", str(arguments.steps), "--batch-size", str(arguments.batch_size)]
    arguments.out.mkdir(parents=True, exist_ok=True)
    runs: list[Run] = []
    curves: dict[str, dict[str, list[float]]] = {preset: {} for preset in arguments.presets}
    for preset in arguments.presets:
        for name, _, path in (entry.partition("=") for entry in arguments.mixture):
            runs.append(measure(preset, name, Path(path), arguments.out, options, arguments.max_windows))
            curves[preset][name] = losses(arguments.out / f"{preset}_{name}")
            print(f"{preset} on {name}: {runs[-1].seconds:.0f} s", file=sys.stderr)
            (arguments.out / "runs.json").write_text(json.dumps([asdict(run) for run in runs], indent=1))
            (arguments.out / "curves.svg").write_text(
                curves_svg({key: value for key, value in curves.items() if value})
            )
    print(table(runs))
    return 0


if __name__ == "__main__":
    sys.exit(main())
