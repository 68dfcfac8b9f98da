"""Recipes: functions that return a whole config. `python -m training NAME --data DIR --out DIR` runs one."""

from collections.abc import Callable
from dataclasses import replace

from model.rrdb import RRDBConfig
from training.config import ANY, DiscriminatorConfig, OptimiserConfig, TrainingConfig
from training.loss_config import ALL_LAYERS, LossConfig
from training.uploads import UploadConfig

PAPER = RRDBConfig(channels=64, blocks=23, growth=32, scale=4)
"""17.9 MMAC per low-res pixel: the generator of the paper, for a GPU."""

REAL_PAPER = replace(PAPER, padding_mode="replicate")
"""The same for real uploads: it repeats the pixels of the border, so a flat colour has no rim."""

COMPACT = RRDBConfig(channels=32, blocks=8, growth=16, scale=4, padding_mode="replicate")
"""1.79 MMAC per low-res pixel, a tenth of the paper's generator: the size that a CPU serves well."""

PAPER_LOSSES = LossConfig(l1=1e-2, perceptual=1.0, adversarial=5e-3)
"""Equation 3 of the paper: perceptual + 5e-3 adversarial + 1e-2 L1."""


def psnr_x4() -> TrainingConfig:
    """The paper's generator, first stage: L1 alone, the highest PSNR, the least invention.

    Command: python -m training psnr_x4 --data PHOTOS --validation OTHER_PHOTOS --out DIR
    Time: a million steps of 16 crops; not timed on a GPU yet. It continues after any interruption.
    Expect: the authors report 32.73 dB PSNR-Y on Set5, 28.99 on Set14, 27.85 on BSD100 (DF2K, 3,450 photographs).
    """
    return TrainingConfig(
        name="rrdb-psnr-x4",
        recipe="psnr_x4",
        generator=PAPER,
        steps=1_000_000,
        batch=16,
        crop_px=32,
        optimiser=OptimiserConfig(learning_rate=2e-4, halve_at=(200_000, 400_000, 600_000, 800_000)),
        validate_every=5_000,
    )


def esrgan_x4() -> TrainingConfig:
    """The paper's generator, second stage: sharp and textured, against the VGG-style discriminator.

    Command: python -m training esrgan_x4 --start PSNR_FILE --data PHOTOS --validation OTHER_PHOTOS --out DIR
    Time: 400,000 steps of 16 crops with VGG19 and the discriminator; not timed on a GPU yet.
    Expect: sharper pictures for some PSNR-Y: not measured here yet.
    """
    return TrainingConfig(
        name="rrdb-esrgan-x4",
        recipe="esrgan_x4",
        starts_from="psnr_x4",
        generator=PAPER,
        steps=400_000,
        batch=16,
        crop_px=32,
        optimiser=_PAPER_GAN,
        losses=PAPER_LOSSES,
        discriminator=DiscriminatorConfig(kind="vgg", optimiser=_PAPER_GAN),
        validate_every=5_000,
    )


def compact_psnr_x4() -> TrainingConfig:
    """Compact generator for x4, with L1 and the flat loss: the highest PSNR, the least invention.

    Command: python -m training compact_psnr_x4 --data PHOTOS --validation OTHER_PHOTOS --out DIR
    Time: 0.5 s a step on one core with AMX, on a machine that did other work as well.
    Expect: 31.6 dB PSNR-Y on Set5, 28.3 on Set14, from a generator for uploads that had learned for seven hours on one
        core, and with 5,200 more steps with L2; less from nothing. The card of the shipped file has the commands.
    """
    return TrainingConfig(
        name="compact-psnr-x4",
        recipe="compact_psnr_x4",
        generator=COMPACT,
        steps=10_000,
        batch=8,
        crop_px=48,
        optimiser=OptimiserConfig(
            method="muon", learning_rate=8e-4, warmup_steps=200, decay_steps=5_000, betas=(0.9, 0.99)
        ),
        losses=_COMPACT_LOSSES,
        validate_every=1_000,
    )


def compact_esrgan_x4() -> TrainingConfig:
    """Compact generator for x4, second stage: sharp and textured.

    Not the paper's losses: features of five layers instead of one, relative to their size, and a discriminator that
    judges every pixel. With conv5_4 alone a small network draws its grid of 16 px into dense texture.

    Command: python -m training compact_esrgan_x4 --start PSNR_FILE --data PHOTOS --validation OTHER_PHOTOS --out DIR
    Time: 2 s a step on one core with AMX, on a machine that did other work as well.
    Expect: LPIPS 40 % lower than the first stage's on Set14 and 46 % on BSD100, for 1.1 dB of PSNR-Y, from the GAN
        stage for uploads and its discriminator; less from the first stage alone.
    """
    return TrainingConfig(
        name="compact-esrgan-x4",
        recipe="compact_esrgan_x4",
        starts_from="compact_psnr_x4",
        generator=COMPACT,
        steps=3_000,
        batch=6,
        crop_px=40,
        optimiser=OptimiserConfig(learning_rate=2e-4, warmup_steps=50, decay_steps=1_000),
        losses=_COMPACT_GAN_LOSSES,
        discriminator=DiscriminatorConfig(
            kind="unet", channels=32, optimiser=OptimiserConfig(learning_rate=2e-4, decay_steps=1_000)
        ),
        ema_decay=0.995,
        validate_every=250,
        log_every=50,
    )


def real_psnr_x4() -> TrainingConfig:
    """The paper's generator for real uploads, first stage: L1 alone; cleans JPEG, noise and blur, and invents nothing.

    Command: python -m training real_psnr_x4 --data PHOTOS --validation OTHER_PHOTOS --out DIR
    Time: half a million steps of 16 crops; no run of it has been made yet. --start takes any network of these sizes,
        also a published one, and then fewer --steps should do.
    """
    return TrainingConfig(
        name="rrdb-real-psnr-x4",
        recipe="real_psnr_x4",
        generator=REAL_PAPER,
        steps=500_000,
        batch=16,
        crop_px=48,
        optimiser=OptimiserConfig(learning_rate=2e-4, warmup_steps=1_000, decay_steps=100_000, betas=(0.9, 0.99)),
        degradation=UploadConfig(),
        validate_every=5_000,
    )


def real_esrgan_x4() -> TrainingConfig:
    """The paper's generator for real uploads, second stage: sharp and textured, against a discriminator of every pixel.

    In the manner of Real-ESRGAN (arXiv 2107.10833), not a copy of it: the loss weights and the kind of discriminator
    are taken from there. The adversarial loss is relativistic, as in ESRGAN, the targets are not sharpened, and all
    five layers of VGG19 count alike, relative to their size.

    Command: python -m training real_esrgan_x4 --start PSNR_FILE --data PHOTOS --validation OTHER_PHOTOS --out DIR
    Time: 400,000 steps of 16 crops with VGG19 and the discriminator; no run of it has been made yet.
    """
    return TrainingConfig(
        name="rrdb-real-esrgan-x4",
        recipe="real_esrgan_x4",
        starts_from="real_psnr_x4",
        generator=REAL_PAPER,
        steps=400_000,
        batch=16,
        crop_px=64,
        optimiser=OptimiserConfig(learning_rate=1e-4, warmup_steps=500, decay_steps=100_000, betas=(0.9, 0.99)),
        losses=LossConfig(
            l1=1.0, perceptual=1.0, adversarial=0.1, perceptual_layers=ALL_LAYERS, feature_scale="relative"
        ),
        discriminator=DiscriminatorConfig(
            kind="unet",
            share=0.625,
            optimiser=OptimiserConfig(learning_rate=1e-4, decay_steps=100_000, betas=(0.9, 0.99)),
        ),
        degradation=UploadConfig(),
        validate_every=5_000,
    )


def compact_real_psnr_x4() -> TrainingConfig:
    """Compact generator for real uploads, with L1 and the flat loss: cleans JPEG, noise and blur, and invents nothing.

    Command: python -m training compact_real_psnr_x4 --data PHOTOS --validation OTHER_PHOTOS --out DIR
    Time: 4,700 steps in 35 minutes on one core with AMX, on a machine that did other work as well. --start may name a
        generator of compact_psnr_x4.
    """
    return TrainingConfig(
        name="compact-real-psnr-x4",
        recipe="compact_real_psnr_x4",
        generator=COMPACT,
        steps=20_000,
        batch=8,
        crop_px=48,
        optimiser=OptimiserConfig(
            method="muon", learning_rate=8e-4, warmup_steps=200, decay_steps=4_000, betas=(0.9, 0.99)
        ),
        losses=_COMPACT_LOSSES,
        degradation=UploadConfig(),
        validate_every=1_000,
    )


def compact_real_esrgan_x4() -> TrainingConfig:
    """Compact generator for real uploads, second stage: clean, sharp and textured.

    The losses are those of `compact_esrgan_x4`. Low-res crops are damaged, and the high-res ones that the losses
    compare with are clean, so the network learns to remove damage and to draw texture at once. The discriminator judges
    only the crops with the least noise: it asks for texture wherever it is missing, and noise would become that.

    Command: python -m training compact_real_esrgan_x4 --start PSNR_FILE --data PHOTOS --validation OTHERS --out DIR
    Time: 2 s a step on one core with AMX, on a machine that did other work as well: five hours and a half.
    """
    return TrainingConfig(
        name="compact-real-esrgan-x4",
        recipe="compact_real_esrgan_x4",
        starts_from="compact_real_psnr_x4",
        generator=COMPACT,
        steps=10_000,
        batch=8,
        crop_px=40,
        optimiser=OptimiserConfig(learning_rate=2e-4, warmup_steps=50, decay_steps=2_000),
        losses=_COMPACT_GAN_LOSSES,
        discriminator=DiscriminatorConfig(
            kind="unet", channels=32, share=0.625, optimiser=OptimiserConfig(learning_rate=2e-4, decay_steps=2_000)
        ),
        degradation=UploadConfig(),
        ema_decay=0.995,
        validate_every=500,
    )


def finetune_x4() -> TrainingConfig:
    """Any generator, trained further on pictures of one's own with L1; sizes and scale are those of the --start file.

    For pictures as people upload them, with blur, noise and compression: --set degradation=default

    Command: python -m training finetune_x4 --start FILE --data PHOTOS --out DIR
    Time: 530 TFLOP for x4plus, and the measurements; the run itself says how long that takes.
    """
    return TrainingConfig(
        name="finetuned",  # the command puts the start's name before it
        recipe="finetune_x4",
        starts_from=ANY,
        generator=PAPER,
        steps=1_200,
        batch=4,
        crop_px=32,
        optimiser=OptimiserConfig(method="muon", learning_rate=4e-4, warmup_steps=50, decay_steps=450),
        ema_decay=0.98,
        validate_every=200,
        log_every=10,
    )


def smoke() -> TrainingConfig:
    """A tiny generator that beats bicubic within minutes on two CPU cores: try this first.

    Command: python -m training smoke --data PHOTOS --out DIR
    Time: 100 s on two idle cores with AVX512-BF16.
    Expect: above bicubic from step 150 on, 0.4 dB above it at the end.
    """
    return TrainingConfig(
        name="smoke-x4",
        recipe="smoke",
        generator=RRDBConfig(channels=24, blocks=2, growth=12, scale=4),
        steps=400,
        batch=8,
        crop_px=24,
        optimiser=OptimiserConfig(method="muon", learning_rate=2e-3, warmup_steps=20),
        ema_decay=0.98,
        validate_every=50,
        log_every=50,
    )


_PAPER_GAN = OptimiserConfig(learning_rate=1e-4, halve_at=(50_000, 100_000, 200_000, 300_000))
"""Section 4.1 of the paper, for both networks."""

_COMPACT_LOSSES = LossConfig(l1=1.0, flat=0.5)

_COMPACT_GAN_LOSSES = LossConfig(
    l1=10.0,
    perceptual=1.0,
    adversarial=0.2,
    artefacts=200.0,
    flat=300.0,
    perceptual_layers=ALL_LAYERS,
    feature_scale="relative",
)

RECIPES: dict[str, Callable[[], TrainingConfig]] = {
    recipe.__name__: recipe
    for recipe in (
        smoke,
        finetune_x4,
        compact_real_psnr_x4,
        compact_real_esrgan_x4,
        compact_psnr_x4,
        compact_esrgan_x4,
        real_psnr_x4,
        real_esrgan_x4,
        psnr_x4,
        esrgan_x4,
    )
}
