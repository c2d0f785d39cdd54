"""Decide who may see what. Pure and synchronous: no input or output, no clock, no other room."""
