"""Say in words what the keys of tables stand for, the same words everywhere."""

from collections.abc import Iterable

from weightspace.report.plot import BLUE, GREEN, GREY, INK, OCHRE, ORANGE, PURPLE, SKY

ROWS = {
    "random_init": "random init (zoo's)",
    "random_init_sane": "random init (Kaiming)",
    "scratch": "scratch (zoo's init)",
    "scratch_sane": "scratch (Kaiming)",
    "anchors": "anchors",
    "members": "zoo members",
    "anchors_reconstructed": "reconstructed anchors",
    "unseen": "unseen members",
    "unseen_reconstructed": "reconstructed unseen",
    "kde_joint": "joint KDE",
    "kde_independent": "independent KDE",
    "kde_released": "KDE as released",
    "anchor_noise": "anchor + noise",
    "anchor_average": "anchor average",
}
MEANINGS = {
    "random_init": "drawn like the zoo's own initial weights",
    "random_init_sane": "initial weights of a usual recipe, Kaiming uniform",
    "scratch": "training from the zoo's own initial weights",
    "scratch_sane": "training from Kaiming uniform initial weights",
    "anchors": "the trained members that samplers start from, best on validation images",
    "members": "the zoo's best members on validation images, trained on",
    "anchors_reconstructed": "anchors through encoder and decoder",
    "unseen": "trained members that the hyper-representation never saw",
    "unseen_reconstructed": "those through encoder and decoder",
    "kde_joint": "an anchor's latent plus noise in every number, decoded",
    "kde_independent": "each latent number from an anchor of its own, decoded",
    "kde_released": "one anchor's latent plus one number, as the published code does it",
    "anchor_noise": "an anchor's weights plus noise; no model needed",
    "anchor_average": "the mean of anchors' weights; no model needed",
}
RANDOM = ("random_init", "random_init_sane", "scratch", "scratch_sane")
TRAINED = ("anchors", "members", "unseen")
DECODED = ("anchors_reconstructed", "unseen_reconstructed")
CHEAP = ("anchor_noise", "anchor_average")
LINES = {
    "scratch": (GREY, ":"),
    "scratch_sane": (INK, "--"),
    "members": (GREEN, "-"),
    "anchors_reconstructed": (PURPLE, "-"),
    "kde_joint": (BLUE, "-"),
    "kde_independent": (SKY, "--"),
    "kde_released": (BLUE, ":"),
    "anchor_noise": (ORANGE, "-"),
    "anchor_average": (OCHRE, "--"),
}
TARGETS = {
    "test_accuracy": "test accuracy",
    "train_accuracy": "train accuracy",
    "val_accuracy": "validation accuracy",
    "test_loss": "test loss",
    "epoch": "epoch",
    "generalization_gap": "generalization gap",
    "lr": "learning rate",
    "weight_decay": "weight decay",
    "dropout": "dropout",
    "batch_size": "batch size",
    "train_fraction": "train fraction",
    "activation": "activation",
    "init": "initialisation",
    "optimizer": "optimizer",
    "schedule": "schedule",
    "label_noise": "label noise",
    "augmentation": "augmentation",
    "seed": "seed",
}
LEARNED = ("embedding",)
FEATURES = {
    "embedding": "embedding (summary)",
    "embedding_tokens": "embedding (all tokens)",
    "untrained_encoder": "untrained encoder",
    "weights": "raw weights W",
    "last_layer": "last layer's weights",
    "statistics_14": "statistics s(W), 14 a layer",
    "statistics_7": "statistics s(W), 7 a layer",
    "statistics_pooled": "statistics s(W), pooled",
    "factors": "factors, no weights",
    "epoch_only": "epoch alone",
    "factors_epoch": "factors and epoch",
    "majority": "most frequent class",
}
PROBES = {"ridge": "ridge", "logistic": "logistic", "boosted": "boosted trees"}


def name_row(key: str) -> str:
    """Name a row of the tables of samples and of transfer."""
    return ROWS.get(key, key.replace("_", " "))


def is_sampled(key: str) -> bool:
    """Tell whether a row holds weights drawn in the latent space."""
    return key not in RANDOM + TRAINED + DECODED + CHEAP


def color_row(key: str) -> str:
    """Choose a row's colour by what kind of weights it holds."""
    for keys, color in ((RANDOM, GREY), (TRAINED, GREEN), (DECODED, PURPLE), (CHEAP, ORANGE)):
        if key in keys:
            return color
    return BLUE


def order_rows(keys: Iterable[str]) -> list[str]:
    """Put rows in the order of the tables, unknown ones last."""
    known = list(ROWS)
    return sorted(keys, key=lambda key: (known.index(key) if key in known else len(known), key))


def name_target(key: str) -> str:
    """Name what a probe predicts."""
    return TARGETS.get(key, key.replace("_", " "))


def order_targets(keys: Iterable[str]) -> list[str]:
    """Put targets in the order of the tables, unknown ones last."""
    known = list(TARGETS)
    return sorted(keys, key=lambda key: (known.index(key) if key in known else len(known), key))


def name_probe(key: str) -> str:
    """Name a kind of probe."""
    return PROBES.get(key, key)


def is_learned(features: str) -> bool:
    """Tell whether a feature set comes from a hyper-representation."""
    return features.startswith(LEARNED)


def name_features(key: str) -> str:
    """Name a set of features."""
    return FEATURES.get(key, key.replace("_", " "))


def order_features(keys: Iterable[str]) -> list[str]:
    """Put feature sets in the order of the tables: learned ones first, unknown ones last."""
    known = list(FEATURES)
    return sorted(keys, key=lambda key: (not is_learned(key), known.index(key) if key in known else len(known), key))


def style_row(key: str) -> tuple[str, str]:
    """Choose colour and dashes of a row's line, apart from every other row's."""
    return LINES.get(key, (color_row(key), "-."))
