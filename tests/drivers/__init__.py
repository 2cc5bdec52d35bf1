"""What tests of whole programs share: a scripted model, a home, and drivers for clew and for the real Codex."""

from drivers.endpoint import Act, Endpoint, Request, Run, Say, Told, answer
from drivers.mcp import Answer, Died, Server, serving
from drivers.peer import AppServer, Peer, PeerError, PeerMissing, find_peer
from drivers.talk import Talk
from drivers.world import CLEW, Finished, World, process_tree, sigkill, wait_until

__all__ = [
    "CLEW",
    "Act",
    "Answer",
    "AppServer",
    "Died",
    "Endpoint",
    "Finished",
    "Peer",
    "PeerError",
    "PeerMissing",
    "Request",
    "Run",
    "Say",
    "Server",
    "Talk",
    "Told",
    "World",
    "answer",
    "find_peer",
    "process_tree",
    "serving",
    "sigkill",
    "wait_until",
]
