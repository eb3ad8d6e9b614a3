"""The table of transfer syntaxes: what each is, how its frames travel over HTTP, who decodes and encodes it.

Owns: every row of PS3.6 table A-1 that is a transfer syntax, plus the private ones worth knowing. Must never import a
codec: server workers import this; `decode` and `encode` are names looked up in `radiolith.codecs.decode.DECODERS` and
`radiolith.codecs.encode.ENCODERS` inside a decoder process.
"""

from __future__ import annotations

from dataclasses import dataclass

from radiolith.model import Unsupported

IMPLICIT_LE = "1.2.840.10008.1.2"
EXPLICIT_LE = "1.2.840.10008.1.2.1"
ENCAPSULATED_LE = "1.2.840.10008.1.2.1.98"
DEFLATED_LE = "1.2.840.10008.1.2.1.99"
EXPLICIT_BE = "1.2.840.10008.1.2.2"
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
JPEG_EXTENDED = "1.2.840.10008.1.2.4.51"
JPEG_LOSSLESS_P14 = "1.2.840.10008.1.2.4.57"
JPEG_LOSSLESS = "1.2.840.10008.1.2.4.70"
JPEGLS_LOSSLESS = "1.2.840.10008.1.2.4.80"
JPEGLS_NEAR = "1.2.840.10008.1.2.4.81"
JPEG2K_LOSSLESS = "1.2.840.10008.1.2.4.90"
JPEG2K = "1.2.840.10008.1.2.4.91"
JPEGXL_LOSSLESS = "1.2.840.10008.1.2.4.110"
JPEGXL_JPEG = "1.2.840.10008.1.2.4.111"
JPEGXL = "1.2.840.10008.1.2.4.112"
HTJ2K_LOSSLESS = "1.2.840.10008.1.2.4.201"
HTJ2K_RPCL = "1.2.840.10008.1.2.4.202"
HTJ2K = "1.2.840.10008.1.2.4.203"
RLE = "1.2.840.10008.1.2.5"
DEFLATED_FRAME = "1.2.840.10008.1.2.8.1"
GE_PRIVATE = "1.2.840.113619.5.2"


@dataclass(frozen=True, slots=True)
class Syntax:
    """One transfer syntax.

    `lossless`: every image in this syntax has lost nothing by the encoding itself (so also true of native ones).
    `media_type`: of a frame in PS3.18 table 8.7.3-2 to -5; '' when frames cannot be sent.
    `decode`, `encode`: names of functions in the decoder process, '' when there is none.
    """

    uid: str
    name: str
    lossless: bool
    encapsulated: bool
    media_type: str = ""
    decode: str = ""
    encode: str = ""
    implicit: bool = False
    big_endian: bool = False  # of the dataset's elements
    deflated: bool = False
    retired: bool = False

    @property
    def video(self) -> bool:
        """One stream over all frames: ranged, never cut into frames, never decoded."""
        return self.media_type.startswith("video/")


_OCTETS = "application/octet-stream"
_NATIVE = (
    Syntax(IMPLICIT_LE, "Implicit VR Little Endian", True, False, _OCTETS, "native", "native", implicit=True),
    Syntax(EXPLICIT_LE, "Explicit VR Little Endian", True, False, _OCTETS, "native", "native"),
    Syntax(
        ENCAPSULATED_LE,
        "Encapsulated Uncompressed Explicit VR Little Endian",
        True,
        True,
        _OCTETS,
        "native",
        "native",
    ),
    Syntax(DEFLATED_LE, "Deflated Explicit VR Little Endian", True, False, _OCTETS, "native", "native", deflated=True),
    Syntax(
        EXPLICIT_BE,
        "Explicit VR Big Endian (retired)",
        True,
        False,
        _OCTETS,
        "native",
        big_endian=True,
        retired=True,
    ),
)


def _jpeg(number: int, name: str, decode: str = "", *, lossless: bool = False, encode: str = "") -> Syntax:
    retired = name.endswith("(retired)")
    return Syntax(f"1.2.840.10008.1.2.4.{number}", name, lossless, True, "image/jpeg", decode, encode, retired=retired)


_JPEG = (
    _jpeg(50, "JPEG Baseline (Process 1)", "jpeg", encode="jpeg"),
    _jpeg(51, "JPEG Extended (Process 2 and 4)", "jpeg"),
    _jpeg(52, "JPEG Extended (Process 3 and 5) (retired)", "jpeg"),
    _jpeg(53, "JPEG Spectral Selection, Non-Hierarchical (Process 6 and 8) (retired)", "jpeg"),
    _jpeg(54, "JPEG Spectral Selection, Non-Hierarchical (Process 7 and 9) (retired)", "jpeg"),
    _jpeg(55, "JPEG Full Progression, Non-Hierarchical (Process 10 and 12) (retired)", "jpeg"),
    _jpeg(56, "JPEG Full Progression, Non-Hierarchical (Process 11 and 13) (retired)", "jpeg"),
    _jpeg(57, "JPEG Lossless, Non-Hierarchical (Process 14)", "jpeg", lossless=True, encode="jpeg_lossless"),
    _jpeg(58, "JPEG Lossless, Non-Hierarchical (Process 15) (retired)", lossless=True),
    _jpeg(59, "JPEG Extended, Hierarchical (Process 16 and 18) (retired)"),
    _jpeg(60, "JPEG Extended, Hierarchical (Process 17 and 19) (retired)"),
    _jpeg(61, "JPEG Spectral Selection, Hierarchical (Process 20 and 22) (retired)"),
    _jpeg(62, "JPEG Spectral Selection, Hierarchical (Process 21 and 23) (retired)"),
    _jpeg(63, "JPEG Full Progression, Hierarchical (Process 24 and 26) (retired)"),
    _jpeg(64, "JPEG Full Progression, Hierarchical (Process 25 and 27) (retired)"),
    _jpeg(65, "JPEG Lossless, Hierarchical (Process 28) (retired)", lossless=True),
    _jpeg(66, "JPEG Lossless, Hierarchical (Process 29) (retired)", lossless=True),
    _jpeg(
        70,
        "JPEG Lossless, Non-Hierarchical, First-Order Prediction (Process 14 [Selection Value 1])",
        "jpeg",
        lossless=True,
        encode="jpeg_lossless",
    ),
)


def _image(number: str, name: str, media_type: str, codec: tuple[str, str] = ("", ""), *, lossless: bool) -> Syntax:
    return Syntax(f"1.2.840.10008.1.2.{number}", name, lossless, True, media_type, *codec)


_J2K = "JPEG 2000"
_IMAGES = (
    _image("4.80", "JPEG-LS Lossless Image Compression", "image/jls", ("jpegls", "jpegls"), lossless=True),
    _image("4.81", "JPEG-LS Lossy (Near-Lossless) Image Compression", "image/jls", ("jpegls", ""), lossless=False),
    _image(
        "4.90",
        f"{_J2K} Image Compression (Lossless Only)",
        "image/jp2",
        ("jpeg2k", "jpeg2k_lossless"),
        lossless=True,
    ),
    _image("4.91", f"{_J2K} Image Compression", "image/jp2", ("jpeg2k", "jpeg2k"), lossless=False),
    _image(
        "4.92",
        f"{_J2K} Part 2 Multi-component Image Compression (Lossless Only)",
        "image/jpx",
        ("jpeg2k", ""),
        lossless=True,
    ),
    _image("4.93", f"{_J2K} Part 2 Multi-component Image Compression", "image/jpx", ("jpeg2k", ""), lossless=False),
    Syntax("1.2.840.10008.1.2.4.94", "JPIP Referenced", False, False),
    Syntax("1.2.840.10008.1.2.4.95", "JPIP Referenced Deflate", False, False, deflated=True),
    _image("4.110", "JPEG XL Lossless", "image/jxl", ("jpegxl", "jpegxl"), lossless=True),
    _image("4.111", "JPEG XL JPEG Recompression", "image/jxl", ("jpegxl", ""), lossless=False),
    _image("4.112", "JPEG XL", "image/jxl", ("jpegxl", ""), lossless=False),
    _image(
        "4.201",
        f"High-Throughput {_J2K} Image Compression (Lossless Only)",
        "image/jphc",
        ("htj2k", "htj2k"),
        lossless=True,
    ),
    _image(
        "4.202",
        f"High-Throughput {_J2K} with RPCL Options Image Compression (Lossless Only)",
        "image/jphc",
        ("htj2k", "htj2k"),
        lossless=True,
    ),
    _image("4.203", f"High-Throughput {_J2K} Image Compression", "image/jphc", ("htj2k", ""), lossless=False),
    Syntax("1.2.840.10008.1.2.4.204", "JPIP HTJ2K Referenced", False, False),
    Syntax("1.2.840.10008.1.2.4.205", "JPIP HTJ2K Referenced Deflate", False, False, deflated=True),
    _image("5", "RLE Lossless", "image/dicom-rle", ("rle", "rle"), lossless=True),
    _image("8.1", "Deflated Image Frame Compression", _OCTETS, ("deflated", "deflated"), lossless=True),
)


def _video(number: str, name: str, media_type: str) -> tuple[Syntax, Syntax]:
    uid = f"1.2.840.10008.1.2.4.{number}"
    return (
        Syntax(uid, name, False, True, media_type),
        Syntax(f"{uid}.1", f"Fragmentable {name}", False, True, media_type),
    )


_H264 = "MPEG-4 AVC/H.264"
_VIDEO = (
    *_video("100", "MPEG2 Main Profile / Main Level", "video/mpeg"),
    *_video("101", "MPEG2 Main Profile / High Level", "video/mpeg"),
    *_video("102", f"{_H264} High Profile / Level 4.1", "video/mp4"),
    *_video("103", f"{_H264} BD-compatible High Profile / Level 4.1", "video/mp4"),
    *_video("104", f"{_H264} High Profile / Level 4.2 For 2D Video", "video/mp4"),
    *_video("105", f"{_H264} High Profile / Level 4.2 For 3D Video", "video/mp4"),
    *_video("106", f"{_H264} Stereo High Profile / Level 4.2", "video/mp4"),
    Syntax("1.2.840.10008.1.2.4.107", "HEVC/H.265 Main Profile / Level 5.1", False, True, "video/H265"),
    Syntax("1.2.840.10008.1.2.4.108", "HEVC/H.265 Main 10 Profile / Level 5.1", False, True, "video/H265"),
)
_OTHER = (
    Syntax("1.2.840.10008.1.2.6.1", "RFC 2557 MIME encapsulation (retired)", True, False, retired=True),
    Syntax("1.2.840.10008.1.2.6.2", "XML Encoding (retired)", True, False, retired=True),
    Syntax("1.2.840.10008.1.2.7.1", "SMPTE ST 2110-20 Uncompressed Progressive Active Video", True, False),
    Syntax("1.2.840.10008.1.2.7.2", "SMPTE ST 2110-20 Uncompressed Interlaced Active Video", True, False),
    Syntax("1.2.840.10008.1.2.7.3", "SMPTE ST 2110-30 PCM Digital Audio", True, False),
    Syntax(
        "1.2.840.10008.1.20", "Papyrus 3 Implicit VR Little Endian (retired)", True, False, implicit=True, retired=True
    ),
)

STANDARD: tuple[Syntax, ...] = (*_NATIVE, *_JPEG, *_IMAGES, *_VIDEO, *_OTHER)
"""The 63 transfer syntaxes of PS3.6, retired ones included."""

SYNTAXES: dict[str, Syntax] = {s.uid: s for s in STANDARD} | {
    # Elements in implicit little endian, pixel data in big endian (GE's private syntax).
    GE_PRIVATE: Syntax(GE_PRIVATE, "GE Private Implicit VR Big Endian", True, False, _OCTETS, "native", implicit=True)
}


def syntax(uid: str) -> Syntax:
    """The row of `uid`; Unsupported when no such transfer syntax is known."""
    found = SYNTAXES.get(uid)
    if found is None:
        raise Unsupported(f"unknown transfer syntax {uid[:64]}")
    return found


def decodable(uid: str) -> Syntax:
    """The row of `uid` if its frames can be decoded; else Unsupported with the reason for the user."""
    row = syntax(uid)
    if not row.decode:
        raise Unsupported(f"no decoder for {row.name}")
    return row


def encodable(uid: str) -> Syntax:
    """The row of `uid` if frames can be made in it; else Unsupported with the reason for the user."""
    row = syntax(uid)
    if not row.encode:
        raise Unsupported(f"no encoder for {row.name}")
    return row
