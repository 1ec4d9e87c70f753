"""`python -m oxe_pipeline.eval RUN`: held-out error of a trained model in real units (oxe_pipeline/vla/evaluate.py)."""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

from oxe_pipeline.cache_arguments import add_cache_arguments, cache_options
from oxe_pipeline.train import INSTALL_HINT, find_device
from oxe_pipeline.train_arguments import DEVICES


def main(argv: list[str] | None = None) -> int:
    """0 after printing the results; 2 with one line on stderr for anything the user can put right."""
    parser = argparse.ArgumentParser(prog="python -m oxe_pipeline.eval", description=__doc__.partition(":")[2])
    parser.add_argument("run", type=Path, help="run folder of oxe_pipeline.train, or one of its checkpoints")
    parser.add_argument("--mixture", type=Path, help="mixture file, where the run's own has moved")
    parser.add_argument("--max-windows", type=int, help="evenly spread windows per data set (default: all)")
    parser.add_argument("--language", action="store_true", help="also exchange the instructions: are they used?")
    parser.add_argument("--device", choices=DEVICES, default="cpu")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of tables")
    add_cache_arguments(parser)
    arguments = parser.parse_args(argv)
    try:
        import torch

        from oxe_pipeline.vla.evaluate import evaluate, results_record
        from oxe_pipeline.vla.language_use import language_use
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
        held_out = {
            "options": trained.config.batch_options(image_size=trained.model.backbone.image_size),
            "augment": trained.config.augment,
            "max_windows": arguments.max_windows,
        }
        results = evaluate(trained.model, mixture, trained.normalizers, **held_out)
        language = language_use(trained.model, mixture, trained.normalizers, **held_out) if arguments.language else []
    except (ValueError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if arguments.json:
        record = {
            "checkpoint": str(trained.folder),
            "step": trained.step,
            "num_parameters": trained.model.num_parameters,
            "datasets": results_record(results),
        }
        if arguments.language:
            record["language"] = {result.dataset: asdict(result) for result in language}
        print(json.dumps(record, indent=1))
        return 0
    from oxe_pipeline.terminal import console
    from oxe_pipeline.vla.latency import weight_bytes
    from oxe_pipeline.vla.report import language_table, result_table

    output = console()
    output.print(f"{trained.folder}, step {trained.step}, {weight_bytes(trained.model) / 1e6:.2f} MB of weights")
    for result in results:
        output.print(result_table(result))
    for used in language:
        output.print(language_table(used))
    return 0


if __name__ == "__main__":
    sys.exit(main())
