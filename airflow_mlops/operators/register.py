# SPDX-License-Identifier: Apache-2.0
"""
``register``: give a model a name and a version, and an alias that others read it by.

It runs no program. The same model under the same name is the same version, however often it is registered: a try that follows a lost worker,
and a run that trained nothing new, change nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_mlops.operators.failures import BadStep, Overtaken
from airflow_mlops.operators.references import ReferenceOperator
from airflow_mlops.spec.model_names import NameRefused, check_alias, check_name
from airflow_mlops.spec.registering import REGISTERED

if TYPE_CHECKING:
    from airflow_mlops.artifacts import Artifact
    from airflow_mlops.operators.attempt import Attempt
    from airflow_mlops.registry import ModelRegistry, ModelVersion


class RegisterOperator(ReferenceOperator):
    """
    Register a model.

    Of ``inputs``, one is the model, and one may be metrics: they are kept with the version, for gates to compare with. Hands on ``model``, the
    version in the registry; ``version``, its number; ``reference``, such as ``models:churn/3``; and ``created``, whether it is new.

    :param model: the name
    :param alias: an alias that points to the version afterwards, such as ``challenger``. ``champion`` makes the old champion ``previous``; a
        version that is the champion already does not become the challenger. Where gates or approvals before this task have read the model by
        that alias, it is moved only if it still means what it meant to them
    :param description: what the version is, for people
    :raises BadStep: if a name is none
    """

    kind: ClassVar[str] = "register"
    ui_color = "#e6e6f7"

    def __init__(self, *, model: str, alias: str | None = None, description: str = "", **kwargs: Any) -> None:
        super().__init__(**{**kwargs, "outputs": dict(REGISTERED)})
        try:
            self.model = check_name(model)
            self.alias = check_alias(alias) if alias is not None else None
        except NameRefused as error:
            raise BadStep(f"step '{self.task_id}': {error}") from error
        self.description = description

    def produce(
        self, context: Any, names: Mapping[str, Any], attempt: Attempt
    ) -> tuple[dict[str, Artifact], dict[str, Any]]:
        """Register it, and move the alias."""
        from airflow_mlops.operators.models import registry_of

        registry = registry_of(attempt)
        artifact, measured = self._inputs(attempt)
        version, created = self._register(registry, artifact, measured, attempt, context)
        self.log.info("%s is %s", version.uri, f"{self._named(version)}{'' if created else ', as it was before'}")
        if not created and measured != version.metrics:
            self.log.warning(
                "It keeps the metrics that it was registered with first (%s); those of now (%s) are not: gates compare with what is kept",
                _listed(version.metrics),
                _listed(measured),
            )
        if self.alias is not None:
            self._move(registry, version, attempt, context)
        model = version.as_artifact()
        parameters = {"version": version.version, "reference": self._named(version), "created": created}
        return {"model": model}, parameters

    def _register(
        self, registry: ModelRegistry, artifact: Artifact, measured: Mapping[str, float], attempt: Attempt, context: Any
    ) -> tuple[ModelVersion, bool]:
        from airflow_mlops.operators.lineage import facts_of
        from airflow_mlops.operators.staging import local_copy

        try:
            local = None if attempt.store.contains(artifact.uri) else local_copy(artifact, attempt)
            facts = facts_of(self, artifact, measured, attempt, context)
            return registry.register(self.model, artifact, by=who(attempt, context), facts=facts, local=local)
        finally:
            attempt.close()

    def _inputs(self, attempt: Attempt) -> tuple[Artifact, dict[str, float]]:
        from airflow_mlops.operators.measures import values_of

        inputs = attempt.resolved
        models = [item for item in inputs.artifacts.values() if item.type == "model"]
        if len(models) != 1:
            raise BadStep(f"step '{self.task_id}' has {len(models)} models as inputs; expected one")
        measured: dict[str, float] = {}
        for name, values in values_of(
            attempt, [name for name, item in inputs.artifacts.items() if item.type == "metrics"]
        ).items():
            if twice := measured.keys() & values.keys():
                raise BadStep(
                    f"step '{self.task_id}': '{sorted(twice)[0]}' of input '{name}' is a metric of another one, too"
                )
            measured.update(values)
        return models[0], measured

    def _move(self, registry: ModelRegistry, version: ModelVersion, attempt: Attempt, context: Any) -> None:
        """Move the alias, from where it pointed when gates and approvals looked at it."""
        from airflow_mlops.operators.model_inputs import looked_at
        from airflow_mlops.registry import AliasMoved, promote
        from airflow_mlops.registry.promotion import CHALLENGER, CHAMPION

        alias = self.alias
        assert alias is not None  # noqa: S101 - asked for only with one
        by, why = who(attempt, context), f"registered by step '{attempt.identity.task_id}'"
        seen = looked_at(self, context, f"models:{self.model}@{alias}")
        if len({*seen.values()}) > 1:
            raise self._overtaken(
                seen, f"{' and '.join(seen)} have looked at different versions of models:{self.model}@{alias}"
            )
        expected = dict.fromkeys([alias] if seen else [], next(iter(seen.values()), None))
        aliases = registry.aliases(self.model)
        if alias == CHALLENGER and aliases.get(CHAMPION) == version.version:
            self.log.info("%s is the champion already, and not its own challenger", self._named(version))
            return
        if aliases.get(alias) == version.version:
            self.log.info("%s is %s, as it was before", self._named(version), alias)
            return
        try:
            if alias == CHAMPION:
                self.log.info(
                    "%s", promote(registry, self.model, version.version, by=by, why=why, expected=expected).message
                )
                return
            registry.move(self.model, {alias: version.version}, by=by, why=why, expected=expected)
        except AliasMoved as error:
            raise self._overtaken(seen, str(error)) from error
        self.log.info("%s is %s", self._named(version), alias)

    def _overtaken(self, seen: Mapping[str, Any], what: str) -> Overtaken:
        tasks = " and ".join(seen)
        return Overtaken(
            f"step '{self.task_id}': {what}. The model is registered, and was compared with another version than is {self.alias} now: clear {tasks} "
            "to compare it with that"
        )

    def _named(self, version: ModelVersion) -> str:
        return f"models:{self.model}/{version.version}"


def _listed(measured: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in list(measured.items())[:10]) or "none"


def who(attempt: Attempt, context: Any) -> str:
    """On whose behalf a step does something: its run, and who triggered that, if anybody did."""
    identity = attempt.identity
    text = f"run {identity.run_id} of {identity.dag_id}"
    user = getattr(context["dag_run"], "triggering_user_name", None)
    return f"{text}, triggered by {user}"[:200] if user else text[:200]
