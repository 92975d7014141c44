"""Swin against transformers' implementation with the same random weights, and the promises of `after_stage`."""

import pytest
import torch
from torch import nn

from refseg.encoders.vision.swin import SWIN_B, SWIN_T, Swin, SwinConfig, from_transformers
from refseg.errors import CheckpointError, ConfigError

TINY = SwinConfig(embed_dim=16, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=4, drop_path=0.0)


@pytest.fixture(scope="module")
def theirs():
    from transformers import SwinBackbone
    from transformers import SwinConfig as TheirConfig

    config = TheirConfig(
        image_size=128,
        embed_dim=TINY.embed_dim,
        depths=list(TINY.depths),
        num_heads=list(TINY.heads),
        window_size=TINY.window,
        drop_path_rate=0.0,
        out_features=["stage1", "stage2", "stage3", "stage4"],
    )
    torch.manual_seed(3)
    model = SwinBackbone(config).eval()
    for parameter in model.parameters():
        nn.init.normal_(parameter, mean=0.2 if parameter.ndim == 1 else 0.0, std=0.2)
    return model


def renamed(model) -> dict[str, torch.Tensor]:
    state = model.state_dict()
    norms = {name: value for name, value in state.items() if name.startswith("hidden_states_norms")}
    ours = from_transformers({name: value for name, value in state.items() if name not in norms})
    for stage in range(4):
        for part in ("weight", "bias"):
            ours[f"norm{stage}.{part}"] = norms[f"hidden_states_norms.stage{stage + 1}.{part}"]
    return ours


@pytest.mark.parametrize("size", [(160, 192), (163, 190), (170, 201)])
def test_same_maps_as_transformers(theirs, size):
    # Sizes whose smallest map is larger than a window: below that, transformers shrinks the window and does not shift.
    model = Swin(TINY).eval()
    model.load_state_dict(renamed(theirs))
    images = torch.randn(2, 3, *size)
    with torch.no_grad():
        maps, expected = model(images), theirs(images).feature_maps
    assert list(maps) == [4, 8, 16, 32]
    for ours, wanted in zip(maps.values(), expected, strict=True):
        assert ours.shape == wanted.shape
        assert (ours - wanted).abs().max() < 3e-6 * wanted.abs().max()


def test_names_of_hub_files_are_known(theirs):
    new, old = renamed(theirs), {}
    changes = {
        "attention.q_proj": "attention.self.query",
        "attention.k_proj": "attention.self.key",
        "attention.v_proj": "attention.self.value",
        "attention.o_proj": "attention.output.dense",
        "attention.relative_position_bias.relative": "attention.self.relative",
        "mlp.fc1": "intermediate.dense",
        "mlp.fc2": "output.dense",
    }
    for name, value in theirs.state_dict().items():
        if name.startswith("hidden_states_norms"):
            continue
        for after, before in changes.items():
            name = name.replace(after, before)
        old[name] = value
    old["swin.encoder.layers.0.blocks.0.attention.self.relative_position_index"] = torch.zeros(16, 16).long()
    old["swin.layernorm.weight"] = old["classifier.weight"] = torch.zeros(3)
    loaded = from_transformers(old)
    assert all(torch.equal(loaded[name], new[name]) for name in new if not name.startswith("norm"))
    with pytest.raises(CheckpointError, match="bert"):
        from_transformers({"bert.embeddings.weight": torch.zeros(1)})
    with pytest.raises(CheckpointError, match="query, key and value"):
        from_transformers({"swin.encoder.layers.0.blocks.0.attention.self.query.weight": torch.zeros(2, 2)})


def test_after_stage_sees_every_stage_and_splits_the_way():
    model = Swin(TINY).eval()
    images = torch.randn(1, 3, 64, 48)
    seen = []

    def doubled_onward(stage, tokens, size):
        seen.append((stage, tuple(tokens.shape), size))
        return torch.full_like(tokens, float(stage)) * torch.arange(tokens.shape[2]), tokens * 2

    with torch.no_grad():
        plain, fused = model(images), model(images, doubled_onward)
        same = model(images, lambda stage, tokens, size: (tokens, tokens))
    assert seen == [(i, (1, (16 >> i) * (12 >> i), 16 << i), (16 >> i, 12 >> i)) for i in range(3)] + [
        (3, (1, 4, 128), (2, 2))
    ]
    assert all(torch.equal(plain[stride], same[stride]) for stride in plain)
    # What goes out is what the callable returned first, normalised; constant tokens of stage 0 normalise to zero.
    assert torch.equal(fused[4], torch.zeros_like(fused[4]))
    ramp = nn.functional.layer_norm(torch.arange(32.0), (32,))
    torch.testing.assert_close(fused[8][0, :, 0, 0], ramp, rtol=1e-4, atol=1e-4)


def test_small_and_odd_pictures_and_batches():
    model = Swin(TINY).eval()
    with torch.no_grad():
        for size in [(1, 1), (5, 70), (33, 31)]:
            images = torch.randn(3, 3, *size)
            together = model(images)
            assert together[32].shape[-2:] == (-(-size[0] // 32), -(-size[1] // 32))
            alone = model(images[1:2])
            for stride, maps in together.items():
                torch.testing.assert_close(maps[1:2], alone[stride], rtol=1e-4, atol=1e-5)


def test_drop_path_acts_in_training_only():
    model = Swin(SwinConfig(embed_dim=16, depths=(2, 2, 2, 2), heads=(1, 2, 4, 8), window=4, drop_path=0.9))
    images = torch.randn(1, 3, 32, 32)
    with torch.no_grad():
        assert not torch.equal(model.train()(images)[32], model(images)[32])
        assert torch.equal(model.eval()(images)[32], model(images)[32])


def test_gradient_reaches_every_parameter_and_inference_does_not_spoil_it():
    model = Swin(TINY)
    images = torch.randn(2, 3, 72, 56)
    with torch.inference_mode():
        model(images)
    sum(maps.square().mean() for maps in model(images).values()).backward()
    # The last map's normalisation sees mean zero whatever its scale; all others must move.
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert sum(bool(parameter.grad.any()) for parameter in model.parameters()) == len(list(model.parameters()))


@pytest.mark.parametrize(
    "fields",
    [
        {"heads": (3, 8, 16, 32)},
        {"depths": (2, 2, 0, 2)},
        {"window": 1},
        {"drop_path": 1.0},
        {"mlp_ratio": 0.0},
    ],
)
def test_impossible_configurations(fields):
    with pytest.raises(ConfigError, match=next(iter(fields))):
        SwinConfig(**fields)


@pytest.mark.parametrize(
    "fields", [{"mlp_ratio": 2.0}, {"qkv_bias": False}, {"window": 6}, {"depths": (1, 2, 2, 2)}, {"embed_dim": 32}]
)
def test_fields_change_parameters(fields):
    def shapes(config):
        return {name: value.shape for name, value in Swin(config).state_dict().items()}

    values = {name: getattr(TINY, name) for name in ("embed_dim", "depths", "heads", "window", "drop_path")}
    assert shapes(SwinConfig(**values | fields)) != shapes(TINY)


def test_published_sizes():
    with torch.device("meta"):
        counts = [sum(p.numel() for p in Swin(config).parameters()) for config in (SWIN_T, SWIN_B)]
    # ImageNet's encoders without head (27,519,354 and 86,878,584), minus the final norm, plus the norms of four maps.
    assert counts == [27_519_354 - 2 * 768 + 2 * (96 + 192 + 384 + 768), 86_878_584 - 2 * 1024 + 2 * 1920]
