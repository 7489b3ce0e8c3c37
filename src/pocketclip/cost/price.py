"""What time costs."""


def price_dollars(seconds: float, dollars_per_hour: float) -> float:
    """Dollars for a machine rented by the hour, charged to the second."""
    return seconds / 3600 * dollars_per_hour
