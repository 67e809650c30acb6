"""Make a zoo out of a foreign one."""

from pathlib import Path

from weightspace.config import BadInput
from weightspace.imports.build import import_zoo
from weightspace.imports.config import NO_IMAGES, ImportConfig


def make_import(name: str, config: ImportConfig, root: Path) -> None:
    """Import a foreign zoo to `data/zoo/<name>`; to folders in it where architectures are split.

    Raises:
        BadInput: the source is missing, damaged or hostile, or does not fit together.
    """
    images = root / "data" / "images" / config.images if config.images != NO_IMAGES else None
    try:
        import_zoo(name, config, root, root / "data" / "zoo" / name, images)
    except BadInput as error:
        raise BadInput(f"imports.{name}: {error}") from error
