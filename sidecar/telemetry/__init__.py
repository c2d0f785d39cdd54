"""What operators see: Prometheus metrics and JSON logs. No identifier of a person, no token, no capability."""
