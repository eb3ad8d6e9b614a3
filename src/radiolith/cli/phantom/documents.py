"""A report that measures the nodule of the phantom, as a structured report and as a PDF in DICOM."""

from __future__ import annotations

from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.sr.coding import Code
from pydicom.uid import ComprehensiveSRStorage, CTImageStorage, EncapsulatedPDFStorage

from radiolith.cli.phantom.datasets import Series, instance

FINDING = (
    "Round nodule of 12 mm in the left upper lobe, smooth border, no calcification. No effusion. Heart not enlarged."
)
IMPRESSION = "Solitary nodule, stable. Follow-up in twelve months."


def report(series: Series, number: int, image: str) -> Dataset:
    """A Comprehensive SR: finding, a length measured on `image` (SOP instance UID), impression."""
    dataset = instance(series, number, ComprehensiveSRStorage)
    dataset.CompletionFlag = "COMPLETE"
    dataset.VerificationFlag = "UNVERIFIED"
    dataset.ReferencedPerformedProcedureStepSequence = Sequence()
    dataset.PerformedProcedureCodeSequence = Sequence()
    dataset.ValueType = "CONTAINER"
    dataset.ContinuityOfContent = "SEPARATE"
    dataset.ConceptNameCodeSequence = _coded(Code("18748-4", "LN", "Diagnostic imaging report"))
    language = _item("HAS CONCEPT MOD", "CODE", Code("121049", "DCM", "Language of Content Item and Descendants"))
    language.ConceptCodeSequence = _coded(Code("en", "RFC5646", "English"))
    finding = _item("CONTAINS", "TEXT", Code("121071", "DCM", "Finding"))
    finding.TextValue = FINDING
    impression = _item("CONTAINS", "TEXT", Code("121073", "DCM", "Impression"))
    impression.TextValue = IMPRESSION
    dataset.ContentSequence = Sequence([language, finding, _length(image), impression])
    dataset.CurrentRequestedProcedureEvidenceSequence = Sequence([_evidence(series, image)])
    return dataset


def _coded(code: Code) -> Sequence:
    item = Dataset()
    item.CodeValue = code.value
    item.CodingSchemeDesignator = code.scheme_designator
    item.CodeMeaning = code.meaning
    return Sequence([item])


def _item(relationship: str, value_type: str, name: Code) -> Dataset:
    item = Dataset()
    item.RelationshipType = relationship
    item.ValueType = value_type
    item.ConceptNameCodeSequence = _coded(name)
    return item


def _referenced(image: str) -> Sequence:
    reference = Dataset()
    reference.ReferencedSOPClassUID = CTImageStorage
    reference.ReferencedSOPInstanceUID = image
    return Sequence([reference])


def _length(image: str) -> Dataset:
    length = _item("CONTAINS", "NUM", Code("410668003", "SCT", "Length"))
    value = Dataset()
    value.NumericValue = "12.0"
    value.MeasurementUnitsCodeSequence = _coded(Code("mm", "UCUM", "millimeter"))
    length.MeasuredValueSequence = Sequence([value])
    source = Dataset()
    source.RelationshipType = "INFERRED FROM"
    source.ValueType = "IMAGE"
    source.ReferencedSOPSequence = _referenced(image)
    length.ContentSequence = Sequence([source])
    return length


def _evidence(series: Series, image: str) -> Dataset:
    images = Dataset()
    images.SeriesInstanceUID = Series(series.study, 1, "CT", "").uid
    images.ReferencedSOPSequence = _referenced(image)
    study = Dataset()
    study.StudyInstanceUID = instance(series, 1, ComprehensiveSRStorage).StudyInstanceUID
    study.ReferencedSeriesSequence = Sequence([images])
    return study


def document(series: Series, number: int) -> Dataset:
    """The report as an Encapsulated PDF."""
    dataset = instance(series, number, EncapsulatedPDFStorage)
    dataset.ConversionType = "WSD"
    dataset.BurnedInAnnotation = "NO"
    dataset.AcquisitionDateTime = series.study.day + series.study.time
    dataset.DocumentTitle = "Radiology report"
    dataset.ConceptNameCodeSequence = _coded(Code("18748-4", "LN", "Diagnostic imaging report"))
    dataset.MIMETypeOfEncapsulatedDocument = "application/pdf"
    data = pdf(["Radiolith Demonstration", "", "CT of the chest", "", *_wrapped(FINDING), "", *_wrapped(IMPRESSION)])
    dataset.EncapsulatedDocumentLength = len(data)
    dataset.EncapsulatedDocument = data + b"\0" * (len(data) % 2)
    return dataset


def _wrapped(text: str, width: int = 68) -> list[str]:
    lines = [""]
    for word in text.split():
        if len(lines[-1]) + len(word) >= width:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines


def pdf(lines: list[str]) -> bytes:
    """A PDF 1.4 of one A4 page with `lines` of Latin-1 text, the first as its heading."""
    heading, *rest = [line.replace("\\", "\\\\").replace("(", "\\(").replace(")", "\\)") for line in lines]
    shown = " ".join(f"({line}) Tj T*" for line in rest)
    page = f"BT /F1 20 Tf 60 770 Td ({heading}) Tj /F1 12 Tf 16 TL 0 -30 Td {shown} ET".encode("latin-1", "replace")
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 595 842] /Contents 4 0 R"
        b" /Resources << /Font << /F1 5 0 R >> >> >>",
        b"<< /Length %d >>\nstream\n%s\nendstream" % (len(page), page),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    body = b"%PDF-1.4\n"
    offsets: list[int] = []
    for number, content in enumerate(objects, 1):
        offsets.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, content)
    table = b"".join(b"%010d 00000 n \n" % offset for offset in offsets)
    trailer = b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (len(objects) + 1, len(body))
    return body + b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1) + table + trailer
