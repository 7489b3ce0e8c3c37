"""What a model costs: one kind of cost a file."""

from pocketclip.cost.weigh import measure_cost

__all__ = ["measure_cost"]
