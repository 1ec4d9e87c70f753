"""`python -m oxe_pipeline.export RUN --out DIR`: a smaller variant of a trained model, measured before it is written.

One table shows the original's and the variant's error in real units, latency and size. See
oxe_pipeline/vla/variants.py.
"""

import argparse
import json
import sys
from pathlib import Path

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options
from oxe_pipeline.train import INSTALL_HINT, find_device
from oxe_pipeline.train_arguments import DEVICES

WEIGHTS = ("fp32", "bf16", "int8", "int4", "nf4")


class ExportRefused(ValueError):
    """The variant is worse than was allowed; nothing was written."""


def parse(argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m oxe_pipeline.export", description=(__doc__ or "").partition(":")[2].partition("\n")[0]
    )
    parser.add_argument("run", type=Path, help="run folder of oxe_pipeline.train, or one of its checkpoints")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="folder of the variant: new or empty")
    parser.add_argument("--merge-lora", action="store_true", help="add the adapters into the layers they stand beside")
    parser.add_argument(
        "--weights", choices=WEIGHTS, default="fp32", help="form of the linear layers' weights (default: fp32)"
    )
    parser.add_argument("--mixture", type=Path, help="mixture file, where the run's own has moved")
    parser.add_argument("--max-windows", type=int, default=256, help="per data set, to measure on (default: 256)")
    parser.add_argument(
        "--max-error-growth",
        type=float,
        metavar="SHARE",
        help="write nothing if the held-out error grows by more than this share of the original's: 0.02",
    )
    parser.add_argument("--device", choices=DEVICES, default="cpu", help="where to measure (default: cpu)")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of the table")
    add_cache_arguments(parser)
    return parser.parse_args(argv)


def run(arguments: argparse.Namespace) -> None:
    """Makes, measures, prints, and writes. ValueError for anything that does not hold."""
    import torch

    from oxe_pipeline.mixture.mixture import load_mixture
    from oxe_pipeline.terminal import console
    from oxe_pipeline.vla.comparison import compare, comparison_record, comparison_table
    from oxe_pipeline.vla.trained import load_trained
    from oxe_pipeline.vla.variants import check_out, make_variant, write_variant

    check_out(arguments.out)
    original = load_trained(arguments.run, device=find_device(arguments.device))
    if original.config.cpu_threads:
        torch.set_num_threads(original.config.cpu_threads)
    variant = make_variant(original, merge=arguments.merge_lora, weights=arguments.weights)
    mixture = load_mixture(arguments.mixture or original.mixture_file, cache=cache_options(arguments))
    measured = compare({"original": original, "variant": variant}, mixture, max_windows=arguments.max_windows)
    kind = " + ".join([*(["LoRA merged"] if arguments.merge_lora else []), arguments.weights])
    if arguments.json:
        print(json.dumps({"out": str(arguments.out), **comparison_record(measured)}, indent=1))
    else:
        console().print(comparison_table(measured, f"{original.folder} as {kind}"))
    growth, most = measured.error_growth, arguments.max_error_growth
    if most is not None and not growth <= most:
        raise ExportRefused(f"the error grows by {growth:.1%}, more than {most:.1%}; nothing was written")
    write_variant(
        arguments.out,
        variant,
        source=original,
        merged=arguments.merge_lora,
        weights=arguments.weights,
        measured=comparison_record(measured),
    )
    if not arguments.json:
        print(f"{arguments.out}: written; error {growth:+.1%}")


def main(argv: list[str] | None = None) -> int:
    """0 when the variant is written; 2 with one line on stderr for anything the user can put right."""
    arguments = parse(argv)
    try:
        import safetensors  # noqa: F401
        import torch  # noqa: F401
    except ImportError:
        print(f"error: {INSTALL_HINT}", file=sys.stderr)
        return 2
    try:
        run(arguments)
    except (ValueError, OSError, ImportError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
