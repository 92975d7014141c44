"""Batch normalisation of tokens that knows padding, and the linear layer with normalisation and rectification."""

from __future__ import annotations

from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

__all__ = ["Projection", "TokenBatchNorm"]


class TokenBatchNorm(nn.BatchNorm1d):
    """Batch normalisation (Ioffe and Szegedy, ICML 2015) over all real tokens of a batch; padding leaves as zeros.

    A batch with a single real token has no variance: it is normalised by the running statistics, and leaves them alone.
    Computed in float32.
    """

    def forward(  # type: ignore[override]
        self, tokens: Float[Tensor, "B L C"], mask: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B L C"]:
        """`mask` is True on tokens that count; None means all."""
        tokens = tokens.float()
        if not self.training:
            tokens = super().forward(tokens.flatten(0, 1)).view_as(tokens)
            return tokens if mask is None else tokens * mask[..., None].to(tokens.dtype)
        real = tokens.flatten(0, 1) if mask is None else tokens[mask]
        if len(real) > 1:
            normal = super().forward(real)
        else:
            normal = F.batch_norm(real, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)
        if mask is None:
            return normal.view_as(tokens)
        return tokens.new_zeros(tokens.shape).masked_scatter(mask[..., None], normal)


class Projection(nn.Module):
    """A linear layer, batch normalisation over real tokens (when `norm`) and rectification (when `relu`).

    With the normalisation the linear layer has no bias, whatever `bias` says.
    """

    def __init__(self, inputs: int, outputs: int, norm: bool, relu: bool = True, bias: bool = True) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs, bias=bias and not norm)
        self.norm = TokenBatchNorm(outputs) if norm else None
        self.relu = relu
        nn.init.xavier_uniform_(self.linear.weight)
        if self.linear.bias is not None:
            nn.init.zeros_(self.linear.bias)

    def forward(
        self, tokens: Float[Tensor, "B L C"], mask: Bool[Tensor, "B L"] | None = None
    ) -> Float[Tensor, "B L D"]:
        """The tokens one by one; `mask` is True on those that count for the statistics."""
        tokens = self.linear(tokens)
        if self.norm is not None:
            tokens = self.norm(tokens, mask)
        return F.relu(tokens) if self.relu else tokens
