"""What the model may do: its tools, what they need to run, and what they answer."""

from clew.agent.tools.contracts import Finished, Tool, ToolCall, ToolContext, ToolFailed, ToolOutcome, aborted
from clew.agent.tools.toolbox import ToolBox

__all__ = [
    "Finished",
    "Tool",
    "ToolBox",
    "ToolCall",
    "ToolContext",
    "ToolFailed",
    "ToolOutcome",
    "aborted",
]
