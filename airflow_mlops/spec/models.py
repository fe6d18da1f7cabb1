# SPDX-License-Identifier: Apache-2.0
"""
The constructs of a spec as pydantic models, one per YAML construct.

They check form alone: what a value is by itself. What refers to something else (steps, params, templates) is checked
where the tree is known. The parts of a step are in :mod:`~airflow_mlops.spec.parts`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import (
    ConfigDict,
    Discriminator,
    Field,
    StringConstraints,
    Tag,
    model_validator,
)

from airflow_mlops.spec import forms
from airflow_mlops.spec.parts import (
    ARTIFACT_TYPES,
    DEFAULT_GRACE,
    PARAMETER_TYPES,
    Answer,
    ArtifactType,
    AssetName,
    Assignee,
    Backoff,
    BestBy,
    Command,
    Digest,
    DisplayName,
    Duration,
    EnvName,
    InputSpec,
    ModelAlias,
    ModelName,
    Moment,
    NoChampion,
    Number,
    OnDrain,
    OnFail,
    OperatorCall,
    Output,
    OwnerLink,
    OwnerName,
    ParamName,
    Process,
    Prose,
    Resources,
    Secret,
    SecretName,
    SlotName,
    SpecModel,
    StepName,
    Text,
    ValueName,
    Volume,
    Word,
)
from airflow_mlops.spec.parts import Tag as TagName
from airflow_mlops.spec.quantities import format_duration
from airflow_mlops.spec.scheduling import AnySchedule, Deadline, RunCallbacks, StepCallbacks

API_VERSION = "mlops/v1"

Kind = Literal[
    "preprocess",
    "train",
    "evaluate",
    "predict",
    "container",
    "operator",
    "import",
    "gate",
    "pick",
    "approve",
    "register",
]
Runtime = Literal["process", "docker", "kubernetes"]
CONTAINER_RUNTIMES = ("docker", "kubernetes")
"""Those that run the program in an image."""
PROGRAM_KINDS = ("preprocess", "train", "evaluate", "predict", "container")
KINDS = (*PROGRAM_KINDS, "operator", "import", "gate", "pick", "approve", "register")

_BACKOFF = Backoff()
_RESOURCES = Resources()
_PROCESS = Process()
_CALLBACKS = StepCallbacks()
_RUN_CALLBACKS = RunCallbacks()


class StepOptions(SpecModel):
    """What ``defaults`` may say for all steps, and each step for itself."""

    model_config = ConfigDict(frozen=False)

    runtime: Runtime = Field(
        default="docker", description="Where the program runs: `process`, `docker` or `kubernetes`"
    )
    image: Text | None = Field(default=None, description="Container image, or an alias from `images` (template)")
    env: dict[EnvName, Word] = Field(default_factory=dict, description="Environment variables (templates)")
    secrets: dict[SecretName, Secret] = Field(default_factory=dict, description="Secrets by reference")
    resources: Resources = Field(
        default_factory=lambda: _RESOURCES,
        description="CPU, memory, GPUs, shared memory",
    )
    retries: int = Field(default=0, ge=0, le=100, description="Further tries after the program has failed")
    infra_retries: int | None = Field(
        default=None,
        ge=0,
        le=100,
        description="Further tries after the infrastructure has failed; absent: what the deployment says",
    )
    backoff: Backoff = Field(default_factory=lambda: _BACKOFF, description="Wait between tries")
    timeout: Duration | None = Field(
        default=None,
        description="How long the program may run, or how long a step of kind `approve` waits for an answer: 90s, 15m, 1h30m, 2d",
    )
    checkpoint: bool = Field(default=False, description="Whether /mlops/checkpoint outlives a failed attempt")
    stop_grace: Duration = Field(
        default=DEFAULT_GRACE,
        description="How long the program may take to end when it is asked to, before it is killed",
        json_schema_extra={"default": format_duration(DEFAULT_GRACE)},
    )
    on_drain: OnDrain | None = Field(
        default=None,
        description="When its worker shuts down: `detach` leaves a container to the next try, `stop` stops it; "
        "absent: what the deployment says",
    )
    keep_failed: Duration | None = Field(
        default=None, description="How long what a failed program left is kept to be looked at; absent: not at all"
    )
    volumes: list[Volume] = Field(
        default_factory=list,
        description="Host folders and volumes that the container sees",
    )
    pool: SlotName | None = Field(
        default=None, description="Airflow pool whose slots the step takes; it must exist, or the step never starts"
    )
    pool_slots: int = Field(default=1, ge=1, le=10_000, description="How many slots of the pool it takes")
    priority_weight: int = Field(
        default=1,
        ge=-1_000_000,
        le=1_000_000,
        description="Airflow's priority_weight: of waiting steps, the highest starts first",
    )
    queue: SlotName | None = Field(
        default=None, description="Queue of the workers that may run the step, where the executor has queues"
    )
    callbacks: StepCallbacks = Field(
        default_factory=lambda: _CALLBACKS, description="Whom Airflow calls about the step"
    )
    docker: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of DockerOperator (literals)",
    )
    kubernetes: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of KubernetesPodOperator (literals)",
    )
    pod: dict[str, Any] = Field(
        default_factory=dict,
        description="What the pod has besides, in Kubernetes' own names, merged as `kubectl patch` does; the program's container is `step`",
    )
    process: Process = Field(default_factory=lambda: _PROCESS, description="Settings of the process runtime")


_LONE_OUTPUTS: dict[str, Any] = {
    "if": {"properties": {"kind": {"const": "pick", "description": "What the step is for"}}, "required": ["kind"]},
    "else": {
        "properties": {
            "outputs": {
                "description": "What the step makes, by name",
                "additionalProperties": {
                    "if": {"type": "string"},
                    "then": {"enum": [*ARTIFACT_TYPES, *PARAMETER_TYPES]},
                },
            }
        }
    },
}
"""For editors: the short form of an output is a type, but for the kind whose outputs are those of other steps."""


class StepSpec(StepOptions):
    """One step of a pipeline."""

    model_config = ConfigDict(json_schema_extra={"allOf": [_LONE_OUTPUTS]})

    name: StepName = Field(description="Name, unique in its group: [a-z][a-z0-9-]{0,62}")
    kind: Kind = Field(description="What the step is for")
    description: Prose = Field(default="", max_length=4096, description="What the step does, shown in Airflow")
    command: Command = Field(
        default_factory=list,
        description="Program and arguments as a list; no shell (templates)",
    )
    args: Command = Field(
        default_factory=list,
        description="Arguments after the command, or after the image's entry point (templates)",
    )
    params: list[ParamName] = Field(default_factory=list, description="Pipeline parameters that the step gets")
    inputs: dict[ValueName, InputSpec] = Field(default_factory=dict, description="Outputs of other steps, by name")
    outputs: dict[ValueName, Output] = Field(default_factory=dict, description="What the step makes, by name")
    needs: list[Text] = Field(
        default_factory=list,
        description="Steps or groups that must have ended well before",
    )
    operator: OperatorCall | None = Field(default=None, description="The Airflow operator of a step of kind `operator`")
    uri: Text | None = Field(
        default=None, description="Where the data of a step of kind `import` lies: a URL or a path (template)"
    )
    asset: AssetName | None = Field(
        default=None,
        description="In place of `uri`: the asset whose newest update a step of kind `import` brings in, `mlops://<pipeline>/<step>/<output>`",
    )
    type: ArtifactType | None = Field(
        default=None,
        description="What kind of artifact a step of kind `import` brings in; its output has this name",
    )
    digest: Digest | None = Field(default=None, description="How an import is told apart: by content, by ETag, or not")
    model: ModelName | None = Field(
        default=None, description="Name under which a step of kind `register` registers its model"
    )
    alias: ModelAlias | None = Field(
        default=None,
        description="Alias that points to the registered version afterwards: `challenger`, any word; `champion` makes the old one `previous`",
    )
    require: list[Text] = Field(
        default_factory=list,
        max_length=100,
        description="What must hold for a step of kind `gate` to open: conditions in CEL over its inputs and `params`, such as `m.accuracy >= 0.93`",
    )
    on_fail: OnFail = Field(
        default="fail",
        description="What a closed gate does: `fail` fails the run, `skip` skips the steps that come after",
    )
    no_champion: NoChampion | None = Field(
        default=None,
        description="What a condition of a gate says that reads a registered model by an alias (`models:churn@champion`), while there is none: "
        "`open`: it holds; `close`: it does not",
    )
    from_: list[Text] = Field(
        default_factory=list,
        max_length=100,
        validation_alias="from",
        serialization_alias="from",
        description="Candidates of a step of kind `pick`: groups, or steps; the first one wins a tie",
    )
    by: BestBy | None = Field(
        default=None, description="What a step of kind `pick` compares its candidates by: `max(score.metrics.auc)`"
    )
    subject: Text | None = Field(
        default=None, description="What a step of kind `approve` asks (template); absent: `Approve <pipeline>: <step>?`"
    )
    assignees: list[Assignee] = Field(
        default_factory=list,
        max_length=100,
        description="Who may answer a step of kind `approve`; absent: whoever may answer for this DAG in Airflow",
    )
    default: Answer | None = Field(
        default=None,
        description="The answer of a step of kind `approve` when nobody has given one in time; absent: it fails",
    )
    on_reject: OnFail = Field(
        default="fail",
        description="What a rejection does: `fail` fails the run, `skip` skips the steps that come after",
    )
    when: Text | None = Field(
        default=None,
        description="When a step of kind `approve` asks: a condition in CEL over its inputs and `params`, such as `params.ask == true`; "
        "if it does not hold, the step is passed without asking",
    )
    display_name: DisplayName | None = Field(default=None, description="Name that Airflow shows in place of `name`")


STEP_KEYS = tuple(key.rstrip("_") for key in sorted(StepSpec.model_fields, key=StepOptions.model_fields.__contains__))
"""Keys of a step, its own before those that it shares with ``defaults``."""


class GroupSpec(SpecModel):
    """Steps that belong together: a name space, a box in Airflow's graph."""

    name: StepName = Field(description="Name, unique where it stands: [a-z][a-z0-9-]{0,62}")
    description: Prose = Field(default="", max_length=4096, description="What the group does")
    needs: list[Text] = Field(
        default_factory=list,
        description="Steps or groups that must have ended well before any step of this group",
    )
    steps: list[Entry] = Field(description="Steps and groups of this group", min_length=1)
    display_name: DisplayName | None = Field(default=None, description="Name that Airflow shows in place of `name`")


def _entry_tag(value: Any) -> str:
    if isinstance(value, Mapping):
        return "group" if "steps" in value and "kind" not in value else "step"
    return "group" if isinstance(value, GroupSpec) else "step"


Entry = Annotated[
    Annotated[StepSpec, Tag("step")] | Annotated[GroupSpec, Tag("group")],
    Discriminator(_entry_tag),
]


class ParamSpec(SpecModel):
    """A parameter of the pipeline, in the fields of JSON Schema. Short form: the default alone."""

    short_form = ("default", {"type": ["string", "number", "boolean", "array"]})

    type: forms.ParamTypes | None = Field(
        default=None, description="JSON type, or a list of them; absent: the default's"
    )
    default: Any = Field(default=None, description="Value when a run gives none")
    title: Text | None = Field(default=None, description="Label in Airflow's form")
    description: Text | None = Field(default=None, description="What it does")
    enum: list[Any] | None = Field(default=None, min_length=1, description="The only allowed values")
    minimum: Number | None = Field(default=None, description="Smallest value")
    maximum: Number | None = Field(default=None, description="Largest value")
    exclusiveMinimum: Number | None = Field(default=None, description="Every value is larger")
    exclusiveMaximum: Number | None = Field(default=None, description="Every value is smaller")
    multipleOf: Number | None = Field(default=None, description="Every value is a multiple")
    minLength: int | None = Field(default=None, ge=0, description="Shortest string")
    maxLength: int | None = Field(default=None, ge=0, description="Longest string")
    pattern: Text | None = Field(
        default=None, description="Regular expression that a string matches; without lookaround and back-references"
    )
    format: Text | None = Field(default=None, description="Format of a string: date, date-time, multiline, …")
    items: dict[str, Any] | None = Field(
        default=None, description="JSON Schema of each item of an array; without references"
    )
    minItems: int | None = Field(default=None, ge=0, description="Fewest items")
    maxItems: int | None = Field(default=None, ge=0, description="Most items")
    uniqueItems: bool | None = Field(default=None, description="Whether items may not repeat")
    examples: list[Any] | None = Field(default=None, description="Values that Airflow's form offers")
    section: Text | None = Field(default=None, description="Section of Airflow's form")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return value if isinstance(value, dict) else {"default": value}


class Overlay(SpecModel):
    """What an environment changes. It is merged over the spec key by key."""

    display_name: DisplayName | None = Field(default=None, description="Replaces the display name")
    description: Prose | None = Field(default=None, max_length=4096, description="Replaces the description")
    schedule: AnySchedule | None = Field(default=None, description="Replaces the schedule; null: by hand")
    params: dict[ParamName, Any] = Field(
        default_factory=dict,
        description="Other defaults, or other fields, of declared parameters",
    )
    tags: list[TagName] = Field(default_factory=list, description="Replaces the tags")
    owner: OwnerName | None = Field(default=None, description="Replaces the owner")
    owner_links: dict[OwnerName, OwnerLink] = Field(default_factory=dict, description="Other links of owners")
    start_date: Moment | None = Field(default=None, description="Replaces the start date")
    catchup: bool = Field(default=False, description="Replaces catchup")
    max_active_runs: int | None = Field(default=None, ge=1, le=10_000, description="Replaces max_active_runs")
    timeout: Duration | None = Field(default=None, description="Replaces the timeout; null: none")
    deadline: Deadline | None = Field(default=None, description="Replaces the deadline; null: none")
    callbacks: RunCallbacks = Field(
        default_factory=lambda: _RUN_CALLBACKS, description="Other callbacks of runs; `on_failure: []` for none"
    )
    source: Text | None = Field(default=None, description="Replaces the source folder")
    images: dict[Text, Text] = Field(default_factory=dict, description="Other images for aliases")
    defaults: StepOptions = Field(
        default_factory=StepOptions,
        description="Other defaults of steps",
    )
    steps: dict[Text, dict[str, Any]] = Field(
        default_factory=dict,
        description="Changes of single steps, by name (`group/step` inside a group)",
    )


class PipelineSpec(SpecModel):
    """A pipeline: one spec file, one DAG."""

    apiVersion: Literal["mlops/v1"] = Field(description="Version of this format")
    name: Annotated[str, StringConstraints(pattern=forms.PIPELINE_NAME)] = Field(
        description="Name of the pipeline, and id of its DAG"
    )
    display_name: DisplayName | None = Field(default=None, description="Name that Airflow shows in place of `name`")
    description: Prose = Field(default="", max_length=65_536, description="What the pipeline does; Markdown")
    schedule: AnySchedule | None = Field(
        default=None,
        description="When it runs: cron, a preset such as '@weekly', assets, or both; absent: by hand",
    )
    params: dict[ParamName, ParamSpec] = Field(default_factory=dict, description="What a run may be given")
    tags: list[TagName] = Field(default_factory=list, description="Tags of the DAG")
    owner: OwnerName | None = Field(default=None, description="Owner of the tasks")
    owner_links: dict[OwnerName, OwnerLink] = Field(
        default_factory=dict, description="Where Airflow's list of DAGs leads from an owner: a web page or mailto:"
    )
    start_date: Moment | None = Field(
        default=None,
        description="First date of the schedule, ISO 8601; UTC unless it says otherwise",
    )
    catchup: bool = Field(default=False, description="Whether missed intervals since start_date are run")
    max_active_runs: int | None = Field(
        default=None, ge=1, le=10_000, description="How many runs may be active at once"
    )
    timeout: Duration | None = Field(
        default=None, description="How long a run may take; then what runs is stopped, and the run has failed"
    )
    deadline: Deadline | None = Field(default=None, description="When somebody is told that a run is late")
    callbacks: RunCallbacks = Field(
        default_factory=lambda: _RUN_CALLBACKS, description="Whom Airflow calls when a run has ended"
    )
    source: Text | None = Field(default=None, description="Folder of the step code, relative to this file")
    images: dict[Text, Text] = Field(default_factory=dict, description="Short names of images")
    environments: dict[StepName, Overlay] = Field(
        default_factory=dict,
        description="Overlays, one of which may be chosen when the spec is loaded",
    )
    defaults: StepOptions = Field(
        default_factory=StepOptions,
        description="What holds for all steps that do not say otherwise",
    )
    steps: list[Entry] = Field(
        min_length=1,
        description="Steps and groups, in the order in which they are shown",
    )


PipelineSpec.model_rebuild()
