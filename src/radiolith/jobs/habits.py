"""What is odd about a device, judged from what it did before: pure, in words.

Owns: the thresholds and the sentences. Must never: read a clock, a database or an image, or name a patient. Every judgement
says what it compares with, so that whoever reads it can tell a false alarm.
"""

from __future__ import annotations

from datetime import UTC, datetime

from radiolith.index.devices import Habits

MINUTE, HOUR, DAY = 60_000_000, 3_600_000_000, 86_400_000_000  # microseconds
KNOWN = 20  # addresses and products remembered of a device; a gateway has many
PAUSE = 10 * MINUTE  # a shorter silence is a part of an examination
SILENCES, MEMORY = 16, 35 * DAY  # the longest silences of five weeks: a habit has weekends and may have one holiday
LEARNING, PAUSES = 14 * DAY, 5  # before and below, a device has no habit yet
FACTOR, SLACK = 1.5, HOUR  # beyond the longest silence of the habit
AHEAD, AHEAD_SOMEWHERE = 15 * MINUTE, 14 * HOUR  # tolerance with a time zone in the header, and without: UTC+14 exists
LAGS, APART = 16, HOUR  # samples of how old content is on arrival, at most one an hour
BEHIND, SAME, LONG, ENOUGH = DAY, 6 * HOUR, 12 * HOUR, 3  # a clock that is behind is so by the same time for a while


def span(length: int) -> str:
    """'3 days', '5 hours', '12 minutes': the greatest unit of which there are two."""
    for unit, word in ((DAY, "days"), (HOUR, "hours"), (MINUTE, "minutes")):
        if length >= 2 * unit:
            return f"{length // unit} {word}"
    return f"{max(length, 0) // 1_000_000} seconds"


def moment(at: int) -> str:
    return datetime.fromtimestamp(at / 1_000_000, UTC).strftime("%Y-%m-%d %H:%M UTC")


# ---------------------------------------------------------------- silence


def heard(habits: Habits, last_at: int, now: int) -> None:
    """Something came at `now`, for the first time since `last_at`: remember how long that was."""
    length = now - last_at
    if length < PAUSE:
        return
    habits.pauses += 1
    kept = [(ended, long) for ended, long in habits.silences if now - ended <= MEMORY] + [(now, length)]
    habits.silences = sorted(sorted(kept, key=lambda one: -one[1])[:SILENCES])


def silence(habits: Habits, first_at: int, last_at: int, now: int) -> str:
    """What is odd about hearing nothing since `last_at`; '' when nothing is."""
    if last_at - first_at < LEARNING or habits.pauses < PAUSES or not habits.silences:
        return ""
    longest, quiet = max(long for _, long in habits.silences), now - last_at
    if quiet <= longest * FACTOR + SLACK:
        return ""
    return (
        f"nothing new since {moment(last_at)}, {span(quiet)}; in the weeks before that it was silent for {span(longest)}"
        " at the longest"
    )


# ---------------------------------------------------------------- clock


def made_at(made: tuple[int, str], timezone: str) -> int | None:
    """Microseconds of a header's date and time, taken as UTC where no Timezone Offset From UTC (0008,0201) is given; None
    where there is no such day."""
    day, time = made
    digits, _, fraction = time.partition(".")
    digits = digits.ljust(6, "0")
    try:
        found = datetime(
            day // 10000, day // 100 % 100, day % 100, int(digits[:2]), int(digits[2:4]), min(int(digits[4:6]), 59), 0, UTC
        )  # fmt: skip
        at = int(found.timestamp()) * 1_000_000 + int(fraction.ljust(6, "0")[:6] or 0)
    except ValueError:
        return None
    return at - (offset(timezone) or 0)


def offset(timezone: str) -> int | None:
    """Microseconds east of UTC of '+0130'; None for anything else."""
    if len(timezone) != 5 or timezone[0] not in "+-" or not timezone[1:].isdecimal():
        return None
    length = int(timezone[1:3]) * HOUR + int(timezone[3:]) * MINUTE
    return length if timezone[0] == "+" else -length


def clock(habits: Habits, received_at: int, lag: int, zoned: bool) -> str:
    """What is odd about content made `lag` before it was received (negative: after); '' when nothing is. Remembers it.

    Old content is nothing odd by itself (priors, a second sending); that it is always older by the same time is.
    """
    if lag < -(AHEAD if zoned else AHEAD_SOMEWHERE):
        return f"its clock is ahead: images came {span(-lag)} before the time they say they were made at"
    if not habits.lags or received_at - habits.lags[-1][0] >= APART:
        habits.lags = [*habits.lags, (received_at, lag)][-LAGS:]
    for alike, (since, one) in enumerate(reversed(habits.lags), 1):
        if abs(one - lag) >= SAME:
            break
        if lag >= BEHIND and alike >= ENOUGH and received_at - since >= LONG:
            return (
                f"its clock is probably wrong: since {moment(since)} everything it sent says it was made {span(lag)} before"
                " it came, always by the same time"
            )
    return ""


# ---------------------------------------------------------------- who it is


def met(known: dict[str, int], name: str, now: int) -> list[str]:
    """Remember a name (an address, a product); the others known so far where it is new and there were any, else []."""
    before = sorted(known, key=lambda one: -known[one]) if name not in known else []
    known[name] = max(now, known.get(name, 0))
    for oldest in sorted(known, key=lambda one: known[one])[: max(0, len(known) - KNOWN)]:
        del known[oldest]
    return before


def listing(names: list[str], most: int = 3) -> str:
    """'a, b and 4 others'."""
    if len(names) <= most:
        return ", ".join(names)
    return f"{', '.join(names[:most])} and {len(names) - most} others"


# ---------------------------------------------------------------- series


def gaps(found: list[tuple[int, int]], missing: int, first: int, last: int) -> str:
    """What is odd about the instance numbers of a series; '' when nothing is, or when they are no count: a series of which
    more numbers are missing than there are counts in steps."""
    if not missing or missing > last - first + 1 - missing:
        return ""
    runs = ", ".join(str(low) if low == high else f"{low} to {high}" for low, high in found)
    more = missing - sum(high - low + 1 for low, high in found)
    others = f" and {more} others" if more > 0 else ""
    which = f"number {runs} is" if missing == 1 else f"numbers {runs}{others} are"
    return f"instance {which} missing between {first} and {last}"
