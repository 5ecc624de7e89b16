"""The settings of a table of `remit.toml`."""

from __future__ import annotations

from remit.policy.authzen import points_of
from remit.workspace.definitions import KeepRule, Settings
from remit.workspace.file_schema import SettingsTable
from remit.workspace.settings.notify import channels_of
from remit.workspace.settings.secrets import sources_of


def settings_of(table: SettingsTable) -> Settings:
    """The settings that the file gives."""
    return Settings(
        tenant=table.tenant,
        env=table.env,
        envs=tuple(table.envs),
        kinds=tuple(table.kinds),
        users=None if table.users is None else tuple(table.users),
        identity=table.identity,
        accept=tuple(table.sandbox.accept),
        host_tools=tuple(table.host_tools),
        redact_env=tuple(table.redact.env),
        content=table.traces.content,
        keep=table.traces.keep,
        keep_rules=tuple(
            KeepRule(keep=rule.keep, agent=rule.agent or "", outcome=rule.outcome or "", label=rule.label or "")
            for rule in table.traces.keep_rules
        ),
        seal=table.traces.seal,
        casbin=table.policy.casbin,
        fail_on=table.check.fail_on,
        issuers=table.issuers,
        journal=table.journal or "",
        journal_group=table.journal_group or "",
        secrets=sources_of(table.secrets),
        notify=channels_of(table.notify),
        serve=table.serve.settings(),
        worker=table.worker.settings(),
        storage=table.storage.settings(),
        enforcement_points=points_of(table.enforcement_points),
    )
