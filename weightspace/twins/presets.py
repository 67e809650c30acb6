"""The published sparse twins as configurations."""

from weightspace.config import BadInput
from weightspace.twins.config import TwinsConfig
from weightspace.zoo.presets import FAMILIES, RESNETS, build_images, build_preset

EPOCHS, LOG_SIGMA2, THRESHOLD = 25, -10.0, 3.0
WEIGHT = 0.01
"""What the divergence would be multiplied by after the last epoch, beside the mean loss of an image."""
SHARD = 64
"""Members kept as one file."""


def list_twinned() -> tuple[str, ...]:
    """List the presets of zoos that have published twins.

    The engine makes twins of chains of blocks only; it refuses those of residual networks.
    """
    chains = [f"{family}_{kind}" for family in FAMILIES for kind in ("seed", "hyp_fix", "hyp_rand")]
    return (*chains, *(f"{images}_resnet18_seed" for images in RESNETS))


def build_twins(zoo: str) -> TwinsConfig:
    """Build the configuration of the published twins of a zoo, named as its preset is.

    Source: Schürholt et al., Model Zoos (arXiv 2209.14764), released scripts and networks for MNIST and SVHN, after
    which all others are made: epochs, start, threshold, each member's own optimizer and rate, and the divergence's
    weight, which is far above the variational bound's, one over the number of training images.
    Differs: weight decay and dropout end; biases of linear layers have variances too; log alpha is not held within 8
    (convolutions) or 10 (linear layers), beyond which a variance gets no gradient; sparsity is of all numbers,
    biases included.

    Raises:
        BadInput: no zoo of that name has published twins.
    """
    if zoo not in list_twinned():
        raise BadInput(f"twins: got {zoo!r}, wanted a zoo such as {', '.join(list_twinned()[:3])}")
    preset = build_preset(zoo)
    return TwinsConfig.model_validate(
        {
            "zoo": zoo,
            "images": preset.images,
            "from_epoch": preset.epochs,
            "method": {
                "kind": "variational",
                "epochs": EPOCHS,
                "log_sigma2": LOG_SIGMA2,
                "threshold": THRESHOLD,
                "penalty": WEIGHT * build_images(preset.images).split.train,
                "warmup_epochs": EPOCHS,
                "lr": None,
                "variance_lr": None,
            },
            "shard_size": SHARD,
            "device": "auto",
        }
    )


def build_pruned(zoo: str, sparsities: tuple[float, ...]) -> TwinsConfig:
    """Build the configuration of magnitude pruning beside the published twins of a zoo, without training on.

    Source: the comparison of arXiv 2304.13718.

    Raises:
        BadInput: no zoo of that name has published twins.
    """
    method = {"kind": "magnitude", "sparsities": sparsities, "scope": "network", "epochs": 0}
    return TwinsConfig.model_validate({**build_twins(zoo).model_dump(), "method": method})
