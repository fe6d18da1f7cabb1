"""A pipeline as a DAG that is written by hand: the same steps, beside tasks and features of Airflow's own."""

from datetime import timedelta
from pathlib import Path

from airflow.sdk import DAG, Param, task, task_group

from airflow_mlops import ProcessEvaluateOperator, ProcessPreprocessOperator, ProcessTrainOperator

# The Docker operators (DockerTrainOperator and so on) take the same arguments, and an image.
CODE = {"source": Path(__file__).parent / "src", "step_timeout": timedelta(minutes=5)}

with DAG("by-hand", params={"share": Param(0.25, type="number", minimum=0.05, maximum=0.5)}) as dag:
    split = ProcessPreprocessOperator(
        task_id="split",
        command=["python", "split.py"],
        parameters={"share": "{{ params.share }}", "seed": "{{ dag_run.run_after.day }}"},
        outputs={"train": "dataset", "test": "dataset", "rows": "integer"},
        **CODE,
    )

    @task
    def penalties(rows: int) -> list[dict[str, str]]:
        """What to try, decided while the pipeline runs: here by the value that a step wrote to its output."""
        return [{"PENALTY": str(penalty * rows)} for penalty in (0.0, 0.1, 10.0)]

    fit = ProcessTrainOperator.partial(
        task_id="fit",
        command=["python", "fit.py"],
        inputs={"train": split.artifact("train")},
        outputs={"model": {"type": "model", "file": "model.json"}, "slope": "number"},
        **CODE,
    ).expand(env=penalties(split.artifact("rows")))

    @task
    def steepest(results: list[dict]) -> float:
        """A step's result is a dictionary: ``parameters`` and ``metrics`` by output, ``artifacts`` with URI and digest."""
        return max(result["parameters"]["slope"] for result in results)

    @task_group
    def candidate(penalty: str):
        """A fit and its check, once for each penalty; each check reads the model of its own fit."""
        refit = ProcessTrainOperator(
            task_id="fit",
            command=["python", "fit.py"],
            env={"PENALTY": penalty},
            inputs={"train": split.artifact("train")},
            outputs={"model": {"type": "model", "file": "model.json"}, "slope": "number"},
            **CODE,
        )
        return ProcessEvaluateOperator(
            task_id="check",
            command=["python", "check.py", "{{ inputs.model.path }}"],
            inputs={"model": refit.artifact("model"), "test": split.artifact("test")},
            outputs={"metrics": {"type": "metrics", "keys": ["rmse"]}},
            **CODE,
        )

    @task
    def best(results: list[dict]) -> dict:
        """The metrics of the candidate with the smallest error."""
        return min((result["metrics"]["metrics"] for result in results), key=lambda metrics: metrics["rmse"])

    steepest(fit.output)
    best(candidate.expand(penalty=["0", "3", "300"]).output)
