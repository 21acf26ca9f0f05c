"""The layer before the target model (paper 003 sec. 3.4), and the learned lambda of eq. (3).

Parameter names are those of the published checkpoints. The target models themselves are filters
that the learner makes: ``learner.py``.
"""

from __future__ import annotations

import math

import torch
from jaxtyping import Float
from torch import nn

_EPS = 1e-5


class InstanceL2Norm(nn.Module):
    """Scales each frame's map so that the root of its mean square is ``scale``."""

    def __init__(self, scale: float) -> None:
        super().__init__()
        self.scale = scale

    def forward(self, x: Float[torch.Tensor, "S C h w"]) -> Float[torch.Tensor, "S C h w"]:
        energy = (
            x.float().square().sum((1, 2, 3), keepdim=True)
        )  # sums of squares don't fit half precision
        return x * (self.scale * torch.sqrt(x[0].numel() / (energy + _EPS))).to(x.dtype)


class _Residuals(nn.Module):
    """Holds lambda under the name it has in the published checkpoints."""

    def __init__(self, value: float) -> None:
        super().__init__()
        self.filter_reg = nn.Parameter(torch.full((1,), value))


class _Optimizer(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.residual_module = _Residuals(value)


class TargetModel(nn.Module):
    """Backbone features at stride 16 to the C channels that the target models see."""

    def __init__(
        self, c_in: int, channels: int, kernel_size: int, regularization: float = 0.01
    ) -> None:
        super().__init__()
        scale = math.sqrt(1.0 / (channels * kernel_size * kernel_size))
        self.feature_extractor = nn.Sequential(
            nn.Conv2d(c_in, channels, 3, 1, 1, bias=False), InstanceL2Norm(scale)
        )
        self.filter_optimizer = _Optimizer(regularization)

    @property
    def ridge(self) -> Float[torch.Tensor, "1"]:
        """Return lambda, the factor of ||tau||^2 / 2 in eq. (3).

        It is the square of the learned number, so that it can't be negative.
        """
        return self.filter_optimizer.residual_module.filter_reg.square()

    def forward(self, features: Float[torch.Tensor, "S c h w"]) -> Float[torch.Tensor, "S C h w"]:
        out: torch.Tensor = self.feature_extractor(features)
        return out
