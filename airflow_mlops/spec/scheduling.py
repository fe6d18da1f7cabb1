# SPDX-License-Identifier: Apache-2.0
"""
What a spec hands on to Airflow's scheduler, as pydantic models: when runs start, who is called when they end, by when they must have ended.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from airflow_mlops.spec import forms
from airflow_mlops.spec.parts import AssetName, Duration, SpecModel

Cron = Annotated[str, BeforeValidator(forms.schedule)]
TimeZone = Annotated[str, BeforeValidator(forms.time_zone)]
ArgumentName = Annotated[str, BeforeValidator(forms.argument_name)]
ImportPath = Annotated[str, BeforeValidator(forms.import_path)]


class AssetsAny(SpecModel):
    """A run when any of the assets was updated."""

    any: list[AssetName] = Field(min_length=1, description="URIs or names of assets")


class AssetsAll(SpecModel):
    """A run when all of the assets were updated."""

    all: list[AssetName] = Field(min_length=1, description="URIs or names of assets")


def _assets_tag(value: Any) -> str:
    return "all" if isinstance(value, AssetsAll) or (isinstance(value, Mapping) and "all" in value) else "any"


class Schedule(SpecModel):
    """When runs start. Short form: cron or a preset alone."""

    assets: (
        Annotated[
            Annotated[AssetsAny, Tag("any")] | Annotated[AssetsAll, Tag("all")],
            Discriminator(_assets_tag),
        ]
        | None
    ) = Field(default=None, description="A run when these were updated")
    cron: Cron | None = Field(default=None, description="A run at these times: cron, or a preset such as '@weekly'")
    timezone: TimeZone | None = Field(
        default=None, description="Time zone of `cron`, such as Europe/Berlin; absent: that of `start_date`"
    )

    @model_validator(mode="after")
    def _something(self) -> Schedule:
        forms.check_schedule(self.assets is not None, self.cron, self.timezone)
        return self


def _schedule_tag(value: Any) -> str:
    return "long" if isinstance(value, (Mapping, Schedule)) else "cron"


AnySchedule = Annotated[
    Annotated[Cron, Tag("cron")] | Annotated[Schedule, Tag("long")],
    Discriminator(_schedule_tag),
]


class Callback(SpecModel):
    """Something that Airflow calls: a function, or a notifier class. Short form: the path alone."""

    short_form = ("path", {"type": "string"})

    path: ImportPath = Field(
        description="Dotted path of a function, which is given Airflow's context, or of a notifier's class"
    )
    arguments: dict[ArgumentName, Any] = Field(
        default_factory=dict, description="Further keyword arguments: the function's, or those that make the notifier"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"path": value} if isinstance(value, str) else value


class RunCallbacks(SpecModel):
    """Whom Airflow calls when a run has ended; its DAG processor does."""

    on_failure: list[Callback] = Field(default_factory=list, description="When a run has failed")
    on_success: list[Callback] = Field(default_factory=list, description="When a run has ended well")


class StepCallbacks(SpecModel):
    """Whom Airflow calls about a step; the worker does."""

    on_execute: list[Callback] = Field(default_factory=list, description="Before each try")
    on_failure: list[Callback] = Field(default_factory=list, description="When the step has failed for good")
    on_retry: list[Callback] = Field(default_factory=list, description="When a try has ended and another one follows")
    on_skipped: list[Callback] = Field(default_factory=list, description="When the step itself says that it is skipped")
    on_success: list[Callback] = Field(default_factory=list, description="When the step has ended well")


class Deadline(SpecModel):
    """When somebody is told that a run is late. The run goes on."""

    interval: Duration = Field(description="How long after `reference`")
    reference: Literal["queued_at", "logical_date"] = Field(
        default="queued_at", description="Counted from when the run was queued, or from the date it is for"
    )
    callback: Callback = Field(
        description="Who is told. Airflow 3.1 calls only what can be awaited: an async function, or a notifier that has async_notify"
    )
