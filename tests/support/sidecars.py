"""XMP sidecars in the shape in which photo managers write them, and the programs that read them."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from batch.xmp import FaceRegion, SidecarContent
from batch.xmp.keywords import SEPARATOR, split_levels
from batch.xmp.packet import Packet
from batch.xmp.value_list import ValueList

# One description with attributes, lists of darktable's own, and parameters in hexadecimal.
DARKTABLE = b"""<?xml version="1.0" encoding="UTF-8"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:exif="http://ns.adobe.com/exif/1.0/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:darktable="http://darktable.sf.net/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
   exif:DateTimeOriginal="2026:01:31 18:04:05.000"
   xmp:Rating="4"
   xmpMM:DerivedFrom="IMG_0001.CR2"
   darktable:xmp_version="5"
   darktable:raw_params="0"
   darktable:auto_presets_applied="1"
   darktable:history_end="2">
   <darktable:masks_history>
    <rdf:Seq/>
   </darktable:masks_history>
   <darktable:history>
    <rdf:Seq>
     <rdf:li
      darktable:num="0"
      darktable:operation="rawprepare"
      darktable:enabled="1"
      darktable:params="0000000000000000"
      darktable:blendop_params="gz11eJxjYIAACQYYOOHEgAYY0QVwggZ7CB6pfOygYtaVAyCMi48L/AcCEA0Ax3gq"/>
     <rdf:li
      darktable:num="1"
      darktable:operation="exposure"
      darktable:enabled="1"
      darktable:params="00000000000080b93333333f00004842000080c0"/>
    </rdf:Seq>
   </darktable:history>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>beach</rdf:li>
     <rdf:li>places</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>places|beach</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
"""

# As exiv2 writes it: structures with attributes, and regions in descriptions of their own.
DIGIKAM = """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="XMP Core 4.4.0-Exiv2">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <rdf:Description rdf:about=""
    xmlns:digiKam="http://www.digikam.org/ns/1.0/"
    xmlns:MicrosoftPhoto="http://ns.microsoft.com/photo/1.0/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:mwg-rs="http://www.metadataworkinggroup.com/schemas/regions/"
    xmlns:stDim="http://ns.adobe.com/xap/1.0/sType/Dimensions#"
    xmlns:stArea="http://ns.adobe.com/xmp/sType/Area#"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
   digiKam:PickLabel="3"
   digiKam:ColorLabel="1"
   xmp:Rating="5"
   xmp:Label="Red">
   <digiKam:TagsList>
    <rdf:Seq>
     <rdf:li>People/Anna</rdf:li>
     <rdf:li>Stra\u00dfe &amp; Caf\u00e9</rdf:li>
    </rdf:Seq>
   </digiKam:TagsList>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>People|Anna</rdf:li>
     <rdf:li>Stra\u00dfe &amp; Caf\u00e9</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <mwg-rs:Regions rdf:parseType="Resource">
    <mwg-rs:AppliedToDimensions
     stDim:w="1000"
     stDim:h="800"
     stDim:unit="pixel"/>
    <mwg-rs:RegionList>
     <rdf:Bag>
      <rdf:li>
       <rdf:Description
        mwg-rs:Name="Anna"
        mwg-rs:Type="Face">
       <mwg-rs:Area
        stArea:x="0.25"
        stArea:y="0.25"
        stArea:w="0.2"
        stArea:h="0.25"
        stArea:unit="normalized"/>
       </rdf:Description>
      </rdf:li>
     </rdf:Bag>
    </mwg-rs:RegionList>
   </mwg-rs:Regions>
   <dc:title>
    <rdf:Alt>
     <rdf:li xml:lang="x-default">A day out</rdf:li>
     <rdf:li xml:lang="de">Ein Ausflug</rdf:li>
    </rdf:Alt>
   </dc:title>
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Anna</rdf:li>
     <rdf:li>Stra\u00dfe &amp; Caf\u00e9</rdf:li>
    </rdf:Bag>
   </dc:subject>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
<?xpacket end="w"?>
""".encode()

# Nested structures and lists, all levels of a keyword in dc:subject, and padding at the end.
LIGHTROOM = (
    """<?xpacket begin="\ufeff" id="W5M0MpCehiHzreSzNTczkc9d"?>
<x:xmpmeta xmlns:x="adobe:ns:meta/" x:xmptk="Adobe XMP Core 7.0-c000">
 <rdf:RDF xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">
  <!-- exported -->
  <rdf:Description rdf:about=""
    xmlns:xmp="http://ns.adobe.com/xap/1.0/"
    xmlns:dc="http://purl.org/dc/elements/1.1/"
    xmlns:lr="http://ns.adobe.com/lightroom/1.0/"
    xmlns:xmpMM="http://ns.adobe.com/xap/1.0/mm/"
    xmlns:stEvt="http://ns.adobe.com/xap/1.0/sType/ResourceEvent#"
    xmlns:crs="http://ns.adobe.com/camera-raw-settings/1.0/"
   xmp:ModifyDate="2026-01-31T18:04:05"
   xmp:MetadataDate="2026-02-01T10:00:00+01:00"
   xmp:CreatorTool="Adobe Lightroom 14.0 (Windows)"
   xmp:Rating="2"
   xmp:Label="Green"
   dc:format="image/x-canon-cr2"
   crs:Version="17.0"
   crs:Exposure2012="+0.50">
   <dc:subject>
    <rdf:Bag>
     <rdf:li>Berlin</rdf:li>
     <rdf:li>Germany</rdf:li>
     <rdf:li>happy</rdf:li>
    </rdf:Bag>
   </dc:subject>
   <lr:hierarchicalSubject>
    <rdf:Bag>
     <rdf:li>Germany|Berlin</rdf:li>
     <rdf:li>happy</rdf:li>
    </rdf:Bag>
   </lr:hierarchicalSubject>
   <xmpMM:History>
    <rdf:Seq>
     <rdf:li
      stEvt:action="saved"
      stEvt:instanceID="xmp.iid:1"
      stEvt:changed="/metadata"/>
    </rdf:Seq>
   </xmpMM:History>
   <crs:ToneCurvePV2012>
    <rdf:Seq>
     <rdf:li>0, 0</rdf:li>
     <rdf:li>255, 255</rdf:li>
    </rdf:Seq>
   </crs:ToneCurvePV2012>
  </rdf:Description>
 </rdf:RDF>
</x:xmpmeta>
""".encode()
    + (b" " * 99 + b"\n") * 20
    + b'<?xpacket end="w"?>'
)

# A keyword as an attribute, which XMP does not allow and programs read; one line.
COMPACT = (
    b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>"
    b"<rdf:RDF xmlns:rdf='http://www.w3.org/1999/02/22-rdf-syntax-ns#'>"
    b"<rdf:Description rdf:about='uuid:1' xmlns:dc='http://purl.org/dc/elements/1.1/'"
    b" dc:subject='beach' dc:source='a &lt; b'/>"
    b"<rdf:Description rdf:about='uuid:1' xmlns:photoshop='http://ns.adobe.com/photoshop/1.0/'>"
    b"<photoshop:Headline>A <![CDATA[<day>]]></photoshop:Headline></rdf:Description>"
    b"</rdf:RDF></x:xmpmeta>"
)

# Flat keywords only: darktable and digiKam read other properties first.
FLAT = (
    b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:RDF'
    b' xmlns:rdf="http://www.w3.org/1999/02/22-rdf-syntax-ns#">'
    b'<rdf:Description xmlns:dc="http://purl.org/dc/elements/1.1/" rdf:about=""><dc:subject>'
    b"<rdf:Bag><rdf:li>beach</rdf:li><rdf:li>family</rdf:li></rdf:Bag></dc:subject>"
    b"</rdf:Description></rdf:RDF></x:xmpmeta>"
)

SIDECARS = {
    "darktable": DARKTABLE,
    "digikam": DIGIKAM,
    "lightroom": LIGHTROOM,
    "compact": COMPACT,
    "flat": FLAT,
}


def read_keywords(data: bytes, root: str) -> tuple[str, ...]:
    """Return the paths below a root in both properties with paths, without the root."""
    packet = Packet(data)
    levels = split_levels(root)
    found = []
    for name, kind in (("lr:hierarchicalSubject", "Bag"), ("digiKam:TagsList", "Seq")):
        for path in map(split_levels, ValueList(packet, name, kind).read()):
            if path[: len(levels)] == levels and path != levels:
                found.append(SEPARATOR.join(path[len(levels) :]))
    return tuple(dict.fromkeys(found))


def make_content(
    *keywords: str,
    root: str = "expression",
    faces: tuple[FaceRegion, ...] | None = None,
    orientation: int = 1,
) -> SidecarContent:
    """Make the content for a photo of 1000 x 800 pixels."""
    return SidecarContent(keywords, root, faces, 1000, 800, orientation)


def need_program(name: str) -> str:
    """Return a program's path; skip the test if it is not installed."""
    found = shutil.which(name)
    if found is None:
        packages = {"exiftool": "libimage-exiftool-perl", "exiv2": "exiv2"}
        pytest.skip(f"needs the program {name} (Debian package {packages[name]})")
    return found


def read_with_exiftool(data: bytes, folder: Path) -> dict[str, Any]:
    """Read all XMP properties with exiftool, by group and name; structures stay whole."""
    (found,) = read_all_with_exiftool([data], folder)
    return found


def read_all_with_exiftool(sidecars: list[bytes], folder: Path) -> list[dict[str, Any]]:
    """Read several sidecars in one process."""
    paths = [folder / f"read-{number}.xmp" for number in range(len(sidecars))]
    for path, data in zip(paths, sidecars, strict=True):
        path.write_bytes(data)
    command = [need_program("exiftool"), "-j", "-G1", "-a", "-struct", "-XMP:all", *map(str, paths)]
    ran = subprocess.run(command, capture_output=True, check=True, text=True)
    assert not [line for line in ran.stderr.splitlines() if "image files read" not in line]
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    assert [properties.pop("SourceFile") for properties in found] == [str(path) for path in paths]
    return found


def validate_with_exiftool(data: bytes, folder: Path) -> list[str]:
    """List exiftool's warnings about a sidecar."""
    path = folder / "validate.xmp"
    path.write_bytes(data)
    command = [need_program("exiftool"), "-validate", "-warning", "-error", "-a", "-j", str(path)]
    (found,) = json.loads(subprocess.run(command, capture_output=True, check=True).stdout)
    return [f"{key}: {value}" for key, value in found.items() if key in ("Warning", "Error")]


def read_with_exiv2(data: bytes, folder: Path) -> dict[str, str]:
    """Read all XMP properties with exiv2, by key."""
    path = folder / "read2.xmp"
    path.write_bytes(data)
    command = [need_program("exiv2"), "-q", "-PXkt", "pr", str(path)]
    ran = subprocess.run(command, capture_output=True, text=True, check=True)
    lines = [line.split(maxsplit=1) for line in ran.stdout.splitlines()]
    return {line[0]: line[1] if len(line) > 1 else "" for line in lines}


def change_with_exiftool(data: bytes | None, folder: Path, *arguments: str) -> bytes:
    """Let exiftool write a sidecar, or change one."""
    path = folder / "change.xmp"
    path.unlink(missing_ok=True)
    if data is None:
        command = [need_program("exiftool"), "-q", "-o", str(path), *arguments]
    else:
        path.write_bytes(data)
        command = [need_program("exiftool"), "-q", "-overwrite_original", *arguments, str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_bytes()


def change_with_exiv2(data: bytes, folder: Path, *changes: str) -> bytes:
    """Let exiv2 rewrite a sidecar, with commands such as ``set Xmp.xmp.Rating 3``."""
    path = folder / "change2.xmp"
    path.write_bytes(data)
    options = [f"-M{change}" for change in changes]
    command = [need_program("exiv2"), "-q", *options, "mo", str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path.read_bytes()
