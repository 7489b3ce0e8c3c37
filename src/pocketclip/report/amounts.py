"""Figures as people read them: times, days, counts and dollars, rounded to what matters."""

import datetime

_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")  # in every locale
_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """`2 min 39 s`: two units at most, and tenths below ten seconds.

    >>> duration(0.29), duration(158.6), duration(7199.9)
    ('290 ms', '2 min 39 s', '2 h')
    """
    if seconds < 0.9995:
        return f"{1000 * seconds:.2g} ms" if seconds < 0.01 else f"{1000 * seconds:.0f} ms"
    if seconds < 9.95:
        return f"{seconds:.1f} s"
    place = next(place for place, (_, size) in enumerate(_UNITS) if seconds >= size)
    finer = min(place + 1, len(_UNITS) - 1)
    whole = round(seconds / _UNITS[finer][1]) * _UNITS[finer][1]  # 59.6 s is a minute, and not 60 s
    place = next(place for place, (_, size) in enumerate(_UNITS) if whole >= size)
    parts = []
    for unit, size in _UNITS[place : place + 2]:
        count, whole = divmod(whole, size)
        parts += [f"{count} {unit}"] if count else []
    return " ".join(parts)


def day(date: str) -> str:
    """`26 Nov 2026` of a record's date; what is no date is left as it is."""
    try:
        when = datetime.datetime.fromisoformat(date)
    except ValueError:
        return date
    return f"{when.day} {_MONTHS[when.month - 1]} {when.year}"


def of_hundred(share: float) -> str:
    """`0.25` of a hundred for a share of 0.0025: three figures, two below one, which tell small chances apart.

    >>> of_hundred(1 / 393), of_hundred(1 / 16), of_hundred(0.5)
    ('0.25', '6.25', '50')
    """
    return f"{100 * share:.2g}" if share < 0.01 else f"{100 * share:.3g}"


def short_count(count: int) -> str:
    """`26.1 M`: three figures and a unit, exact below a thousand."""
    for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if count >= 0.9995 * size:
            return f"{_three_figures(count / size)} {unit}"
    return f"{count}"


def short_dollars(dollars: float) -> str:
    """`$15.50`; an amount below a cent keeps two figures."""
    if 0 < dollars < 0.01:
        return f"${dollars:.2g}" if dollars >= 1e-4 else "< $0.0001"
    return f"${dollars:,.2f}" if dollars < 1000 else f"${dollars:,.0f}"


def _three_figures(value: float) -> str:
    return f"{value:.0f}" if value >= 99.95 else f"{value:.1f}" if value >= 9.995 else f"{value:.2f}"
