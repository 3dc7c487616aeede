"""Labels and face regions in XMP sidecars: bytes in, bytes out."""

from batch.xmp.packet import MAX_SIDECAR_BYTES
from batch.xmp.sidecar import (
    FaceRegion,
    SidecarContent,
    remove_content,
    update_sidecar,
)

__all__ = [
    "MAX_SIDECAR_BYTES",
    "FaceRegion",
    "SidecarContent",
    "remove_content",
    "update_sidecar",
]
