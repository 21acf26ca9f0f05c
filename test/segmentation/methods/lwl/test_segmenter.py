"""What is particular to ``lwl`` with trained networks (a stand-in here); what every segmenter must
do is in ``test_contract``.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from support.segmenters import segmentation_config

from vos_ros.config import ConfigError
from vos_ros.segmentation import checkpoints
from vos_ros.segmentation.checkpoints import LWL_FORMAT, weights_file
from vos_ros.segmentation.methods.lwl import create
from vos_ros.segmentation.methods.lwl.plain import PlainLwl
from vos_ros.segmentation.methods.lwl.reference import ReferenceLwl
from vos_ros.segmentation.methods.lwl.segmenter import Lwl
from vos_ros.types import Box, Frame, Mask, Seed

H, W = 96, 128
RED, BLUE = (220, 40, 40), (40, 60, 225)
Build = Callable[..., Lwl]


@pytest.fixture
def build(stand_in_file: Callable[..., Path]) -> Build:
    def make(**fields: object) -> Lwl:
        quick = {
            "long_side": 256,
            "precision": "fp32",
            "update_every": 1,
            "update_error": 0.0,
            "memory_size": 4,
        }
        known = {"model": str(stand_in_file()), **quick}
        return Lwl(segmentation_config(lwl={**known, **fields}))  # type: ignore[arg-type]

    return make


def square(x: int, y: int = 30, side: int = 34) -> np.ndarray:
    mask = np.zeros((H, W), bool)
    mask[y : y + side, x : x + side] = True
    return mask


def iou(a: np.ndarray, b: np.ndarray) -> float:
    return float((a & b).sum() / max((a | b).sum(), 1))


@pytest.mark.parametrize("crop", ["shared", "per_object", "auto"])
def test_moving_objects_are_followed_and_told_apart(
    build: Build, draw: Callable[..., Frame], crop: str, precision: str
) -> None:
    lwl = build(crop=crop, precision=precision)
    lwl.seed(
        draw(0, [(square(6), RED), (square(86), BLUE)]),
        [Seed(5, Mask(square(6))), Seed(2, Mask(square(86)))],
    )
    for i in range(1, 12):
        labels = lwl.step(draw(i, [(square(6 + 2 * i), RED), (square(86), BLUE)])).labels()
    assert iou(labels == 5, square(28)) > 0.7
    assert iou(labels == 2, square(86)) > 0.7


def test_the_backbone_runs_once_per_frame_for_all_objects(
    build: Build, draw: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    lwl = build(crop="shared")
    calls: list[int] = []
    real = lwl.model.encode_image
    monkeypatch.setattr(
        lwl.model, "encode_image", lambda images: (calls.append(len(images)), real(images))[1]
    )
    frame = draw(0, [(square(6), RED), (square(86), BLUE)])
    lwl.seed(frame, [Seed(5, Mask(square(6)))])
    lwl.seed(frame, [Seed(2, Mask(square(86)))])
    assert calls == [1]
    frame = draw(1, [(square(6), RED), (square(86), BLUE)])
    lwl.step(frame)
    lwl.update(frame, [Seed(5, Mask(square(6)))])
    assert calls == [1, 1]


def test_auto_gives_one_object_a_window_and_several_the_image(
    build: Build, draw: Callable[..., Frame]
) -> None:
    lwl = build(crop="auto", search_scale=2.0)
    lwl.seed(draw(0, [(square(6), RED)]), [Seed(5, Mask(square(6)))])
    frame = draw(1, [(square(8), RED), (square(86), BLUE)])
    lwl.step(frame)
    assert lwl.features(frame) is None, "the whole image was encoded for one object"
    lwl.seed(frame, [Seed(2, Mask(square(86)))])
    for i in range(2, 5):
        frame = draw(i, [(square(6 + 2 * i), RED), (square(86), BLUE)])
        labels = lwl.step(frame).labels()
    assert lwl.features(frame) is not None
    assert iou(labels == 5, square(14)) > 0.6 and iou(labels == 2, square(86)) > 0.6


def test_a_window_on_a_small_object_shows_it_larger(
    build: Build, draw: Callable[..., Frame]
) -> None:
    """At 16 px per cell of the target model an object of 12 px is nothing; its window is scaled to
    the networks' size.
    """
    small = square(60, 40, 12)

    def found(crop: str) -> float:
        lwl = build(crop=crop, long_side=224, search_scale=2.0)
        lwl.seed(draw(0, [(small, RED)]), [Seed(5, Mask(small))])
        return iou(lwl.step(draw(1, [(small, RED)])).labels() == 5, small)

    assert found("per_object") > 0.5 > found("shared")


def test_a_look_alike_outside_the_window_is_not_taken_for_the_object(
    build: Build, draw: Callable[..., Frame]
) -> None:
    own, twin = square(4, 4, 26), square(98, 66, 26)
    for crop in ("shared", "per_object"):
        lwl = build(crop=crop, search_scale=2.0, long_side=384)
        lwl.seed(draw(0, [(own, RED)]), [Seed(5, Mask(own))])
        for i in range(1, 4):
            labels = lwl.step(draw(i, [(own, RED), (twin, RED)])).labels()
        assert iou(labels == 5, own) > 0.5
        assert not (labels[60:, 90:] == 5).any()


def test_an_object_that_comes_back_elsewhere_is_found_again(
    build: Build, draw: Callable[..., Frame]
) -> None:
    lwl = build(search_scale=2.0)
    here, there = square(4, 4, 30), square(90, 60, 30)
    lwl.seed(draw(0, [(here, RED)]), [Seed(5, Mask(here))])
    for i in range(1, 6):
        lwl.step(draw(i, []))
    for i in range(6, 9):
        labels = lwl.step(draw(i, [(there, RED)])).labels()
    assert iou(labels == 5, there) > 0.5


def test_a_frame_in_which_the_object_is_not_found_teaches_nothing(
    build: Build, draw: Callable[..., Frame]
) -> None:
    lwl = build(min_confidence=0.6)
    lwl.seed(draw(0, [(square(40), RED)]), [Seed(5, Mask(square(40)))])
    for i in range(1, 5):
        lwl.step(draw(i, [(square(40), RED)] if i < 3 else []))
    lwl.step(draw(5, []))
    assert [s.time for s in lwl.memory.samples_of(5)] == [0, 1, 2]


def test_learning_is_spent_where_the_target_model_misses(
    build: Build, draw: Callable[..., Frame]
) -> None:
    def learned(update_error: float) -> list[bool]:
        lwl = build(update_error=update_error)
        lwl.seed(draw(0, [(square(40), RED)]), [Seed(5, Mask(square(40)))])
        changed = []
        for i in range(1, 5):
            before = lwl.filters[5]
            lwl.step(draw(i, [(square(40), RED)]))
            changed.append(not torch.equal(lwl.filters[5], before))
        return changed

    assert learned(0.0) == [False, True, True, True]
    assert learned(1.0) == [False, False, False, False]


def test_a_box_goes_through_the_box_encoder_where_there_is_one(
    build: Build, draw: Callable[..., Frame], stand_in_file: Callable[..., Path]
) -> None:
    """The stand-in's says that all of the box is the object, GrabCut would say that the red part
    is.
    """
    frame = draw(0, [(square(40), RED)])
    box = Box(np.array([20, 20, 100, 80], np.float32))
    with_encoder, without = build(model=str(stand_in_file(box_encoder=True))), build()
    whole = iou(
        with_encoder.seed(frame, [Seed(5, box)]).labels() == 5,
        square(20, 20, 60) | square(40, 20, 60),
    )  # x 20..100, y 20..80
    assert whole > 0.8
    assert iou(without.seed(frame, [Seed(5, box)]).labels() == 5, square(40)) > 0.9


def test_what_has_weight_zero_teaches_nothing(build: Build, draw: Callable[..., Frame]) -> None:
    """A seed whose mask is far too wide: with the rim as don't-care the object is found better than
    without.
    """
    frame, after = draw(0, [(square(40), RED)]), draw(1, [(square(40), RED)])
    wide = square(16, 6, 82)
    weight = np.where(wide & ~square(40), 0, 1).astype(np.float32)
    with_weight, without = build(), build()
    with_weight.seed(frame, [Seed(5, Mask(wide), weight)])
    without.seed(frame, [Seed(5, Mask(wide))])
    good, bad = (iou(m.step(after).labels() == 5, square(40)) for m in (with_weight, without))
    assert good > bad + 0.1


def test_corrected_objects_do_not_teach_themselves(
    build: Build, draw: Callable[..., Frame]
) -> None:
    lwl = build(iterations_update=10)
    both = [(square(6), RED), (square(86), BLUE)]
    lwl.seed(draw(0, both), [Seed(5, Mask(square(6)))])
    for i in range(1, 7):
        frame = draw(i, both)
        lwl.step(frame)
        lwl.update(frame, [Seed(5, Mask(square(86)))])
    labels = lwl.step(draw(7, both)).labels()
    assert iou(labels == 5, square(86)) > 0.4
    columns = [int(s.labels[5][0].float().sum(0).argmax()) for s in lwl.memory.samples_of(5)]
    assert columns[0] < 5 and all(c > 8 for c in columns[1:])


def test_forty_objects_and_none(build: Build, draw: Callable[..., Frame]) -> None:
    lwl = build(long_side=128)
    frame = draw(0, [])
    lwl.seed(
        frame, [Seed(i + 1, Mask(square(12 * (i % 10), 20 * (i // 10), 10))) for i in range(40)]
    )
    result = lwl.step(draw(1, []))
    assert result.probs.shape == (41, H, W) and torch.allclose(
        result.probs.sum(0), torch.ones(H, W), atol=1e-3
    )
    lwl.drop(lwl.object_ids)
    assert lwl.step(draw(2, [])).probs.shape == (1, H, W)


def test_windows_of_the_decoder_give_what_the_whole_image_gives(
    build: Build, draw: Callable[..., Frame], monkeypatch: pytest.MonkeyPatch
) -> None:
    """On CPUs the decoder works on search windows alone.

    The stand-in looks no farther than a window, so nothing may change.
    """

    def last(max_window_area: float) -> torch.Tensor:
        lwl = build(crop="shared", search_scale=2.0)
        lwl.model.max_window_area, lwl.model.min_window_units = max_window_area, 3
        lwl.seed(
            draw(0, [(square(6), RED), (square(86), BLUE)]),
            [Seed(5, Mask(square(6))), Seed(2, Mask(square(86)))],
        )
        return lwl.step(draw(1, [(square(8), RED), (square(86), BLUE)])).probs

    assert float((last(0.99) - last(0.0)).abs().max()) < 1e-3


def test_the_models_are_chosen_by_the_configuration(stand_in_file: Callable[..., Path]) -> None:
    features = {"long_side": 96, "channels": 16}

    def made(**fields: object) -> object:
        return create(segmentation_config(features=features, lwl=fields))  # type: ignore[arg-type]

    assert type(made(model="plain")) is PlainLwl
    assert type(made(model=str(stand_in_file()))) is Lwl
    assert type(made(model=str(stand_in_file()), compat="reference")) is ReferenceLwl


def test_weights_that_cannot_be_used_are_refused(
    build: Build, stand_in_file: Callable[..., Path], tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match=r"segmentation.lwl.model: .*no such file"):
        build(model=str(tmp_path / "none.safetensors"))
    with pytest.raises(ConfigError, match="sha256"):
        build(sha256="00" * 32)
    state = load_file(stand_in_file())
    spec = '{"backbone": "mobilenet_v2"}'
    for metadata, message in (
        ({}, "names no network of this method"),
        ({"format": LWL_FORMAT}, "specification"),
        ({"format": LWL_FORMAT, "spec": spec}, "state_dict|size mismatch"),
    ):
        path = tmp_path / "odd.safetensors"
        save_file(state, path, metadata=metadata)
        with pytest.raises(ConfigError, match=message):
            build(model=str(path))


def test_a_name_without_a_folder_is_that_of_shipped_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoints, "SHIPPED_WEIGHTS", tmp_path)
    (tmp_path / "small.safetensors").touch()
    assert weights_file("small") == tmp_path / "small.safetensors"
    assert weights_file("other") == Path("other") and weights_file("a/small.safetensors") == Path(
        "a/small.safetensors"
    )


@pytest.mark.slow
@pytest.mark.timeout(900)
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiled_networks_give_the_same(build: Build, draw: Callable[..., Frame]) -> None:
    both = [(square(6), RED), (square(86), BLUE)]

    def last(compiled: bool) -> torch.Tensor:
        lwl = build(compile=compiled, crop="shared", long_side=128)
        lwl.seed(draw(0, both), [Seed(5, Mask(square(6))), Seed(2, Mask(square(86)))])
        return [lwl.step(draw(i, both)).probs for i in range(1, 4)][-1]

    assert float((last(True) - last(False)).abs().max()) < 1e-3
