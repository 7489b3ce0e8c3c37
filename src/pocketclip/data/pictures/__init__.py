"""From encoded bytes to pixels, and the views of training."""
