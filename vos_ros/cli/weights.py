"""``vos-ros weights``: foreign checkpoints into files that can be loaded without trust."""

from __future__ import annotations

import argparse
from typing import Any

_IMPORT = """\
A checkpoint of torch.save is a program that runs when it is loaded. This reads the tensors out of one without running anything, whatever
its classes are: the published checkpoints of LWL (a training state, of which the entry net is taken) and plain state dicts, in today's
format or the one before torch 1.6. A file that wants to call what no checkpoint needs is refused. Beside OUT.safetensors stands a card,
OUT.card.json: source, checksums, keys, number of parameters, date. Where the tensors are those of a known network, the file says so.

examples:
  vos-ros weights import lwl_ytvos.pth lwl_ytvos.safetensors
  vos-ros weights import training.pt --entry ema
"""
_SHOW = """\
examples:
  vos-ros weights show lwl_ytvos.pth            before importing it
  vos-ros weights show lwl_ytvos.safetensors    checks it against its card
"""


def add_parser(subparsers: Any) -> None:
    """Registers the command."""
    top = subparsers.add_parser("weights", help="convert and look at weights", description="Converts and looks at weights; runs nothing of"
                                " them.")
    kinds = top.add_subparsers(dest="kind", metavar="KIND", required=True)
    p = kinds.add_parser("import", help="a checkpoint of torch.save into safetensors", epilog=_IMPORT,
                         description="Converts a checkpoint into safetensors without running it.",
                         formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", metavar="FILE", help="what torch.save wrote (.pth, .pt, .tar, ...)")
    p.add_argument("out", nargs="?", metavar="OUT.safetensors", help="default: FILE with that ending; one of that name is replaced")
    p.add_argument("--entry", default="", metavar="NAME", help="where in the file the tensors are (default: net, state_dict, model, all)")
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p = kinds.add_parser("show", help="what a weights file holds", epilog=_SHOW, description="Says what a weights file holds.",
                         formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("file", metavar="FILE", help=".safetensors, or what torch.save wrote")
    p.add_argument("--json", metavar="FILE", help="write the figures there too")


def run(args: argparse.Namespace) -> int:
    """Converts or describes; ValueError or OSError with a message for people."""
    from dataclasses import asdict
    from pathlib import Path

    from vos_ros.cli.report import finish
    from vos_ros.segmentation.checkpoints import card_path, describe, import_checkpoint

    if args.kind == "show":
        finish(describe(args.file), args.json)
        return 0
    target = Path(args.out) if args.out else Path(args.file).with_suffix(".safetensors")
    card = asdict(import_checkpoint(args.file, target, args.entry))
    del card["keys"]
    finish({**card, "network": card["network"] or "not known: a plain state dict"}, args.json)
    print(f"written: {target}, {card_path(target)}")
    return 0
