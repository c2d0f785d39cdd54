"""What operators see: Prometheus metrics, JSON logs and traces.

No identifier of a person, no token, no capability.
"""
