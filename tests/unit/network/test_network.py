"""Shapes, layers and initialisation of every pair of generator and discriminator."""

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from gan_lightning.config.image_size import num_downsamplings
from gan_lightning.network.dcgan import DCGANDiscriminator, DCGANGenerator
from gan_lightning.network.layers import (
    ConditionalBatchNorm2d,
    LabelChannel,
    LabelEmbedding,
    MeanPooledConv2d,
    UpsampledConv2d,
    normalisation,
)
from gan_lightning.network.mlp import MLPDiscriminator, MLPGenerator
from gan_lightning.network.resnet import DownBlock, ResNetDiscriminator, ResNetGenerator, UpBlock

PAIRS = {
    "dcgan": (DCGANGenerator, DCGANDiscriminator),
    "resnet": (ResNetGenerator, ResNetDiscriminator),
    "mlp": (MLPGenerator, MLPDiscriminator),
}
CONV = ["dcgan", "resnet"]
SHAPE, LATENT = (3, 16, 16), 6
Y = torch.tensor([0, 1, 2, 1])


def pair(name: str, shape=SHAPE, g=None, d=None, width=4) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    generator, discriminator = PAIRS[name]
    return generator(LATENT, shape, width=width, **(g or {})), discriminator(shape, width=width, **(d or {}))


def latents(num: int = 4) -> Tensor:
    return torch.randn(num, LATENT, generator=torch.Generator().manual_seed(1))


def images(shape=SHAPE, num: int = 4) -> Tensor:
    return torch.randn(num, *shape, generator=torch.Generator().manual_seed(2)).clamp(-1, 1)


def of_kind(network: nn.Module, *kinds: type) -> list[nn.Module]:
    return [module for module in network.modules() if isinstance(module, kinds)]


def kinds(layers: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in layers]


WEIGHTED = nn.Conv2d, nn.ConvTranspose2d, nn.Linear


# Shapes


@pytest.mark.parametrize("name", CONV)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "size", [(28, 28), (32, 32), (48, 48), (64, 64), (128, 128), (96, 64), (64, 96), (8, 12)], ids=str
)
def test_convolutional_networks_support_any_size_and_channels(name, channels, size):
    shape = (channels, *size)
    generator, discriminator = pair(name, shape, width=2)
    fake = generator(latents(2), Y[:2])
    assert fake.shape == (2, *shape)
    assert fake.abs().max() <= 1
    assert discriminator(fake, Y[:2]).shape == (2,)
    assert discriminator.features(fake, Y[:2]).shape == (2, discriminator.feature_dim)


@pytest.mark.parametrize("name", CONV)
@pytest.mark.parametrize("size", [(4, 4), (7, 7), (30, 30), (18, 18), (32, 30), (33, 33)], ids=str)
def test_sizes_that_are_no_multiples_of_4_are_error(name, size):
    for build in (lambda: PAIRS[name][0](LATENT, (3, *size)), lambda: PAIRS[name][1]((3, *size))):
        with pytest.raises(ValueError, match="multiples of 4"):
            build()


@pytest.mark.parametrize(
    ("size", "count"), [((28, 28), 2), ((32, 32), 3), ((48, 48), 3), ((64, 64), 4), ((128, 128), 5), ((96, 64), 4)]
)
def test_num_downsamplings_of_sizes(size, count):
    assert num_downsamplings(*size) == num_downsamplings(*reversed(size)) == count


@pytest.mark.parametrize("shape", [(2,), (1, 5, 7), (3, 4, 4)], ids=str)
def test_mlp_supports_any_shape(shape):
    generator, discriminator = pair("mlp", shape)
    fake = generator(latents() * 1000, Y)
    assert fake.shape == (4, *shape)
    assert discriminator(fake, Y).shape == (4,)
    is_image = len(shape) == 3
    assert (fake.abs().max() <= 1) == is_image, "images are bounded by tanh, points are not"


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_mlp_has_configured_depth_and_width(depth):
    generator, discriminator = pair("mlp", (2,), g={"depth": depth}, d={"depth": depth}, width=10)
    for network, ends in ((generator, (LATENT, 2)), (discriminator, (2, 1))):
        sizes = [(layer.in_features, layer.out_features) for layer in of_kind(network, nn.Linear)]
        assert sizes == [*pairwise([ends[0], *[10] * depth, ends[1]])]


def test_mlp_normalises_before_activations_except_first_of_discriminator():
    generator, discriminator = pair("mlp", (2,), g={"norm": "batch"}, d={"norm": "batch"})
    assert kinds(generator.net) == ["Linear", "BatchNorm1d", "ReLU"] * 3 + ["Linear"]
    assert kinds(discriminator.net) == ["Linear", "LeakyReLU", *["Linear", "BatchNorm1d", "LeakyReLU"] * 2]
    assert {layer.negative_slope for layer in of_kind(discriminator, nn.LeakyReLU)} == {0.2}


# DCGAN's layout (Radford et al., 2016, section 3)


def test_dcgan_for_64_pixels_matches_paper():
    generator, discriminator = DCGANGenerator(100, (3, 64, 64)), DCGANDiscriminator((3, 64, 64))
    layers = of_kind(generator, nn.ConvTranspose2d)
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == [*pairwise([100, 512, 256, 128, 64, 3])]
    assert [layer.stride for layer in layers[1:]] == [(2, 2)] * 4
    layers = of_kind(discriminator, nn.Conv2d)
    assert [(layer.in_channels, layer.out_channels) for layer in layers] == [*pairwise([3, 64, 128, 256, 512])]
    assert {(layer.kernel_size, layer.stride) for layer in layers} == {((4, 4), (2, 2))}
    assert discriminator.head.in_features == 512 * 4 * 4
    pooling = nn.MaxPool2d, nn.AvgPool2d, nn.AdaptiveAvgPool2d
    assert not of_kind(discriminator, *pooling) + of_kind(generator, *pooling)


def test_dcgan_channels_double_up_to_eight_times_width():
    generator, discriminator = pair("dcgan", (3, 128, 128), width=2)
    assert [layer.out_channels for layer in of_kind(generator, nn.ConvTranspose2d)] == [16, 16, 8, 4, 2, 3]
    assert [layer.out_channels for layer in of_kind(discriminator, nn.Conv2d)] == [2, 4, 8, 16, 16]


def test_dcgan_normalises_all_but_generator_output_and_discriminator_input():
    generator, discriminator = pair("dcgan", (3, 32, 32))
    kinds = [type(layer).__name__ for layer in [*generator.project, *generator.net]]
    assert kinds == ["ConvTranspose2d", "BatchNorm2d", "ReLU"] * 3 + ["ConvTranspose2d", "Tanh"]
    kinds = [type(layer).__name__ for layer in discriminator.net]
    assert kinds == ["Conv2d", "LeakyReLU", *["Conv2d", "BatchNorm2d", "LeakyReLU"] * 2, "Flatten"]
    assert {layer.negative_slope for layer in of_kind(discriminator, nn.LeakyReLU)} == {0.2}
    for network in (generator, discriminator):
        assert {layer.eps for layer in of_kind(network, nn.BatchNorm2d)} == {1e-5}


def test_dcgan_has_no_bias_before_batch_norm():
    for network in pair("dcgan", (3, 32, 32)):
        layers = [layer for layer in network.modules() if not [*layer.children()]]
        for layer, after in pairwise(layers):
            if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
                assert (layer.bias is None) == isinstance(after, nn.BatchNorm2d)


@pytest.mark.parametrize("upsample", ["conv_transpose", "nearest"])
def test_dcgan_without_norm_has_biases_everywhere(upsample):
    for network in pair("dcgan", (3, 32, 32), g={"norm": "none", "upsample": upsample}, d={"norm": "none"}):
        assert all(layer.bias is not None for layer in of_kind(network, *WEIGHTED))


def test_upsample_nearest_has_one_transposed_convolution():
    generator, _ = pair("dcgan", (3, 32, 32), g={"upsample": "nearest"})
    assert len(of_kind(generator, nn.ConvTranspose2d)) == 1, (
        "only the first layer, which makes no checkerboard from 1 x 1"
    )
    assert [layer.mode for layer in of_kind(generator, nn.Upsample)] == ["nearest"] * 3
    assert generator(latents(), Y).shape == (4, 3, 32, 32)


@pytest.mark.parametrize("network", [DCGANGenerator(100, (3, 64, 64)), DCGANDiscriminator((3, 64, 64))], ids=["g", "d"])
def test_dcgan_initialises_weights_from_normal_0_002(network):
    for layer in of_kind(network, *WEIGHTED):
        number = layer.weight.numel()
        assert abs(layer.weight.mean().item()) < 5 * 0.02 / number**0.5
        assert layer.weight.std().item() == pytest.approx(0.02, rel=5 / number**0.5)
        assert layer.bias is None or (layer.bias == 0).all()
    norms = of_kind(network, nn.BatchNorm2d)
    scales = torch.cat([norm.weight for norm in norms])
    assert abs(scales.mean().item() - 1) < 5 * 0.02 / len(scales) ** 0.5
    assert scales.std().item() == pytest.approx(0.02, rel=0.2)
    assert all((norm.bias == 0).all() for norm in norms)


@pytest.mark.parametrize("name", PAIRS)
def test_init_std_sets_std_of_initial_weights(name):
    for wide, narrow in zip(
        pair(name, g={"init_std": 0.5}, d={"init_std": 0.5}, width=16),
        pair(name, g={"init_std": None}, d={"init_std": None}, width=16),
        strict=True,
    ):
        for a, b in zip(of_kind(wide, *WEIGHTED), of_kind(narrow, *WEIGHTED), strict=True):
            if a.weight.numel() > 200:
                assert a.weight.std().item() == pytest.approx(0.5, rel=0.2)
                assert b.weight.std().item() < 0.45


@pytest.mark.parametrize("name", ["dcgan", "mlp"])
def test_init_std_none_uses_uniform_init_of_torch(name):
    for network in pair(name, g={"init_std": None, "norm": "batch"}, d={"init_std": None, "norm": "batch"}, width=16):
        for layer in of_kind(network, *WEIGHTED):
            bound = layer.weight[0].numel() ** -0.5
            assert layer.weight.abs().max() <= bound
            if layer.weight.numel() > 200:
                assert layer.weight.std().item() == pytest.approx(bound / 3**0.5, rel=0.1)
        assert of_kind(network, *EVERY_NORM)
        assert all((norm.weight == 1).all() for norm in of_kind(network, *EVERY_NORM))


def test_mlp_default_init_equals_that_of_torch():
    torch.manual_seed(0)
    plain = nn.Linear(2, 8)
    torch.manual_seed(0)
    assert torch.equal(MLPDiscriminator((2,), width=8).net[0].weight, plain.weight)


# Normalisation


NORM_LAYERS = {"batch": (nn.BatchNorm1d, nn.BatchNorm2d), "layer": (nn.LayerNorm, nn.GroupNorm), "none": ()}
EVERY_NORM = sum(NORM_LAYERS.values(), ())


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("norm", NORM_LAYERS)
def test_networks_use_configured_norm(name, norm):
    generator, discriminator = pair(name, d={"norm": norm}, g={} if name == "resnet" else {"norm": norm})
    for network in (discriminator,) if name == "resnet" else (generator, discriminator):
        norms = of_kind(network, *EVERY_NORM)
        assert bool(norms) == (norm != "none")
        assert all(isinstance(layer, NORM_LAYERS[norm]) for layer in norms)
        assert network(latents() if network is generator else images(), Y).isfinite().all()


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize(("norm", "independent"), [("none", True), ("layer", True), ("batch", False)])
def test_only_batch_norm_makes_samples_interdependent(name, norm, independent):
    _, discriminator = pair(name, d={"norm": norm, "init_std": None})
    x = images()
    with torch.no_grad():
        original = discriminator(x, Y)
        changed = x.clone()
        changed[1:] *= -0.5
        assert torch.allclose(original[0], discriminator(changed, Y)[0], atol=1e-6) == independent


def test_unknown_norm_of_convolutional_networks_is_error():
    for build in (
        lambda: DCGANGenerator(LATENT, SHAPE, norm="instance"),
        lambda: DCGANDiscriminator(SHAPE, norm="instance"),
        lambda: ResNetDiscriminator(SHAPE, norm="instance"),
    ):
        with pytest.raises(ValueError, match="norm=instance: must be one of none, batch, layer"):
            build()


def test_layer_norm_is_over_channels_and_pixels_of_sample():
    x = images() * torch.tensor([1.0, 5.0, 0.2]).view(3, 1, 1) + torch.tensor([0.0, 2.0, -1.0]).view(3, 1, 1)
    expected = torch.stack([(a - a.mean()) / (a.var(correction=0) + 1e-5).sqrt() for a in x])
    torch.testing.assert_close(normalisation("layer", 3)(x), expected)


def test_unknown_upsample_and_conditioning_are_error():
    with pytest.raises(ValueError, match="upsample=bilinear: must be one of conv_transpose, nearest"):
        DCGANGenerator(LATENT, SHAPE, upsample="bilinear")
    with pytest.raises(ValueError, match="conditioning=sum: must be one of concat, projection"):
        ResNetDiscriminator(SHAPE, conditioning="sum")
    with pytest.raises(ValueError, match="norm=instance: must be one of none, batch, layer"):
        MLPDiscriminator(SHAPE, depth=1, norm="instance")


@pytest.mark.parametrize("network", [MLPGenerator, MLPDiscriminator])
def test_unknown_norm_of_mlp_is_error(network):
    arguments = (LATENT, SHAPE) if network is MLPGenerator else (SHAPE,)
    with pytest.raises(ValueError, match="norm=instance: must be one of none, batch, layer"):
        network(*arguments, norm="instance")


# Classes


@pytest.mark.parametrize("name", PAIRS)
def test_output_depends_on_label_of_conditional_network(name):
    g, d = pair(name, g={"num_classes": 3}, d={"num_classes": 3})
    if name == "resnet":  # initially, scale and shift are equal for all classes
        for norm in of_kind(g, ConditionalBatchNorm2d):
            nn.init.normal_(norm.shift.weight)
    for network, x in ((g, latents()), (d, images())):
        network.eval()
        assert network.num_classes == 3
        a, b = (network(x, torch.full((4,), label)) for label in (0, 2))
        assert not torch.allclose(a, b)


@pytest.mark.parametrize("name", PAIRS)
def test_unconditional_network_ignores_labels(name):
    for network, x in zip(pair(name), (latents(), images()), strict=True):
        network.eval()
        assert network.num_classes == 0
        assert torch.equal(network(x, torch.zeros(4, dtype=torch.long)), network(x, torch.full((4,), 99)))


def test_label_embedding_has_initial_norm_of_one():
    lengths = LabelEmbedding(1000, 32).embedding.weight.norm(dim=1)
    assert lengths.mean().item() == pytest.approx(1, abs=0.02)


def test_label_is_concatenated_to_vector_and_image():
    vector, maps = LabelEmbedding(3, 5), LabelChannel(3, 16, 16)
    z, x = latents(), images()
    torch.testing.assert_close(vector(z, Y), torch.cat([z, vector.embedding.weight[Y]], dim=1))
    torch.testing.assert_close(maps(x, Y), torch.cat([x, maps.embedding.weight[Y].view(4, 1, 16, 16)], dim=1))
    assert LabelEmbedding(0, 5)(z, Y) is z
    assert LabelChannel(0, 16, 16)(x, Y) is x


def test_conditional_batch_norm_scales_and_shifts_per_class():
    norm, plain, x = ConditionalBatchNorm2d(3, 3), nn.BatchNorm2d(3), images()
    torch.testing.assert_close(norm(x, Y), plain(x))
    with torch.no_grad():
        norm.scale.weight[1], norm.shift.weight[1] = 2.0, 5.0
    expected = plain(x)
    expected[Y == 1] = 2 * expected[Y == 1] + 5
    torch.testing.assert_close(norm(x, Y), expected)


def test_projection_adds_inner_product_of_features_and_class():
    _, discriminator = pair("resnet", d={"num_classes": 3, "conditioning": "projection"})
    x = images()
    features = discriminator.features(x, Y)
    products = torch.stack([discriminator.projection.embedding.weight[y] @ f for y, f in zip(Y, features, strict=True)])
    torch.testing.assert_close(discriminator(x, Y), discriminator.head(features).squeeze(1) + products)
    assert products.abs().max() > 1e-3
    assert next(iter(of_kind(discriminator, nn.Conv2d))).in_channels == SHAPE[0], "the label is also concatenated to x"


# ResNet (Gulrajani et al., 2017, appendix F)


def test_resnet_for_32_pixels_matches_paper():
    generator, discriminator = ResNetGenerator(128, (3, 32, 32)), ResNetDiscriminator((3, 32, 32))
    assert len(of_kind(generator, UpBlock)) == 3
    assert generator.base == (128, 4, 4)
    blocks = of_kind(discriminator, DownBlock)
    x, sides = images((3, 32, 32), 1), []
    for block in blocks:
        x = block(x)
        sides.append(x.shape[-1])
    assert sides == [16, 8, 8, 8]
    assert discriminator.features(images((3, 32, 32)), Y).shape == (4, 128), "features are no mean over the last map"
    channels = {layer.out_channels for network in (generator, discriminator) for layer in of_kind(network, nn.Conv2d)}
    assert channels == {128, 3}
    assert not of_kind(discriminator, nn.BatchNorm2d)


def conv(layer: nn.Conv2d, x: Tensor) -> Tensor:
    return F.conv2d(x, layer.weight, layer.bias, padding=layer.kernel_size[0] // 2)


def test_up_block_matches_reference():
    torch.manual_seed(0)
    block, x = UpBlock(3, 5, 0), images()
    h = F.batch_norm(x, None, None, training=True).relu().repeat_interleave(2, 2).repeat_interleave(2, 3)
    h = F.batch_norm(conv(block.conv1, h), None, None, training=True).relu()
    shortcut = conv(block.shortcut, x).repeat_interleave(2, 2).repeat_interleave(2, 3)
    torch.testing.assert_close(block(x, Y), conv(block.conv2, h) + shortcut)


@pytest.mark.parametrize("norm", ["none", "layer"])
@pytest.mark.parametrize("down", [True, False])
@pytest.mark.parametrize("first", [True, False])
def test_down_block_matches_reference(norm, down, first):
    torch.manual_seed(0)
    block, x = DownBlock(3, 5, norm, down, first), images()
    first_conv, second_conv, shortcut = of_kind(block, nn.Conv2d)

    def normalise(h: Tensor) -> Tensor:
        return F.group_norm(h, 1) if norm == "layer" and not first else h

    def pool(h: Tensor) -> Tensor:
        return h.unflatten(3, (-1, 2)).unflatten(2, (-1, 2)).mean(dim=(3, 5)) if down else h

    h = conv(first_conv, x if first else normalise(x).relu())
    h = conv(second_conv, normalise(h).relu())
    torch.testing.assert_close(block(x), pool(h) + conv(shortcut, pool(x)))


def test_down_block_of_equal_shapes_has_identity_shortcut():
    torch.manual_seed(0)
    block, x = DownBlock(3, 3, "none", down=False), images()
    first_conv, second_conv = of_kind(block, nn.Conv2d)
    torch.testing.assert_close(block(x), conv(second_conv, conv(first_conv, x.relu()).relu()) + x)


@pytest.mark.parametrize("norm", ["none", "layer"])
def test_resnet_features_are_mean_of_rectified_last_map(norm):
    _, discriminator = pair("resnet", d={"norm": norm})
    x = images()
    for block in of_kind(discriminator, DownBlock):
        x = block(x)
    x = F.group_norm(x, 1) if norm == "layer" else x
    assert x.min() < 0, "without negative values the last ReLU makes no difference"
    torch.testing.assert_close(discriminator.features(images(), Y), x.relu().flatten(2).mean(2))


def test_resnet_does_not_normalise_or_rectify_image():
    """An activation or normalisation before the first convolution would lose the dark half of an image."""
    _, discriminator = pair("resnet", (3, 32, 32), d={"norm": "layer"})
    first, *rest = of_kind(discriminator, DownBlock)
    assert kinds(first.residual)[:2] == ["Identity", "Conv2d"]
    assert len(rest) == 3
    assert all(kinds(block.residual[0]) == ["GroupNorm", "ReLU"] for block in rest)


def test_resnet_generator_ends_with_norm_relu_conv_tanh():
    generator, _ = pair("resnet")
    assert kinds(generator.output) == ["BatchNorm2d", "ReLU", "Conv2d", "Tanh"]


def test_resnet_uses_he_initialisation():
    discriminator = ResNetDiscriminator((3, 32, 32))
    for layer in of_kind(discriminator, nn.Conv2d):
        fan_in = layer.weight[0].numel()
        gain = 2 if layer.kernel_size == (3, 3) else 1  # no ReLU before a shortcut
        if layer.weight.numel() > 1000:
            assert layer.weight.std().item() == pytest.approx((gain / fan_in) ** 0.5, rel=0.1)


# Settings


@pytest.mark.parametrize("name", PAIRS)
def test_spectral_norm_limits_every_layer_to_one(name):
    torch.manual_seed(0)
    discriminator = PAIRS[name][1](SHAPE, width=8, spectral_norm=True, norm="none", init_std=0.5).train()
    for _ in range(100):  # one power iteration per forward
        discriminator(images(), Y)
    layers = of_kind(discriminator, *WEIGHTED)
    assert all(is_parametrized(layer, "weight") for layer in layers)
    for layer in layers:
        assert torch.linalg.matrix_norm(layer.weight.flatten(1), 2).item() == pytest.approx(1, rel=0.02)
    plain = PAIRS[name][1](SHAPE, width=8, norm="none", init_std=0.5)
    assert any(torch.linalg.matrix_norm(layer.weight.flatten(1), 2) > 1.5 for layer in of_kind(plain, *WEIGHTED))


@pytest.mark.parametrize("name", PAIRS)
def test_dropout_is_random_in_training_mode_only(name):
    _, discriminator = pair(name, d={"dropout": 0.5, "init_std": None}, width=16)
    x = images()
    assert {layer.p for layer in of_kind(discriminator, nn.Dropout)} == {0.5}
    assert not torch.equal(discriminator(x, Y), discriminator(x, Y))
    discriminator.eval()
    assert torch.equal(discriminator(x, Y), discriminator(x, Y))
    assert not of_kind(pair(name)[1], nn.Dropout)


@pytest.mark.parametrize(
    ("name", "hidden"),
    [("dcgan", ["Conv2d", "LeakyReLU"]), ("mlp", ["Linear", "LeakyReLU"]), ("resnet", ["DownBlock"])],
)
def test_dropout_follows_every_hidden_layer(name, hidden):
    _, discriminator = pair(name, (3, 32, 32), d={"dropout": 0.5, "norm": "none"})
    layers = [kind for kind in kinds(discriminator.net) if kind != "Identity"]  # the place of a norm
    num_layers = {"dcgan": 3, "mlp": 3, "resnet": 4}[name]
    tail = {"dcgan": ["Flatten"], "mlp": [], "resnet": ["ReLU"]}[name]
    assert layers == [*hidden, "Dropout"] * num_layers + tail


@pytest.mark.parametrize("name", PAIRS)
@pytest.mark.parametrize("num_classes", [0, 3])
@pytest.mark.parametrize("norm", ["batch", "none"])
def test_every_parameter_has_a_gradient(name, num_classes, norm):
    g, d = pair(name, g={"num_classes": num_classes}, d={"num_classes": num_classes, "norm": norm}, width=16)
    d(g(latents(), Y), Y).square().sum().backward()
    for network in (g, d):
        for key, parameter in network.named_parameters():
            assert parameter.grad is not None, key
            assert parameter.grad.any(), key


@pytest.mark.parametrize("name", PAIRS)
def test_networks_are_restored_from_state_dict(name):
    settings = {"num_classes": 3}
    for network, x in zip(
        pair(name, g=settings, d=settings | {"spectral_norm": True}), (latents(), images()), strict=True
    ):
        network(x, Y)
        other = PAIRS[name][isinstance(network, PAIRS[name][1])]
        arguments = (LATENT, SHAPE) if other is PAIRS[name][0] else (SHAPE,)
        extra = {} if other is PAIRS[name][0] else {"spectral_norm": True}
        other = other(*arguments, width=4, **settings, **extra)
        other.load_state_dict(network.state_dict())
        assert torch.equal(network.eval()(x, Y), other.eval()(x, Y))


@pytest.mark.parametrize("kernel", [3, 1])
@pytest.mark.parametrize(
    ("layer", "two_steps"),
    [
        (MeanPooledConv2d, lambda x, w, b, p: F.avg_pool2d(F.conv2d(x, w, b, padding=p), 2)),
        (UpsampledConv2d, lambda x, w, b, p: F.conv2d(F.interpolate(x, scale_factor=2.0), w, b, padding=p)),
    ],
    ids=["mean_pooled", "upsampled"],
)
def test_fused_convolution_equals_two_steps(layer, two_steps, kernel):
    """Output and weight gradients are equal at every pixel, including borders."""
    torch.manual_seed(0)
    one, x = layer(3, 5, kernel, padding=kernel // 2).double(), torch.randn(2, 3, 6, 8, dtype=torch.float64)
    fused, separate = one(x), two_steps(x, one.weight, one.bias, kernel // 2)
    torch.testing.assert_close(fused, separate, rtol=0, atol=1e-12)
    mask = torch.randn_like(separate)
    gradients = [torch.autograd.grad((y * mask).sum(), [one.weight, one.bias]) for y in (fused, separate)]
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-10)
