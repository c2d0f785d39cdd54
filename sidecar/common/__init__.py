"""What every package may use: errors, bounded fetching, caches, queues, slices, spans."""
