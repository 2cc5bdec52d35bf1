"""What the model is told about what it may do: the sandbox, the network, and when a person is asked."""

from __future__ import annotations

from xml.sax.saxutils import escape

from clew.settings import ApprovalPolicy, Sandbox, SandboxMode

__all__ = ["filesystem_xml", "permissions_text"]

_PROTECTED = (".git", ".agents", ".codex", ".aws")

_MODES = {
    SandboxMode.READ_ONLY: "Commands run in a sandbox that lets them read every file but write none.",
    SandboxMode.WORKSPACE_WRITE: (
        "Commands run in a sandbox that lets them read every file, and write only below the writable roots. "
        f"Inside those, {', '.join(f'`{name}`' for name in _PROTECTED[:-1])} and `{_PROTECTED[-1]}` stay read-only."
    ),
    SandboxMode.FULL_ACCESS: "Commands run without a sandbox: they may read and write every file of this user.",
}

_HOW_TO_ASK = """\
To run a command that needs more than the sandbox allows, ask for it in the call itself:
- set `sandbox_permissions` to `"require_escalated"`; the command then runs outside of the sandbox if the user agrees
- give `justification`, one short question to the user that says what the command does and why, such as "May I fetch \
the missing packages from the network?"
Ask when a command that matters failed because of the sandbox (a write outside of the roots, no network), or when it \
is plain beforehand that it would fail. Ask for the single command that needs it, not for a whole script. Prefer a \
way that stays inside of the sandbox, and do not work around the sandbox by other means. If the user says no, find \
another way, or end your turn and explain what is missing."""

_NEVER = """\
The user is never asked. Leave `sandbox_permissions` and `justification` out of your calls: a call that asks for more \
is refused. When the sandbox stops a command, find another way within it, or finish what can be done and say what \
could not."""

_POLICIES = {
    ApprovalPolicy.ON_REQUEST: "The user is asked when you ask for it. " + _HOW_TO_ASK,
    ApprovalPolicy.NEVER: _NEVER,
    ApprovalPolicy.UNTRUSTED: (
        "The user is asked before every command and every change of files, so group your work in few, "
        "well-explained calls. " + _HOW_TO_ASK
    ),
}


def permissions_text(sandbox: Sandbox, approval: ApprovalPolicy, cwd: str) -> str:
    """The developer message about sandbox and approvals, in its tags."""
    lines = [f"`sandbox_mode` is `{sandbox.mode.value}`. {_MODES[sandbox.mode]}"]
    if sandbox.mode is SandboxMode.WORKSPACE_WRITE:
        lines.append(f"Writable roots: {', '.join(f'`{root}`' for root in _roots_told(sandbox, cwd))}.")
    network = sandbox.mode is SandboxMode.FULL_ACCESS or (
        sandbox.mode is SandboxMode.WORKSPACE_WRITE and sandbox.network_access
    )
    lines.append("Commands may use the network." if network else "Commands have no network.")
    lines.append(f"`approval_policy` is `{approval.value}`. {_POLICIES[approval]}")
    if sandbox.mode is SandboxMode.FULL_ACCESS and approval is ApprovalPolicy.ON_REQUEST:
        lines[-1] = (
            f"`approval_policy` is `{approval.value}`. Nothing needs to be asked for here; leave `sandbox_permissions` "
            "out of your calls. Take care all the same: nothing but you stands between a command and the user's files."
        )
    body = "\n".join(lines)
    return f"<permissions instructions>\n{body}\n</permissions instructions>"


def _roots_told(sandbox: Sandbox, cwd: str) -> list[str]:
    roots = [cwd, *(root for root in sandbox.writable_roots if root != cwd)]
    if not sandbox.exclude_slash_tmp:
        roots.append("/tmp")  # noqa: S108  the sandbox allows this folder by that name; nothing is created here
    if not sandbox.exclude_tmpdir_env_var:
        roots.append("$TMPDIR")
    return roots


def filesystem_xml(sandbox: Sandbox, cwd: str) -> str:
    """The `<filesystem>` element of the environment: workspace roots and what may be read and written. Spelled as
    Codex spells it, so that neither program tells the model again what the other one said."""
    workspace = f"<workspace_roots><root>{escape(cwd)}</root></workspace_roots>"
    if sandbox.mode is SandboxMode.FULL_ACCESS:
        profile = '<permission_profile type="disabled"><file_system type="unrestricted" /></permission_profile>'
        return f"<filesystem>{workspace}{profile}</filesystem>"
    entries = [_entry("read", "special", ":root")]
    if sandbox.mode is SandboxMode.WORKSPACE_WRITE:
        roots = [cwd, *(root for root in sandbox.writable_roots if root != cwd)]
        entries += [_entry("write", "path", root) for root in roots]
        if not sandbox.exclude_slash_tmp:
            entries.append(_entry("write", "special", ":slash_tmp"))
        if not sandbox.exclude_tmpdir_env_var:
            entries.append(_entry("write", "special", ":tmpdir"))
        entries += [_entry("read", "path", f"{root}/{name}") for name in _PROTECTED for root in roots]
    files = f'<file_system type="restricted">{"".join(entries)}</file_system>'
    return f'<filesystem>{workspace}<permission_profile type="managed">{files}</permission_profile></filesystem>'


def _entry(access: str, kind: str, what: str) -> str:
    return f'<entry access="{access}"><{kind}>{escape(what)}</{kind}></entry>'
