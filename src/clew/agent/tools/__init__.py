"""What the model may do: its tools, what they need to run, and what they answer."""

from clew.agent.tools.contracts import Finished, Tool, ToolCall, ToolContext, ToolFailed, ToolOutcome, aborted
from clew.agent.tools.toolbox import ToolBox
from clew.agent.tools.truncation import OutputPolicy

__all__ = [
    "Finished",
    "OutputPolicy",
    "Tool",
    "ToolBox",
    "ToolCall",
    "ToolContext",
    "ToolFailed",
    "ToolOutcome",
    "aborted",
]
