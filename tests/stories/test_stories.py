"""Four stories of daily work: each told to the archive, seen at the workstation, and undone again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest
from pydicom import Dataset

from tests.archive.objects import Made
from tests.dimse.real import serving
from tests.stories.hospital import PIXELS, Hospital, hospital, study

ORIGINAL = 0x04000561


@pytest.fixture(scope="module")
def clinic(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hospital]:
    folder = tmp_path_factory.mktemp("clinic")
    with serving(folder / "archive") as node, hospital(node, folder / "clinic") as found:
        yield found


def shown(clinic: Hospital, one: Made) -> tuple[str, str, str]:
    """Patient ID and name of a study at the workstation, and how many images it gets; all images say the same."""
    (row,) = clinic.find(StudyInstanceUID=one.study, NumberOfStudyRelatedInstances="")
    images = clinic.move(one.study)
    assert {(str(image.PatientID), str(image.PatientName)) for image in images} == {
        (row.PatientID, str(row.PatientName))
    }
    assert all(image.PixelData == PIXELS for image in images), "pixels are as they came"
    assert len(images) == int(row.NumberOfStudyRelatedInstances)
    return str(row.PatientID), str(row.PatientName), str(len(images))


def before(image: Dataset) -> list[tuple[str, str]]:
    """Patient ID and name that the Original Attributes Sequence keeps, step by step."""
    steps = [step.ModifiedAttributesSequence[0] for step in image.get("OriginalAttributesSequence", [])]
    return [(str(step.get("PatientID", "")), str(step.get("PatientName", ""))) for step in steps]


def test_images_came_under_the_wrong_name(clinic: Hospital) -> None:
    """A typing error at the modality: corrected, found by the right name, and taken back."""
    made = study(1, patient="4711", name="Meier^Hans")
    clinic.send(made)
    assert shown(clinic, made[0]) == ("4711", "Meier^Hans", "3")
    tried = clinic.say("amend", "set", "PatientName=Maier^Hannes", "--patient", "4711", "--dry-run")
    assert shown(clinic, made[0])[1] == "Meier^Hans", f"only tried: {tried}"
    op = clinic.say("amend", "set", "PatientName=Maier^Hannes", "--patient", "4711", "--reason", "typing error")["op"]
    assert shown(clinic, made[0]) == ("4711", "Maier^Hannes", "3")
    assert [str(row.StudyInstanceUID) for row in clinic.find(PatientName="MAIER*")] == [made[0].study]
    assert not clinic.find(PatientName="MEIER*")
    image = clinic.move(made[0].study)[0]
    assert [name for _, name in before(image)] == ["Meier^Hans"]
    assert image.OriginalAttributesSequence[0].ReasonForTheAttributeModification == "CORRECT"
    late = replace(made[0], sop=f"{made[0].series}.9", number=9)  # the modality sends the rest with the old name
    clinic.send([late])
    assert shown(clinic, made[0]) == ("4711", "Maier^Hannes", "4")
    assert clinic.received(late) == [late.dataset()]
    clinic.say("amend", "undo", op)
    assert shown(clinic, made[0]) == ("4711", "Meier^Hans", "4")
    assert ORIGINAL not in clinic.move(made[0].study)[0]


def test_an_emergency_patient_is_identified_two_days_later(clinic: Hospital) -> None:
    known = study(2, 1, patient="1001", name="Lefèvre^Jeanne")
    unknown = study(3, patient="NOTFALL-17", name="Unbekannt^Weiblich")
    clinic.send(known)
    clinic.send(unknown)
    op = clinic.say("patients", "merge", "NOTFALL-17", "1001", "--reason", "identified by her daughter")["op"]
    assert shown(clinic, unknown[0]) == ("1001", "Lefèvre^Jeanne", "3")
    assert ("NOTFALL-17", "Unbekannt^Weiblich") in before(clinic.move(unknown[0].study)[0])
    both = {known[0].study, unknown[0].study}
    assert {str(row.StudyInstanceUID) for row in clinic.find(PatientID="1001")} == both
    assert unknown[0].study in {str(row.StudyInstanceUID) for row in clinic.find(PatientID="NOTFALL-17")}
    more = study(4, 1, patient="NOTFALL-17", name="Unbekannt^Weiblich")  # the ward still uses the old number
    clinic.send(more)
    assert shown(clinic, more[0])[:2] == ("1001", "Lefèvre^Jeanne")
    clinic.say("amend", "undo", op)
    for one in (unknown[0], more[0]):
        assert shown(clinic, one)[:2] == ("NOTFALL-17", "Unbekannt^Weiblich")
    assert {str(row.StudyInstanceUID) for row in clinic.find(PatientID="1001")} == {known[0].study}


def test_a_disc_brings_a_patient_with_another_number(clinic: Hospital) -> None:
    """12345 of another hospital is not our 12345; a person says who she is."""
    ours = study(5, 1, patient="12345", name="Yılmaz^Ayşe")
    theirs = study(6, patient="12345", name="Schmidt^Petra")
    right = study(7, 1, patient="2002", name="Schmidt^Petra")
    clinic.send([*ours, *right])
    clinic.node.command("import", str(clinic.written(theirs)), "--foreign", "KH-NORD")
    assert shown(clinic, ours[0])[:2] == ("12345", "Yılmaz^Ayşe")
    assert shown(clinic, theirs[0])[1] == "Schmidt^Petra", "not mixed up with our 12345"
    (case,) = [one for one in clinic.cases("foreign") if "KH-NORD" in str(one)]
    op = clinic.say("amend", "move-study", theirs[0].study, "--patient", "2002", "--reason", f"case {case['key']}")[
        "op"
    ]
    assert shown(clinic, theirs[0]) == ("2002", "Schmidt^Petra", "3")
    assert shown(clinic, ours[0])[:2] == ("12345", "Yılmaz^Ayşe")
    assert clinic.received(theirs[0]) == [theirs[0].part10()]
    clinic.say("amend", "undo", op)
    assert shown(clinic, theirs[0])[:2] == ("12345", "Schmidt^Petra")


def test_the_technologist_corrects_and_sends_again(clinic: Hospital) -> None:
    wrong = study(8, patient="3003", name="Novak^Jan")
    right = [replace(one, name="Nowak^Jana", description="Thorax p.a.") for one in wrong]
    clinic.send(wrong)
    clinic.send(right)
    assert shown(clinic, wrong[0])[1] == "Novak^Jan", "what was there first stays until somebody decides"
    cases = [one for one in clinic.cases("versions") if wrong[0].study in str(one)]
    assert cases, "the desk shows it"
    ops = [clinic.say("desk", "resolve", one["key"], "adopt")["op"] for one in cases]
    assert shown(clinic, wrong[0]) == ("3003", "Nowak^Jana", "3")
    assert not [one for one in clinic.cases("versions") if wrong[0].study in str(one)]
    assert clinic.received(wrong[0]) == [wrong[0].dataset(), right[0].dataset()]
    for op in ops:
        clinic.say("desk", "undo", op)
    assert shown(clinic, wrong[0])[1] == "Novak^Jan"
    assert [one for one in clinic.cases("versions") if wrong[0].study in str(one)]
