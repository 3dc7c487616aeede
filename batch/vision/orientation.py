"""EXIF orientation: of an opened picture, and of the picture that a file stores."""

from __future__ import annotations

from PIL import ExifTags, Image

from batch.file_types import RAW_TYPE, detect_file_type
from batch.vision.pillow import open_image
from batch.vision.raw import find_preview, is_raw

# Formats that store an orientation. Pictures in HEIF, AVIF and JPEG XL are turned by other data,
# which every program applies.
_FORMATS = ("JPEG", "PNG", "TIFF", "WEBP")


def read_orientation(image: Image.Image, default: int = 1) -> int:
    """Read the EXIF orientation of an opened picture.

    Args:
        image: the picture.
        default: the orientation of a picture without one.

    Returns:
        1 to 8; 1 for a value that EXIF does not define.
    """
    try:
        found = int(image.getexif().get(ExifTags.Base.Orientation, default))
    except Exception:  # broken EXIF data have no orientation, but the photo can be decoded
        found = default
    return found if 1 <= found <= 8 else 1


def read_stored_orientation(data: bytes) -> int:
    """Read the EXIF orientation of the picture that a file stores.

    Args:
        data: the file's bytes.

    Returns:
        1 to 8; 1 if the file has none or can't be read.
    """
    formats: tuple[str, ...] = _FORMATS
    kind = detect_file_type(data)
    # Many raws are detected as TIFF; Pillow opens none whose first picture is sensor data.
    if kind is RAW_TYPE or (kind and kind.decoder == "TIFF" and is_raw(data)):
        preview = find_preview(data)
        if preview is not None and preview.orientation is not None:
            return preview.orientation if 1 <= preview.orientation <= 8 else 1
        if preview is not None:
            data, formats = data[preview.start :], ("JPEG",)  # as in a RAF, which has no tags
    try:
        with open_image(data, formats) as image:
            return read_orientation(image)
    except Exception:  # Pillow's readers raise nearly every built-in exception
        return 1
