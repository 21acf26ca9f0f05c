"""A small recorded world for the commands."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

H, W, F = 96, 128, 100.0
CX, CY = (W - 1) / 2, (H - 1) / 2
SQUARES = {
    1: (-0.35, -0.2, (220, 60, 40)),
    2: (0.05, -0.05, (40, 90, 220)),
}  # id: left, top (m, at z = 1), colour
SIDE = 0.3


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of our layout: two textured squares 1 m before a camera that drifts sideways, a wall
    2 m away, six frames, the truth.
    """
    root = tmp_path_factory.mktemp("recorded") / "squares"
    for name in ("color", "depth", "masks", "objects"):
        (root / name).mkdir(parents=True)
    texture = np.random.default_rng(0).integers(0, 60, (200, 200), np.uint8)
    rows, poses = ["index,stamp,color,depth,mask"], []
    u, v = np.meshgrid(np.arange(W), np.arange(H))
    for i in range(6):
        shift = 0.01 * i
        depth, mask = np.full((H, W), 2000, np.uint16), np.zeros((H, W), np.uint8)
        wall = np.stack([(u - CX) / F * 2 + shift, (v - CY) / F * 2], -1)
        rgb = 90 + np.repeat(
            texture[tuple((np.abs(wall * 40).astype(int) % 200).transpose(2, 1, 0))].T[:, :, None],
            3,
            2,
        )
        for object_id, (left, top, color) in SQUARES.items():
            x, y = (u - CX) / F + shift - left, (v - CY) / F - top
            on = (x >= 0) & (x < SIDE) & (y >= 0) & (y < SIDE)
            depth[on], mask[on] = 1000, object_id
            rgb[on] = (
                np.array(color)
                - texture[(y[on] * 90).astype(int), (x[on] * 90).astype(int)][:, None] // 2
            )
        cv2.imwrite(str(root / f"color/{i:06d}.png"), rgb[:, :, ::-1].astype(np.uint8))
        cv2.imwrite(str(root / f"depth/{i:06d}.png"), depth)
        Image.fromarray(mask, mode="L").save(root / f"masks/{i:06d}.png")
        rows.append(f"{i},{1 + i / 10:.6f},color/{i:06d}.png,depth/{i:06d}.png,masks/{i:06d}.png")
        poses.append(f"{1 + i / 10:.6f} {shift} 0 0 0 0 0 1")
    (root / "frames.csv").write_text("\n".join(rows) + "\n")
    (root / "poses.txt").write_text("\n".join(poses) + "\n")
    (root / "camera.json").write_text(
        json.dumps(
            {"fx": F, "fy": F, "cx": CX, "cy": CY, "width": W, "height": H, "depth_scale": 1000.0}
        )
    )
    entries = []
    grid = np.stack(
        [
            a.ravel()
            for a in np.meshgrid(np.arange(0.0025, SIDE, 0.005), np.arange(0.0025, SIDE, 0.005))
        ],
        1,
    )
    for object_id, (left, top, _) in SQUARES.items():
        points = np.column_stack([np.add(grid, (left, top)), np.ones(len(grid))]).astype("<f4")
        header = (
            f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n"
            "property float x\nproperty float y\nproperty float z\nend_header\n"
        )
        (root / f"objects/{object_id}.ply").write_bytes(header.encode() + points.tobytes())
        entries.append(
            {
                "id": object_id,
                "name": f"square_{object_id}",
                "class": "square",
                "ply": f"objects/{object_id}.ply",
                "bbox_min": points.min(0).tolist(),
                "bbox_max": points.max(0).tolist(),
            }
        )
    (root / "objects.json").write_text(json.dumps(entries))
    return root
