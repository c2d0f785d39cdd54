"""What operators see: Prometheus metrics, JSON logs and traces, without persons and tokens."""
