"""Names of settings in other repositories, for suggestions that string similarity does not find."""

NO_WORKERS = "images are held in memory and batches are made on the device, so there are no worker processes"
STEPS = (
    "trainer.max_steps=NUMBER counts generator steps; an epoch is (images / (data.batch_size * model.d_steps)) of them"
)
BETAS = "model.generator_optimizer.betas=[BETA1,BETA2] and model.discriminator_optimizer.betas=[BETA1,BETA2]"
RATES = "model.generator_optimizer.lr=RATE and model.discriminator_optimizer.lr=RATE"
GRIDS = "callbacks.sample_grid.every_n_steps=NUMBER, besides steps 1, 2, 5, 10, 20, 50, ... and the last"
PRECISION = "trainer.precision=16-mixed or trainer.precision=bf16-mixed"

# By the last part of a key, in lower case and without punctuation.
KEYS = {
    **dict.fromkeys(("epoch", "epochs", "numepochs", "nepochs", "niter", "maxepochs", "minepochs", "numiters"), STEPS),
    **dict.fromkeys(("ncritic", "criticiters", "criticsteps", "ndis"), "model.d_steps=NUMBER"),
    **dict.fromkeys(("batchsize", "bs", "batch"), "data.batch_size=NUMBER"),
    **dict.fromkeys(("accumulategradbatches", "gradientaccumulationsteps", "batchgpu"), "trainer.micro_batch=NUMBER"),
    **dict.fromkeys(("lr", "learningrate"), RATES),
    **dict.fromkeys(("lrg", "glr"), "model.generator_optimizer.lr=RATE"),
    **dict.fromkeys(("lrd", "dlr"), "model.discriminator_optimizer.lr=RATE"),
    **dict.fromkeys(("beta1", "b1", "beta2", "b2"), BETAS),
    "optimizer": "optimizer@model.generator_optimizer=sgd and optimizer@model.discriminator_optimizer=sgd",
    "scheduler": "callbacks.learning_rate.schedule=linear_decay",
    **dict.fromkeys(("device", "cuda", "usecuda"), "trainer.accelerator=gpu or trainer.accelerator=cpu"),
    **dict.fromkeys(("gpu", "gpus", "ngpu", "numgpus"), "trainer.accelerator=gpu trainer.devices=NUMBER"),
    **dict.fromkeys(("nz", "zdim", "latentdim", "noisedim", "latentsize"), "model.latent_dim=NUMBER"),
    **dict.fromkeys(("ngf", "ndf", "nf"), "network.width=NUMBER"),
    **dict.fromkeys(("nc", "channels"), "data.channels=1 or data.channels=3"),
    **dict.fromkeys(("imagesize", "imgsize", "imsize", "resolution"), "data.image_size=NUMBER"),
    "dataset": "data=OPTION",
    **dict.fromkeys(("dataroot", "datadir", "datapath"), "data.root=FOLDER"),
    **dict.fromkeys(("workers", "numworkers"), NO_WORKERS),
    **dict.fromkeys(("lambdagp", "gplambda", "lambdaterm", "gpweight"), "model.gp_weight=NUMBER with model=wgan_gp"),
    **dict.fromkeys(("clip", "clipvalue", "weightclip"), "model.clip_value=NUMBER with model=wgan"),
    **dict.fromkeys(("manualseed", "randomseed"), "seed=NUMBER"),
    **dict.fromkeys(("outf", "outputdir", "outdir", "savedir", "logdir", "defaultrootdir"), "hydra.run.dir=FOLDER"),
    **dict.fromkeys(("ckpt", "resume", "checkpoint"), "ckpt_path=FILE, or ckpt_path=last hydra.run.dir=FOLDER"),
    "pretrained": "init_from=FILE",
    "wandb": "logger=wandb",
    **dict.fromkeys(("fp16", "amp", "precision", "mixedprecision"), PRECISION),
    "sampleinterval": GRIDS,
    **dict.fromkeys(("saveevery", "saveinterval"), "callbacks.checkpoint.every_n_steps=NUMBER"),
    "labelsmoothing": "loss.label_smoothing=NUMBER",
    "dropout": "network.discriminator.dropout=NUMBER",
    "spectralnorm": "network.discriminator.spectral_norm=true",
    "ema": "model.ema_decay=0.999",
    "ganmode": "loss=OPTION",
    **dict.fromkeys(("aug", "diffaug", "diffaugment", "augpipe", "augmentation", "policy"), "augment=diffaugment"),
    **dict.fromkeys(("ada", "adatarget", "adakimg", "adaptive"), "augment=ada"),
    **dict.fromkeys(("truncation", "truncationpsi", "trunc"), "gan-sample --truncation NUMBER"),
    **dict.fromkeys(("evalsplit", "split", "refdataset"), "eval.reference=train, test, all or FOLDER"),
    **dict.fromkeys(("earlystopping", "patience"), "callbacks.early_stopping.patience=NUMBER"),
}

# By the group and the option, in lower case and without punctuation.
OPTIONS = {
    "data": {"cifar": "cifar10", "huggingface": "hub", "hf": "hub"}
    | dict.fromkeys(("custom", "folder", "images", "zip", "tar", "webdataset", "parquet", "arrow"), "image_folder"),
    "loss": {"lsgan": "least_squares", "mse": "least_squares", "bce": "non_saturating", "vanilla": "minimax"}
    | {"wgangp": "wasserstein with model=wgan_gp", "wgan": "wasserstein"},
    "model": {"gan": "vanilla", "lsgan": "dcgan loss=least_squares", "sngan": "dcgan with spectral_norm=true"},
    "metric": {"fd": "fid", "kd": "kid", "frechetdistance": "fid", "kerneldistance": "kid", "mmd": "kid"}
    | dict.fromkeys(("is", "inceptionscore"), "inception_score")
    | dict.fromkeys(("pr", "precision", "recall", "prdc"), "precision_recall"),
    "experiment": {"celeba": "dcgan_celeba", "cifar10": "wgan_gp_cifar10", "mnist": "vanilla_mnist"},
}

VALUES = {
    "trainer.precision": {"fp16": "16-mixed", "16": "16-mixed", "bf16": "bf16-mixed", "fp32": "32-true"},
    "network.generator.upsample": {"transposed": "conv_transpose", "deconv": "conv_transpose"},
    "trainer.accelerator": {"ddp": "auto with trainer=ddp", "cuda:0": "cuda with trainer.devices=[0]"},
}


def normalize(word: str) -> str:
    """Return a word in lower case, with letters and digits only."""
    return "".join(letter for letter in word.lower() if letter.isalnum())


def suggest_key(key: str) -> str:
    """Return a suggestion for an unknown key, as it continues an error message; empty if there is none.

    Args:
        key: A key as typed, such as ``model.lambda_gp`` or ``--batch_size``.
    """
    found = KEYS.get(normalize(key.rpartition(".")[2]))
    return f"; {found}" if found else ""


def suggest_option(group: str, option: str) -> str:
    """Return a suggestion for an unknown option of a group, as it continues an error message; empty if none."""
    found = OPTIONS.get(group, {}).get(normalize(option))
    return f", here it is {group}={found}" if found else ""


def suggest_value(key: str, value: object) -> str:
    """Return a suggestion for an invalid value, as it ends an error message; empty if there is none."""
    found = VALUES.get(key, {}).get(str(value).lower())
    return f"; here it is {key}={found}" if found else ""
