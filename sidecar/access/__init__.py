"""Who may see what. Pure and synchronous: no input or output, no clock, nothing of ours but this room."""
