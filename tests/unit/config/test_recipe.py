"""The recipe of experiment=photos over a table of images and machines."""

import pytest

from gan_lightning.config.recipe import KEYS, Facts, recipe, seconds_per_step
from gan_lightning.errors import UserError

SMALL = Facts(num_images=500, height=200, width=200)
MANY = Facts(num_images=20_000, height=512, width=512, device="gpu", memory=16 * 10**9, threads=8)

TABLE = {
    "500 images on a CPU": (
        SMALL,
        {
            "data.image_size": "32",
            "data.flip": "true",
            "model": "dcgan",
            "network.width": "32",
            "data.batch_size": "64",
            "augment": "diffaugment",
            "trainer.max_steps": "22000",
            "model.ema_decay": "0.9956",
            "eval.every_n_steps": "500",
            "callbacks.early_stopping.patience": "10",
        },
    ),
    "20,000 images on a GPU": (
        MANY,
        {
            "data.image_size": "128",
            "model": "dcgan",
            "network.width": "64",
            "data.batch_size": "128",
            "trainer.max_steps": "100000",
            "model.ema_decay": "0.9912",
            "eval.every_n_steps": "2500",
            "callbacks.early_stopping.patience": "10",
        },
    ),
    "3,000 images on a CPU": (
        Facts(num_images=3000, height=300, width=320),
        {"data.image_size": "64", "augment": "diffaugment", "trainer.max_steps": "32000"},
    ),
    "a night on one thread": (
        Facts(num_images=20_000, height=300, width=300, threads=1),
        {"data.image_size": "64", "trainer.max_steps": "55000"},
    ),
    "8,000 images": (Facts(num_images=8000, height=99, width=99), {"augment": "ada", "trainer.max_steps": "52000"}),
    "tiny images": (Facts(num_images=600, height=12, width=14), {"data.image_size": "16"}),
    "small rectangles": (Facts(600, 20, 26, same_ratio=True), {"data.image_size": "20"}),
    "digits": (Facts(num_images=600, height=28, width=28), {"data.image_size": "28"}),
    "gray images": (Facts(num_images=600, height=99, width=99, gray=True), {"data.channels": "1"}),
    "classes": (Facts(1800, 99, 99, class_sizes=(600, 700, 500)), {"model": "cgan"}),
    "small classes": (Facts(1800, 99, 99, class_sizes=(700, 601, 499)), {"model": "dcgan"}),
    "one class": (Facts(1800, 99, 99, class_sizes=(1800,)), {"model": "dcgan"}),
    "portraits": (Facts(3000, 400, 300, same_ratio=True), {"data.image_size": "[64,48]"}),
    "photos of any shape": (Facts(3000, 400, 300, same_ratio=False), {"data.image_size": "64"}),
    "huge panoramas": (Facts(3000, 4000, 40_000, same_ratio=True), {"data.image_size": "[32,64]"}),
    "low panoramas": (Facts(3000, 20, 400, same_ratio=True), {"data.image_size": "[16,32]"}),
    "little memory": (Facts(3000, 99, 99, memory=500_000_000), {"data.batch_size": "32"}),
    "three devices": (Facts(6000, 99, 99, device="gpu", devices=3), {"data.batch_size": "129"}),
}


def chosen(facts: Facts, **fixed: object) -> dict[str, str]:
    return {choice.key: choice.value for choice in recipe(facts, {k.replace("__", "."): v for k, v in fixed.items()})}


@pytest.mark.parametrize("case", TABLE)
def test_choices_follow_images_and_machine(case):
    facts, expected = TABLE[case]
    found = chosen(facts)
    assert {key: found.get(key) for key in expected} == expected


def test_all_choices_of_first_cases_are_listed():
    for facts, expected in [*TABLE.values()][:2]:
        assert chosen(facts) == expected


def test_flip_and_channels_depend_on_colour():
    gray = Facts(num_images=600, height=99, width=99, gray=True)
    assert "data.flip" not in chosen(gray)
    assert "data.channels" not in chosen(SMALL)
    assert "data.flip" not in chosen(MANY)


def test_fixed_settings_are_not_chosen_and_others_fit_them():
    assert "data.image_size" not in chosen(SMALL, data__image_size=64)
    assert chosen(SMALL, data__batch_size=16)["model.ema_decay"] == "0.9989"
    short = chosen(SMALL, trainer__max_steps=1000)
    assert "trainer.max_steps" not in short
    assert (short["model.ema_decay"], short["eval.every_n_steps"]) == ("0.9862", "100")
    assert "augment" not in chosen(SMALL, augment="ada")
    assert "callbacks.early_stopping.patience" not in chosen(SMALL, eval__every_n_steps=None)


def test_fixed_model_changes_budget_and_augmentation():
    many = Facts(num_images=20_000, height=300, width=300)
    assert chosen(many)["trainer.max_steps"] == "100000"
    assert chosen(many, model="wgan_gp")["trainer.max_steps"] == "21000"
    assert chosen(many, model="wgan")["trainer.max_steps"] == "30000"
    assert chosen(many, data__image_size=[128, 128])["trainer.max_steps"] == "27000"
    assert chosen(many, network__width=64)["trainer.max_steps"] == "27000"
    assert chosen(many, model__d_steps=5)["trainer.max_steps"] == "30000"
    vae = chosen(SMALL, model="vae")
    assert "augment" not in vae
    assert "model" not in vae


def test_fixed_network_keeps_its_width():
    assert "network.width" not in chosen(SMALL, network="resnet")
    assert "network.width" not in chosen(SMALL, model="vanilla", network="mlp")
    assert int(chosen(SMALL, network="resnet")["trainer.max_steps"]) < 22_000


@pytest.mark.parametrize(
    ("model", "size", "steps_per_second"),
    [("dcgan", 64, 3.84), ("wgan", 64, 1.07), ("wgan_gp", 64, 0.77), ("dcgan", 32, 18.4), ("wgan_gp", 32, 3.36)],
)
def test_estimated_duration_is_that_of_benchmarks(model, size, steps_per_second):
    """The measured values are those of benchmarks/throughput.json, with batches of 64 on two cores."""
    seconds = seconds_per_step(SMALL, size * size, model, "dcgan", 32, 64, None)
    assert 1 / seconds == pytest.approx(steps_per_second, rel=0.2)


def test_small_batches_keep_at_least_one_image_per_device():
    facts = Facts(3000, 99, 99, memory=1000, devices=3)
    assert chosen(facts)["data.batch_size"] == "18"


def test_too_few_images_are_error():
    with pytest.raises(UserError, match=r"^experiment=photos: needs at least 100 images, and there are 99; add images"):
        recipe(Facts(num_images=99, height=99, width=99), {})


def test_every_choice_has_a_reason_of_one_line():
    for facts, _ in TABLE.values():
        for choice in recipe(facts, {}):
            assert choice.reason
            assert "\n" not in choice.reason
            assert choice.key in KEYS
            assert choice.override == f"{choice.key}={choice.value}"


def test_reasons_name_what_they_depend_on():
    reasons = {choice.key: choice.reason for choice in recipe(SMALL, {})}
    assert reasons["data.image_size"] == "500 images of about 200 x 200 on a CPU; 64 from 2,000 images on"
    night = recipe(TABLE["a night on one thread"][0], {})
    assert "a night of 8 hours on 1 CPU thread, as estimated from benchmarks" in [choice.reason for choice in night]
    classes = recipe(TABLE["small classes"][0], {})
    assert "a conditional model needs 500 images of each class, and one has 499" in [one.reason for one in classes]
