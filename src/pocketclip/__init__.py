"""Small image-text models on a small budget: train, distil, measure, ship."""
