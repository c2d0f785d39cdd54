"""The hospital's own policy engine: asked about each study, never instead of the decision here."""
