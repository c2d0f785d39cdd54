"""Access token -> facts: discovery, introspection, the token cache, and our own credentials at the EHR."""
