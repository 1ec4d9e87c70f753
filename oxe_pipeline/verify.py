"""`python -m oxe_pipeline.verify STREAM [--images] [--json]`: checks a stream's hashes and counts."""

import argparse
import json
import sys
from dataclasses import asdict

from oxe_pipeline.stream.format import StreamError
from oxe_pipeline.stream.verify import verify_stream


def main(argv: list[str] | None = None) -> int:
    """Prints what was checked; 0 for a sound stream, 2 with one line a fault otherwise."""
    parser = argparse.ArgumentParser(prog="python -m oxe_pipeline.verify", description=__doc__)
    parser.add_argument("stream", help="folder or URL of the stream")
    parser.add_argument("--images", action="store_true", help="also look at the head and the end of every image")
    parser.add_argument("--json", action="store_true", help="machine-readable output")
    options = parser.parse_args(argv)
    try:
        found = verify_stream(options.stream, images=options.images)
    except (StreamError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(asdict(found), indent=1))
    else:
        checked = f", {found.images:,} images" if options.images else ""
        print(
            f"{found.stream}: {found.files} files, {found.bytes / 1e6:,.1f} MB, {found.episodes:,} episodes, "
            f"{found.steps:,} steps{checked}: {'sound' if not found.faults else f'{len(found.faults)} fault(s)'}; "
            f"identity {found.identity}"
        )
    for fault in found.faults:
        print(f"error: {fault}", file=sys.stderr)
    return 2 if found.faults else 0


if __name__ == "__main__":
    sys.exit(main())
