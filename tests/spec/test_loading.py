# SPDX-License-Identifier: Apache-2.0
"""What a spec means, and what is wrong with those that mean nothing."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

from airflow_mlops.spec import Group, Input, SpecError, load_pipeline
from tests.spec.support import DATA, HEAD, load, problem, problems

if TYPE_CHECKING:
    from pathlib import Path


class TestGood:
    def test_defaults_reach_steps_that_do_not_say_otherwise(self) -> None:
        steps = {step.task_id: step.spec for step in load_pipeline(DATA / "everything.yaml").steps()}
        assert steps["fit"].image == "python:3.12-slim"
        assert steps["fit"].env == {
            "STAGE": "test",
            "WORKERS": "4",
            "C": "{{ params.C }}",
            "DEPTH": "{{ params.depth + 1 }}",
            "LITERAL": "${#x} {%d}",
        }
        assert (steps["fit"].resources.cpu, steps["fit"].resources.memory, steps["fit"].resources.gpu) == (
            0.5,
            1 << 30,
            1,
        )
        assert steps["fit"].docker == {
            "network_mode": "none",
            "ipc_mode": "host",
            "ulimits": [{"name": "nofile", "soft": 1024}],
        }
        assert steps["fit"].backoff.initial == timedelta(seconds=5)
        assert steps["customers"].image is None
        assert steps["extract"].env == {}

    def test_references_become_paths(self) -> None:
        steps = {step.task_id: step for step in load_pipeline(DATA / "everything.yaml").steps()}
        assert steps["prepare.split"].inputs == {"table": Input(("prepare", "clean"), "table", "dataset")}
        assert steps["fit"].inputs["settings"] == Input(("prepare", "clean"), "settings", "object")
        assert steps["check"].inputs["test"] == Input(("prepare", "split"), "test", "dataset", optional=True)
        assert steps["prepare.clean"].inputs["customers"] == Input(("customers",), "dataset", "dataset", stage="none")
        assert steps["check"].needs == (("prepare",),)

    def test_tree_keeps_groups(self) -> None:
        root = load_pipeline(DATA / "everything.yaml").root
        group = root.children[2]
        assert isinstance(group, Group)
        assert (group.path, group.description, [child.path for child in group.children]) == (
            ("prepare",),
            "Clean and split.",
            [("prepare", "clean"), ("prepare", "split")],
        )

    def test_parameters_named_by_templates_are_declared(self) -> None:
        steps = {step.task_id: step.spec for step in load_pipeline(DATA / "everything.yaml").steps()}
        assert steps["fit"].params == ["columns", "C", "depth"]
        assert steps["customers"].params == ["label"]
        assert steps["prepare.split"].params == []

    def test_import_has_one_output_named_like_its_type(self) -> None:
        spec = load_pipeline(DATA / "everything.yaml").step("customers").spec
        assert list(spec.outputs) == ["dataset"]
        assert spec.outputs["dataset"].uri == "s3://lake/{{ run.date }}/{{ params.label }}.csv"
        assert spec.outputs["dataset"].digest == "etag"

    def test_top_level_is_read(self) -> None:
        spec = load_pipeline(DATA / "everything.yaml").spec
        assert spec.start_date == datetime(2026, 1, 31, tzinfo=UTC)
        assert (spec.owner, spec.tags, spec.catchup, spec.max_active_runs) == (
            "data-team",
            ["mlops", "example"],
            False,
            1,
        )
        assert spec.schedule is not None
        assert not isinstance(spec.schedule, str)
        assert spec.schedule.model_dump(exclude_unset=True) == {"assets": {"any": ["s3://lake/customers", "orders"]}}

    def test_parameters_are_json_schema(self) -> None:
        params = load_pipeline(DATA / "everything.yaml").params
        assert params["depth"].schema == {
            "type": "integer",
            "minimum": 1,
            "exclusiveMaximum": 10,
            "title": "Depth",
            "description": "Of the tree",
        }
        assert (params["rate"].schema, params["rate"].default) == ({"type": "number"}, 1e-4)
        assert (params["fast"].schema, params["fast"].default) == ({"type": "boolean"}, True)
        assert params["columns"].schema["type"] == "array"
        assert (params["note"].default, params["note"].has_default) == (None, True)

    def test_source_is_a_folder_beside_the_spec(self, tmp_path: Path) -> None:
        (tmp_path / "src").mkdir()
        pipeline = load(tmp_path, HEAD + "source: ./src\nsteps: [{name: a, kind: container}]\n")
        assert pipeline.source == tmp_path / "src"

    def test_names_are_looked_up_in_the_own_group_first(self, tmp_path: Path) -> None:
        text = (
            HEAD
            + """\
steps:
  - {name: make, kind: container, outputs: {x: dataset}}
  - name: outer
    steps:
      - {name: make, kind: container, outputs: {y: dataset}}
      - name: inner
        steps:
          - {name: use, kind: container, inputs: {y: make.y}}
  - {name: use, kind: container, inputs: {x: make.x, y: outer/make.y}}
"""
        )
        steps = {step.task_id: step for step in load(tmp_path, text).steps()}
        assert steps["outer.inner.use"].inputs["y"].step == ("outer", "make")
        assert steps["use"].inputs["x"].step == ("make",)
        assert steps["use"].inputs["y"].step == ("outer", "make")

    def test_order_of_the_file_is_free(self, tmp_path: Path) -> None:
        text = (
            HEAD
            + "steps:\n  - {name: b, kind: container, inputs: {x: a.x}}\n  - {name: a, kind: container, outputs: {x: dataset}}\n"
        )
        assert [step.task_id for step in load(tmp_path, text).steps()] == ["b", "a"]

    def test_problem_found_later_has_its_place(self) -> None:
        pipeline = load_pipeline(DATA / "everything.yaml", "dev")
        step = pipeline.step("prepare/split")
        found = pipeline.problem(step, ("retries",), "is odd")
        assert (found.line, found.column, found.message) == (30, 32, "is odd")
        assert pipeline.problem(None, ("owner",), "x").line == 16
        assert pipeline.problem(pipeline.step("fit"), ("command", 1), "x").column == 23

    def test_problem_found_later_with_what_defaults_put_into_a_step_is_where_they_say_it(self, tmp_path: Path) -> None:
        text = (
            "apiVersion: mlops/v1\nname: p\ndefaults: {runtime: docker, image: a, docker: {tty: true, hostname: x}}\n"
            "steps:\n  - {name: s, kind: container, docker: {hostname: y}}\n"
        )
        pipeline = load(tmp_path, text)
        places = {}
        for keys in (("image",), ("docker", "tty"), ("docker", "hostname"), ("env",)):
            problem = pipeline.problem(pipeline.step("s"), keys, "x")
            places[keys[-1]] = (problem.line, problem.column)
        assert places == {"image": (3, 36), "tty": (3, 53), "hostname": (5, 51), "env": (5, 5)}

    def test_digest_is_of_what_the_spec_means(self, tmp_path: Path) -> None:
        one = load(tmp_path, HEAD + "steps: [{name: a, kind: container, retries: 0}]\n").digest
        same = load(tmp_path, "# a comment\n" + HEAD + "steps:\n- {kind: container, name: a, retries: 0x0}\n").digest
        other = load(tmp_path, HEAD + "steps: [{name: a, kind: container, retries: 1}]\n").digest
        assert one == same != other


class TestEnvironments:
    def test_overlay_is_merged(self) -> None:
        pipeline = load_pipeline(DATA / "everything.yaml", "dev")
        assert pipeline.environment == "dev"
        assert pipeline.spec.schedule is None
        assert pipeline.spec.description == "On a laptop."
        assert (pipeline.params["depth"].default, pipeline.params["depth"].schema["minimum"]) == (2, 1)
        assert pipeline.params["C"].default == 0.5
        fit = pipeline.step("fit").spec
        assert (fit.runtime, fit.image, fit.env["STAGE"], fit.env["WORKERS"]) == ("process", "python:3.13", "dev", "4")
        assert pipeline.step("prepare/split").spec.retries == 0

    def test_without_environment_no_overlay_is_applied(self) -> None:
        assert load_pipeline(DATA / "everything.yaml").step("fit").spec.runtime == "docker"

    def test_unknown_environment_is_told_the_known_ones(self) -> None:
        with pytest.raises(
            SpecError, match="unknown environment 'deb'; expected one of dev, prod; did you mean 'dev'?"
        ):
            load_pipeline(DATA / "everything.yaml", "deb")

    def test_wrong_value_is_reported_where_the_overlay_says_it(self, tmp_path: Path) -> None:
        text = (
            HEAD
            + """\
environments:
  dev:
    params: {n: 20}
    steps: {a: {resources: {memory: 2gb}}, b: {retries: 1}}
params: {n: {type: integer, default: 1, maximum: 10}}
steps: [{name: a, kind: container, resources: {cpu: 1}}]
"""
        )
        load(tmp_path, text)
        found = problems(tmp_path, text, environment="dev")
        assert [item.partition(": ")[0] for item in found] == ["6:17", "7:37", "7:44"]
        assert "unknown step 'b'; expected a" in found[2]

    def test_overlay_that_is_not_chosen_is_checked_too(self, tmp_path: Path) -> None:
        text = HEAD + "environments: {dev: {defaults: {retries: x}}}\nsteps: [{name: a, kind: container}]\n"
        assert (
            problem(tmp_path, text)
            == "4:42: 'environments.dev.defaults.retries' is a string ('x'); expected an integer"
        )
        assert (
            problem(tmp_path, text, environment="dev")
            == "4:42: 'defaults.retries' is a string ('x'); expected an integer"
        )

    def test_runtime_overrides_all_steps_that_run_a_program(self) -> None:
        runtimes = {
            step.spec.kind: step.spec.runtime
            for step in load_pipeline(DATA / "breast-cancer.yaml", runtime="process").steps()
        }
        assert set(runtimes.values()) == {"process"}

    def test_unknown_runtime_is_refused(self) -> None:
        with pytest.raises(
            SpecError,
            match="runtime 'kubernets'; expected one of process, docker, kubernetes; did you mean 'kubernetes'",
        ):
            load_pipeline(DATA / "breast-cancer.yaml", runtime="kubernets")


STEP = "{name: a, kind: container, outputs: {d: dataset, m: model, n: integer, o: object}}"


@pytest.mark.parametrize(
    ("step", "said"),
    [
        ("{name: b, kind: container, inputs: {x: c.d}}", "5:44: step 'b' reads 'c.d', but there is no step 'c' in sight; expected a"),
        ("{name: b, kind: container, inputs: {x: a.e}}", "5:44: step 'b' reads 'a.e', which no step makes; 'a' makes d, m, n, o; did you mean 'a."),
        ("{name: b, kind: container, inputs: {x: b.e}}", "5:44: step 'b' reads itself; expected another step"),
        ("{name: b, kind: container, inputs: {x: {from: a.m, type: dataset}}}", "5:62: input 'x' asks for type dataset, but 'a.m' is of type model"),
        ("{name: b, kind: container, inputs: {x: {from: a.n, type: artifact}}}", "5:62: input 'x' asks for type artifact, but 'a.n' is of type integer"),
        ("{name: b, kind: container, inputs: {x: {from: a.n, stage: none}}}", "5:63: input 'x' is a parameter ('integer'), which is never staged"),
        ("{name: b, kind: container, inputs: {x: {type: dataset}}}", "5:44: 'inputs.x' of step 'b' has no 'from'"),
        ("{name: b, kind: container, inputs: {x: a}}", "5:44: 'inputs.x.from' of step 'b': 'a' is no reference; expected 'step.output'"),
        ("{name: b, kind: container, needs: [c]}", "5:40: step 'b' needs 'c', but there is no such step or group in sight; expected a"),
        ("{name: b, kind: container, needs: [a.d]}", "5:40: step 'b' needs 'a.d'; expected the step alone, without an output; did you mean 'a'?"),
        ("{name: b, kind: container, needs: [b]}", "5:40: step 'b' needs itself; expected another step"),
        ("{name: b, kind: container, needs: a}", "5:39: 'needs' of step 'b' is a string ('a'); expected a list"),
        ("{name: b, kind: train}", "5:5: step 'b' of kind train makes no model"),
        ("{name: b, kind: train, outputs: {d: dataset}}", "5:28: step 'b' of kind train makes no model"),
        ("{name: b, kind: evaluate}", "5:5: step 'b' of kind evaluate makes no metrics"),
        ("{name: b, kind: predict, inputs: {d: a.d}}", "5:30: step 'b' of kind predict has no model input; expected exactly one"),
        ("{name: b, kind: predict, inputs: {p: a.m, q: a.m}}", "5:30: step 'b' of kind predict has 2 model inputs (p, q); expected exactly one"),
        ("{name: b, kind: operator}", "5:5: step 'b' of kind operator has no operator"),
        ("{name: b, kind: operator, operator: {class: X}}", "5:49: 'operator.class' of step 'b': 'X' is no class"),
        ("{name: b, kind: operator, image: i, operator: {class: x.Y}}", "5:31: key 'image' is not for kind 'operator' (step 'b'); expected one of name"),
        ("{name: b, kind: operator, operator: {class: x.Y}, outputs: {d: dataset}}", "5:68: output 'd' is a dataset without a URI"),
        ("{name: b, kind: import, type: dataset}", "5:5: step 'b' of kind import has no 'uri'"),
        ("{name: b, kind: import, uri: 's3://x', type: dataset, command: [x]}", "5:59: key 'command' is not for kind 'import'"),
        ("{name: b, kind: import, uri: 's3://x', type: string}", "5:50: 'type' of step 'b' is 'string'; expected one of dataset, model"),
        ("{name: b, kind: container, uri: x}", "5:32: key 'uri' is not for kind 'container'"),
        ("{name: b, kind: contaner}", "5:21: 'kind' of step 'b' is 'contaner'; expected one of preprocess, train, evaluate, predict, container, operator, import, gate, pick, approve, register; did you mean 'container'?"),
        ("{name: b}", "5:5: step 'b' has no 'kind'; expected one of preprocess"),
        ("{kind: container}", "5:5: step number 2 has no 'name'; expected a name such as 'split'"),
        ("{name: B, kind: container}", "5:12: 'name' of step 'B': 'B' is no valid name; expected a name of lower-case letters, digits and '-'"),
        ("{name: a, kind: container}", "5:12: name 'a' is taken by a step before it; expected another name"),
        ("{name: b, kind: container, outputs: {X: dataset}}", "5:42: 'outputs.X' of step 'b': 'X' is no valid name"),
        ("{name: b, kind: container, outputs: {x: datasets}}", "5:45: 'outputs.x.type' of step 'b' is 'datasets'; expected one of dataset, model, metrics"),
        ("{name: b, kind: container, outputs: {x: {type: dataset, file: a/b}}}", "5:67: 'outputs.x.file' of step 'b': 'a/b' is no plain file name"),
        ("{name: b, kind: container, outputs: {x: {type: dataset, file: ..}}}", "'..' is no plain file name"),
        ("{name: b, kind: container, outputs: {x: {type: string, file: f}}}", "5:66: output 'x' is a parameter ('string'), which has no file name"),
        ("{name: b, kind: container, outputs: {x: {type: dataset, keys: [k]}}}", "output 'x' is a dataset; 'keys' are for outputs of type metrics"),
        ("{name: b, kind: container, outputs: {x: {type: dataset, uri: 's3://x'}}}", "output 'x' has a 'uri', which is for steps of kind operator"),
        ("{name: b, kind: container, command: python a.py -v}", "5:41: 'command' of step 'b' is a string; expected a list, since no shell is involved; did you mean [python, a.py, -v]?"),
        ("{name: b, kind: container, command: [a, [b]]}", "5:45: 'command[1]' of step 'b' is a list; expected a string, a number or a boolean"),
        ("{name: b, kind: container, command: [a, null]}", "'command[1]' of step 'b' is null"),
        ('{name: b, kind: container, command: ["a\\0"]}', "'command[0]' of step 'b' holds a NUL character"),
        ("{name: b, kind: container, retries: '1'}", "5:41: 'retries' of step 'b' is a string ('1'); expected an integer"),
        ("{name: b, kind: container, retries: true}", "'retries' of step 'b' is a boolean (true); expected an integer"),
        ("{name: b, kind: container, retries: -1}", "'retries' of step 'b' is -1; expected at least 0"),
        ("{name: b, kind: container, retries: 1.5}", "'retries' of step 'b' is a number (1.5); expected an integer"),
        ("{name: b, kind: container, checkpoint: 'yes'}", "'checkpoint' of step 'b' is a string ('yes'); expected true or false"),
        ("{name: b, kind: container, timeout: 90}", "5:41: 'timeout' of step 'b': 90 is refused: a duration needs a unit"),
        ("{name: b, kind: container, backoff: {initial: 1x}}", "5:51: 'backoff.initial' of step 'b': '1x' is refused: expected a duration"),
        ("{name: b, kind: container, resources: {cpu: lots}}", "'resources.cpu' of step 'b': 'lots' is refused: expected a number of cores"),
        ("{name: b, kind: container, resources: {memry: 1Gi}}", "5:44: unknown key 'memry' in 'resources' of step 'b'; expected one of cpu, memory, gpu, shm, disk; did you mean 'memory'?"),
        ("{name: b, kind: container, resources: 4}", "'resources' of step 'b' is an integer (4); expected a mapping"),
        ("{name: b, kind: container, secrets: {T: {connection: c}}}", "5:45: 'secrets.T' of step 'b': a secret of a connection names a field"),
        ("{name: b, kind: container, secrets: {T: {variable: v, connection: c}}}", "a secret has exactly one source"),
        ("{name: b, kind: container, secrets: {T: {connection: c, field: pass}}}", "'pass' is no field of a connection"),
        ("{name: b, kind: container, secrets: {t: {variable: v}}}", "5:42: 'secrets.t' of step 'b': 't' is no valid name; expected a name of upper-case letters"),
        ("{name: b, kind: container, secrets: {T: {variable: v, as: env}}, env: {T: x}}", "'T' is both a secret and a variable of 'env'"),
        ("{name: b, kind: container, env: {MLOPS_X: 1}}", "5:38: variable 'MLOPS_X' starts with 'MLOPS_'"),
        ("{name: b, kind: container, env: {1A: x}}", "'1A' is no valid name; expected a name of letters, digits and '_'"),
        ("{name: b, kind: container, volumes: [{source: ./x, target: /x}]}", "'./x' is no volume"),
        ("{name: b, kind: container, volumes: [{source: /x, target: /mlops/x}]}", "lies in /mlops"),
        ("{name: b, kind: container, docker: {mem_limit: 1g}}", "5:41: 'mem_limit' is reserved: the step has a key of its own for it; use 'resources: {memory: …}'"),
        ("{name: b, kind: container, docker: {netwrk_mode: x}}", "unknown argument 'netwrk_mode' of DockerOperator"),
        ("{name: b, kind: container, image: null, docker: null}", "'docker' of step 'b' is null; expected a mapping"),
        ("{name: b, kind: container, params: [q]}", "5:41: step 'b' asks for parameter 'q', which is not declared; expected p"),
        ("{name: b, kind: container, runtime: process}", "5:5: step 'b' has no command, which runtime 'process' needs"),
        ("{name: b, kind: container, runtime: kubernetes}", "5:5: step 'b' has no image, which runtime 'kubernetes' needs"),
        ("{name: b, kind: container, kubernetes: {on_kill_action: keep_pod}}", "5:45: 'on_kill_action' is reserved: the step keeps its pod"),
        ("{name: b, kind: container, kubernetes: {node_selectr: {}}}", "unknown argument 'node_selectr' of KubernetesPodOperator"),
        ("{name: b, kind: container, pod: [x]}", "'pod' of step 'b' is a list; expected a mapping"),
        ("{name: b, kind: serve, inputs: {x: a.m}}", "5:21: 'kind' of step 'b': kind 'serve' is not supported yet"),
        ("{name: b, kind: container, reuse: false}", "5:32: key 'reuse' in step 'b' is not supported yet"),
        ("{name: b, foreach: {item: x, in: [1]}, steps: [{name: c, kind: traim}]}", "5:15: key 'foreach' in group 'b' is not supported yet"),
        ("{name: b, steps: []}", "5:22: 'steps' of group 'b' is empty; expected at least one entry"),
        ("{name: b, kindd: x, steps: [{name: c, kind: container}]}", "5:15: unknown key 'kindd' in group 'b'; expected one of name, description, needs, steps, display_name"),
        ("{name: b, kind: container, inputs: {p: a.n}, params: [p]}", "5:41: input 'p' and parameter 'p' are both MLOPS_PARAM_P"),
        ("7", "5:5: step number 2 is an integer (7); expected a mapping"),
    ],
)  # fmt: skip
def test_wrong_step_is_told_what_and_where(tmp_path: Path, step: str, said: str) -> None:
    text = f"apiVersion: mlops/v1\nname: p\nsteps:\n  - {STEP.replace('{name: a', '{name: a, image: i')}\n  - {step}\n"
    if "image" not in step and "no image" not in said:
        text = text.replace("name: p\nsteps", "name: p\nparams: {p: 1}\ndefaults: {image: img}\nsteps")
        said = _moved(said, 2)
    else:
        text = text.replace("name: p\nsteps", "name: p\nparams: {p: 1}\nsteps")
        said = _moved(said, 1)
        if "image: null" in step:
            found = problems(tmp_path, text)
            assert any(said in item for item in found)
            return
    found = problem(tmp_path, text)
    assert found.startswith(said) if said[0].isdigit() else said in found


def _moved(said: str, lines: int) -> str:
    line, colon, rest = said.partition(":")
    return f"{int(line) + lines}{colon}{rest}" if line.isdigit() else said


@pytest.mark.parametrize(
    ("template", "said"),
    [
        ("{{ params.q }}", "unknown parameter 'q'; expected p"),
        ("{{ inputs.e.path }}", "unknown input 'e'; expected one of d, m, n, o"),
        (
            "{{ inputs.d }}",
            "'inputs.d' is no value: the input is a dataset; expected one of inputs.d.path, inputs.d.uri",
        ),
        ("{{ inputs.d.pth }}", "did you mean 'inputs.d.path'?"),
        (
            "{{ inputs.m.path }}",
            "'inputs.m.path' is never staged, so that it has no path; expected one of inputs.m.uri",
        ),
        ("{{ inputs.n.path }}", "the input is a parameter ('integer'); expected 'inputs.n'"),
        ("{{ outputs.r }}", "'outputs.r' is no value; expected 'outputs.r.path'"),
        ("{{ outputs.q.path }}", "unknown output 'q'; expected r"),
        ("{{ run.ids }}", "unknown name 'run.ids'; expected one of run.id, run.date"),
        ("{{ run }}", "'run' alone is no value"),
        ("{{ ds.x }}", "'ds.x' goes into a string"),
        ("{{ var.value.x }}", "Airflow's own names are not known in a spec"),
        ("{{ conn.warehouse.password }}", "Airflow's own names are not known in a spec"),
        (
            "{{ param.p }}",
            "unknown name 'param.p'; expected one of params.*, inputs.*, outputs.*, run.*, ds, ts; did you mean 'params'?",
        ),
        ("{% if params.p %}x{% endif %}", "statements"),
    ],
)
@pytest.mark.parametrize("key", ["command: [x, '%']", "args: ['%']", "env: {X: '%'}", "image: '%'"])
def test_template_with_a_wrong_name_is_refused(tmp_path: Path, template: str, said: str, key: str) -> None:
    inputs = "{d: a.d, m: {from: a.m, stage: none}, n: a.n, o: a.o}"
    text = (
        HEAD
        + f"params: {{p: 1}}\nsteps:\n  - {STEP}\n  - name: b\n    kind: container\n    inputs: {inputs}\n    outputs: {{r: report}}\n"
    )
    found = problem(tmp_path, text + f"    {key.replace('%', template)}\n")
    assert found.startswith(f"11:{key.index('%') + 4}: template of step 'b': ")
    assert said in found


def test_good_names_are_accepted(tmp_path: Path) -> None:
    templates = "{{ inputs.d.path }} {{ inputs.d.metadata.rows }} {{ inputs.m.uri }} {{ inputs.n }} {{ inputs.o.key }} {{ ts }} {{ run.try }}"
    inputs = "{d: a.d, m: {from: a.m, stage: none}, n: a.n, o: a.o}"
    text = HEAD + f"steps:\n  - {STEP}\n  - {{name: b, kind: container, inputs: {inputs}, command: ['{templates}']}}\n"
    assert load(tmp_path, text).step("b").spec.command == [templates]


def test_nested_arguments_of_an_operator_are_templates(tmp_path: Path) -> None:
    text = HEAD + "steps:\n  - {name: a, kind: operator, operator: {class: x.Y, arguments: {k: [{z: '{{ nope }}'}]}}}\n"
    assert problem(tmp_path, text).startswith("5:74: template of step 'a': unknown name 'nope'")


@pytest.mark.parametrize(
    ("top", "said"),
    [
        ("colour: red", "3:1: unknown key 'colour'; expected one of apiVersion, name"),
        ("finally: []", "3:1: key 'finally' is not supported yet"),
        ("schedule: '@weakly'", "3:11: 'schedule': '@weakly' is no schedule"),
        ("schedule: {assets: [a]}", "3:20: 'schedule.assets' is a list; expected a mapping"),
        ("schedule: {assets: {any: []}}", "3:26: 'schedule.assets.any' is empty"),
        ("schedule: 5", "3:11: 'schedule' is an integer; expected cron"),
        ("start_date: tomorrow", "3:13: 'start_date': 'tomorrow' is no date; expected ISO 8601"),
        ("max_active_runs: 0", "3:18: 'max_active_runs' is 0; expected at least 1"),
        ("tags: a", "3:7: 'tags' is a string ('a'); expected a list"),
        ("source: ./nowhere", "3:9: source './nowhere' is no folder beside the spec"),
        ("defaults: {retris: 1}", "3:12: unknown key 'retris' in 'defaults'; expected one of runtime"),
        ("defaults: {retries: x}", "3:21: 'defaults.retries' is a string ('x'); expected an integer"),
        ("defaults: {docker: {mem_limit: 1}}", "3:21: 'mem_limit' is reserved"),
        ("defaults: {env: {X: '{{ nope }}'}}", "3:21: template of step 'a': unknown name 'nope'"),
        ("environments: {dev: {stepz: {}}}", "3:22: unknown key 'stepz' in 'environments.dev'"),
    ],
)  # fmt: skip
def test_wrong_top_level_is_told_what_and_where(tmp_path: Path, top: str, said: str) -> None:
    steps = "steps: [{name: a, kind: container, image: i}, {name: b, kind: container, image: i}]"
    found = problem(tmp_path, f"apiVersion: mlops/v1\nname: p\n{top}\n{steps}\n")
    assert found.startswith(said) if said[0].isdigit() else said in found


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\n", ["1:1: the spec has no 'apiVersion'; expected 'apiVersion: mlops/v1'", "1:1: the spec has no 'name'", "1:1: the spec has no 'steps'", "1:1: unknown key 'a'"]),
        ("- a\n", ["1:1: the file holds a list; expected a mapping that starts with 'apiVersion: mlops/v1'"]),
        ("text\n", ["1:1: the file holds a string"]),
        ("apiVersion: mlops/v2\nname: p\nsteps: []\n", ["1:13: 'apiVersion' is 'mlops/v2'; expected mlops/v1", "3:8: 'steps' is empty"]),
        ("apiVersion: mlops/v1\nname: p\nsteps: {a: b}\n", ["3:8: 'steps' is a mapping; expected a list"]),
    ],
)  # fmt: skip
def test_what_is_hardly_a_spec_is_told_so(tmp_path: Path, text: str, said: list[str]) -> None:
    found = problems(tmp_path, text)
    assert len(found) == len(said)
    assert all(item.startswith(start) for item, start in zip(found, said, strict=True))


class TestCycles:
    def test_cycle_is_named_from_its_first_step(self, tmp_path: Path) -> None:
        text = (
            HEAD
            + """\
steps:
  - {name: x, kind: container}
  - {name: a, kind: container, needs: [x, c]}
  - {name: b, kind: container, needs: [a]}
  - {name: c, kind: container, needs: [b]}
"""
        )
        assert (
            problem(tmp_path, text)
            == "6:12: steps wait for each other in a cycle: a -> b -> c -> a; expected an order without one"
        )

    def test_cycle_through_a_group_is_found(self, tmp_path: Path) -> None:
        text = (
            HEAD
            + """\
steps:
  - name: g
    needs: [b]
    steps:
      - {name: a, kind: container}
  - {name: b, kind: container, needs: [g]}
"""
        )
        assert (
            problem(tmp_path, text)
            == "8:16: steps wait for each other in a cycle: g/a -> b -> g/a; expected an order without one"
        )

    def test_group_that_holds_the_step_is_no_predecessor(self, tmp_path: Path) -> None:
        text = HEAD + "steps: [{name: g, steps: [{name: a, kind: container, needs: [g]}]}]\n"
        assert "step 'g/a' needs group 'g', which it belongs to" in problem(tmp_path, text)

    def test_two_cycles_are_both_told(self, tmp_path: Path) -> None:
        pairs = [("a", "b"), ("b", "a"), ("c", "d"), ("d", "c")]
        steps = "".join(f"  - {{name: {name}, kind: container, needs: [{other}]}}\n" for name, other in pairs)
        assert [item.partition(":")[0] for item in problems(tmp_path, f"{HEAD}steps:\n{steps}")] == ["5", "7"]

    def test_long_chain_against_the_order_of_the_file_is_no_cycle(self, tmp_path: Path) -> None:
        steps = "".join(f"  - {{name: s{n}, kind: container, needs: [s{n + 1}]}}\n" for n in range(1500))
        pipeline = load(tmp_path, f"{HEAD}steps:\n{steps}  - {{name: s1500, kind: container}}\n")
        assert len(list(pipeline.steps())) == 1501


class TestOneBadStepHidesNoOther:
    def test_form_and_meaning_are_told_together(self, tmp_path: Path) -> None:
        text = (
            HEAD
            + """\
steps:
  - {name: a, kind: container, retries: x, outputs: {d: dataset, e: dtaset}}
  - {name: b, kind: container, inputs: {x: a.d, y: a.e, z: a.nope}}
  - {name: c, kind: traim, outputs: {m: model}}
  - {name: d, kind: container, inputs: {x: c.m, y: q.m}}
"""
        )
        found = [item.partition(": ")[0] for item in problems(tmp_path, text)]
        # What 'a' makes is no longer known, so that nothing is said about 'a.e' and 'a.nope'.
        assert found == ["5:41", "5:69", "7:21", "8:52"]

    def test_names_that_are_wrong_are_told_once(self, tmp_path: Path) -> None:
        text = (
            HEAD
            + "steps:\n  - {name: toolong"
            + "g" * 60
            + ", kind: container, outputs: {d: dataset}}\n  - {name: b, kind: container, needs: [toolong"
            + "g" * 60
            + "]}\n"
        )
        assert problem(tmp_path, text).startswith("5:12: 'name' of step 'toolongggg")

    def test_unsupported_steps_can_be_referred_to(self, tmp_path: Path) -> None:
        text = (
            HEAD
            + """\
steps:
  - {name: best, kind: serve, endpoint: x, outputs: {model: model}}
  - {name: sweep, foreach: {C: [1]}, steps: [{name: fit, kind: train}]}
  - {name: b, kind: predict, inputs: {model: best.model, other: sweep/fit.model}, needs: [sweep]}
"""
        )
        assert [item.partition(": ")[0] for item in problems(tmp_path, text)] == ["5:24", "6:19"]
