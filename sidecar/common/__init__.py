"""What every room may use: errors with an outside face, bounded fetching, single flight, work in slices."""
