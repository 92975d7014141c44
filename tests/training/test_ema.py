"""The moving average of weights against the recursion written out."""

import pytest
import torch
from torch import nn

from refseg.training.ema import WeightEMA


def test_the_average_follows_its_recursion_and_copies_whole_numbers():
    net = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = WeightEMA(net, 0.5)
    expected = net[0].weight.detach().clone()
    for step in range(6):
        with torch.no_grad():
            net[0].weight.add_(step + 1.0)
        net(torch.randn(4, 2))
        average.update(net, step)
        decay = min(0.5, (1 + step) / (10 + step))
        expected = decay * expected + (1 - decay) * net[0].weight.detach()
    assert average.tensors["0.weight"] == pytest.approx(expected, rel=1e-6)
    assert average.tensors["1.num_batches_tracked"] == 6
    assert not torch.equal(average.tensors["1.running_mean"], net[1].running_mean)


def test_applied_lends_the_average_and_gives_the_weights_back_even_after_an_error():
    net = nn.Linear(2, 2)
    average = WeightEMA(net, 0.9)
    averaged = net.weight.detach().clone()
    with torch.no_grad():
        net.weight.add_(1)
    own = net.weight.detach().clone()
    lent = []

    def fail():
        with average.applied(net) as model:
            lent.append(model.weight.detach().clone())
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert torch.equal(lent[0], averaged)
    assert torch.equal(net.weight, own)
    assert torch.equal(average.tensors["weight"], averaged)
