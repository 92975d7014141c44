r"""Language feature reconstruction: a loss that asks fused features what the expression was (M3Att's LFR).

Liu, Ding, Zhang, Jiang: Multi-Modal Mutual Attention and Iterative Interaction for Referring Image Segmentation, IEEE
TIP 2023, equation 5.4 in the thesis of the first author, chapter 5.

    words F_t + positions e --.
                               > one after the other -> W_proj -> ReLU -> mean -> F_proj --.
    sentence F'_t ------------'                                                             > mean squared error
    fused features F_dec -> three linear layers -> mean ------------------------> F_rec ---'

It costs nothing at answering time. M3Att has it inside (`losses.reconstruction`); `attach_reconstruction` puts it
beside any other system for training:

    trained = attach_reconstruction(model, "fusion", part="patches", channels=192)      # ReSTR's fused patches
    losses = trained.losses(trained(batch), targets)                                    # "reconstruction" among them
    model = trained.model                                                               # the system as it was, to save
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from refseg.encoders.text.glove_transformer import sinusoidal_positions
from refseg.encoders.text.transformer import mean_word
from refseg.errors import ConfigError, RefsegError, did_you_mean
from refseg.models.m3att.token_norm import Projection
from refseg.types import Batch, ModelConfig, Output, Targets, TextFeatures, Tokens

__all__ = ["LanguageReconstruction", "Reconstructing", "attach_reconstruction"]

KEY = "reconstruction"
"""Where the wrapper leaves what the loss reads, in `Output.auxiliary`; and the name of the loss."""


class LanguageReconstruction(nn.Module):
    """F_proj of `language` channels and F_rec from `features` channels, both brought to `width` and compared.

    Args:
        language: channels of the words and of the expression.
        features: channels of the fused features.
        width: channels in which they are compared; None takes `language`, as in the thesis.
        norm: batch normalisation after every linear layer, as the thesis says of its linear layers in general; equation
            5.4 prints none.
        layers: linear layers from fused features to F_rec; three in the thesis.
        detach_target: no gradient through F_proj. The thesis stops none; then words may move towards what is easy.
    """

    def __init__(
        self,
        language: int,
        features: int,
        width: int | None = None,
        norm: bool = True,
        layers: int = 3,
        detach_target: bool = False,
    ) -> None:
        super().__init__()
        if layers < 1:
            raise ConfigError(f"layers={layers}: language reconstruction has 1 layer or more")
        width = language if width is None else width
        self.detach_target = detach_target
        self.projection = Projection(language, width, norm, bias=False)
        self.layers = nn.ModuleList(
            Projection(features if index == 0 else width, width, norm) for index in range(layers)
        )

    def forward(
        self,
        words: Float[Tensor, "B L C"],
        sentence: Float[Tensor, "B C"],
        mask: Bool[Tensor, "B L"] | None,
        features: Float[Tensor, "B K D"],
        feature_mask: Bool[Tensor, "B K"] | None = None,
    ) -> Float[Tensor, ""]:
        """The mean squared error of F_rec and F_proj over expressions and channels; masks are True on what counts."""
        target = self.project(words, sentence, mask)
        if self.detach_target:
            target = target.detach()
        return F.mse_loss(self.reconstruct(features, feature_mask), target)

    def project(
        self, words: Float[Tensor, "B L C"], sentence: Float[Tensor, "B C"], mask: Bool[Tensor, "B L"] | None
    ) -> Float[Tensor, "B W"]:
        """F_proj: the mean over the real words and the expression (equation 5.4)."""
        positions = sinusoidal_positions(words.shape[1], words.shape[2] + words.shape[2] % 2)[:, : words.shape[2]]
        tokens = torch.cat([words + positions.to(words), sentence[:, None]], dim=1)
        real = None if mask is None else torch.cat([mask, torch.ones_like(mask[:, :1])], dim=1)
        return _mean(self.projection(tokens, real), real)

    def reconstruct(
        self, features: Float[Tensor, "B K D"], mask: Bool[Tensor, "B K"] | None = None
    ) -> Float[Tensor, "B W"]:
        """F_rec: the mean over the fused features after the layers."""
        for layer in self.layers:
            features = layer(features, mask)
        return _mean(features, mask)


class Reconstructing(nn.Module):
    """A system with the reconstruction loss beside its own; `attach_reconstruction` makes one.

    It answers as `model` does, and has the same methods, so that training takes it in the system's place. Its outputs
    carry in `auxiliary["reconstruction"]` what the loss reads.
    """

    def __init__(
        self,
        model: nn.Module,
        reconstruction: LanguageReconstruction,
        features: str,
        part: str | None = None,
        weight: float = 0.1,
    ) -> None:
        super().__init__()
        self.model = model
        self.reconstruction = reconstruction
        self.features, self.part, self.weight = features, part, weight

    @property
    def config(self) -> ModelConfig:
        """The system's configuration."""
        return self.model.config  # type: ignore[return-value]

    @property
    def late_fusion(self) -> bool:
        """Whether the system encodes an image without the expression."""
        return bool(self.model.late_fusion)

    def encode_image(self, images: Float[Tensor, "N 3 H W"], pixel_mask: Bool[Tensor, "N H W"]) -> Any:
        """The system's."""
        return self.model.encode_image(images, pixel_mask)  # type: ignore[operator]

    def encode_text(self, tokens: Tokens) -> TextFeatures:
        """The system's."""
        return self.model.encode_text(tokens)  # type: ignore[operator]

    def decode(self, state: Any, text: TextFeatures, image_index: Int[Tensor, " B"] | None = None) -> Output:
        """The system's answer, with what the loss reads."""
        with _Listener(self.model, self.features) as heard:
            output = self.model.decode(state, text, image_index)  # type: ignore[operator]
        return self._with(output, text, heard.features)

    def forward(self, batch: Batch) -> Output:
        """The system's answer, with what the loss reads."""
        with _Listener(self.model, self.features) as heard:
            output = self.model(batch)
        if not isinstance(heard.text, TextFeatures):
            raise RefsegError("reconstruction: the system's `text` encoder was not asked, so there is no expression")
        return self._with(output, heard.text, heard.features)

    def losses(self, output: Output, targets: Targets) -> dict[str, Tensor]:
        """The system's losses and `reconstruction`, weighted."""
        parts = self.model.losses(output, targets)  # type: ignore[operator]
        return parts | {KEY: self.weight * self.reconstruction(**output.auxiliary[KEY])}

    def _with(self, output: Output, text: TextFeatures, features: Any) -> Output:
        if self.features.startswith("auxiliary."):
            features = output.auxiliary.get(self.features.removeprefix("auxiliary."))
        features = features if self.part is None else getattr(features, self.part, None)
        where = self.features if self.part is None else f"{self.features}, {self.part}"
        if not isinstance(features, Tensor) or features.ndim not in (2, 3, 4):
            raise RefsegError(f"reconstruction: {where} gave no tensor of 2 to 4 axes in this pass")
        if len(features) != len(text.mask):
            raise RefsegError(
                f"reconstruction: {where} has {len(features)} rows for {len(text.mask)} expressions; name a part of "
                "the model behind its fusion"
            )
        if features.ndim == 2:
            features = features[:, None]
        elif features.ndim == 4:
            features = features.flatten(2).transpose(1, 2)
        read = {"words": text.words, "sentence": text.sentence, "mask": text.mask, "features": features}
        return replace(output, auxiliary={**output.auxiliary, KEY: read})


class _Listener:
    """While it is open, keeps what the text encoder and the named module gave last."""

    def __init__(self, model: nn.Module, features: str) -> None:
        self.text: Any = None
        self.features: Any = None
        self.model, self.name = model, features
        self.handles: list[Any] = []

    def __enter__(self) -> _Listener:
        def keep(slot: str) -> Any:
            return lambda module, inputs, output: setattr(self, slot, output)

        self.handles.append(self.model.get_submodule("text").register_forward_hook(keep("text")))
        if not self.name.startswith("auxiliary."):
            self.handles.append(self.model.get_submodule(self.name).register_forward_hook(keep("features")))
        return self

    def __exit__(self, *error: object) -> None:
        for handle in self.handles:
            handle.remove()


def attach_reconstruction(
    model: nn.Module,
    features: str,
    channels: int,
    part: str | None = None,
    weight: float = 0.1,
    width: int | None = None,
    norm: bool = True,
    detach_target: bool = False,
) -> Reconstructing:
    """`model` with the reconstruction loss beside its own, for training; save `.model` afterwards.

    Args:
        model: any system of `refseg.models`.
        features: where its fused features are: the dotted name of a module whose output they are, or
            "auxiliary.NAME" for what `Output.auxiliary` holds; (B, K, C), a map (B, C, h, w) or one vector (B, C) a
            expression. All of them count, padding too.
        channels: their channels, C.
        part: the attribute of that output, where it is a named tuple ("patches").
        weight: of the loss; .1 in the thesis.
        width: channels of the comparison; None takes the text encoder's.
        norm, detach_target: see `LanguageReconstruction`.

    Raises:
        ConfigError: the model has no such module, no text encoder, or the weight is negative.
    """
    if weight < 0:
        raise ConfigError(f"weight={weight}: 0 or more is wanted")
    language = getattr(getattr(model, "text", None), "width", None)
    if not isinstance(language, int):
        raise ConfigError(f"{type(model).__name__} has no `text` encoder with a `width`; give a system of refseg")
    names = [name for name, _ in model.named_modules() if name]
    if not features.startswith("auxiliary.") and features not in names:
        raise ConfigError(
            f"features={features!r} is no part of {type(model).__name__}; {did_you_mean(features, names)}"
        )
    module = LanguageReconstruction(language, channels, width, norm, detach_target=detach_target)
    # Onto the model's own device.
    first = next(model.parameters(), None)
    return Reconstructing(model, module if first is None else module.to(first.device), features, part, weight)


def _mean(tokens: Float[Tensor, "B K C"], mask: Bool[Tensor, "B K"] | None) -> Float[Tensor, "B C"]:
    return tokens.mean(dim=1) if mask is None else mean_word(tokens, mask)
