"""Training from a recipe: `refseg train recipes/rela-mini-scenes.toml [key=value ...]`.

recipe.py says what a run is, order.py which pictures and expressions step n reads, source.py turns them into batches,
optimizer.py and schedule.py move the weights, average.py keeps their moving average, state.py writes and reads
checkpoints, monitor.py tells people, and loop.py is the loop.
"""
