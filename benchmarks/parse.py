# SPDX-License-Identifier: Apache-2.0
"""
What a DAG file costs to parse: a pipeline spec against a hand-written DAG of plain DockerOperators and against dag-factory.

CPU seconds to execute the DAG files in a fresh process, imports excluded; the variants take turns, the first round is dropped, medians are
printed. Run it as ``python benchmarks/parse.py``; dag-factory is left out, and that is said, where it is not installed.
"""

from __future__ import annotations

import argparse
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

HAND_IMPORTS = "from airflow.sdk import DAG\nfrom airflow.providers.docker.operators.docker import DockerOperator\n"
OURS_IMPORTS = (
    "import airflow_mlops.factory.pipelines, airflow_mlops.operators.docker\nimport airflow_mlops.spec.loading\n"
)
FACTORY_IMPORTS = HAND_IMPORTS + "import dagfactory\n"

MEASURE = """
import sys, time, gc
{imports}
files = sys.argv[1:]
sources = [(f, compile(open(f).read(), f, "exec")) for f in files]
spaces = []
gc.collect()  # else a full collection of what the imports left falls into one variant or the other, and costs 100 ms there
started = time.process_time()
for f, code in sources:
    space = {{"__file__": f, "__name__": "benchmark"}}
    exec(code, space)
    spaces.append(space)
elapsed = time.process_time() - started
from airflow.sdk import DAG
dags = {{id(v): v for s in spaces for v in s.values() if isinstance(v, DAG)}}
print(elapsed, sum(len(d.task_dict) for d in dags.values()))
"""


def hand(dag_id: str, tasks: int) -> str:
    """A DAG file as a person would write it: one literal call a task."""
    lines = [HAND_IMPORTS, f'with DAG(dag_id="{dag_id}", schedule=None) as dag:']
    for n in range(tasks):
        lines.append(
            f'    step_{n} = DockerOperator(task_id="step-{n}", image="registry.example/team/image:1.4", '
            f'command=["python", "step.py", "--n", "{n}"], environment={{"LEVEL": "info", "STEP": "{n}"}}, '
            f'mem_limit="512m", retries=1)'
        )
        if n:
            lines.append(f"    step_{n - 1} >> step_{n}")
    return "\n".join(lines) + "\n"


def spec(name: str, tasks: int) -> str:
    """The same as a spec."""
    lines = ["apiVersion: mlops/v1", f"name: {name}", "defaults: {runtime: docker, retries: 1}", "steps:"]
    for n in range(tasks):
        lines += [
            f"  - name: step-{n}",
            "    kind: container",
            "    image: registry.example/team/image:1.4",
            f'    command: [python, step.py, --n, "{n}"]',
            f'    env: {{LEVEL: info, STEP: "{n}"}}',
            "    resources: {memory: 512Mi}",
        ]
        if n:
            lines.append(f"    needs: [step-{n - 1}]")
    return "\n".join(lines) + "\n"


def factory(name: str, tasks: int) -> str:
    """The same for dag-factory."""
    lines = [f"{name}:", "  default_args: {start_date: 2024-01-01}", "  schedule: null", "  tasks:"]
    for n in range(tasks):
        lines += [
            f"    step-{n}:",
            "      operator: airflow.providers.docker.operators.docker.DockerOperator",
            '      image: "registry.example/team/image:1.4"',
            f'      command: ["python", "step.py", "--n", "{n}"]',
            f'      environment: {{LEVEL: info, STEP: "{n}"}}',
            '      mem_limit: "512m"',
            "      retries: 1",
        ]
        if n:
            lines.append(f"      dependencies: [step-{n - 1}]")
    return "\n".join(lines) + "\n"


def write_variants(folder: Path, dags: int, tasks: int) -> dict[str, tuple[str, list[str]]]:
    """Write the files of each variant; by variant, the imports that are not measured and the DAG files."""
    files: dict[str, list[str]] = {"hand-written": [], "airflow_mlops": [], "dag-factory": []}
    for number in range(dags):
        name = f"bench-{number}"
        texts = {
            "hand-written": hand(name, tasks),
            "airflow_mlops": f'from airflow_mlops import pipeline_dag\ndag = pipeline_dag("{name}.yaml")\n',
            "dag-factory": f'import dagfactory\ndagfactory.load_yaml_dags(globals_dict=globals(), config_filepath="{folder}/df-{name}.yml")\n',
        }
        (folder / f"{name}.yaml").write_text(spec(name, tasks))
        (folder / f"df-{name}.yml").write_text(factory(name, tasks))
        for variant, text in texts.items():
            file = folder / f"{variant}-{number}.py"
            file.write_text(text)
            files[variant].append(str(file))
    imports = {"hand-written": HAND_IMPORTS, "airflow_mlops": OURS_IMPORTS, "dag-factory": FACTORY_IMPORTS}
    return {variant: (imports[variant], files[variant]) for variant in files}


def measure(imports: str, files: list[str], home: Path, expected: int) -> float:
    """CPU seconds to execute DAG files in a fresh process."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE.format(imports=imports), *files],
        env={**os.environ, "AIRFLOW_HOME": str(home), "AIRFLOW__CORE__LOAD_EXAMPLES": "False"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise SystemExit(done.stderr[-2000:])
    seconds, found = done.stdout.split()[-2:]
    if int(found) != expected:
        raise SystemExit(f"expected {expected} tasks, found {found}: the variants would not be comparable")
    return float(seconds)


def main() -> None:
    """Print the table; exit with 1 if a spec costs more than ``--limit`` times the hand-written DAG."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--limit", type=float, default=1.3)
    arguments = parser.parse_args()
    worst = 0.0
    for dags, tasks in ((1, 1000), (100, 10)):
        with tempfile.TemporaryDirectory() as name:
            variants = write_variants(Path(name), dags, tasks)
            if importlib.util.find_spec("dagfactory") is None:
                print("dag-factory is not installed: left out")
                del variants["dag-factory"]
            seconds: dict[str, list[float]] = {variant: [] for variant in variants}
            for round_number in range(arguments.rounds + 1):
                for variant, (imports, files) in variants.items():
                    elapsed = measure(imports, files, Path(name) / "home", dags * tasks)
                    if round_number:
                        seconds[variant].append(elapsed)
        base = statistics.median(seconds["hand-written"])
        for variant, values in seconds.items():
            median = statistics.median(values)
            print(
                f"{dags:>3} x {tasks:<4} {variant:<13} {median * 1000:7.0f} ms CPU "
                f"({min(values) * 1000:.0f}-{max(values) * 1000:.0f})  {median / base:.2f}x"
            )
        worst = max(worst, statistics.median(seconds["airflow_mlops"]) / base)
    print(f"airflow_mlops costs at most {worst:.2f}x the hand-written DAG; the limit is {arguments.limit}x")
    sys.exit(worst > arguments.limit)


if __name__ == "__main__":
    main()
