"""`python -m oxe_pipeline.eval RUN`: held-out error of a trained model in real units (oxe_pipeline/vla/evaluate.py)."""

import argparse
import json
import sys
from pathlib import Path

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options
from oxe_pipeline.train import DEVICES, INSTALL_HINT, find_device


def main(argv: list[str] | None = None) -> int:
    """0 after printing the results; 2 with one line on stderr for anything the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m oxe_pipeline.eval", description=__doc__.partition(":")[2])
    parser.add_argument("run", type=Path, help="run folder of oxe_pipeline.train, or one of its checkpoints")
    parser.add_argument("--mixture", type=Path, help="mixture file, where the run's own has moved")
    parser.add_argument("--max-windows", type=int, help="evenly spread windows per data set (default: all)")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    add_cache_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        import torch

        from oxe_pipeline.vla.evaluate import evaluate, results_record
        from oxe_pipeline.vla.trained import load_trained
    except ImportError:
        print(f"error: {INSTALL_HINT}", file=sys.stderr)
        return 2
    from oxe_pipeline.mixture.mixture import load_mixture

    try:
        trained = load_trained(arguments.run, device=find_device(arguments.device))
        mixture = load_mixture(arguments.mixture or trained.mixture_file, cache=cache_options(arguments))
        if trained.config.cpu_threads:
            torch.set_num_threads(trained.config.cpu_threads)
        results = evaluate(trained.model, mixture, trained.normalizers, max_windows=arguments.max_windows)
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        record = {"checkpoint": str(trained.folder), "step": trained.step, "datasets": results_record(results)}
        print(json.dumps(record, indent=1))
        return 0
    from rich.console import Console

    from oxe_pipeline.vla.report import result_table

    console = Console()
    console.print(f"{trained.folder}, step {trained.step}, {trained.model.num_parameters:,} parameters")
    for result in results:
        console.print(result_table(result))
    return 0


if __name__ == "__main__":
    sys.exit(main())
