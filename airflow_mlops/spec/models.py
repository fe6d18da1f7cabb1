# SPDX-License-Identifier: Apache-2.0
"""
The constructs of a spec as pydantic models, one per YAML construct.

They check form alone: what a value is by itself. What refers to something else (steps, params, templates) is checked
where the tree is known. A hand-written DAG uses the same classes: ``Output.model_validate("dataset")`` takes the short
form.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Discriminator,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    Tag,
    model_validator,
)

from airflow_mlops.spec import forms

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

API_VERSION = "mlops/v1"

ArtifactType = Literal["dataset", "model", "metrics", "report", "artifact"]
OutputType = Literal[
    "dataset",
    "model",
    "metrics",
    "report",
    "artifact",
    "string",
    "integer",
    "number",
    "boolean",
    "list",
    "object",
]
Kind = Literal["preprocess", "train", "evaluate", "predict", "container", "operator", "import"]
Runtime = Literal["process", "docker"]
Digest = Literal["content", "etag", "none"]

ARTIFACT_TYPES = ("dataset", "model", "metrics", "report", "artifact")
PARAMETER_TYPES = ("string", "integer", "number", "boolean", "list", "object")
PROGRAM_KINDS = ("preprocess", "train", "evaluate", "predict", "container")
KINDS = (*PROGRAM_KINDS, "operator", "import")

StepName = Annotated[str, StringConstraints(pattern=forms.STEP_NAME)]
ValueName = Annotated[str, StringConstraints(pattern=forms.VALUE_NAME)]
ParamName = Annotated[str, StringConstraints(pattern=forms.PARAM_NAME)]
EnvName = Annotated[str, StringConstraints(pattern=forms.ENV_NAME)]
SecretName = Annotated[str, StringConstraints(pattern=forms.SECRET_NAME)]
Text = Annotated[str, StringConstraints(min_length=1, max_length=4096)]
Word = Annotated[str, BeforeValidator(forms.word, json_schema_input_type=str | int | float | bool)]
"""A string of a command line or environment; numbers and booleans become their JSON text."""
Bytes = Annotated[int, BeforeValidator(forms.memory, json_schema_input_type=str | int)]
Cores = Annotated[float, BeforeValidator(forms.cpu, json_schema_input_type=str | int | float)]
Duration = Annotated[
    timedelta,
    BeforeValidator(forms.duration, json_schema_input_type=str),
    PlainSerializer(forms.duration_text, return_type=str),
]
Moment = Annotated[datetime, BeforeValidator(forms.moment, json_schema_input_type=str)]
Schedule = Annotated[str, BeforeValidator(forms.schedule)]
Command = Annotated[list[Word], BeforeValidator(forms.command, json_schema_input_type=list[Word])]
Reference = Annotated[str, BeforeValidator(forms.reference)]
Number = Annotated[Any, BeforeValidator(forms.number, json_schema_input_type=int | float)]
FileName = Annotated[str, BeforeValidator(forms.file_name)]


class SpecModel(BaseModel):
    """What all constructs share: unknown keys are errors, and ``1`` is not ``"1"``."""

    # One validator is built, that of the whole spec; those of the parts only when a part is validated by itself.
    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        frozen=True,
        populate_by_name=True,
        hide_input_in_errors=True,
        defer_build=True,
    )

    short_form: ClassVar[tuple[str, dict[str, Any]] | None] = None
    """The field that a lone value stands for, and the JSON Schema of that value."""

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = handler(core_schema)
        if cls.short_form is None:
            return schema
        return {"anyOf": [cls.short_form[1], handler.resolve_ref_schema(schema)]}


class Output(SpecModel):
    """
    An output of a step: an artifact, or a parameter (a small JSON value). Short form: the type alone.

    :raises pydantic.ValidationError: if the type is unknown or the file name is more than a name
    """

    short_form = (
        "type",
        {"type": "string", "enum": [*ARTIFACT_TYPES, *PARAMETER_TYPES]},
    )

    type: OutputType = Field(description="What it is: an artifact type or the type of a parameter")
    file: FileName | None = Field(
        default=None,
        description="File name inside the output's folder, for programs that want a suffix; artifacts only",
    )
    keys: list[Text] | None = Field(default=None, description="Keys that a metrics output must hold", min_length=1)
    uri: Text | None = Field(default=None, description="Where an operator step leaves the data (template)")
    digest: Digest | None = Field(
        default=None, description="How data at a URI is told apart: by content, by ETag, or not"
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"type": value} if isinstance(value, str) else value

    @property
    def is_parameter(self) -> bool:
        """Whether it is a small value, handed on by XCom."""
        return self.type in PARAMETER_TYPES

    @property
    def is_artifact(self) -> bool:
        """Whether it is a file or folder, handed on by URI."""
        return self.type not in PARAMETER_TYPES


class InputSpec(SpecModel):
    """An input of a step as written. Short form: the reference alone."""

    short_form = ("from", {"type": "string"})

    from_: Reference = Field(
        validation_alias="from",
        serialization_alias="from",
        description="Which output it is: `step.output`, or `group/step.output` from outside the group",
    )
    type: OutputType | None = Field(
        default=None, description="The type that is asked for; checked against the producer's"
    )
    optional: bool = Field(default=False, description="Run without it when the step that makes it was skipped")
    stage: Literal["copy", "none"] = Field(
        default="copy",
        description="`copy` puts the artifact beside the program, `none` gives its URI alone",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"from": value} if isinstance(value, str) else value


class Secret(SpecModel):
    """A secret by reference: an Airflow variable, or a field of an Airflow connection."""

    variable: Text | None = Field(default=None, description="Name of an Airflow variable")
    connection: Text | None = Field(default=None, description="Id of an Airflow connection")
    field: Annotated[str, BeforeValidator(forms.connection_field)] | None = Field(
        default=None,
        description="Field of the connection: password, login, host, port, schema, uri or extra.<key>",
    )
    as_: Literal["file", "env"] = Field(
        default="file",
        validation_alias="as",
        serialization_alias="as",
        description="`file`: a file whose path is in MLOPS_SECRET_<NAME>; `env`: the value in a variable of that name",
    )

    @model_validator(mode="after")
    def _one_source(self) -> Secret:
        forms.check_secret(self.variable, self.connection, self.field)
        return self


class Resources(SpecModel):
    """What a step may use. Memory and CPU are hard limits on Docker."""

    cpu: Cores | None = Field(default=None, description="Cores: 2, 0.5 or 500m")
    memory: Bytes | None = Field(default=None, description="Memory: 512Mi, 2Gi, 1G")
    gpu: int = Field(default=0, ge=0, le=64, description="Number of GPUs")
    shm: Bytes | None = Field(default=None, description="Shared memory (/dev/shm): 256Mi")


class Backoff(SpecModel):
    """The wait before another try: ``initial``, times ``factor`` for each further one, at most ``maximum``."""

    initial: Duration = Field(
        default=timedelta(seconds=10),
        description="Wait before the first retry",
        json_schema_extra={"default": "10s"},
    )
    factor: float = Field(default=2.0, ge=1, le=100, description="Growth from one wait to the next")
    maximum: Duration = Field(
        default=timedelta(minutes=5), description="The longest wait", json_schema_extra={"default": "5m"}
    )


class Volume(SpecModel):
    """A host folder or named volume that the container sees."""

    source: Annotated[str, BeforeValidator(forms.volume_source)] = Field(
        description="Absolute host path, or the name of a volume"
    )
    target: Annotated[str, BeforeValidator(forms.volume_target)] = Field(
        description="Absolute path inside the container"
    )
    read_only: bool = Field(default=False, description="Whether the step may only read it")


class Process(SpecModel):
    """Settings of the process runtime."""

    venv: Text | None = Field(default=None, description="Folder of the virtual environment whose python runs the step")


class OperatorCall(SpecModel):
    """Any Airflow operator as a step."""

    class_: Annotated[str, BeforeValidator(forms.class_path)] = Field(
        validation_alias="class",
        serialization_alias="class",
        description="Dotted path of the operator class",
    )
    arguments: dict[Text, Any] = Field(
        default_factory=dict,
        description="Keyword arguments of the operator (templates)",
    )


_BACKOFF = Backoff()
_RESOURCES = Resources()
_PROCESS = Process()


class StepOptions(SpecModel):
    """What ``defaults`` may say for all steps, and each step for itself."""

    model_config = ConfigDict(frozen=False)

    runtime: Runtime = Field(default="docker", description="Where the program runs: `process` or `docker`")
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
    timeout: Duration | None = Field(default=None, description="How long the program may run: 90s, 15m, 1h30m, 2d")
    checkpoint: bool = Field(default=False, description="Whether /mlops/checkpoint outlives a failed attempt")
    volumes: list[Volume] = Field(
        default_factory=list,
        description="Host folders and volumes that the container sees",
    )
    docker: dict[str, Any] = Field(
        default_factory=dict,
        description="Further arguments of DockerOperator (literals)",
    )
    process: Process = Field(default_factory=lambda: _PROCESS, description="Settings of the process runtime")


class StepSpec(StepOptions):
    """One step of a pipeline."""

    name: StepName = Field(description="Name, unique in its group: [a-z][a-z0-9-]{0,62}")
    kind: Kind = Field(description="What the step is for")
    description: str = Field(default="", max_length=4096, description="What the step does, shown in Airflow")
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
    uri: Text | None = Field(default=None, description="Where the data of a step of kind `import` lies (template)")
    type: ArtifactType | None = Field(
        default=None,
        description="What kind of artifact a step of kind `import` brings in; its output has this name",
    )
    digest: Digest | None = Field(default=None, description="How an import is told apart: by content, by ETag, or not")


STEP_KEYS = tuple(sorted(StepSpec.model_fields, key=StepOptions.model_fields.__contains__))
"""Keys of a step, its own before those that it shares with ``defaults``."""


class GroupSpec(SpecModel):
    """Steps that belong together: a name space, a box in Airflow's graph."""

    name: StepName = Field(description="Name, unique where it stands: [a-z][a-z0-9-]{0,62}")
    description: str = Field(default="", max_length=4096, description="What the group does")
    needs: list[Text] = Field(
        default_factory=list,
        description="Steps or groups that must have ended well before any step of this group",
    )
    steps: list[Entry] = Field(description="Steps and groups of this group", min_length=1)


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


class AssetsAny(SpecModel):
    """A run when any of the assets was updated."""

    any: list[Text] = Field(min_length=1, description="URIs or names of assets")


class AssetsAll(SpecModel):
    """A run when all of the assets were updated."""

    all: list[Text] = Field(min_length=1, description="URIs or names of assets")


def _assets_tag(value: Any) -> str:
    return "all" if isinstance(value, AssetsAll) or (isinstance(value, Mapping) and "all" in value) else "any"


class AssetSchedule(SpecModel):
    """Runs when data arrives."""

    assets: Annotated[
        Annotated[AssetsAny, Tag("any")] | Annotated[AssetsAll, Tag("all")],
        Discriminator(_assets_tag),
    ] = Field(description="`{any: [...]}` or `{all: [...]}`")


def _schedule_tag(value: Any) -> str:
    return "assets" if isinstance(value, (Mapping, AssetSchedule)) else "cron"


AnySchedule = Annotated[
    Annotated[Schedule, Tag("cron")] | Annotated[AssetSchedule, Tag("assets")],
    Discriminator(_schedule_tag),
]


class Overlay(SpecModel):
    """What an environment changes. It is merged over the spec key by key."""

    description: str | None = Field(default=None, max_length=4096, description="Replaces the description")
    schedule: AnySchedule | None = Field(default=None, description="Replaces the schedule; null: by hand")
    params: dict[ParamName, Any] = Field(
        default_factory=dict,
        description="Other defaults, or other fields, of declared parameters",
    )
    tags: list[Text] = Field(default_factory=list, description="Replaces the tags")
    owner: Text | None = Field(default=None, description="Replaces the owner")
    start_date: Moment | None = Field(default=None, description="Replaces the start date")
    catchup: bool = Field(default=False, description="Replaces catchup")
    max_active_runs: int | None = Field(default=None, ge=1, le=10_000, description="Replaces max_active_runs")
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
    description: str = Field(default="", max_length=65_536, description="What the pipeline does")
    schedule: AnySchedule | None = Field(
        default=None,
        description="When it runs: cron, a preset such as @weekly, or assets; absent: by hand",
    )
    params: dict[ParamName, ParamSpec] = Field(default_factory=dict, description="What a run may be given")
    tags: list[Annotated[str, StringConstraints(min_length=1, max_length=100)]] = Field(
        default_factory=list, description="Tags of the DAG"
    )
    owner: Text | None = Field(default=None, description="Owner of the tasks")
    start_date: Moment | None = Field(
        default=None,
        description="First date of the schedule, ISO 8601; UTC unless it says otherwise",
    )
    catchup: bool = Field(default=False, description="Whether missed intervals since start_date are run")
    max_active_runs: int | None = Field(
        default=None, ge=1, le=10_000, description="How many runs may be active at once"
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
