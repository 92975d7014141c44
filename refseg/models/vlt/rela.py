"""VLT with ReLA's block as its decoder: "VLT+ReLA" of GRES (Liu, Ding, Jiang, CVPR 2023, table 5).

    F_fused -> VLT's encoder -> F_ve --.-> region-image attention -> regions -> relations with the words -> x_r, E
                                       `-> two convolutions, each enlarged by 2 -> F_m -> mask

The paper says that the block replaces VLT's decoder part, and no more. Here it stands behind the encoder, in the place
of queries, decoder, balance and mask decoder; F_m comes from F_ve alone, as VLT's mask decoder reads no encoder map.
"""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.errors import ConfigError
from refseg.models.rela.region_heads import RegionOutput
from refseg.models.rela.regions import HardSplitConfig, RegionDecoder, RegionDecoderConfig
from refseg.models.rela.relations import StackedRLAConfig
from refseg.models.vlt.fusion import ConvSettings
from refseg.nn.pyramid import PyramidFeatures
from refseg.types import TextFeatures

__all__ = ["RegionHead"]

MASK_STRIDE = 4


class RegionHead(nn.Module):
    """ReLA's block on fused places, whose map has stride `stride`; its masks have stride 4."""

    def __init__(
        self,
        config: RegionDecoderConfig,
        text_width: int,
        width: int,
        regions: int,
        stride: int,
        settings: ConvSettings,
    ) -> None:
        super().__init__()
        if isinstance(config.rla, StackedRLAConfig) and config.rla.deep_supervision:
            raise ConfigError("mask_decoder.rla.deep_supervision: VLT supervises the last answer alone; set false")
        if isinstance(config.ria, HardSplitConfig) and config.ria.split == "input":
            raise ConfigError('mask_decoder.ria.split: VLT\'s encoder sees the whole picture; choose "decoder"')
        self.ups = (stride // MASK_STRIDE).bit_length() - 1
        self.refine = nn.ModuleList(settings.conv(width, width, 3) for _ in range(self.ups))
        self.mask_features = nn.Conv2d(width, width, kernel_size=1)
        self.decoder = RegionDecoder(config, {config.stride: width}, text_width, width, regions)

    def forward(self, maps: Float[Tensor, "B C h w"], mask: Bool[Tensor, "B h w"], text: TextFeatures) -> RegionOutput:
        """The block's answers to B sentences; `mask` is True on real places of F_ve."""
        fine = maps
        for conv in self.refine:
            fine = F.interpolate(conv(fine), scale_factor=2, mode="nearest")
        pyramid = PyramidFeatures(self.mask_features(fine), [maps, maps, maps])
        state = self.decoder.encode({self.decoder.config.stride: maps}, pyramid, mask)
        return self.decoder.decode(state, text, None)
