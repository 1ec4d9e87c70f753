"""`make demo`: the whole way of the data on the episodes that ship here, as the commands a user would type.

Two labs' raw formats become unified RLDS, then streams, then a mixture, then a trained policy, whose held-out error is
printed in real units. Each command is shown before it runs; what it says beyond its progress goes to <out>/logs.
"""

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

REPOSITORY = Path(__file__).resolve().parent.parent
LABS = {"bridge": "metaworld_bridge", "libero": "metaworld_libero"}
"""Builder to the data set its sample is."""


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One command of the demo and what it is for."""

    title: str
    command: list[str]
    shows_output: bool = False
    """True where the command's own table or progress bar is what the user should see."""


def stages(out: Path, steps: int) -> list[Stage]:
    """The commands in order; all paths below `out`."""
    rlds, streams, mix, run = out / "rlds", out / "streams", out / "mix.yaml", out / "run"
    python = sys.executable
    found = [
        Stage(
            title=f"raw {builder} files to unified RLDS",
            command=[
                str(Path(python).with_name("tfds")),
                *("build", str(REPOSITORY / "builders" / builder), "--config", name),
                *("--manual_dir", str(REPOSITORY / "samples" / name), "--data_dir", str(rlds)),
            ],
        )
        for builder, name in LABS.items()
    ]
    found += [
        Stage(
            title=f"{name}: RLDS to a training-ready stream",
            command=[
                *(python, "-m", "jobs.shard", "--rlds", str(rlds / builder / name / "1.0.0")),
                *("--out", str(streams / name)),
            ],
        )
        for builder, name in LABS.items()
    ]
    weights = ",".join(f"{name}={weight}" for name, weight in zip(LABS.values(), ("1", "0.5"), strict=True))
    found.append(
        Stage(
            title="mix the two by weight",
            command=[python, "-m", "oxe_pipeline.mix", "--root", str(streams), "--weights", weights, "--out", str(mix)],
            shows_output=True,
        )
    )
    found.append(
        Stage(
            title="train the nano policy",
            command=[
                *(python, "-m", "oxe_pipeline.train", "--mixture", str(mix), "--preset", "nano"),
                *("--steps", str(steps), "--out", str(run)),
            ],
            shows_output=True,
        )
    )
    found.append(
        Stage(
            title="held-out error in real units",
            command=[python, "-m", "oxe_pipeline.eval", str(run)],
            shows_output=True,
        )
    )
    return found


def run_demo(out: Path, steps: int, console: Console) -> None:
    """Runs every stage; raises subprocess.CalledProcessError at the first that fails, its log named on the console."""
    logs = out / "logs"
    logs.mkdir(parents=True)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "3", "PYTHONWARNINGS": "ignore"}
    for number, stage in enumerate(found := stages(out, steps), 1):
        console.print(f"\n[bold][{number}/{len(found)}] {stage.title}[/bold]")
        console.print(f"[dim]$ {shown(stage.command)}[/dim]", soft_wrap=True, highlight=False)
        if stage.shows_output:
            subprocess.run(stage.command, check=True, env=environment, cwd=REPOSITORY)
        else:
            run_quietly(stage, logs / f"{number}.log", environment, console)


def run_quietly(stage: Stage, log: Path, environment: dict[str, str], console: Console) -> None:
    """Runs a command with a spinner and a clock, its output kept in `log` and shown only when it fails."""
    columns = SpinnerColumn(), TextColumn("{task.description}"), TimeElapsedColumn()
    with open(log, "wb") as sink, Progress(*columns, console=console) as progress:
        progress.add_task("running", total=None)
        code = subprocess.run(stage.command, stdout=sink, stderr=sink, env=environment, cwd=REPOSITORY).returncode
    if code:
        tail = log.read_text(errors="replace").splitlines()[-15:]
        console.print("\n".join(tail), markup=False, highlight=False)
        console.print(f"failed with exit status {code}; the whole output is in {log}", style="red")
        raise subprocess.CalledProcessError(code, stage.command)


def shown(command: list[str]) -> str:
    """The command as one would type it from the repository, its programs by their short names."""
    short = [
        part.removeprefix(f"{Path(sys.executable).parent}{os.sep}").removeprefix(f"{REPOSITORY}{os.sep}")
        for part in command
    ]
    return shlex.join(short)


def main(argv: list[str] | None = None) -> int:
    """Runs the demo into --out; 0 when every stage succeeded, 2 when --out is taken, 1 when a stage failed."""
    parser = argparse.ArgumentParser(prog="python -m samples.demo", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("demo_out"), help="made anew (default: demo_out)")
    parser.add_argument("--steps", type=int, default=300, help="training steps (default: 300)")
    arguments = parser.parse_args(argv)
    out, console = arguments.out.resolve(), Console()
    if out.exists() and not (out / ".demo").exists() and (not out.is_dir() or any(out.iterdir())):
        print(f"error: {out} is not empty and not an earlier demo; name another folder with --out", file=sys.stderr)
        return 2
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    (out / ".demo").touch()
    started = time.monotonic()
    try:
        run_demo(out, arguments.steps, console)
    except subprocess.CalledProcessError:
        return 1
    console.print(closing_words(out, time.monotonic() - started), highlight=False, soft_wrap=True)
    return 0


def closing_words(out: Path, seconds: float) -> str:
    """Where the outputs lie and what to try next."""
    return f"""
[bold]Done in {seconds:.0f} s.[/bold] What lies where:
  {out}/rlds      unified RLDS, opens with tfds.builder_from_directory
  {out}/streams   training-ready streams with their manifests
  {out}/mix.yaml  the mixture
  {out}/run       checkpoints, metrics.jsonl, TensorBoard events

[bold]Try next:[/bold]
  python -m oxe_pipeline.inspect {out}/streams/metaworld_bridge --out {out}/report.html
  python -m oxe_pipeline.verify {out}/streams/metaworld_bridge
  python -m oxe_pipeline.mix --mixture {out}/mix.yaml --draw 100000
  python -m oxe_pipeline.train --out {out}/run --steps 600 --resume
  tensorboard --logdir {out}/run
  your own data: docs/add_a_dataset.md"""


if __name__ == "__main__":
    sys.exit(main())
