"""What the demo's page may ask beside the product: what there is, and why an answer is as it is.

A hospital has none of it: it tells anybody what SIA-45 keeps to operators.
"""
