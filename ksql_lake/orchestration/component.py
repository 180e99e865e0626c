"""The Component `ksql_lake.KsqlFeeds`: a feeds folder in another Dagster project, configured in YAML."""

# It translates YAML into a `Scope`. Address and credentials of a server always come from the same place, so
# that one server's credentials are never sent to another.

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import dagster as dg
from dagster.components import Scaffolder, ScaffoldRequest, scaffold_component, scaffold_with
from dagster.components.resolved.errors import ResolutionException
from dagster.components.utils.translation import TranslationFn, TranslationFnResolver
from pydantic import BaseModel, Field

from ksql_lake.errors import ConfigError, SettingsError
from ksql_lake.feeds import Feed
from ksql_lake.lake.storage.opening import is_folder
from ksql_lake.orchestration.project import definitions_of
from ksql_lake.orchestration.scope import Scope
from ksql_lake.settings import Settings, load_settings

_log = logging.getLogger(__name__)


class KsqlServer(dg.Model, dg.Resolvable):
    """A ksqlDB server and its credentials; a field left out is unset, even if the environment sets it."""

    url: Annotated[str, Field(description="`http://host:port` or `https://host:port`.")]
    user: Annotated[str | None, Field(description="Basic-auth user or API key.")] = None
    password: Annotated[str | None, Field(description="Its password.")] = None
    token: Annotated[str | None, Field(description="Bearer token; not together with a user.")] = None
    ca_file: Annotated[str | None, Field(description="PEM file of the server's authority.")] = None
    cert_file: Annotated[str | None, Field(description="PEM client certificate for mutual TLS.")] = None
    key_file: Annotated[str | None, Field(description="Its key.")] = None
    nodes: Annotated[str | None, Field(description="Addresses of all nodes, separated by commas.")] = None


class ScaffoldParams(BaseModel):
    """The parameters of `dg scaffold defs`."""

    key_prefix: str | None = Field(None, description="Prefix of every asset key of this lake.")


class KsqlFeedsScaffolder(Scaffolder[ScaffoldParams]):
    """Writes defs.yaml and creates the feeds folder."""

    @classmethod
    def get_scaffold_params(cls) -> type[ScaffoldParams]:
        """Return the model of the parameters."""
        return ScaffoldParams

    def scaffold(self, request: ScaffoldRequest[ScaffoldParams]) -> None:
        """Write defs.yaml, and create the feeds folder that it names if there is none."""
        prefix = request.params.key_prefix
        below, variable = (f"/{prefix}", f"{prefix.upper()}_") if prefix else ("", "")
        feeds = f"feeds{below}"
        attributes = {
            "feeds": feeds,
            "lake": f"data_lake{below}",
            "server": {
                "url": f"{{{{ env('{variable}KSQLDB_URL', 'http://localhost:8088') }}}}",
                "user": f"{{{{ env.{variable}KSQLDB_USER }}}}",
                "password": f"{{{{ env.{variable}KSQLDB_PASSWORD }}}}",
            },
            **({"key_prefix": prefix} if prefix else {}),
        }
        scaffold_component(request, attributes)
        active = (request.project_root or Path.cwd()) / feeds / "active"
        active.mkdir(parents=True, exist_ok=True)
        # Git keeps no empty folder, and in a clone without it the feeds would seem deleted.
        (active / ".gitkeep").touch()


@scaffold_with(KsqlFeedsScaffolder)
@dataclass(kw_only=True)
class KsqlFeeds(dg.Component, dg.Resolvable):
    """ksqlDB streams and tables as a Parquet lake, exactly once: an asset per feed file, jobs and sensors.

    Attributes:
        feeds: Folder with `active/` and `archived/`; a relative path starts at the project's root.
        lake: Folder of the lake, with the same rule, or `s3://bucket/prefix`.
        server: The ksqlDB server; None takes it from the environment.
        settings: Further settings, by their names in `ksql_lake.Settings`.
        key_prefix: Prefix of every asset key.
        name: Prefix of the names of jobs, schedules, sensors, resources and the pool; empty means `key_prefix`.
        group: Group of the feeds' assets; None means `streams` and `tables`.
        schedules: Names of the schedules to define, without the prefix; true means all.
        sensors: Names of the sensors to define, in the same way.
        checks: Names of the feeds' checks to define, in the same way.
        translation: Changes the asset of a feed; a template sees `feed` and `spec`.
        whole_location: See `build_definitions`.
    """

    feeds: Annotated[
        str | None,
        dg.Resolver.default(
            description="Folder with `active/` and `archived/`, from the project's root; else KSQL_LAKE_FEEDS."
        ),
    ] = None
    lake: Annotated[
        str | None,
        dg.Resolver.default(
            description="Folder of the lake, from the project's root, or `s3://...`; else KSQL_LAKE_ROOT."
        ),
    ] = None
    server: Annotated[
        KsqlServer | None,
        dg.Resolver.default(description="The ksqlDB server; default: the environment's (KSQLDB_URL, ...)."),
    ] = None
    settings: Annotated[
        Mapping[str, str | int | float | bool | None],
        dg.Resolver.default(description="Further settings, e.g. `attempts: 2`; default: the environment's."),
    ] = field(default_factory=dict)
    key_prefix: Annotated[
        str | Sequence[str],
        dg.Resolver.default(description="Prefix of every asset key of this lake."),
    ] = ()
    name: Annotated[
        str,
        dg.Resolver.default(
            description="Prefix of jobs, schedules, sensors, resources and the pool; default: `key_prefix`."
        ),
    ] = ""
    group: Annotated[
        str | None,
        dg.Resolver.default(description="Group of the feeds' assets; default: `streams` and `tables`."),
    ] = None
    schedules: Annotated[
        bool | Sequence[str],
        dg.Resolver.default(description="Schedules to define: all, none, or by name."),
    ] = True
    sensors: Annotated[
        bool | Sequence[str], dg.Resolver.default(description="Sensors to define: all, none, or by name.")
    ] = True
    checks: Annotated[
        bool | Sequence[str], dg.Resolver.default(description="Checks to define: all, none, or by name.")
    ] = True
    translation: Annotated[
        TranslationFn[Feed] | None,
        TranslationFnResolver[Feed](lambda feed: {"feed": feed}),
    ] = None

    whole_location: Annotated[
        bool,
        dg.Resolver.default(
            description="Whether this project exists for these feeds: then each of its runs is one process and "
            "raises an alert when it fails."
        ),
    ] = False

    @classmethod
    def get_spec(cls) -> dg.ComponentTypeSpec:
        """Return the entry of `dg list components`."""
        return dg.ComponentTypeSpec(
            description="ksqlDB streams and tables as a Parquet lake, exactly once.",
            tags=["ksqldb", "kafka", "parquet"],
            produces=["asset", "asset_check", "schedule", "sensor", "job", "resource"],
        )

    def get_asset_spec(self, spec: dg.AssetSpec, feed: Feed) -> dg.AssetSpec:
        """Return the spec of a feed's asset; subclasses may override it.

        Args:
            spec: The spec made from the feed file.
            feed: The feed; for a broken file only the keys that could be read.
        """
        if self.translation is None:
            return spec
        try:
            return self.translation(spec, feed)
        except ResolutionException as error:
            raise ConfigError(f"its translation cannot be used: {error}", feed=feed.name) from error

    def build_defs(self, context: dg.ComponentLoadContext) -> dg.Definitions:
        """Return the definitions of the feeds folder.

        Raises:
            SettingsError: A setting, or a variable of the environment, cannot be used.
            ConfigError: A name is invalid in Dagster; or definitions are only validated and a feed is broken.
        """
        as_made = self.translation is None and type(self).get_asset_spec is KsqlFeeds.get_asset_spec
        scope = Scope(
            self._settings(context.project_root),
            prefix=(self.key_prefix,)
            if isinstance(self.key_prefix, str) and self.key_prefix
            else tuple(self.key_prefix),
            label=self.name,
            group=self.group,
            translate=None if as_made else self.get_asset_spec,
            checks=_chosen(self.checks),
            schedules=_chosen(self.schedules),
            sensors=_chosen(self.sensors),
            whole_location=self.whole_location,
        )
        return definitions_of(scope, source=(type(self), _marks(context.path)))

    def _settings(self, root: Path) -> Settings:
        unknown = sorted(set(self.settings) - set(Settings.model_fields))
        if unknown:
            raise SettingsError(
                f"settings: there is no setting named {', '.join(unknown)}",
                hint=f"Use one of {', '.join(sorted(Settings.model_fields))}.",
            )
        given: dict[str, Any] = dict(self.settings)
        if self.server is not None:
            given |= dict.fromkeys(_CONNECTION) | {
                name if name == "nodes" else f"ksqldb_{name}": value
                for name, value in self.server.model_dump().items()
            }
        asked = load_settings(**given)
        # The shell is used from the project's root, so both mean the same folder.
        feeds = root / (self.feeds or asked.feeds_root)
        lake = self.lake or asked.lake_root
        given |= {"feeds_root": feeds, "lake_root": str(root / lake) if is_folder(lake) else lake}
        return load_settings(**given)


_CONNECTION = (
    "ksqldb_user",
    "ksqldb_password",
    "ksqldb_token",
    "ksqldb_ca_file",
    "ksqldb_cert_file",
    "ksqldb_key_file",
    "nodes",
)


def _chosen(asked: bool | Sequence[str]) -> frozenset[str] | None:
    if isinstance(asked, bool):
        return None if asked else frozenset()
    return frozenset(asked)


def _marks(folder: Path) -> str:
    """Return a text that changes when the component's files change."""
    files = sorted(path for path in folder.glob("*") if path.is_file()) if folder.is_dir() else [folder]
    return "\n".join(f"{path} {path.stat().st_mtime_ns}" for path in files)
