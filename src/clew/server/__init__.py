"""Faces that other programs talk to."""
