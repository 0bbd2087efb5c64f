"""Settings as other repositories name them: the error suggests the key of this project, or gives a reason."""

import pytest
from command_errors import errors

SYNONYMS = {
    "epochs=50": "trainer.max_steps",
    "num_epochs=50": "trainer.max_steps",
    "niter=25": "trainer.max_steps",
    "+trainer.max_epochs=50": "trainer.max_steps",
    "n_critic=5": "model.d_steps",
    "model.n_critic=5": "model.d_steps",
    "critic_iters=5": "model.d_steps",
    "batch_size=128": "data.batch_size",
    "bs=64": "data.batch_size",
    "diffaugment=true": "augment=diffaugment",
    "ada_target=0.6": "augment=ada",
    "truncation_psi=0.7": "gan-sample --truncation",
    "eval.split=test": "eval.reference",
    "patience=5": "callbacks.early_stopping.patience",
    "accumulate_grad_batches=2": "trainer.micro_batch",
    "batch_gpu=16": "trainer.micro_batch",
    "lr=0.0002": "model.generator_optimizer.lr",
    "lrG=0.0001": "model.generator_optimizer.lr",
    "beta1=0.5": "model.generator_optimizer.betas",
    "model.beta1=0.5": "model.generator_optimizer.betas",
    "optimizer=adam": "optimizer@model.generator_optimizer",
    "logger=none": "~logger leaves it out",
    "logger=false": "~logger leaves it out",
    "scheduler=cosine": "callbacks.learning_rate.schedule",
    "device=cuda": "trainer.accelerator",
    "gpus=1": "trainer.devices",
    "trainer.gpus=1": "trainer.devices",
    "nz=100": "model.latent_dim",
    "z_dim=100": "model.latent_dim",
    "ngf=64": "network.width",
    "nc=3": "data.channels",
    "imageSize=64": "data.image_size",
    "dataset=mnist": "data=",
    "data_dir=data": "data.root",
    "data.num_workers=4": "no worker processes",
    "lambda_gp=10": "model.gp_weight",
    "model.lambda_gp=10": "model.gp_weight",
    "clip=0.01": "model.clip_value",
    "manualSeed=42": "seed=",
    "outf=out": "hydra.run.dir",
    "resume=last": "ckpt_path",
    "pretrained=x.ckpt": "init_from",
    "wandb=true": "logger=wandb",
    "fp16=true": "trainer.precision",
    "precision=16": "trainer.precision",
    "trainer.precision=fp16": "trainer.precision=16-mixed",
    "network.generator.upsample=deconv": "upsample=conv_transpose",
    "trainer.accelerator=cuda:0": "trainer.devices=[0]",
    "trainer.accelerator=ddp": "trainer=ddp",
    "sample_interval=100": "callbacks.sample_grid",
    "callbacks.sample_grid.sample_interval=1": "1, 2, 5",
    "save_every=100": "callbacks.checkpoint.every_n_steps",
    "label_smoothing=0.1": "loss.label_smoothing",
    "ema=true": "model.ema_decay",
    "gan_mode=lsgan": "loss=",
    "data=cifar": "data=cifar10",
    "data=custom": "data=image_folder",
    "data=zip": "data=image_folder",
    "data=webdataset": "data=image_folder",
    "data=huggingface": "data=hub",
    "loss=lsgan": "loss=least_squares",
    "metric=fd": "metric=fid",
    "metric=kernel_distance": "metric=kid",
    "metric=precision": "metric=precision_recall",
    "loss=wgan-gp": "model=wgan_gp",
    "model=gan": "model=vanilla",
    "model=lsgan": "loss=least_squares",
    "model=wgan-gp": "model=wgan_gp".partition("=")[2],
    "experiment=celeba": "experiment=dcgan_celeba",
}


@pytest.mark.parametrize("override", SYNONYMS)
def test_setting_of_other_repositories_is_error_with_suggestion(override):
    (error,) = errors(override)
    assert SYNONYMS[override] in error


@pytest.mark.parametrize(
    ("flags", "expected"),
    [(["--epochs", "50"], "trainer.max_steps"), (["--batch_size=64"], "data.batch_size"), (["--lr", "1"], "lr=RATE")],
)
def test_flag_of_other_repositories_is_error_with_suggestion(flags, expected):
    messages = errors(*flags)
    assert "settings are KEY=VALUE" in messages[0]
    assert any(expected in line for line in messages[1:])


@pytest.mark.parametrize(
    "key",
    [
        "max_epochs",
        "min_steps",
        "logger",
        "default_root_dir",
        "enable_checkpointing",
        "enable_progress_bar",
        "enable_model_summary",
        "limit_train_batches",
        "accumulate_grad_batches",
        "gradient_clip_val",
        "fast_dev_run",
    ],
)
def test_unsupported_trainer_options_of_lightning_are_errors(key):
    assert any(error.startswith(f"trainer.{key}: is not supported; ") for error in errors(f"+trainer.{key}=1"))
