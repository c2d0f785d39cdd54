"""Access token -> claims: introspection, signatures, and the token cache."""
