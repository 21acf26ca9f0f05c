"""Every stage of the network, the learner and a training step against the reference's numbers,
within ten times what float32 differs from float64 there (``stage_tolerances.txt``).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from support.golden import Sampled, at_samples, difference, key_shapes, stage_tolerances
from support.recipes import fill, lwl_weight

from vos_ros.segmentation.networks.learner import Samples, apply_filters, loss, steepest_descent
from vos_ros.segmentation.networks.lwl import SPECS, LwlNet
from vos_ros.training.interface import Batch
from vos_ros.training.losses import lovasz
from vos_ros.training.tasks import LwlOptions, LwlTask

Arrays = dict[str, np.ndarray | Sampled]


@pytest.fixture(scope="module")
def stages(golden: Callable[[str], Arrays]) -> Arrays:
    return golden("lwl/lwl_stages")


@pytest.fixture(scope="module")
def near(stages: Arrays) -> Callable[[str, torch.Tensor], None]:
    """``near(name, ours)``: fails where a stage is farther from the reference than ten times its
    line.
    """
    tolerance = stage_tolerances()

    def check(name: str, ours: torch.Tensor) -> None:
        farthest = difference(ours.detach().numpy(), stages[name])
        assert farthest <= 10 * tolerance[name], (
            f"{name}: {farthest:.3g}, allowed 10 x {tolerance[name]:.3g}"
        )

    return check


def frames(stages: Arrays, *index: int) -> torch.Tensor:
    return torch.from_numpy(stages["frames"][list(index)]).permute(0, 3, 1, 2)


def masks(stages: Arrays, *index: int) -> torch.Tensor:
    return torch.from_numpy((stages["labels"][list(index)] == 1).astype(np.float32))[:, None]


def mean_square(net: LwlNet, filters: torch.Tensor, block: Samples) -> float:
    """The reference's figure for eq. (3): the mean over all residuals and regularisers."""
    return float(
        2 * loss(filters, [block], net.ridge)[0] / (block.labels.numel() + filters.numel())
    )


@pytest.mark.golden
def test_golden_names_and_shapes() -> None:
    ours = {
        k: (tuple(v.shape), str(v.dtype).removeprefix("torch."))
        for k, v in LwlNet(SPECS["resnet50_box"]).state_dict().items()
    }
    assert ours == key_shapes("lwl/state_dict_keys.txt")
    assert len(LwlNet(SPECS["resnet50"]).state_dict()) == 480


@torch.no_grad()
def test_golden_features_and_labels(
    published: LwlNet, stages: Arrays, near: Callable[[str, torch.Tensor], None]
) -> None:
    maps = published.extract(frames(stages, 0))
    for level, stride in enumerate((4, 8, 16, 32), start=1):
        near(f"layer{level}", maps[stride])
    near("tm_feat", published.target_features(maps))
    labels, weights = published.encode(masks(stages, 0))
    near("label_enc", labels)
    near("spatial_w", weights)


@pytest.fixture(scope="module")
@torch.no_grad()
def first_sample(published: LwlNet, stages: Arrays) -> Samples:
    """The learner's sample of the first frame."""
    x = published.target_features(published.extract(frames(stages, 0)))
    labels, weights = published.encode(masks(stages, 0))
    return Samples(x, torch.tensor([0]), labels, weights.square())


@pytest.fixture(scope="module")
@torch.no_grad()
def filters(published: LwlNet, first_sample: Samples) -> list[torch.Tensor]:
    """The filters after 0..20 iterations on the first frame."""
    iterates = [torch.zeros((1, 16, 512, 3, 3))]
    for _ in range(20):
        iterates.append(steepest_descent(iterates[-1], [first_sample], published.ridge, 1))
    return iterates


@torch.no_grad()
def test_golden_filters_after_each_iteration(
    published: LwlNet,
    stages: Arrays,
    near: Callable[[str, torch.Tensor], None],
    first_sample: Samples,
    filters: list[torch.Tensor],
) -> None:
    block = first_sample
    near("filters", torch.stack(filters))
    near(
        "filters",
        torch.stack([*filters[:-1], steepest_descent(filters[0], [block], published.ridge, 20)]),
    )  # the residual carried
    assert [mean_square(published, f, block) for f in filters] == pytest.approx(
        stages["init_losses"].tolist(), rel=1e-5
    )


@torch.no_grad()
def test_golden_decoder(
    published: LwlNet,
    stages: Arrays,
    near: Callable[[str, torch.Tensor], None],
    filters: list[torch.Tensor],
) -> None:
    maps = published.extract(frames(stages, 1))
    x = published.target_features(maps)
    near("f1_tm_feat", x)
    scores = apply_filters(x, filters[20])
    near("f1_scores", scores)
    context = published.context(maps)
    for level, out in zip((4, 3, 2, 1), published.decoder.levels(scores, context), strict=True):
        near(f"f1_layer{level}_dec", out)
    near("f1_logits", published.decode(scores, context, (128, 224)))


@torch.no_grad()
def test_golden_update_with_two_samples(
    published: LwlNet,
    stages: Arrays,
    near: Callable[[str, torch.Tensor], None],
    filters: list[torch.Tensor],
) -> None:
    maps = published.extract(frames(stages, 1))
    scores = apply_filters(published.target_features(maps), filters[20])
    predicted = torch.sigmoid(published.decode(scores, published.context(maps), (128, 224)))
    x = published.target_features(published.extract(frames(stages, 0, 1)))
    labels, weights = published.encode(
        torch.cat([masks(stages, 0), predicted.reshape(1, 1, 128, 224)])
    )
    near("upd_label_enc", labels)
    near("upd_spatial_w", weights)
    share = torch.from_numpy(stages["upd_sample_w"])[:, None, None, None, None]
    block = Samples(x, torch.tensor([0]), labels, (weights * share).square())
    updated = [filters[20]]
    for _ in range(3):
        updated.append(steepest_descent(updated[-1], [block], published.ridge, 1))
    near("upd_filters", torch.stack(updated))
    assert [mean_square(published, f, block) for f in updated] == pytest.approx(
        stages["upd_losses"].tolist(), rel=1e-4
    )


@torch.no_grad()
def test_golden_batch_of_two_clips(
    published: LwlNet, stages: Arrays, near: Callable[[str, torch.Tensor], None]
) -> None:
    index = (0, 2)
    x = published.target_features(published.extract(frames(stages, *index)))
    labels, weights = published.encode(masks(stages, *index))
    blocks = [
        Samples(x[i : i + 1], torch.tensor([i]), labels[i : i + 1], weights[i : i + 1].square())
        for i in range(2)
    ]
    near(
        "batch2_filter",
        steepest_descent(torch.zeros((2, 16, 512, 3, 3)), blocks, published.ridge, 5),
    )


@pytest.mark.parametrize("case", range(4))
def test_golden_lovasz(golden: Callable[[str], Arrays], case: int) -> None:
    arrays = golden("lwl/lovasz")
    logits = torch.from_numpy(arrays[f"logit{case}"]).requires_grad_()
    truth = torch.from_numpy(arrays[f"y{case}"]) == 1
    value = lovasz(torch.sigmoid(logits).flatten(), truth.flatten())
    value.backward()
    assert value.item() == pytest.approx(float(arrays[f"loss{case}"]), abs=1e-6)
    assert logits.grad is not None and np.allclose(
        logits.grad.numpy(), arrays[f"grad{case}"], atol=1e-7
    )
    each = torch.stack(
        [
            lovasz(p.flatten(), y.flatten())
            for p, y in zip(torch.sigmoid(logits), truth, strict=True)
        ]
    )
    assert each.mean().item() == pytest.approx(float(arrays[f"loss_per_image{case}"]), abs=1e-6)


def test_golden_train_step(golden: Callable[[str], Arrays]) -> None:
    """A whole step of the published training: frame 0 teaches by five iterations, three frames are
    predicted, all pixels in one loss.
    """
    arrays = golden("lwl/train_step")
    task = LwlTask(LwlOptions(network="resnet50", pool="batch"))
    net = task.build().train()
    fill(net, lwl_weight)
    clips = Batch(
        torch.from_numpy(arrays["imgs"]).permute(1, 0, 4, 2, 3),
        torch.from_numpy(arrays["masks"]).transpose(0, 1).contiguous(),
    )
    predicted = []
    net.decoder.register_forward_hook(lambda _module, _args, out: predicted.append(out.detach()))
    value, _ = task.loss(net, clips)
    value.backward()
    logits = predicted[0].reshape(2, 3, 128, 224).transpose(0, 1).numpy()
    assert difference(logits, arrays["pred"]) < 1e-3
    assert value.item() == pytest.approx(float(arrays["loss"]), rel=1e-5)
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    assert set(gradients) == set(arrays["grad_names"].tolist())
    for name, norm in zip(arrays["grad_names"].tolist(), arrays["grad_norms"], strict=True):
        assert float(gradients[name].norm()) == pytest.approx(norm, rel=2e-3), name
    for key in (k for k in arrays if k.startswith("grad:")):
        ours, theirs = at_samples(gradients[key.removeprefix("grad:")].numpy(), arrays[key])
        assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 2e-3, key
