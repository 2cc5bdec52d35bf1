"""The MCP server: `codex`, `codex-reply` and the thread tools over stdio.

This module stays light: a process that only serves calls `lean.prepare()` before anything of the MCP library is
imported, and then `serve.serve_stdio`.
"""
