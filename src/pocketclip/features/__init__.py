"""Frozen towers over a whole source, once: encoding, the cache of features, and pairs of them to train on."""
