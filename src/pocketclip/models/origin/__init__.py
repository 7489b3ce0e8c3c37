"""Where weights come from: packages, hubs, folders, other models, published files."""
