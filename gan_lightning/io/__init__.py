"""Files, caches, images, plots, progress and memory: what has nothing to do with training."""
