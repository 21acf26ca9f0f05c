"""``vos-ros weights``: convert foreign checkpoints, describe weights files, draw embeddings."""

from __future__ import annotations

import argparse
from typing import Any

_IMPORT = """\
A checkpoint of torch.save is a program that is executed when it is loaded. This reads its tensors
without executing anything, whatever classes it has: the published checkpoints of LWL (a training
state, of which the entry net is taken) and plain state dicts, in today's format or the one before
torch 1.6. A file that wants to call what no checkpoint needs is refused. A card is written beside
OUT.safetensors, OUT.card.json: source, checksums, keys, number of parameters, date. Where the
tensors are those of a known network, the file names it.

examples:
  vos-ros weights import lwl_ytvos.pth lwl_ytvos.safetensors
  vos-ros weights import training.pt --entry ema
"""
_SHOW = """\
examples:
  vos-ros weights show lwl_ytvos.pth            before importing it
  vos-ros weights show lwl_ytvos.safetensors    checks it against its card
"""
_PICTURE = """\
Below each image are the three principal components of all images' pixel embeddings, as red, green
and blue. Equal colours are equal features, also in different images.

examples:
  vos-ros weights picture meta-mnv2 out.png rgb/0000.png rgb/0050.png
  vos-ros weights picture embedding_mnv2.safetensors out.png FOLDER --most 8
"""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    top = subparsers.add_parser(
        "weights",
        help="convert and describe weights",
        description="Converts and describes weights; executes nothing of them.",
    )
    kinds = top.add_subparsers(dest="kind", metavar="KIND", required=True)
    p = kinds.add_parser(
        "import",
        help="a checkpoint of torch.save into safetensors",
        epilog=_IMPORT,
        description="Converts a checkpoint into safetensors without executing it.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("file", metavar="FILE", help="what torch.save wrote (.pth, .pt, .tar, ...)")
    p.add_argument(
        "out",
        nargs="?",
        metavar="OUT.safetensors",
        help="default: FILE with that ending; one of that name is replaced",
    )
    p.add_argument(
        "--entry",
        default="",
        metavar="NAME",
        help="where in the file the tensors are (default: net, state_dict, model, all)",
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p = kinds.add_parser(
        "show",
        help="the contents of a weights file",
        epilog=_SHOW,
        description="Prints the contents of a weights file.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument("file", metavar="FILE", help=".safetensors, or what torch.save wrote")
    p.add_argument("--json", metavar="FILE", help="write the figures there too")
    p = kinds.add_parser(
        "picture",
        help="images in the colours of their pixel embeddings",
        epilog=_PICTURE,
        description="Draws the pixel embeddings of images.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "file",
        metavar="WEIGHTS",
        help="of an embedding or of the method meta: .safetensors, or the name of shipped ones",
    )
    p.add_argument("out", metavar="OUT.png", help="the picture")
    p.add_argument(
        "images", nargs="+", metavar="IMAGE", help="images of one size, or a folder of them"
    )
    p.add_argument(
        "--most",
        type=int,
        default=6,
        metavar="N",
        help="of a folder's images, evenly spread (default: 6)",
    )
    p.add_argument(
        "--long-side",
        type=int,
        default=640,
        metavar="PX",
        help="longer side of the network's input (default: 640)",
    )


def run(args: argparse.Namespace) -> int:
    """Convert, describe or draw.

    Raises ValueError or OSError with a message for the user.
    """
    from dataclasses import asdict
    from pathlib import Path

    from vos_ros.cli.report import finish
    from vos_ros.segmentation.checkpoints import card_path, describe, import_checkpoint

    if args.kind == "show":
        finish(describe(args.file), args.json)
        return 0
    if args.kind == "picture":
        _picture(args)
        return 0
    target = Path(args.out) if args.out else Path(args.file).with_suffix(".safetensors")
    card = asdict(import_checkpoint(args.file, target, args.entry))
    del card["keys"]
    finish({**card, "network": card["network"] or "not known: a plain state dict"}, args.json)
    print(f"written: {target}, {card_path(target)}")
    return 0


def _picture(args: argparse.Namespace) -> None:
    """Draw images, and below each its embedding."""
    from pathlib import Path

    import numpy as np

    from vos_ros.datasets.images import read_color
    from vos_ros.segmentation.checkpoints import weights_file
    from vos_ros.segmentation.embedding_pictures import embed_images, read_embedding
    from vos_ros.sinks.embeddings import principal_colors
    from vos_ros.sinks.images import contact_sheet, write_png

    paths: list[Path] = []
    for word in map(Path, args.images):
        if word.is_dir():
            files = sorted(
                p for p in word.iterdir() if p.suffix.lower() in (".png", ".jpg", ".jpeg")
            )
            places = (
                np.linspace(0, len(files) - 1, min(max(args.most, 1), len(files)))
                .round()
                .astype(int)
            )
            paths += [files[i] for i in places]
        else:
            paths.append(word)
    if not paths:
        raise ValueError(f"no images in {', '.join(args.images)}: wanted .png or .jpg files")
    images = [read_color(p) for p in paths]
    features = embed_images(read_embedding(weights_file(args.file)), images, args.long_side)
    colors = principal_colors(features, (images[0].shape[0], images[0].shape[1]))
    out = Path(args.out)
    out.parent.mkdir(parents=True, exist_ok=True)
    write_png(
        out,
        contact_sheet([*images, *colors], columns=len(images), captions=[p.name for p in paths]),
    )
    print(
        f"written: {out} ({len(images)} images, {features.shape[-1]} dimensions, cells of"
        f" {features.shape[1]}x{features.shape[2]})"
    )
