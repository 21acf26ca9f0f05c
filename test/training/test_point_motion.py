"""Clips whose points are known: ways of points, and what hides them."""

from __future__ import annotations

import torch

from vos_ros.training.point_motion import Layer, Motion, draw_motion, render

SIZE = 65


def shifted(by: tuple[float, float], frames: int = 3) -> Motion:
    steps = torch.arange(frames)[:, None] * torch.tensor(by)
    still = torch.zeros(frames)
    return Motion(
        torch.tensor([32.0, 32.0]), steps, still, still + 1, torch.zeros(frames, 2),
        torch.zeros(2), torch.zeros(2),
    )  # fmt: skip


def test_backward_undoes_forward_and_frame_0_is_the_image() -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        motion = draw_motion(6, torch.tensor([30.0, 40.0]), 6.0, 50.0)
        points = torch.rand(20, 2) * 64
        there = motion.forward(points)
        torch.testing.assert_close(there[0], points, atol=1e-4, rtol=0)
        assert (there[-1] - points).norm(dim=1).mean() > 0.5
        back = motion.backward(there)
        torch.testing.assert_close(back, points.expand_as(back), atol=5e-2, rtol=0)


def test_points_are_where_their_pixels_are_drawn() -> None:
    torch.manual_seed(0)
    motion = draw_motion(5, torch.tensor([32.0, 32.0]), 4.0, 60.0)
    # a picture whose colours are its pixels' own coordinates
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    rgb = torch.stack([x, y, x * 0]).float()
    tracks = render([Layer(rgb, torch.ones(SIZE, SIZE), motion)], 40, 0)
    starts = tracks.points[0]
    checked = 0
    for t in range(1, 5):
        for k in range(40):
            column, row = tracks.points[t, k].round().long().tolist()
            if bool(tracks.visible[t, k]) and min(column, row) > 2 and max(column, row) < 62:
                shown = tracks.frames[t, :2, row, column]
                if (shown > 1).all() and (shown < 63).all():  # not in the mirrored border
                    assert (shown - starts[k]).norm() < 1.5
                    checked += 1
    assert checked > 20


def test_what_passes_in_front_hides_points() -> None:
    torch.manual_seed(1)
    mask = torch.zeros(SIZE, SIZE)
    mask[20:45, 0:20] = 1
    back = Layer(torch.full((3, SIZE, SIZE), 50.0), torch.ones(SIZE, SIZE), shifted((0, 0)))
    over = Layer(torch.full((3, SIZE, SIZE), 200.0), mask, shifted((15, 0)))
    tracks = render([back, over], 200, 1)
    on_it = (tracks.frames[0, 0, *tracks.points[0].long().flip(1).t()]) > 100
    assert on_it.sum() > 100
    torch.testing.assert_close(
        tracks.points[2, on_it], tracks.points[0, on_it] + torch.tensor([30.0, 0.0])
    )
    assert tracks.visible[:, on_it].all()
    others = ~on_it
    x, y = tracks.points[0, others].t()
    covered = (x > 31) & (x < 48) & (y > 21) & (y < 43)
    clear = (x > 52) | (y < 18) | (y > 47)
    assert covered.any() and not tracks.visible[2, others][covered].any()
    assert tracks.visible[:, others][:, clear].all()


def test_points_that_leave_the_image_are_not_visible() -> None:
    torch.manual_seed(2)
    layer = Layer(torch.zeros(3, SIZE, SIZE), torch.ones(SIZE, SIZE), shifted((20, 0)))
    tracks = render([layer], 100, 0)
    assert torch.equal(tracks.visible[2], tracks.points[2, :, 0] <= SIZE - 1)
    assert 10 < int(tracks.visible[2].sum()) < 90
