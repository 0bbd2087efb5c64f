"""Settings, objective and conditions of each model, beyond the shared behaviour in tests/unit/model/test_model.py."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from training import fit_and_record, networks, weights

from gan_lightning.errors import UserError
from gan_lightning.model.acgan import ACGAN
from gan_lightning.model.cgan import CGAN
from gan_lightning.penalty.gradient_penalty import gradient_penalty


@pytest.mark.parametrize(
    ("name", "kind", "settings", "d_steps", "reuse"),
    [
        ("vanilla", torch.optim.Adam, {"lr": 2e-4, "betas": (0.5, 0.999)}, 1, False),
        ("dcgan", torch.optim.Adam, {"lr": 2e-4, "betas": (0.5, 0.999)}, 1, True),
        ("cgan", torch.optim.Adam, {"lr": 2e-4, "betas": (0.5, 0.999)}, 1, False),
        ("acgan", torch.optim.Adam, {"lr": 2e-4, "betas": (0.5, 0.999)}, 1, False),
        ("wgan", torch.optim.RMSprop, {"lr": 5e-5}, 5, False),
        ("wgan_gp", torch.optim.Adam, {"lr": 1e-4, "betas": (0.0, 0.9)}, 5, False),
    ],
)
def test_models_have_defaults_of_their_papers(build, name, kind, settings, d_steps, reuse):
    model, _ = build(f"model={name}")
    for optimizer, network in zip(model.configure_optimizers(), (model.generator, model.discriminator), strict=True):
        assert type(optimizer) is kind
        (group,) = optimizer.param_groups
        assert {key: tuple(v) if isinstance(v := group[key], list) else v for key in settings} == settings
        assert {id(p) for p in group["params"]} == {id(p) for p in network.parameters()}
    assert (model.d_steps, model.reuse_fake) == (d_steps, reuse)
    assert (model.generator_ema, model.generator_batch_multiplier) == (None, 1)
    assert model.clip_norms == {"g": None, "d": None}
    if name == "wgan":
        assert model.clip_value == 0.01
    if name == "wgan_gp":
        assert model.gp_weight == 10
    if name == "acgan":
        assert (model.class_weight_real, model.class_weight_fake, model.class_weight_generator) == (1, 0, 1)


def test_only_wgan_clips_weights(build, variant):
    _, seen = fit_and_record(build(f"model={variant}", "model.d_steps=2"), steps=2)
    # The state of the discriminator before the next update includes the clipping after the last one.
    found = [max(float(w.abs().max()) for w in snapshot.d) for snapshot in seen.snapshots if snapshot.when == "pre"][1:]
    limit = torch.tensor(0.01).item()
    if variant == "wgan":
        assert all(largest <= limit for largest in found)
        assert max(found) == limit
    else:
        assert all(largest > limit for largest in found)


def test_wgan_clips_weights_to_clip_value(build):
    model, _ = fit_and_record(build("model=wgan", "model.clip_value=0.003"), steps=1)
    largest = [max(float(w.abs().max()) for w in weights(net)) for net in (model.discriminator, model.generator)]
    assert largest[0] == torch.tensor(0.003).item() < largest[1]


def test_wgan_gp_penalty_uses_one_epsilon_per_sample(build):
    model, data = build("model=wgan_gp", "model.gp_weight=3")
    draws: list[Any] = []
    epsilon = torch.tensor([0.1, 0.9, 0.4, 0.6])

    def draw(distribution: Any, num: int, *shape: int) -> Tensor:
        draws.append((distribution, num, shape))
        return epsilon

    model.draw = draw
    torch.manual_seed(1)
    real, fake, y = torch.randn(4, *data.shape), torch.randn(4, *data.shape), torch.zeros(4, dtype=torch.long)
    terms, logits = model.discriminator_loss(real, fake, y)
    assert draws == [(torch.rand, 4, ())]
    assert set(terms) == {"adversarial", "gradient_penalty"}
    torch.testing.assert_close(logits.real, model.discriminator(real, y))
    torch.testing.assert_close(logits.fake, model.discriminator(fake, y))
    torch.testing.assert_close(
        terms["gradient_penalty"], 3 * gradient_penalty(model.discriminator, real, fake, y, epsilon)
    )
    x = torch.stack([e * r + (1 - e) * f for e, r, f in zip(epsilon, real, fake, strict=True)]).requires_grad_()
    (input_gradients,) = torch.autograd.grad(model.discriminator(x, y).sum(), x)
    expected_penalty = sum((s.square().sum().sqrt() - 1) ** 2 for s in input_gradients) / 4
    torch.testing.assert_close(terms["gradient_penalty"], 3 * expected_penalty)
    critic = model.discriminator(fake, y).mean() - model.discriminator(real, y).mean()
    torch.testing.assert_close(terms["adversarial"], critic)
    shared_epsilon = gradient_penalty(model.discriminator, real, fake, y, torch.full((4,), 0.1))
    assert not torch.allclose(terms["gradient_penalty"], 3 * shared_epsilon)


def test_acgan_class_loss_is_cross_entropy_of_logits():
    weights = {"class_weight_real": 2.0, "class_weight_fake": 0.5, "class_weight_generator": 0.3}
    model = ACGAN(**weights, **networks(num_classes=5))
    nn.init.normal_(model.discriminator.class_head.weight)
    real, fake, y = torch.randn(6, 1, 4, 4), torch.randn(6, 1, 4, 4), torch.tensor([0, 1, 2, 3, 4, 0])

    def cross_entropy(x: Tensor, softmax_first: bool = False) -> Tensor:
        logits = model.discriminator.class_head(model.discriminator.features(x, y))
        logits = logits.softmax(1) if softmax_first else logits
        log_p = logits - logits.exp().sum(1, keepdim=True).log()
        return -log_p[torch.arange(6), y].mean()

    (d, d_logits), (g, g_logits) = model.discriminator_loss(real, fake, y), model.generator_loss(fake, real, y)
    assert set(d) == {"adversarial", "class_real", "class_fake"}
    assert set(g) == {"adversarial", "class_fake"}
    torch.testing.assert_close(d_logits.real, model.discriminator(real, y))
    torch.testing.assert_close(d_logits.fake, model.discriminator(fake, y))
    torch.testing.assert_close(g_logits.fake, model.discriminator(fake, y))
    torch.testing.assert_close(d["class_real"], 2 * cross_entropy(real))
    torch.testing.assert_close(d["class_fake"], 0.5 * cross_entropy(fake))
    torch.testing.assert_close(g["class_fake"], 0.3 * cross_entropy(fake))
    assert not torch.allclose(d["class_real"], 2 * cross_entropy(real, softmax_first=True), rtol=1e-2)
    torch.testing.assert_close(g["adversarial"], F.softplus(-model.discriminator(fake, y)).mean())
    torch.testing.assert_close(
        d["adversarial"],
        F.softplus(-model.discriminator(real, y)).mean() + F.softplus(model.discriminator(fake, y)).mean(),
    )
    assert {"discriminator.class_head.weight", "discriminator.class_head.bias"} <= set(model.state_dict())
    g_opt, d_opt = model.configure_optimizers()
    head = model.discriminator.class_head.weight
    assert any(p is head for p in d_opt.param_groups[0]["params"])
    assert not any(p is head for p in g_opt.param_groups[0]["params"])


def test_acgan_discriminator_does_not_depend_on_label(build):
    model, data = build("model=acgan")
    model.eval()
    x = torch.randn(3, *data.shape)
    a, b = (model.classify(x, torch.full((3,), label)) for label in (1, 2))
    assert torch.equal(a[0], b[0])
    assert torch.equal(a[1], b[1])


@pytest.mark.parametrize(("g_classes", "d_classes"), [(0, 0), (10, 0), (0, 10)])
def test_conditional_models_need_networks_with_classes(g_classes, d_classes):
    with pytest.raises(ValueError, match=r"cgan: both networks need num_classes > 0"):
        CGAN(**networks(g_classes, d_classes))
    if not g_classes:
        with pytest.raises(ValueError, match=r"acgan: the generator needs num_classes > 0"):
            ACGAN(**networks(g_classes, d_classes))


def test_cgan_loss_depends_on_labels():
    model = CGAN(**networks(10, 10))
    x = torch.randn(2, 1, 4, 4)
    a, b = (model.discriminator_loss(x, x.flip(0), torch.full((2,), y))[0]["adversarial"] for y in (1, 2))
    assert not torch.allclose(a, b)


@pytest.mark.parametrize("name", ["cgan", "acgan"])
def test_conditional_models_reject_data_without_labels(run, tmp_path, name):
    with pytest.raises(UserError, match=rf"data\.root=.*: model={name} needs labels"):
        run(tmp_path, f"model={name}", "data=image_folder", f"data.root={save_images(tmp_path / 'images')}")


def save_images(folder: Any) -> Any:
    from PIL import Image

    folder.mkdir()
    for shade in range(4):
        Image.new("L", (16, 16), shade * 60).save(folder / f"{shade}.png")
    return folder
