"""How a model runs when it is asked: a runner, its backends, and towers made fast before."""
