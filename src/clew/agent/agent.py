"""The native engine: puts together what a turn works with, and keeps what outlives a turn."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial

import anyio
import anyio.to_thread

from clew.agent.instructions import BASE_INSTRUCTIONS, COMPACT_PROMPT
from clew.agent.model import Models
from clew.agent.repository import git_info
from clew.agent.session import TurnRun, Window, Workbench
from clew.agent.surroundings import Surroundings
from clew.agent.tools import ToolBox
from clew.agent.tools.toolbox import find_shell
from clew.agent.tools.truncation import TOOL_POLICY
from clew.clock import Clock
from clew.config import Config
from clew.config.providers import Provider
from clew.engine import Approver, Emit, Live, Origin
from clew.errors import ProviderUnknown
from clew.events import TurnInput, TurnResult
from clew.history.truncation import TruncationPolicy
from clew.ids import IdSource
from clew.settings import Settings

__all__ = ["Agent"]

_DEFAULT_WINDOW = 272_000
"""Tokens of the window of a model nothing is known about."""


class Agent:
    """Runs turns with the configured models and clew's own tools (see `clew.engine.Engine`).

    Commands that a turn left running, and approvals given for the session, belong to their thread and live as long as
    this object.
    """

    def __init__(
        self,
        config: Config,
        models: Models,
        *,
        env: Mapping[str, str],
        clock: Clock,
        ids: IdSource,
        reload: Callable[[], Config] | None = None,
    ) -> None:
        self._config = config
        self._reload = reload
        self._models = models
        self._env = env
        self._clock = clock
        self._ids = ids
        self._shell = find_shell(env)
        # What a command prints goes to the model and into the log, so keys of providers stay here.
        hidden = config.key_variables
        visible = {name: value for name, value in env.items() if name not in hidden}
        self._tools = ToolBox(visible, shell=self._shell)

    def check(self, settings: Settings) -> None:
        provider = self._provider(settings)
        provider.check_key()
        self._models.of(provider)

    def _provider(self, settings: Settings) -> Provider:
        """The provider as the caller's configuration defines it, else as ours does. A thread may name one that was
        configured since this process began."""
        if settings.endpoint is not None and settings.endpoint.id == settings.provider:
            return settings.endpoint
        try:
            return self._config.provider(settings.provider)
        except ProviderUnknown:
            if self._reload is None:
                raise
            self._config = self._reload()
            return self._config.provider(settings.provider)

    async def origin(self, settings: Settings) -> Origin:
        git = await git_info(settings.cwd)
        return Origin(settings.base_instructions or BASE_INSTRUCTIONS, git or None)

    async def run(
        self, live: Live, turn: TurnInput, *, turn_id: str, approver: Approver, emit: Emit, stop: anyio.Event
    ) -> TurnResult:
        settings = live.settings
        provider = self._provider(settings)
        surroundings = await anyio.to_thread.run_sync(
            partial(
                Surroundings.gather,
                settings,
                codex_home=self._config.codex_home,
                clock=self._clock,
                shell=self._shell,
                env=self._env,
                project_doc_max_bytes=self._config.project_doc_max_bytes,
                project_doc_fallback_filenames=self._config.project_doc_fallback_filenames,
                project_root_markers=self._config.project_root_markers,
            )
        )
        bench = Workbench(
            provider=provider,
            model=self._models.of(provider),
            tools=self._tools,
            window=self._window(),
            output_policy=_output_policy(self._config),
            surroundings=surroundings,
            base_instructions=settings.base_instructions or BASE_INSTRUCTIONS,
            compact_prompt=COMPACT_PROMPT,
            clock=self._clock,
            ids=self._ids,
        )
        run = TurnRun(bench, live, turn, turn_id=turn_id, approver=approver, emit=emit, stop=stop)
        return await run.run()

    async def close(self) -> None:
        """Kill what turns left running."""
        await self._tools.close()

    def _window(self) -> Window:
        size = self._config.model_context_window or _DEFAULT_WINDOW
        usable = size * 95 // 100
        compact_at = min(size * 90 // 100, usable)
        if self._config.model_auto_compact_token_limit:
            compact_at = min(compact_at, self._config.model_auto_compact_token_limit)
        return Window(size, usable, compact_at)


def _output_policy(config: Config) -> TruncationPolicy:
    limit = config.tool_output_token_limit
    return TOOL_POLICY if limit is None else TruncationPolicy("tokens", limit)
