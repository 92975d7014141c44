"""What becomes bfloat16 and what must not."""

import pytest
import torch
from torch import nn

from refseg.errors import RefsegError
from refseg.precision import answering_in_float32, check_precision, computing_in, store_in


class Kept(nn.Module):
    answers_in_float32 = True

    def __init__(self):
        super().__init__()
        self.layer = nn.Linear(2, 2)


def test_products_become_low_and_the_rest_stays():
    model = nn.Sequential(
        nn.Conv2d(1, 1, 1), nn.LayerNorm(2), nn.Sequential(nn.Linear(2, 2), Kept()), nn.Embedding(2, 2)
    )
    assert store_in(model, "float32")[0].weight.dtype == torch.float32
    store_in(model, "bfloat16")
    kinds = {name: parameter.dtype == torch.bfloat16 for name, parameter in model.named_parameters()}
    assert {name for name, low in kinds.items() if low} == {"0.weight", "0.bias", "2.0.weight", "2.0.bias"}


@pytest.mark.parametrize("precision", ["bfloat16", "float16"])
def test_contexts_nest(precision):
    layer, tokens = nn.Linear(4, 4), torch.randn(1, 4)
    cpu = torch.device("cpu")
    with torch.inference_mode(), computing_in(cpu, precision):
        assert layer(tokens).dtype == getattr(torch, precision)
        with answering_in_float32(cpu):
            assert layer(tokens).dtype == torch.float32
    with computing_in(cpu, "bfloat16"), answering_in_float32(cpu):
        assert layer(tokens).dtype == torch.bfloat16  # training chooses itself
    with computing_in(cpu, "float32"):
        assert layer(tokens).dtype == torch.float32


def test_unknown_precision():
    with pytest.raises(RefsegError, match="use float32 or bfloat16 or float16"):
        check_precision("int3")
    for name, proper in (("bf16", "bfloat16"), ("fp16", "float16"), ("no", "float32")):
        with pytest.raises(RefsegError, match=f"it is called {proper}"):
            check_precision(name)
        assert check_precision(proper) == proper
