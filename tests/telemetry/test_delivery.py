"""From the spool to a repository that is down, slow, picky or confused: everything, once, in order (SIA-60)."""
