"""Settings in, objects out: the one place that builds."""
