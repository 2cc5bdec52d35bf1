"""A live session: the turn loop, the model, tools, approvals and sandbox. Everything is recorded before it counts."""

from clew.agent.agent import Agent

__all__ = ["Agent"]
