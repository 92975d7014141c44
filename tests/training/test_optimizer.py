"""Parameter groups: who decays, at which rate, and who is not trained."""

import pytest
import torch
from torch import nn

from refseg.errors import ConfigError
from refseg.training.optimizer import GroupRule, OptimizerConfig, build_optimizer, parameter_groups, set_lr


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.vision = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.GroupNorm(2, 4))
        self.words = nn.Embedding(5, 4)
        self.text = nn.ModuleList([nn.Sequential(nn.Linear(4, 4), nn.LayerNorm(4)) for _ in range(3)])
        self.relative_position_bias_table = nn.Parameter(torch.zeros(9, 2))
        self.scale = nn.Parameter(torch.zeros(()))


def by_name(groups):
    return {name: (g["base_lr"], g["weight_decay"]) for g in groups for name in g["names"]}


def test_norms_embeddings_and_bias_tables_do_not_decay_and_other_biases_do():
    found = by_name(parameter_groups(Net(), OptimizerConfig(lr=0.5, weight_decay=0.05)))
    spared = {name for name, (_, decay) in found.items() if decay == 0}
    assert spared == {
        "vision.1.weight", "vision.1.bias", "vision.2.weight", "vision.2.bias", "words.weight",
        "text.0.1.weight", "text.0.1.bias", "text.1.1.weight", "text.1.1.bias", "text.2.1.weight", "text.2.1.bias",
        "relative_position_bias_table",
    }  # fmt: skip
    assert found["vision.0.bias"] == (0.5, 0.05)
    assert found["scale"] == (0.5, 0.05)
    assert len(found) == len(list(Net().named_parameters()))


def test_the_first_rule_that_names_a_parameter_counts():
    rules = (
        GroupRule(("text.[01].*",), decay_all=True),
        GroupRule(("text.*",), train=False),
        GroupRule(("vision.*",), lr_mult=0.1, weight_decay=0.2),
    )
    net = Net()
    found = by_name(parameter_groups(net, OptimizerConfig(lr=1.0, weight_decay=0.05, groups=rules)))
    assert found["text.1.1.bias"] == (1.0, 0.05)
    assert not any(name.startswith("text.2") for name in found)
    assert not net.text[2][0].weight.requires_grad
    assert found["vision.0.weight"] == (0.1, 0.2)
    assert found["vision.1.weight"] == (0.1, 0.0)


def test_an_earlier_rule_is_not_overruled_by_a_later_one():
    rules = (GroupRule(("vision.0.*",), lr_mult=0.5), GroupRule(("vision.*",), lr_mult=0.1))
    found = by_name(parameter_groups(Net(), OptimizerConfig(lr=1.0, groups=rules)))
    assert found["vision.0.weight"][0] == 0.5
    assert found["vision.1.weight"][0] == 0.1


def test_a_rule_whose_parameters_all_belong_to_rules_before_it_is_an_error():
    rules = (GroupRule(("text.*",)), GroupRule(("text.0.*", "text.1.*"), lr_mult=0.1))
    with pytest.raises(ConfigError, match=r"every parameter that \['text\.0\.\*', 'text\.1\.\*'\] name"):
        parameter_groups(Net(), OptimizerConfig(groups=rules))
    parameter_groups(Net(), OptimizerConfig(groups=rules[::-1]))


def test_a_pattern_without_parameters_and_nothing_left_to_train_are_errors():
    with pytest.raises(ConfigError, match=r"'texts\.\*' names no parameter"):
        parameter_groups(Net(), OptimizerConfig(groups=(GroupRule(("texts.*",)),)))
    with pytest.raises(ConfigError, match="no parameter is left"):
        parameter_groups(Net(), OptimizerConfig(groups=(GroupRule(("*",), train=False),)))
    with pytest.raises(ConfigError, match="at least one pattern"):
        GroupRule()


def trained(**fields):
    torch.manual_seed(1)
    net = nn.Linear(3, 2)
    optimizer = build_optimizer(parameter_groups(net, OptimizerConfig(lr=0.1, **fields)), OptimizerConfig(**fields))
    for _ in range(3):
        net(torch.ones(1, 3)).square().sum().backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.weight.detach()


@pytest.mark.parametrize(
    "fields",
    [{"name": "adam"}, {"name": "sgd"}, {"weight_decay": 0.5}, {"betas": (0.5, 0.999)}, {"betas": (0.9, 0.5)},
     {"epsilon": 0.1}],
)  # fmt: skip
def test_every_field_of_the_optimiser_changes_what_is_learnt(fields):
    assert not torch.equal(trained(), trained(**fields))


def test_momentum_matters_to_sgd():
    assert not torch.equal(trained(name="sgd"), trained(name="sgd", momentum=0.5))


def test_set_lr_keeps_the_ratio_of_groups():
    config = OptimizerConfig(lr=0.2, groups=(GroupRule(("vision.*",), lr_mult=0.1),))
    optimizer = build_optimizer(parameter_groups(Net(), config), config)
    set_lr(optimizer, 0.5)
    assert sorted({round(group["lr"], 9) for group in optimizer.param_groups}) == [0.01, 0.1]
