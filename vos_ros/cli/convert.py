"""``vos-ros convert``: a recorded folder as a bag for a node, ``vos-ros replay`` or RViz."""

from __future__ import annotations

import argparse
from typing import Any

_EPILOG = """\
The bag holds, all of a frame at its stamp:
  /camera/color/image_raw      sensor_msgs/Image rgb8
                               (with --compressed: /camera/color/image_raw/compressed with
                               the folder's own files)
  /camera/depth/image_raw      sensor_msgs/Image 16UC1, mm, registered to the colour image
  /camera/color/camera_info    sensor_msgs/CameraInfo
  /tf                          the camera in the map frame
  /pose                        the same as geometry_msgs/PoseWithCovarianceStamped
  /map_objects                 vos_ros/MapObjectArray, latched, where the folder has an objects.json

examples:
  vos-ros convert kitchen kitchen.mcap
  vos-ros convert rgbd_dataset_freiburg1_desk desk.mcap --compressed --stop 100
"""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    p = subparsers.add_parser(
        "convert",
        help="turn a recorded folder (ours, TUM RGB-D, 7-Scenes) into a bag",
        epilog=_EPILOG,
        description="Turns a recorded folder into an MCAP bag, its object map included.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    p.add_argument(
        "src", metavar="SRC", help="folder: frames.csv + camera.json (ours), TUM RGB-D, or 7-Scenes"
    )
    p.add_argument(
        "out",
        metavar="OUT.mcap",
        help="bag to write; one of that name is replaced when the new one is whole",
    )
    p.add_argument(
        "--layout",
        default="auto",
        metavar="NAME",
        help="data set of SRC, e.g. ours, tum, 7scenes (default: auto, recognise it by its files)",
    )
    p.add_argument(
        "--compressed",
        action="store_true",
        help="colour as CompressedImage: the image files as they are",
    )
    p.add_argument("--start", type=int, default=0, metavar="N", help="first frame (default: 0)")
    p.add_argument(
        "--stop", type=int, metavar="N", help="frame before which to stop (default: the end)"
    )
    p.add_argument(
        "--camera-frame",
        default="camera_color_optical_frame",
        metavar="NAME",
        help="frame_id of the images (%(default)s)",
    )
    p.add_argument(
        "--map-frame", default="map", metavar="NAME", help="frame of poses and map (%(default)s)"
    )
    p.add_argument("--json", metavar="FILE", help="write the figures there too")


def run(args: argparse.Namespace) -> int:
    """Convert. Raises ValueError or OSError with a message for people."""
    from tqdm import tqdm

    from vos_ros.cli.report import finish
    from vos_ros.datasets.source import open_recording
    from vos_ros.sinks.mcap import McapFile
    from vos_ros.sinks.recording import Recorder
    from vos_ros.types import MapUpdate

    source = open_recording(args.src, args.layout, slice(args.start, args.stop))
    frames, objects, poses = 0, 0, 0
    with McapFile(args.out, {"source": source.sequence.name}) as file:
        recorder = Recorder(file, args.camera_frame, args.map_frame)
        for item in tqdm(source, total=len(source), unit="frame", desc="converting", disable=None):
            if isinstance(item, MapUpdate):
                objects += len(item.objects)
                recorder.map_update(item)
            else:
                recorder.frame(item, source.color_file(item.index) if args.compressed else None)
                frames, poses = frames + 1, poses + (item.T_map_camera is not None)
    finish(
        {
            "frames": frames,
            "frames_with_pose": poses,
            "map_objects": objects,
            "size_mb": round(file.path.stat().st_size / 1e6, 3),
        },
        args.json,
    )
    return 0
