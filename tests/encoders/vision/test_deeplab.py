"""DeepLab's trunk: the published order of tensors, geometry of its maps."""

import pytest
import torch
from torch.nn import functional as F

from refseg.encoders.vision.mobilenet import DeepLabTrunk, from_deeplab
from refseg.errors import CheckpointError

STRIDES = {0: 2, 4: 2, 10: 2, 19: 2}
DILATED = (43, 46, 49)
ADDED = (8, 14, 17, 23, 26, 29, 35, 38, 44, 47)
"""Numbers of the convolutions after which a shortcut is added, in the published graph."""


def published(trunk):
    """The trunk's own tensors under published names, with a classifier."""
    state = {}
    names = [name.removesuffix(".weight") for name in trunk.state_dict() if name.endswith(".weight")]
    values = trunk.state_dict()
    for number, name in enumerate(names):
        state[f"{number:02d}.weight"] = values[f"{name}.weight"]
        state[f"{number:02d}.bias"] = values[f"{name}.bias"]
    state["54.weight"], state["54.bias"] = torch.zeros(21, 256, 1, 1), torch.zeros(21)
    return state


def by_graph(state, images):
    """The published graph, convolution after convolution, with padding as TensorFlow's SAME has it."""
    kept, maps = images, images
    for number in range(51):
        weight, bias = state[f"{number:02d}.weight"], state[f"{number:02d}.bias"]
        stride, dilation = STRIDES.get(number, 1), 2 if number in DILATED else 1
        reach = dilation * (weight.shape[-1] - 1)
        side = maps.shape[-1]
        before = max((-(-side // stride) - 1) * stride + reach + 1 - side, 0)
        maps = F.pad(maps, (before // 2, before - before // 2) * 2)
        depthwise = weight.shape[1] == 1 and weight.shape[0] > 1 and weight.shape[-1] == 3 and number > 0
        maps = F.conv2d(maps, weight, bias, stride, 0, dilation, groups=len(weight) if depthwise else 1)
        narrow = number == 2 or (number > 2 and (number - 2) % 3 == 0)
        if narrow:
            maps = maps + kept if number in ADDED else maps
            kept = maps
        else:
            maps = maps.clamp(0, 6)
    mean = F.relu(F.conv2d(maps.mean((2, 3), keepdim=True), state["52.weight"], state["52.bias"]))
    local = F.relu(F.conv2d(maps, state["51.weight"], state["51.bias"]))
    both = torch.cat([mean.expand_as(local), local], dim=1)
    return F.relu(F.conv2d(both, state["53.weight"], state["53.bias"]))


def test_the_trunk_computes_the_published_graph():
    trunk = DeepLabTrunk().eval()
    # Folded normalisations keep activations of order one; random ones must too, or cut-off values hide differences.
    for parameter in trunk.parameters():
        if parameter.dim() > 1:
            torch.nn.init.normal_(parameter, std=float(parameter[0].numel()) ** -0.5)
    # In the graph the mean's convolution comes after the local one, in our module too.
    state = published(trunk)
    again = DeepLabTrunk().eval()
    again.load_state_dict(from_deeplab(state))
    images = torch.rand(2, 3, 65, 65) * 2 - 1
    with torch.inference_mode():
        maps, wanted = again(images), by_graph(state, images)
    assert float(wanted.abs().max()) > 0
    torch.testing.assert_close(maps.context, wanted, rtol=0, atol=1e-4 * float(wanted.abs().max()))
    assert [each.shape[1:] for each in maps] == [(24, 17, 17), (32, 9, 9), (96, 5, 5), (256, 5, 5)]


def test_other_tensors_are_refused():
    state = published(DeepLabTrunk())
    with pytest.raises(CheckpointError, match="54_weight"):
        from_deeplab({name: value for name, value in state.items() if name != "54.weight"})
