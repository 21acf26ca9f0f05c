"""The command ``vos-ros``: find the subcommand and run it.

Nothing heavy is imported before that.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

COMMANDS = {
    "demo": "render a synthetic sequence, run the node on it over DDS, show what came out",
    "replay": "run the pipeline over every frame of a recording and write a bag of results",
    "convert": "turn a recorded folder (ours, TUM RGB-D, 7-Scenes) into a bag",
    "slam": "track the camera of a recording by its colour and depth",
    "train": "train a segmenter's networks on videos and stills",
    "eval": "score results against ground truth",
    "weights": "convert foreign checkpoints safely, and say what is in them",
    "bench": "time the parts of the pipeline on this machine",
}
_EPILOG = """\
from a recorded folder to a score:
  vos-ros convert FOLDER run.mcap                    a recorded folder as a bag, map included
  vos-ros replay run.mcap out.mcap --json run.json   masks and associations of every frame
  vos-ros eval bag out.mcap --truth FOLDER           mean IoU, association accuracy, id switches

vos-ros COMMAND --help has the details.
"""


def parser(command: str = "") -> argparse.ArgumentParser:
    """Return the parser; only ``command`` is filled in, of the others it has the names."""
    top = argparse.ArgumentParser(
        prog="vos-ros",
        description="Instance masks and data association for SLAM by video object segmentation.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    from vos_ros import __version__

    top.add_argument("--version", action="version", version=f"vos-ros {__version__}")
    subparsers = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        if name == command:
            importlib.import_module(f"vos_ros.cli.{name}").add_parser(subparsers)
        else:
            subparsers.add_parser(name, help=text)
    return top


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line.

    Returns the exit status: 0 done, 1 failed (the reason is on stderr), 2 wrong usage, 130
    interrupted.
    """
    words = list(sys.argv[1:] if argv is None else argv)
    command = next((w for w in words if w in COMMANDS), "")
    args = parser(command).parse_args(words)
    try:
        return int(importlib.import_module(f"vos_ros.cli.{args.command}").run(args))
    except KeyboardInterrupt:
        print("vos-ros: interrupted", file=sys.stderr)
        return 130
    except BrokenPipeError:
        return 1
    except (ValueError, OSError) as e:
        print(f"vos-ros {args.command}: {e}", file=sys.stderr)
        return 1
    except (MemoryError, RuntimeError) as e:
        from vos_ros.segmentation.out_of_memory import is_out_of_memory

        if not is_out_of_memory(e):
            raise
        print(
            f"vos-ros {args.command}: memory is full ({type(e).__name__}: {e}). Free memory, take"
            " smaller or fewer objects or images (tracking.max_objects), or another device",
            file=sys.stderr,
        )
        return 1


if __name__ == "__main__":
    sys.exit(main())
