# SPDX-License-Identifier: Apache-2.0
"""
The parts that a step is written with, as pydantic models: outputs, inputs, secrets, resources, volumes.

They check form alone: what a value is by itself. A hand-written DAG uses the same classes: ``Output.model_validate("dataset")`` takes
the short form.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PlainSerializer,
    StringConstraints,
    model_validator,
)

from airflow_mlops.spec import forms

if TYPE_CHECKING:
    from pydantic_core import CoreSchema

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
Digest = Literal["content", "etag", "none"]
OnDrain = Literal["detach", "stop"]
OnFail = Literal["fail", "skip"]
Answer = Literal["approve", "reject"]
NoChampion = Literal["open", "close"]
DEFAULT_GRACE = timedelta(seconds=10)

ARTIFACT_TYPES = ("dataset", "model", "metrics", "report", "artifact")
PARAMETER_TYPES = ("string", "integer", "number", "boolean", "list", "object")
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
Command = Annotated[list[Word], BeforeValidator(forms.command, json_schema_input_type=list[Word])]
Reference = Annotated[str, BeforeValidator(forms.reference)]
Number = Annotated[Any, BeforeValidator(forms.number, json_schema_input_type=int | float)]
FileName = Annotated[str, BeforeValidator(forms.file_name)]
ModelName = Annotated[str, BeforeValidator(forms.model_name)]
ModelAlias = Annotated[str, BeforeValidator(forms.model_alias)]
AssetName = Annotated[str, BeforeValidator(forms.asset_name)]
AssetMark = Annotated[Any, BeforeValidator(forms.asset_mark, json_schema_input_type=bool | str)]
OwnerLink = Annotated[str, BeforeValidator(forms.owner_link)]
OwnerName = Annotated[str, BeforeValidator(forms.line(500))]
DisplayName = Annotated[str, BeforeValidator(forms.line(2000))]
SlotName = Annotated[str, BeforeValidator(forms.line(256))]
Tag = Annotated[str, BeforeValidator(forms.line(100))]
Prose = Annotated[str, BeforeValidator(forms.prose)]


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
    An output of a step: an artifact, or a parameter (a small JSON value). Short form: the type alone; of a step of kind ``pick``, the
    candidate's output alone.

    :raises pydantic.ValidationError: if the type is unknown or the file name is more than a name
    """

    short_form = (
        "type",
        {
            "anyOf": [
                {"type": "string", "enum": [*ARTIFACT_TYPES, *PARAMETER_TYPES]},
                {"type": "string", "pattern": forms.MADE_BY_CANDIDATE},
            ]
        },
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
    asset: AssetMark = Field(
        default=False,
        description="`true`: each commit updates the Airflow asset `mlops://<pipeline>/<step>/<output>`; or the URI or name of another; "
        "artifacts only",
    )
    from_: Text | None = Field(
        default=None,
        validation_alias="from",
        serialization_alias="from",
        description="Of a step of kind `pick`: the candidate's output that it is, `step.output` of groups, `output` of steps",
    )

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        if isinstance(value, dict) and "from" in value and "type" not in value:
            return {"type": "artifact", **value}  # until it is known what the candidates make
        return {"type": value} if isinstance(value, str) else value

    @classmethod
    def __get_pydantic_json_schema__(cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        schema = super().__get_pydantic_json_schema__(core_schema, handler)
        long = schema["anyOf"][1]
        del long["required"]
        long["anyOf"] = [{"required": ["type"]}, {"required": ["from"]}]
        return schema

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
        description="Which output it is: `step.output`, or `group/step.output` from outside the group; or a registered model, "
        "`models:name@alias` or `models:name/3`",
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


class BestBy(SpecModel):
    """What candidates are compared by. Short form: ``max(score.metrics.auc)``."""

    short_form = ("max", {"type": "string", "pattern": r"^\s*(max|min)\(.*\)\s*$"})

    max: Text | None = Field(
        default=None,
        description="A number that is better the larger it is: `step.metrics.key` where candidates are groups, `metrics.key` where they are steps",
    )
    min: Text | None = Field(default=None, description="A number that is better the smaller it is")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return forms.best_by(value)

    @model_validator(mode="after")
    def _one_end(self) -> BestBy:
        forms.check_best_by(self.max, self.min)
        return self

    @property
    def path(self) -> str:
        """The number that is compared."""
        return self.max or self.min or ""

    def __str__(self) -> str:
        return f"{'max' if self.max is not None else 'min'}({self.path})"


class Assignee(SpecModel):
    """Somebody who may answer a step of kind ``approve``. Short form: their id alone."""

    short_form = ("id", {"type": "string"})

    id: Text = Field(
        max_length=512,
        description="As Airflow's auth manager knows them: the user name with Airflow's simple one, the number of the user with FAB's",
    )
    name: Text | None = Field(default=None, max_length=512, description="Name that is shown; absent: the id")

    @model_validator(mode="before")
    @classmethod
    def _short(cls, value: Any) -> Any:
        return {"id": value} if isinstance(value, str) else value


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
        description="`file`: a file whose path is in MLOPS_SECRET_<NAME>; "
        "`env`: the value in a variable of that name, where `docker inspect` shows it",
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
    disk: Bytes | None = Field(default=None, description="Disk of the node, on Kubernetes (ephemeral storage): 10Gi")


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

    venv: Text | None = Field(
        default=None, description="Folder of the virtual environment whose python runs the step, relative to this file"
    )


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
