"""Where the log goes: to the standard error, as lines for a person at a terminal and as JSON for a collector elsewhere.

Owns: the form of the log, the same for our own events and for what libraries say. Must never: write to the standard
output, which belongs to what a command gives. Events carry no patient data; that is the duty of whoever logs them.
"""

from __future__ import annotations

import contextlib
import io
import logging
import sys
from typing import TextIO, cast

import structlog
from structlog.typing import Processor

_LIBRARY_LEVEL = logging.WARNING
"""What libraries may say at most; our own events follow the setting."""


class Steady(io.TextIOBase):
    """The standard error as it is at the moment of writing. A log that cannot be written (a closed terminal, a pipe whose
    reader has gone, a full disk) costs the line, never the work that wanted to tell something."""

    def write(self, text: str) -> int:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.flush()


STEADY = cast(TextIO, Steady())


def begin(level: str) -> None:
    """Log from `level` on: debug, info, warning or error. May be called again with another level."""
    number = logging.getLevelNamesMapping()[level.upper()]
    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
    ]
    # Tracebacks without the values of variables: those may be keys and patients' names.
    if sys.stderr.isatty():
        errors: list[Processor] = []
        last: Processor = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    else:
        errors, last = [structlog.processors.format_exc_info], structlog.processors.JSONRenderer()
    structlog.configure(
        processors=[*shared, *errors, last],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(STEADY),
        cache_logger_on_first_use=False,
    )
    handler = logging.StreamHandler(STEADY)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=shared,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *errors, last],
        )
    )
    logging.root.handlers[:] = [handler]
    logging.root.setLevel(max(number, _LIBRARY_LEVEL))
    logging.getLogger("radiolith").setLevel(number)
