"""Confining commands: what this machine offers, and where a policy lets them write."""

from clew.agent.sandbox.confinement import Confinement, Mechanism, detect
from clew.agent.sandbox.roots import PROTECTED, Roots, writable_roots

__all__ = ["PROTECTED", "Confinement", "Mechanism", "Roots", "detect", "writable_roots"]
