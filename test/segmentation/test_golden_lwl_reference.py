"""``compat: reference`` against the published program: its rules one by one, and whole streams."""

from __future__ import annotations

import re
from collections.abc import Callable

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from support.golden import Sampled, difference
from support.segmenters import segmentation_config

from vos_ros.segmentation.checkpoints import LWL_FORMAT
from vos_ros.segmentation.methods.lwl.reference import ReferenceLwl
from vos_ros.segmentation.methods.lwl.reference_rules import (
    WeightRule,
    box_mask,
    merge,
    sample_patch,
)
from vos_ros.segmentation.networks.lwl import LwlNet
from vos_ros.types import Box, Frame, Mask, Seed, Segmentation

Arrays = dict[str, np.ndarray | Sampled]
TOLERANCE = 1e-3  # of a probability; the streams' own floor is 2e-5
SAME = 0.999  # share of the pixels whose label is the same
CASE = re.compile(
    r"pos \((\S+),(\S+)\) sample_sz \((\S+),(\S+)\) out \((\d+),(\d+)\) mode (\w+) mask (\d)"
)


@pytest.mark.parametrize("case", range(8))
def test_golden_sample_patch(golden: Callable[[str], Arrays], case: int) -> None:
    arrays = golden("lwl/sample_patch")
    found = CASE.search(str(arrays["cases"][case]))
    assert found is not None
    y, x, h, w, out_h, out_w, mode, mask = found.groups()
    image, out = torch.from_numpy(arrays[f"im{case}"]), (int(out_h), int(out_w))
    patch, corners = sample_patch(
        image,
        (float(y), float(x)),
        (float(h), float(w)),
        out,
        inside=mode == "inside_major",
        mask=mask == "1",
    )
    assert difference(patch.numpy(), arrays[f"out{case}"]) < 2e-6
    assert [*corners.top_left, *corners.bottom_right] == arrays[f"coord{case}"][0].tolist()


@pytest.mark.parametrize("n", [1, 2, 5])
def test_golden_merge(golden: Callable[[str], Arrays], n: int) -> None:
    arrays = golden("lwl/merge")
    probs = merge(torch.from_numpy(arrays[f"scores{n}"]))
    assert difference(probs[1:].numpy(), arrays[f"prob{n}"]) < 2e-6
    assert np.array_equal(probs.argmax(0).numpy(), arrays[f"seg{n}"])


@pytest.mark.parametrize(
    ("name", "rule", "slots"),
    [
        ("lwl_ytvos_32", WeightRule(), 32),
        ("lwl_ytvos_4", WeightRule(), 4),
        ("lwl_boxinit_32", WeightRule(rate=0.2, min_first=0.0, even_start=True), 32),
    ],
)
def test_golden_memory_rule(
    golden: Callable[[str], Arrays], name: str, rule: WeightRule, slots: int
) -> None:
    arrays = golden("lwl/memory_rule")
    weights, previous = [1.0] + [0.0] * (slots - 1), None
    for t, slot in enumerate(arrays[f"{name}_slot"].tolist()):
        assert rule.slot(weights, min(t + 1, slots)) == slot
        weights = rule.update(weights, slot, previous)
        previous = slot
        assert np.allclose(weights, arrays[f"{name}_weights"][t + 1], atol=1e-6)


@pytest.mark.parametrize("case", range(4))
@torch.no_grad()
def test_golden_box_initialisation(
    golden: Callable[[str], Arrays], published: LwlNet, case: int
) -> None:
    arrays = golden("lwl/boxinit")
    image = torch.from_numpy(arrays["frame"]).permute(2, 0, 1)[None]
    mask = box_mask(tuple(arrays[f"box_{case}"].tolist()), (120, 200))
    assert np.array_equal(mask.numpy(), arrays[f"mask_full_{case}"])
    maps = published.extract(image, any_size=True)
    features = published.target_features(maps)
    assert difference(features.numpy(), arrays["tm_feat"]) < 1e-6
    encoding = published.encode_boxes(features, mask[None, None])
    assert difference(encoding.numpy(), arrays[f"enc_{case}"]) < 1e-5
    logits = published.decode(encoding, published.context(maps), (120, 200))
    assert difference(logits.numpy(), arrays[f"logits_{case}"]) < 5e-4


@pytest.fixture(scope="module")
def program(
    published: LwlNet, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[int], ReferenceLwl]:
    """``program(memory_size)``: the stream at the golden numbers' window size, 224x128."""
    path = tmp_path_factory.mktemp("published") / "recipe.safetensors"
    save_file(
        published.state_dict(),
        path,
        metadata={"format": LWL_FORMAT, "spec": published.spec.to_json()},
    )

    def build(memory_size: int) -> ReferenceLwl:
        lwl = {
            "model": str(path),
            "compat": "reference",
            "long_side": 224,
            "memory_size": memory_size,
        }
        return ReferenceLwl(segmentation_config(lwl=lwl))

    return build


def check(result: Segmentation, arrays: Arrays, t: int) -> None:
    assert float((result.labels() == arrays[f"seg_{t}"]).mean()) >= SAME
    for row, i in enumerate(result.object_ids, start=1):
        golden_probs = arrays[f"prob_{t}_{i}"]
        assert difference(result.probs[row].numpy(), golden_probs) < TOLERANCE, (
            f"frame {t}, object {i}"
        )


def check_places(tracker: ReferenceLwl, arrays: Arrays) -> None:
    for i, target in tracker.targets.items():
        assert target is not None
        key = f"{target.age}_{i}"
        if f"pos_{key}" in arrays:
            assert target.centre == pytest.approx(arrays[f"pos_{key}"].tolist(), abs=2e-3)
            assert target.scale == pytest.approx(float(arrays[f"scale_{key}"]), rel=1e-6)
            wanted = arrays[f"sample_w_{key}"].tolist()
            assert target.shares == pytest.approx(wanted, abs=1e-5)


@pytest.mark.parametrize(("name", "memory_size"), [("tracker_a", 32), ("tracker_b", 3)])
def test_golden_streams_from_masks(
    golden: Callable[[str], Arrays],
    program: Callable[[int], ReferenceLwl],
    make_frame: Callable[..., Frame],
    name: str,
    memory_size: int,
) -> None:
    arrays, tracker = golden(f"lwl/{name}"), program(memory_size)
    for t, rgb in enumerate(arrays["frames"]):
        frame = make_frame(t, *rgb.shape[:2], rgb=rgb)
        if t:
            result = tracker.step(frame)
        labels = arrays["labels"][t]
        new = [
            i
            for i in np.unique(labels).tolist()
            if i and i not in tracker.object_ids and f"prob_{t}_{i}" in arrays
        ]
        if new:
            result = tracker.seed(frame, [Seed(i, Mask(labels == i)) for i in new])
        check(result, arrays, t)
        check_places(tracker, arrays)
    for i, target in tracker.targets.items():
        assert target is not None
        assert difference(target.filters.numpy(), arrays[f"filter_last_{i}"]) < 3e-6


def test_golden_stream_from_a_box(
    golden: Callable[[str], Arrays],
    program: Callable[[int], ReferenceLwl],
    make_frame: Callable[..., Frame],
) -> None:
    arrays, tracker = golden("lwl/tracker_box"), program(32)
    x, y, w, h = arrays["box_1"]
    for t, rgb in enumerate(arrays["frames"]):
        frame = make_frame(t, *rgb.shape[:2], rgb=rgb)
        check(
            tracker.step(frame)
            if t
            else tracker.seed(frame, [Seed(1, Box(np.array([x, y, x + w, y + h], np.float32)))]),
            arrays,
            t,
        )
        check_places(tracker, arrays)
    (target,) = tracker.targets.values()
    assert target is not None
    assert difference(target.filters.numpy(), arrays["filter_last_1"]) < 3e-6
