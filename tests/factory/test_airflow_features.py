# SPDX-License-Identifier: Apache-2.0
"""What a spec says about schedules, pools, callbacks, deadlines, assets and names is what Airflow's DAG has."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import Asset, conf

from airflow_mlops.factory.callbacks import ImportedCallback
from airflow_mlops.factory.pipelines import pipeline_dag
from airflow_mlops.operators import settings
from airflow_mlops.operators.version_compat import AIRFLOW_V_3_2_PLUS
from airflow_mlops.spec import SpecError
from tests.parts.images import ROOT

pytestmark = pytest.mark.airflow

HEAD = "apiVersion: mlops/v1\nname: sample\ndefaults: {runtime: process}\n"
STEPS = """steps:
  - {name: fit, kind: train, command: ["true"], outputs: {model: model}}
"""


@pytest.fixture
def allowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' own callbacks are allowed."""
    _set(monkeypatch, allowed_callbacks="acme_alerts.*, json.*")


def _set(monkeypatch: pytest.MonkeyPatch, **options: str) -> None:
    for name, value in options.items():
        monkeypatch.setenv(f"AIRFLOW__MLOPS__{name.upper()}", value)
    for cached in (settings.allowed_callbacks, settings.calls_back):
        cached.cache_clear()


@pytest.fixture(autouse=True)
def fresh_settings(monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "tests" / "standalone" / "plugins"))
    yield
    for cached in (settings.allowed_callbacks, settings.calls_back):
        cached.cache_clear()


def make(tmp_path: Path, text: str) -> Any:
    file = tmp_path / "sample.yaml"
    file.write_text(text if text.startswith("api") else HEAD + text + ("" if "steps:" in text else STEPS))
    return pipeline_dag(file)


def problems(tmp_path: Path, text: str) -> str:
    with pytest.raises(SpecError) as caught:
        make(tmp_path, text)
    return str(caught.value)


def next_run(dag: Any, after: datetime) -> datetime:
    """When the scheduler would start the first run after a moment."""
    from airflow.timetables.base import TimeRestriction

    timetable = dag.timetable
    if AIRFLOW_V_3_2_PLUS:
        from airflow.serialization.decoders import decode_timetable
        from airflow.serialization.encoders import encode_timetable

        timetable = decode_timetable(encode_timetable(timetable))
    info = timetable.next_dagrun_info(
        last_automated_data_interval=None,
        restriction=TimeRestriction(earliest=after, latest=None, catchup=True),
    )
    assert info is not None
    return info.run_after.astimezone(UTC)


def test_a_cron_schedule_keeps_to_its_time_zone(tmp_path: Path) -> None:
    dag = make(tmp_path, 'schedule: {cron: "0 6 * * *", timezone: Europe/Berlin}\n')
    import pendulum

    assert next_run(dag, pendulum.datetime(2026, 1, 10)) == datetime(2026, 1, 10, 5, tzinfo=UTC)
    assert next_run(dag, pendulum.datetime(2026, 7, 10)) == datetime(2026, 7, 10, 4, tzinfo=UTC)


@pytest.mark.parametrize("start", ["2026-01-01", "2026-01-01T06:00:00+02:00"])
def test_a_schedule_in_its_long_form_starts_where_the_spec_says(tmp_path: Path, start: str) -> None:
    import pendulum
    from airflow.serialization import serialized_objects

    serialization = getattr(serialized_objects, "DagSerialization", serialized_objects.SerializedDAG)  # before 3.2
    dag = make(tmp_path, f'schedule: {{cron: "0 6 * * *", assets: {{any: [a]}}}}\nstart_date: {start}\n')
    assert serialization.to_dict(dag)["dag"]["timetable"]
    dag = make(tmp_path, f'schedule: {{cron: "0 6 * * *"}}\nstart_date: {start}\n')
    serialization.to_dict(dag)
    hour = 6 if "T" not in start else 4
    assert next_run(dag, pendulum.datetime(2026, 1, 10)) == datetime(2026, 1, 10, hour, tzinfo=UTC)


def test_cron_and_assets_together_start_a_run_on_either(tmp_path: Path) -> None:
    dag = make(tmp_path, 'schedule: {cron: "@daily", assets: {any: ["s3://lake/a", sales]}}\n')
    assert type(dag.timetable).__name__ == "AssetOrTimeSchedule"
    assert type(dag.timetable.timetable).__name__ == "CronTriggerTimetable"
    assert [getattr(ref, "uri", None) or ref.name for ref in dag.timetable.asset_condition.objects] == [
        "s3://lake/a",
        "sales",
    ]


def test_cron_follows_airflows_choice_between_triggers_and_intervals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AIRFLOW__SCHEDULER__CREATE_CRON_DATA_INTERVALS", "True")
    assert conf.getboolean("scheduler", "create_cron_data_intervals")
    assert type(make(tmp_path, 'schedule: {cron: "@daily"}\n').timetable).__name__ == "CronDataIntervalTimetable"
    assert type(make(tmp_path, 'schedule: "@daily"\n').timetable).__name__ == "CronDataIntervalTimetable"


@pytest.mark.parametrize(
    ("schedule", "message"),
    [
        ("{}", "neither assets nor times"),
        ("{timezone: UTC}", "neither assets nor times"),
        ("{assets: {any: [a]}, timezone: UTC}", "'timezone' is that of 'cron'"),
        ('{cron: "@daily", timezone: Europe/Berlim}', "no time zone"),
        ('{cron: "@daily", timezone: ../../etc/passwd}', "no time zone"),
        ('{cron: "@continuous", assets: {any: [a]}}', "not for the long form"),
        ('{cron: "@daily", timezone: localtime}', "no time zone"),
        ("{assets: {any: ['s3://lake/x/']}}", "is kept by Airflow as 's3://lake/x'"),
        ('{cron: "61 * * * *"}', "no minute"),
        ('{corn: "@daily"}', "did you mean 'cron'"),
    ],
)
def test_a_schedule_that_says_nothing_sensible_is_refused_where_it_is_written(
    tmp_path: Path, schedule: str, message: str
) -> None:
    text = problems(tmp_path, f"schedule: {schedule}\n")
    assert message in text
    assert "sample.yaml:4:" in text


def test_pools_queues_and_priority_reach_the_task_and_step_wins_over_defaults(tmp_path: Path) -> None:
    dag = make(
        tmp_path,
        """apiVersion: mlops/v1
name: sample
defaults: {runtime: process, pool: gpu, queue: big, priority_weight: 5}
steps:
  - {name: one, kind: container, command: ["true"], pool_slots: 2}
  - {name: two, kind: container, command: ["true"], pool: cpu, priority_weight: 7}
  - {name: three, kind: import, uri: /x, type: dataset}
""",
    )
    told = {task.task_id: (task.pool, task.pool_slots, task.queue, task.priority_weight) for task in dag.tasks}
    assert told == {"one": ("gpu", 2, "big", 5), "two": ("cpu", 1, "big", 7), "three": ("gpu", 1, "big", 5)}


def test_names_that_are_shown_owner_links_and_timeout_reach_the_dag(tmp_path: Path) -> None:
    dag = make(
        tmp_path,
        HEAD
        + """display_name: Tumour classifier
owner: ml-team
owner_links: {ml-team: "mailto:ml@acme.example"}
timeout: 12h
steps:
  - name: models
    display_name: All models
    steps: [{name: fit, display_name: Fit it, kind: train, command: ["true"], outputs: {model: model}}]
""",
    )
    assert dag.dag_display_name == "Tumour classifier"
    assert dag.owner_links == {"ml-team": "mailto:ml@acme.example"}
    assert dag.dagrun_timeout == timedelta(hours=12)
    assert dag.get_task("models.fit").task_display_name == "Fit it"
    assert dag.task_group.children["models"].group_display_name == "All models"


def test_an_owner_link_that_airflow_would_refuse_has_its_place(tmp_path: Path) -> None:
    text = problems(tmp_path, 'owner_links: {ml: "javascript:alert(1)"}\n')
    assert "sample.yaml:4:19" in text and "expected https://… or mailto:…" in text


def test_only_outputs_that_are_marked_become_assets(tmp_path: Path) -> None:
    steps = "".join(
        f"  - {{name: s{i}, kind: train, command: ['true'], outputs: {{model: model, report: report}}}}\n"
        for i in range(100)
    )
    marked = (
        "  - {name: last, kind: train, command: ['true'], outputs: {model: {type: model, asset: true}, "
        "data: {type: dataset, asset: 's3://lake/scores'}, rest: report}}\n"
    )
    dag = make(tmp_path, HEAD + "steps:\n" + steps + marked)
    assert [asset for task in dag.tasks if task.task_id != "last" for asset in task.outlets] == []
    assert dag.get_task("last").outlets == [Asset("mlops://sample/last/model"), Asset("s3://lake/scores")]


def test_an_output_of_a_step_in_a_group_is_an_asset_by_its_whole_path(tmp_path: Path) -> None:
    dag = make(
        tmp_path,
        "steps:\n  - name: a\n    steps:\n"
        "      - {name: b, kind: train, command: ['true'], outputs: {model: {type: model, asset: true}}}\n",
    )
    assert dag.get_task("a.b").outlets == [Asset("mlops://sample/a/b/model")]


@pytest.mark.parametrize(
    ("output", "message"),
    [
        ("{type: integer, asset: true}", "is no asset"),
        ("{type: model, asset: 1}", "expected true, or the URI or name of an asset"),
        ("{type: model, asset: ''}", "is no asset"),
        ("{type: model, asset: 'airflow://x'}", "no URI that an asset can have"),
        ("{type: model, asset: 'AIRFLOW://x'}", "no URI that an asset can have"),
        ("{type: model, asset: 's3:///x'}", "no URI that an asset can have"),
        ("{type: model, asset: 'http://[x/y'}", "no URI that an asset can have"),
        ("{type: model, asset: 'Kundengröße'}", "refused by Airflow"),
        ("{type: model, asset: self}", "refused by Airflow"),
        ("{type: model, asset: ' x'}", "refused by Airflow"),
        ("{type: model, asset: 's3://lake/x/'}", "is kept by Airflow as 's3://lake/x'"),
        ("{type: model, asset: 'S3://lake/x'}", "is kept by Airflow as 's3://lake/x'"),
        ("{type: model, asset: 'https://u:secret@lake/x'}", "is kept by Airflow as 'https://lake/x'"),
        ("{type: model, asset: 's3://{{ params.x }}'}", "looks like a template"),
    ],
)
def test_an_asset_that_cannot_be_one_is_refused(tmp_path: Path, output: str, message: str) -> None:
    text = problems(
        tmp_path, f"steps:\n  - {{name: fit, kind: container, command: ['true'], outputs: {{m: {output}}}}}\n"
    )
    assert message in text and "sample.yaml:5:" in text


def test_an_import_names_a_uri_or_an_asset_and_not_both(tmp_path: Path) -> None:
    step = "steps:\n  - {{name: get, kind: import, type: model, {0}}}\n"
    assert make(tmp_path, step.format("asset: 'mlops://a/b/c'")).get_task("get").inlets == [Asset("mlops://a/b/c")]
    assert "not both" in problems(tmp_path, step.format("asset: 'mlops://a/b/c', uri: /x"))
    assert "expected 'asset' or 'digest'" in problems(tmp_path, step.format("asset: 'mlops://a/b/c', digest: etag"))
    assert "or an 'asset'" in problems(tmp_path, step.format("params: []"))


@pytest.mark.parametrize(
    "uri",
    ["s3://lake/x", "s3://lake/x?b=1", "file:///data/x", "https://host:8080/x", "name only", "x-y://UP/", "s3://b/"],
)
def test_an_asset_that_is_taken_is_kept_by_airflow_as_it_is(tmp_path: Path, uri: str) -> None:
    step = (
        f"steps:\n  - {{name: fit, kind: train, command: ['true'], outputs: {{m: {{type: model, asset: '{uri}'}}}}}}\n"
    )
    (asset,) = make(tmp_path, step).get_task("fit").outlets
    assert (asset.name, asset.uri) == (uri, uri)


def test_two_outputs_of_a_step_are_not_one_asset(tmp_path: Path) -> None:
    outputs = "{a: {type: model, asset: one}, b: {type: dataset, asset: one}}"
    text = problems(tmp_path, f"steps:\n  - {{name: fit, kind: train, command: ['true'], outputs: {outputs}}}\n")
    assert "outputs 'a' and 'b' are both asset 'one'" in text


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (f"display_name: {'x' * 2001}", "longer than 2000 characters"),
        (f"owner: {'x' * 501}", "longer than 500 characters"),
        ('owner: "a\\0b"', "expected printable characters on one line"),
        (f"owner_links: {{ml: 'https://x/{'y' * 500}'}}", "of at most 500 characters"),
        ("owner_links: {ml: 'https://[x'}", "is no link"),
        ("owner_links: {ml: 'https://?x'}", "is no link"),
        (f"tags: [{'x' * 101}]", "longer than 100 characters"),
        ('description: "a\\0b"', "NUL character"),
        ("schedule: '@continuous'\nmax_active_runs: 2", "'@continuous' has one run at a time"),
    ],
)
def test_what_airflows_database_would_refuse_is_refused_where_it_is_written(
    tmp_path: Path, line: str, message: str
) -> None:
    text = problems(tmp_path, line + "\n")
    assert message in text and "sample.yaml:" in text


def test_names_of_pools_and_queues_fit_into_airflows_database(tmp_path: Path) -> None:
    for key in ("pool", "queue"):
        step = f"steps:\n  - {{name: x, kind: container, command: ['true'], {key}: {'x' * 257}}}\n"
        assert "longer than 256 characters" in problems(tmp_path, step)


def test_a_continuous_schedule_has_one_run_at_a_time(tmp_path: Path) -> None:
    assert make(tmp_path, "schedule: '@continuous'\nstart_date: 2026-01-01\n").max_active_runs == 1


@pytest.mark.parametrize("body", ["raise RuntimeError('broken')", "raise SystemExit('gone')", "late = 5", "def late(:"])
def test_a_deadlines_callback_that_cannot_be_used_is_an_error_with_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, body: str
) -> None:
    name = f"broken_{abs(hash(body))}"
    (tmp_path / f"{name}.py").write_text(body + "\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _set(monkeypatch, allowed_callbacks="*")
    text = problems(tmp_path, f"deadline: {{interval: 6h, callback: {name}.late}}\n")
    assert f"sample.yaml:4:36: callback '{name}.late'" in text


def test_a_package_that_breaks_is_no_traceback(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "bad_package").mkdir()
    (tmp_path / "bad_package" / "__init__.py").write_text("raise SystemExit('gone')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _set(monkeypatch, allowed_callbacks="*")
    text = problems(tmp_path, "callbacks: {on_failure: [bad_package.part.page]}\n")
    assert "module 'bad_package.part' cannot be imported: SystemExit: gone" in text


def test_arguments_of_a_callback_have_names_that_it_can_be_given(tmp_path: Path) -> None:
    for name in ("context", "a-b", "__classname__"):
        text = problems(tmp_path, f"callbacks: {{on_failure: [{{path: json.dumps, arguments: {{{name}: 1}}}}]}}\n")
        assert "expected another name" in text or "is no name of an argument" in text


def test_a_callback_that_asks_to_exit_does_not_end_its_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeError, match="asked to exit"):
        ImportedCallback("sys.exit", {})({})


CALLBACKS = """callbacks:
  on_failure: [acme_alerts.page, {path: acme_alerts.Bell, arguments: {text: "{{ dag.dag_id }} failed"}}]
"""


@pytest.mark.usefixtures("allowed")
def test_callbacks_of_runs_and_steps_are_airflows_callbacks(tmp_path: Path) -> None:
    dag = make(
        tmp_path,
        HEAD.replace("process}", "process, callbacks: {on_retry: [json.dumps], on_failure: [json.dumps]}}")
        + CALLBACKS
        + "steps:\n  - {name: fit, kind: container, command: ['true'], callbacks: {on_failure: [acme_alerts.page]}}\n",
    )
    assert [call.path for call in dag.on_failure_callback] == ["acme_alerts.page", "acme_alerts.Bell"]
    assert dag.on_success_callback is None
    fit = dag.get_task("fit")
    assert [call.path for call in fit.on_retry_callback] == ["json.dumps"]
    assert [call.path for call in fit.on_failure_callback] == ["acme_alerts.page"]


def test_a_callback_that_is_not_allowed_is_an_error_that_names_the_setting(tmp_path: Path) -> None:
    text = problems(
        tmp_path,
        CALLBACKS + "steps:\n  - {name: fit, kind: container, command: ['true'], callbacks: {on_retry: [os.system]}}\n",
    )
    assert len(text.splitlines()) == 3  # all of them at once
    assert "sample.yaml:5:16: callback 'acme_alerts.page' is not allowed here" in text
    assert "allowed_callbacks in section mlops" in text


@pytest.mark.usefixtures("allowed")
def test_a_callback_whose_module_does_not_exist_is_an_error_before_it_is_needed(tmp_path: Path) -> None:
    text = problems(tmp_path, "callbacks: {on_failure: [json.nowhere.page]}\n")
    assert "sample.yaml:4:26: callback 'json.nowhere.page': there is no module 'json.nowhere' here" in text


@pytest.mark.usefixtures("allowed")
def test_a_callback_is_not_imported_when_the_file_is_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "loud_alerts.py").write_text("raise SystemExit('imported')\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    _set(monkeypatch, allowed_callbacks="loud_alerts.*")
    assert make(tmp_path, "callbacks: {on_failure: [loud_alerts.page]}\n").on_failure_callback


def test_an_airflow_that_is_to_wake_nobody_sets_up_no_callbacks(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _set(monkeypatch, callbacks="false")
    dag = make(tmp_path, CALLBACKS + "deadline: {interval: 6h, callback: nowhere.late}\n")
    assert dag.on_failure_callback is None and not dag.deadline


def test_functions_get_the_context_and_notifiers_their_arguments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = tmp_path / "calls"
    monkeypatch.setenv("MLOPS_TEST_CALLS", str(calls))
    context = {"dag_run": {"dag_run_id": "r1"}, "dag": make(tmp_path, "")}
    ImportedCallback("acme_alerts.page", {"word": "w"})(context)
    ImportedCallback("acme_alerts.Bell", {"text": "{{ dag.dag_id }} failed"})(context)
    assert [json.loads(line) for line in calls.read_text().splitlines()] == [
        {"what": "page", "word": "w", "task": None, "run": "r1"},
        {"what": "bell", "text": "sample failed"},
    ]


@pytest.mark.usefixtures("allowed")
def test_a_deadline_is_airflows_deadline(tmp_path: Path) -> None:
    dag = make(
        tmp_path,
        "deadline: {interval: 6h, reference: logical_date, callback: {path: acme_alerts.late, arguments: {word: w}}}\n",
    )
    (alert,) = dag.deadline if isinstance(dag.deadline, list) else [dag.deadline]
    assert alert.interval == timedelta(hours=6)
    assert type(alert.reference).__name__ == "DagRunLogicalDateDeadline"
    assert type(alert.callback).__name__ == "AsyncCallback"
    assert (alert.callback.path, alert.callback.kwargs) == ("acme_alerts.late", {"word": "w"})


@pytest.mark.usefixtures("allowed")
def test_a_plain_function_is_a_deadlines_callback_where_airflow_can_call_it(tmp_path: Path) -> None:
    text = "deadline: {interval: 6h, callback: acme_alerts.page}\n"
    if AIRFLOW_V_3_2_PLUS:
        (alert,) = make(tmp_path, text).deadline
        assert type(alert.callback).__name__ == "SyncCallback"
    else:
        found = problems(tmp_path, text)
        assert "sample.yaml:4:36" in found and "expected an async function" in found


@pytest.mark.usefixtures("allowed")
def test_a_deadlines_callback_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    assert "has no 'nobody'" in problems(tmp_path, "deadline: {interval: 6h, callback: acme_alerts.nobody}\n")


@pytest.mark.usefixtures("allowed")
def test_an_environment_replaces_schedule_deadline_and_callbacks(tmp_path: Path) -> None:
    file = tmp_path / "sample.yaml"
    file.write_text(
        HEAD
        + CALLBACKS
        + "timeout: 2h\nschedule: {cron: '@daily', assets: {any: [a]}}\ndeadline: {interval: 6h, callback: acme_alerts.late}\n"
        + "environments: {dev: {schedule: null, deadline: null, timeout: null, callbacks: {on_failure: []}}}\n"
        + STEPS
    )
    dag = pipeline_dag(file, environment="dev")
    assert type(dag.timetable).__name__ == "NullTimetable"
    assert not dag.deadline and dag.dagrun_timeout is None and dag.on_failure_callback is None
