"""LTS's segmentation module (Jing et al., CVPR 2021, section 3.3), which needs features and a prior of where to look.

    features, prior maps --concatenate--> ASPP: 1x1, 3x3 at several dilations, mean of the map --> 1x1
        --> deconvolution to twice the size --> 1x1 --> mask logits

It stands behind LTS, and behind any other system that has features and a coarse answer (table 3 puts it behind CMPC).
`ASPP` alone serves ISFP. The paper gives neither rates nor widths; the defaults are those of the decoder of MCN, on
whose code LTS builds.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, PositiveInt
from refseg.errors import ConfigError
from refseg.nn.conv import KERAS_EPS, LEAK, ConvNorm, channels_last, conv_leaky
from refseg.nn.parts import Part, as_parts, mean_of

__all__ = ["ASPP", "SegmentationConfig", "SegmentationModule"]


@dataclass(frozen=True)
class SegmentationConfig(Config):
    """Sizes of the module; the paper has "a single ASPP" and a deconvolution by 2, the numbers are MCN's."""

    width: PositiveInt = 256
    """Channels of each of the ASPP's branches, and of what it puts out."""
    rates: tuple[int, ...] = (6, 12, 18)
    """Dilations of the ASPP's 3x3 convolutions."""
    fine_width: PositiveInt = 128
    """Channels behind the deconvolution."""

    def check(self) -> None:
        check_rates("rates", self.rates)


def check_rates(name: str, rates: tuple[int, ...]) -> None:
    """Raises `ConfigError` unless `rates` are positive dilations."""
    if not rates or min(rates) < 1:
        raise ConfigError(f"{name}={rates!r}: at least one dilation is wanted, each 1 or more")


class ASPP(nn.Module):
    """Atrous spatial pyramid pooling (Chen et al., DeepLabv3, 2017, section 3.3): the map at several reaches, joined.

    Batch normalisation of the mean of a map asks for two expressions or more in training.
    """

    def __init__(self, inputs: int, width: int, rates: tuple[int, ...]) -> None:
        super().__init__()
        self.point = conv_leaky(inputs, width, 1)
        self.wide = nn.ModuleList(
            ConvNorm(inputs, width, 3, "batch", dilation=rate, slope=LEAK, eps=KERAS_EPS) for rate in rates
        )
        self.mean = conv_leaky(inputs, width, 1)
        self.join = conv_leaky(width * (2 + len(rates)), width, 1)

    def forward(self, maps: Float[Tensor, "B C h w"] | Sequence[Part]) -> Float[Tensor, "B D h w"]:
        """A map of the same size with `width` channels."""
        mean = self.mean(maps.mean(dim=(2, 3), keepdim=True) if isinstance(maps, Tensor) else mean_of(maps))
        branches = [self.point(maps), *(conv(maps) for conv in self.wide), mean]
        return self.join([Part(branch) for branch in branches])


class SegmentationModule(nn.Module):
    """Features and `priors` prior maps become mask logits at twice the size (equation 10)."""

    def __init__(self, config: SegmentationConfig, features: int, priors: int = 1) -> None:
        super().__init__()
        self.aspp = ASPP(features + priors, config.width, config.rates)
        self.enlarge = nn.ConvTranspose2d(config.width, config.fine_width, 4, stride=2, padding=1, bias=False)
        self.norm = nn.BatchNorm2d(config.fine_width, eps=KERAS_EPS)
        self.output = nn.Conv2d(config.fine_width, 1, kernel_size=1)

    def forward(
        self,
        features: Float[Tensor, "B C h w"] | Sequence[Part],
        prior: Float[Tensor, "B P h w"] | None = None,
    ) -> Float[Tensor, "B u v"]:
        """Mask logits of (2h, 2w). `prior` holds probabilities, 0 to 1; None where the module was built for none."""
        parts = as_parts(channels_last(features) if isinstance(features, Tensor) else features)
        if prior is not None:
            parts.append(Part(channels_last(prior.to(parts[0].maps.dtype))))
        maps = F.leaky_relu(self.norm(self.enlarge(self.aspp(parts))), LEAK, inplace=True)
        return self.output(maps)[:, 0]
