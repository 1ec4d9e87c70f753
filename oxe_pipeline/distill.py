"""`python -m oxe_pipeline.distill TEACHER --preset NAME --mixture FILE --out RUN`: a model taught by a trained one.

Takes every option of `python -m oxe_pipeline.train`, and leaves an ordinary run behind. See
oxe_pipeline/vla/distill.py.
"""

import argparse
import json
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from oxe_pipeline import train
from oxe_pipeline.train_arguments import parse

if TYPE_CHECKING:
    import torch

    from oxe_pipeline.vla.distill import Teacher


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Those that training alone does not have."""
    group = parser.add_argument_group("distillation")
    group.add_argument(
        "teacher", type=Path, nargs="?", metavar="TEACHER", help="run folder of the teacher, or one of its checkpoints"
    )
    group.add_argument(
        "--mix-labels", type=float, metavar="SHARE", help="of samples that keep their recorded action (default: 0)"
    )
    group.add_argument("--max-windows", type=int, default=256, help="per data set, for the final table (default: 256)")
    group.add_argument("--json", action="store_true", help="the final table as one JSON object")


def make_teacher(arguments: argparse.Namespace, start: train.Start, device: "torch.device") -> "Teacher":
    """The teacher that was named, or that a resumed run has; ValueError for one that does not fit the run."""
    from oxe_pipeline.vla.distill import Teacher
    from oxe_pipeline.vla.trained import load_trained

    if start.checkpoint is None:
        if arguments.teacher is None:
            raise train.UsageError("name the run of the teacher: python -m oxe_pipeline.distill TEACHER ...")
        folder, share = arguments.teacher, arguments.mix_labels or 0.0
    else:
        if arguments.teacher is not None or arguments.mix_labels is not None:
            raise train.UsageError(f"the teacher is settled by the run in {arguments.out}; leave it out to resume")
        saved = start.checkpoint.state.get("teacher")
        if saved is None:
            raise train.UsageError(f"{arguments.out} has no teacher; resume it with `python -m oxe_pipeline.train`")
        folder, share = Path(saved["folder"]), saved["label_share"]
    return Teacher(load_trained(folder, device=device), start.config, start.mixture, label_share=share)


def print_comparison(arguments: argparse.Namespace) -> None:
    """The student beside its teacher on held-out windows; a line where nothing is held out."""
    from oxe_pipeline.cache_arguments import cache_options
    from oxe_pipeline.mixture.mixture import load_mixture
    from oxe_pipeline.terminal import console
    from oxe_pipeline.vla.checkpoint import read_state
    from oxe_pipeline.vla.comparison import compare, comparison_record, comparison_table
    from oxe_pipeline.vla.trained import load_trained

    device = train.find_device(arguments.device)
    student = load_trained(arguments.out, device=device)
    teacher = load_trained(Path(read_state(student.folder)["teacher"]["folder"]), device=device)
    mixture = load_mixture(student.mixture_file, cache=cache_options(arguments))
    if not any(dataset.stream.episodes.split_is("val").any() for dataset in mixture.datasets):
        print("no held-out episode to measure the student by")
        return
    measured = compare({"teacher": teacher, "student": student}, mixture, max_windows=arguments.max_windows)
    if arguments.json:
        print(json.dumps(comparison_record(measured), indent=1))
    else:
        console().print(comparison_table(measured, f"{student.folder} beside its teacher {teacher.folder}"))


def main(argv: list[str] | None = None) -> int:
    """0 when all steps are done and the table is printed; 2 with one line on stderr for anything the user can put
    right."""
    description = (__doc__ or "").partition(":")[2].partition("\n")[0]
    arguments = parse(argv, description=description, prog="python -m oxe_pipeline.distill", extend=add_arguments)
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        print(f"error: {train.INSTALL_HINT}", file=sys.stderr)
        return 2
    from oxe_pipeline.vla.distributed import World
    from oxe_pipeline.vla.train_loop import TrainingError

    environment = dict(os.environ)
    try:
        train.run(arguments, environment, teacher_of=lambda start, device: make_teacher(arguments, start, device))
        if World.from_environment(environment).leads:
            print_comparison(arguments)
    except (ValueError, TrainingError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print(train.stopped(arguments.out), file=sys.stderr)
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
