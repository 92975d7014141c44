"""Region-Language Cross Attention (ReLA, CVPR 2023, section 4.2, table 3): regions relate to regions and to words."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.config import Config, DropRate, PositiveInt
from refseg.encoders.text.transformer import mean_word
from refseg.errors import ConfigError
from refseg.nn.attention import Attention, FeedForward

__all__ = ["ParallelRLA", "ParallelRLAConfig", "StackedRLA", "StackedRLAConfig", "build_rla"]


@dataclass(frozen=True)
class ParallelRLAConfig(Config):
    """One step, everything in parallel: F_r = MLP(F'_r + F_r1 + F_r2)."""

    region_attention: bool = True
    """F_r1: regions attend to regions (table 3, "+ region att.")."""
    language_attention: bool = True
    """F_r2: regions attend to words (table 3, "+ language att.", equation 3)."""
    product: bool = False
    """F'_r times the mean word takes the place of F'_r in the sum: the baseline that table 3 adds the attentions to."""

    def check(self) -> None:
        if not (self.language_attention or self.product):
            raise ConfigError("language_attention: without it and product no region would see the expression")


@dataclass(frozen=True)
class StackedRLAConfig(Config):
    """Several layers, each: regions attend to regions, then to words, then a feed-forward network."""

    layers: PositiveInt = 3
    heads: PositiveInt = 4
    feedforward: PositiveInt = 512
    """Hidden units of the feed-forward networks."""
    norm: Literal["pre", "post"] = "pre"
    """Whether the steps normalise what enters them, or what leaves."""
    dropout: DropRate = 0.0
    deep_supervision: bool = True
    """Every layer answers, and all answers are supervised."""
    product: bool = False
    """F'_r times a linear map of the mean word is added to F'_r before each layer. Attention alone learns slowly which
    region a word fits; a product says it at once."""


class GeluAttention(nn.Module):
    """softmax(gelu(Q W_q) gelu(K W_k)^T) V, one head, neither scaled nor with projected values (equation 3)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, width, bias=False)
        self.key = nn.Linear(width, width, bias=False)

    def forward(
        self, queries: Float[Tensor, "B R C"], tokens: Float[Tensor, "B L C"], mask: Bool[Tensor, "B L"] | None
    ) -> tuple[Float[Tensor, "B R C"], Float[Tensor, "B R L"]]:
        """What each query gathers of the tokens, and the attention map; `mask` is True on real tokens."""
        scores = F.gelu(self.query(queries)) @ F.gelu(self.key(tokens)).transpose(1, 2)
        if mask is not None:
            scores = scores.masked_fill(~mask[:, None], float("-inf"))
        attention = scores.softmax(dim=-1)
        return attention @ tokens, attention


class ParallelRLA(nn.Module):
    """RLA of the paper. For the self-attention, which the text gives in words, the form of equation 3 is taken."""

    def __init__(self, config: ParallelRLAConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.regions = GeluAttention(width) if config.region_attention else None
        self.language = GeluAttention(width) if config.language_attention else None
        self.mlp = FeedForward(width, width, "gelu")

    def forward(
        self,
        regions: Float[Tensor, "N R C"],
        words: Float[Tensor, "B L C"],
        mask: Bool[Tensor, "B L"],
        image_index: Int[Tensor, " B"] | None = None,
    ) -> tuple[list[Float[Tensor, "B R C"]], Float[Tensor, "B R L"] | None]:
        """F_r (a list of one), and the attention map of regions over words, if there is one; `image_index[b]` is the
        image of expression b, None means one to one."""
        attention = related = None
        if self.regions is not None:
            related = _chosen(self.regions(regions, regions, None)[0], image_index)
        regions = _chosen(regions, image_index)
        fused = regions * mean_word(words, mask)[:, None] if self.config.product else regions
        if related is not None:
            fused = fused + related
        if self.language is not None:
            gathered, attention = self.language(regions, words, mask)
            fused = fused + gathered
        return [self.mlp(fused)], attention


class RLALayer(nn.Module):
    """Self-attention of regions, cross attention to words, feed-forward; all residual."""

    def __init__(self, config: StackedRLAConfig, width: int) -> None:
        super().__init__()
        self.pre = config.norm == "pre"
        self.regions = Attention(width, config.heads, config.dropout)
        self.language = Attention(width, config.heads, config.dropout)
        self.feed_forward = FeedForward(width, config.feedforward, "gelu", config.dropout)
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(3))
        self.dropout = nn.Dropout(config.dropout)

    def forward(
        self,
        regions: Float[Tensor, "N R C"],
        words: Float[Tensor, "B L C"],
        mask: Bool[Tensor, "B L"],
        image_index: Int[Tensor, " B"] | None = None,
    ) -> Float[Tensor, "B R C"]:
        """The regions after one layer. What comes before the words is computed once an image."""
        real = mask[:, None]
        if self.training and self.dropout.p:
            # What is dropped is each expression's own.
            regions, image_index = _chosen(regions, image_index), None
        if self.pre:
            normal = self.norms[0](regions)
            regions = _chosen(regions + self.dropout(self.regions(normal, normal, normal)), image_index)
            regions = regions + self.dropout(self.language(self.norms[1](regions), words, words, real))
            return regions + self.dropout(self.feed_forward(self.norms[2](regions)))
        regions = _chosen(self.norms[0](regions + self.dropout(self.regions(regions, regions, regions))), image_index)
        regions = self.norms[1](regions + self.dropout(self.language(regions, words, words, real)))
        return self.norms[2](regions + self.dropout(self.feed_forward(regions)))


class StackedRLA(nn.Module):
    """A stack of layers; with pre-normalisation a last one stands before the answers, shared by all layers."""

    def __init__(self, config: StackedRLAConfig, width: int) -> None:
        super().__init__()
        self.config = config
        self.layers = nn.ModuleList(RLALayer(config, width) for _ in range(config.layers))
        self.norm = nn.LayerNorm(width) if config.norm == "pre" else nn.Identity()
        self.products = nn.ModuleList(nn.Linear(width, width) for _ in range(config.layers if config.product else 0))
        for product in self.products:
            nn.init.zeros_(product.weight)  # type: ignore[arg-type]
            nn.init.zeros_(product.bias)  # type: ignore[arg-type]

    def forward(
        self,
        regions: Float[Tensor, "N R C"],
        words: Float[Tensor, "B L C"],
        mask: Bool[Tensor, "B L"],
        image_index: Int[Tensor, " B"] | None = None,
    ) -> tuple[list[Float[Tensor, "B R C"]], None]:
        """The regions after every layer that answers, the last one at the end; there is no single attention map.
        `image_index[b]` is the image of expression b, None means one to one."""
        answers = []
        for index, layer in enumerate(self.layers):
            if self.products:
                regions, image_index = _chosen(regions, image_index), None
                regions = regions + regions * self.products[index](mean_word(words, mask))[:, None]
            regions = layer(regions, words, mask, image_index)
            image_index = None
            if self.config.deep_supervision or index == len(self.layers) - 1:
                answers.append(self.norm(regions))
        return answers, None


def _chosen(regions: Float[Tensor, "N R C"], image_index: Int[Tensor, " B"] | None) -> Float[Tensor, "B R C"]:
    return regions if image_index is None else regions.index_select(0, image_index)


def build_rla(config: ParallelRLAConfig | StackedRLAConfig, width: int) -> ParallelRLA | StackedRLA:
    """The RLA of a configuration, for regions and words of `width` channels."""
    return ParallelRLA(config, width) if isinstance(config, ParallelRLAConfig) else StackedRLA(config, width)
