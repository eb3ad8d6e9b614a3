"""Write one line of a table for every series of every complete study: what was examined when, on which machine.

RADIOLITH_ADDRESS=http://127.0.0.1:8050 RADIOLITH_TOKEN=… python headers_to_csv.py series.csv
"""

import csv
import os
import sys

from radiolith.client import Client

COLUMNS = {"StudyDate": "00080020", "Modality": "00080060", "StationName": "00081010", "SeriesDescription": "0008103E"}
archive = Client(os.environ["RADIOLITH_ADDRESS"], os.environ["RADIOLITH_TOKEN"])

with open(sys.argv[1], "a", newline="", encoding="utf-8") as file:
    table = csv.writer(file)
    for event in archive.changes(kinds=["study.complete"], remember="headers_to_csv.cursor"):
        series: dict[str, list[str]] = {}
        for header in archive.metadata(event.study) if event.study else []:
            uid = header["0020000E"]["Value"][0]
            values = [str(header.get(tag, {}).get("Value", [""])[0]) for tag in COLUMNS.values()]
            series.setdefault(uid, [event.study, uid, *values])
        table.writerows(series.values())
        file.flush()
