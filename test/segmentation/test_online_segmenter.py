"""The stream of online learners, with a method that counts its calls in place of a network."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence

import numpy as np
import pytest
import torch
from support.segmenters import segmentation_config

from vos_ros.segmentation.online_segmenter import Masks, OnlineSegmenter, PendingSamples, Weights
from vos_ros.types import Frame, Mask, Seed, Segmentation

H, W = 8, 12


class Recorder(OnlineSegmenter[str, str]):
    """Each object has one pixel, of the column of its position; ``calls`` is what was asked."""

    def __init__(self) -> None:
        super().__init__(segmentation_config(), update_every=2, min_confidence=0.5, max_error=0.1)
        self.ids: list[int] = []
        self.calls: list[object] = []
        self.quality = [0.9, 0.2]

    @property
    def object_ids(self) -> tuple[int, ...]:
        return tuple(self.ids)

    def _encode(self, frame: Frame) -> str:
        self.calls.append(f"encode {frame.index}")
        return f"encoding of {frame.index}"

    def _segment(self, frame: Frame, *, is_next: bool) -> Segmentation:
        self._encoding(frame)
        searched = [i for i in self.ids if self._is_searched(i)]
        self.calls.append(("segment", frame.index, is_next, searched))
        probs = torch.zeros((len(self.ids) + 1, H, W))
        probs[0] = 1
        for row, i in enumerate(self.ids, start=1):
            if i in searched:
                probs[0, 0, row], probs[row, 0, row] = 0, 1
        if is_next:
            self._mark_found(self.object_ids, probs)
            own = [i for i in self.ids if self._may_learn_own_mask(i)]
            if self._is_update_due() and own:
                quality = torch.tensor([self.quality] * len(own))
                self.pending.add_own(f"own {frame.index}", own, quality)
        return Segmentation(self.object_ids, probs)

    def _add_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        self.ids += list(masks)
        self.calls.append(("add", tuple(masks)))

    def _correct_objects(self, frame: Frame, masks: Masks, weights: Weights) -> None:
        self.pending.add_given(f"given {frame.index}", masks)

    def _remove_objects(self, object_ids: Collection[int]) -> None:
        self.ids = [i for i in self.ids if i not in object_ids]

    def _learn(
        self, samples: Sequence[tuple[str, frozenset[int]]], object_ids: Collection[int]
    ) -> None:
        self.calls.append(("learn", [(s, sorted(i)) for s, i in samples], sorted(object_ids)))

    def taken(self) -> list[object]:
        """The calls since this was asked last."""
        calls, self.calls = self.calls, []
        return calls


@pytest.fixture
def frame(make_frame: Callable[..., Frame]) -> Callable[[int], Frame]:
    frames = {i: make_frame(i, H, W) for i in range(30)}
    return frames.__getitem__


def square(x: int = 0, side: int = 3) -> Mask:
    mask = np.zeros((H, W), bool)
    mask[:side, x : x + side] = True
    return Mask(mask)


@pytest.fixture
def learner(frame: Callable[[int], Frame]) -> Recorder:
    """It follows objects 4 and 5 since frame 0."""
    out = Recorder()
    out.seed(frame(0), [Seed(4, square()), Seed(5, square(6))])
    out.taken()
    return out


def test_a_frame_is_encoded_once_and_segmented_once(
    learner: Recorder, frame: Callable[[int], Frame]
) -> None:
    learner.step(frame(1))
    learner.seed(frame(1), [Seed(9, square(9))])
    learner.update(frame(1), [Seed(4, square(1))])
    learner.update(frame(1), [Seed(5, square(7))])
    calls = learner.taken()
    assert calls == ["encode 1", ("segment", 1, True, [4, 5]), ("add", (9,))]


def test_given_masks_of_a_frame_stay_in_its_later_results(
    learner: Recorder, frame: Callable[[int], Frame]
) -> None:
    learner.step(frame(1))
    learner.seed(frame(1), [Seed(9, square(9))])
    learner.update(frame(1), [Seed(4, square(1))])
    labels = learner.update(frame(1), [Seed(5, square(3))]).labels()
    assert labels[0].tolist() == [0, 4, 4, 5, 5, 5, 0, 0, 0, 9, 9, 9]
    assert not labels[3:].any()


def test_a_frame_is_segmented_again_after_a_drop(
    learner: Recorder, frame: Callable[[int], Frame]
) -> None:
    learner.step(frame(1))
    learner.taken()
    learner.drop([4])
    result = learner.update(frame(1), [Seed(5, square(2))])
    assert learner.taken() == [("segment", 1, False, [5])]
    assert result.object_ids == (5,) and (result.labels()[:3, 2:5] == 5).all()
    learner.drop([])
    learner.update(frame(1), [Seed(5, square(2))])
    assert learner.taken() == []


def test_samples_are_learned_before_the_next_frame_is_segmented(
    learner: Recorder, frame: Callable[[int], Frame]
) -> None:
    for i in (1, 2):
        learner.step(frame(i))
    learner.taken()
    learner.step(frame(3))
    assert learner.taken() == [
        ("learn", [("own 2", [4, 5])], [4, 5]),
        "encode 3",
        ("segment", 3, True, [4, 5]),
    ]


def test_learning_early_is_learning_once(learner: Recorder, frame: Callable[[int], Frame]) -> None:
    for i in (1, 2):
        learner.step(frame(i))
    learner.taken()
    learner.learn_pending()
    learner.learn_pending()
    assert learner.taken() == [("learn", [("own 2", [4, 5])], [4, 5])]
    learner.step(frame(3))
    assert learner.taken()[0] == "encode 3"


def test_corrected_objects_learn_no_own_masks_for_two_periods(
    learner: Recorder, frame: Callable[[int], Frame]
) -> None:
    learned = []
    for i in range(1, 9):
        learner.step(frame(i))
        if i == 2:
            learner.update(frame(2), [Seed(4, square(1))])
        learner.learn_pending()
        learned += [(i, c[1]) for c in learner.taken() if c[0] == "learn"]
    assert learned == [
        (2, [("own 2", [5]), ("given 2", [4])]),
        (4, [("own 4", [5])]),
        (6, [("own 6", [5])]),
        (8, [("own 8", [4, 5])]),
    ]


def test_an_object_reported_out_of_view_is_searched_on_one_frame_in_eight(
    learner: Recorder, frame: Callable[[int], Frame]
) -> None:
    learner.step(frame(1))
    learner.update(frame(1), [Seed(4, Mask(np.zeros((H, W), bool)))])
    learner.taken()
    searched = []
    for i in range(2, 14):
        learner.step(frame(i))
        searched += [(i, c[3]) for c in learner.taken() if c[0] == "segment"]
    # 4 + 4 is divisible by eight; it is found there, and followed from then on
    assert searched == [(i, [5] if i < 4 else [4, 5]) for i in range(2, 14)]


def test_a_correction_with_a_mask_ends_an_absence(
    learner: Recorder, frame: Callable[[int], Frame]
) -> None:
    learner.step(frame(1))
    learner.update(frame(1), [Seed(4, Mask(np.zeros((H, W), bool)))])
    learner.update(frame(1), [Seed(4, square())])
    learner.taken()
    learner.step(frame(2))
    assert ("segment", 2, True, [4, 5]) in learner.taken()


def test_what_belongs_to_a_dropped_object_is_forgotten(
    learner: Recorder, frame: Callable[[int], Frame]
) -> None:
    learner.step(frame(1))
    learner.step(frame(2))
    learner.update(frame(2), [Seed(4, Mask(np.zeros((H, W), bool)))])
    learner.drop([4])
    learner.seed(frame(2), [Seed(4, square())])
    learner.taken()
    learner.step(frame(3))
    calls = learner.taken()
    assert calls[0] == ("learn", [("own 2", [5])], [5])
    assert calls[-1] == ("segment", 3, True, [5, 4]), "the new object 4 is not absent"


def quality(*rows: tuple[float, float]) -> torch.Tensor:
    return torch.tensor(rows)


def test_own_masks_are_remembered_where_confident_and_learned_where_missed() -> None:
    pending: PendingSamples[str] = PendingSamples()
    pending.add_own("a", [1, 2, 3], quality((0.5, 0.9), (0.49, 0.9), (0.8, 0.125)))
    samples, learned = pending.take(0.5, 0.125)
    assert samples == [("a", frozenset({1, 3}))] and learned == {1}
    assert pending.take(0.5, 0.1) == ([], frozenset())


def test_given_samples_are_learned_whatever_their_own_masks_were_worth() -> None:
    pending: PendingSamples[str] = PendingSamples()
    pending.add_own("own", [1, 2], quality((0.1, 0.0), (0.1, 0.0)))
    pending.discard(1)
    pending.add_given("given", [1])
    assert pending.take(0.5, 0.1) == ([("given", frozenset({1}))], frozenset({1}))


def test_marked_objects_are_learned_without_a_sample_until_forgotten() -> None:
    pending: PendingSamples[str] = PendingSamples()
    for i in (1, 2, 3):
        pending.mark(i)
    pending.discard(1)
    pending.forget(2)
    assert pending.take(0.0, 0.0) == ([], frozenset({1, 3}))
