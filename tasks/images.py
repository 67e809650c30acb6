"""Make image sets."""

from pathlib import Path

from weightspace.config import BadInput
from weightspace.images.build import build_image_set
from weightspace.images.config import ImagesConfig
from weightspace.images.image_set import write_image_set
from weightspace.record import replace_folder, write_record


def make_images(name: str, config: ImagesConfig, root: Path) -> None:
    """Build an image set and write it to `data/images/<name>`.

    Raises:
        BadInput: the source is missing or damaged, or does not give what is asked of it.
    """
    try:
        image_set = build_image_set(config, root)
    except BadInput as error:
        raise BadInput(f"images.{name}: {error}") from error
    with replace_folder(root / "data" / "images" / name) as folder:
        write_image_set(folder, image_set)
        write_record(folder, "images", name, config, {})
