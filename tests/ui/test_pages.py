# SPDX-License-Identifier: Apache-2.0
"""
The pages of a real API server: what they show, whom they show it, and what becomes of names and files that mean harm.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
import shutil
import threading
from dataclasses import replace
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import httpx
import pytest

from airflow_mlops.artifacts import Artifact, Manifest, Place, Seal, Store, commit, instance_id
from airflow_mlops.artifacts.manifest import SealedRun, SealedStep
from airflow_mlops.operators.links import query_of
from airflow_mlops.ui.problems import Problem

if TYPE_CHECKING:
    from tests.parts.airflow_home import DagResult
    from tests.parts.api_server import ApiServer

pytestmark = [pytest.mark.airflow, pytest.mark.slow]

HOSTILE = "\"><script>alert('x')</script>"


@pytest.fixture
def store(api_server: ApiServer, pages_run: DagResult) -> Store:
    """The server's store, with a run's artifacts in it."""
    return Store.open(str(api_server.store))


@pytest.fixture
def fit(store: Store, pages_run: DagResult) -> Place:
    """Where step ``fit`` of the run has its artifacts."""
    return Place(instance_id(store, None), "pages", pages_run.run_id, "fit")


def page(api_server: ApiServer, place: Place, user: str | None = "admin", map_index: int = -1) -> httpx.Response:
    """Ask for a place's page."""
    return api_server.get(f"mlops/artifacts?{query_of(place, map_index)}", user)


def download(api_server: ApiServer, place: Place, artifact: str, user: str | None = "admin") -> httpx.Response:
    """Ask for an artifact's content."""
    return api_server.get(f"mlops/download?{query_of(place, -1, artifact=artifact)}", user)


def put(store: Store, place: Place, artifacts: dict[str, Artifact] | None = None, **values: Any) -> None:
    """Commit what a step might have made, together with the seal it might have been started with."""
    seal = Seal(
        step=SealedStep(pipeline=place.pipeline, name=place.step, kind="train", runtime="process"),
        run=SealedRun.model_validate(
            {
                "id": place.run,
                "instance": place.instance,
                "generation": place.generation,
                "try": 1,
                "attempt": "a1",
                "starter": "x",
            }
        ),
    )
    store.put_if_absent(place.step_json_key("a1"), seal.to_bytes())
    manifest = Manifest.of(
        place, attempt="a1", try_number=1, seal=seal, artifacts=artifacts or {}, **{"kind": "train", **values}
    )
    commit(store, place, manifest)


# What a page shows


def test_a_page_shows_artifacts_metrics_parameters_inputs_and_times(
    api_server: ApiServer, fit: Place, store: Store
) -> None:
    text = page(api_server, fit).text
    manifest = Manifest.from_bytes(store.read(fit.manifest_key, Manifest.limit))
    for artifact in manifest.artifacts.values():
        assert artifact.uri in text
        assert artifact.digest in text
    assert '<th scope="row">auc</th>\n<td class=number><code>0.93</code>' in text
    assert '<th scope="row">depth</th>\n<td><code>4</code>' in text
    assert "Started" in text
    assert "process" in text
    assert "folder, " in text


def measure(store: Store, place: Place, document: Any, **changes: Any) -> Artifact:
    """Commit a metrics output."""
    data = json.dumps(document).encode()
    key = f"{place.outputs_key('a1')}/m"
    store.put_if_absent(key, data)
    artifact = Artifact("m", "metrics", store.uri(key), f"sha256:{hashlib.sha256(data).hexdigest()}", len(data))
    artifact = replace(artifact, **changes)
    scalars = {name: value for name, value in document.items() if not isinstance(value, dict)}
    put(store, place, {"m": artifact}, metrics={"m": scalars})
    return artifact


def test_a_page_draws_the_shapes_of_metrics_below_their_numbers(
    api_server: ApiServer, fit: Place, store: Store
) -> None:
    place = replace(fit, step="drawn")
    curve = {"type": "curve", "x": [0, 1], "y": [0, 1], "x_label": HOSTILE}
    document = {"auc": 0.5, "roc": curve, "confusion": {"type": "matrix", "values": [[3, 1], [0, 4]]}}
    measure(store, place, document)
    answer = page(api_server, place)
    assert answer.status_code == 200
    text = answer.text[answer.text.index("<h2>Metrics: m</h2>") :]
    assert text.index("<code>0.5</code>") < text.index("<polyline") < text.index("shade-8") < text.index("Ran with")
    assert "<script" not in text and "style=" not in text


def test_a_page_of_a_gate_says_what_held_and_one_of_a_pick_who_won(
    api_server: ApiServer, fit: Place, store: Store
) -> None:
    conditions = [
        {"condition": "m.auc >= 0.9", "holds": True, "values": {"m.auc": 0.95}},
        {
            "condition": f"m.x > 1 || '{HOSTILE}' == ''",
            "holds": False,
            "values": {"m.x": None},
            "why": "there is no m.x",
        },
        "no condition at all",
    ]
    gate, pick = replace(fit, step="gate"), replace(fit, step="pick")
    put(store, gate, kind="gate", parameters={"passed": False, "conditions": conditions})
    compared = [{"name": "a", "value": 0.5}, {"name": "b", "value": None, "why": "it was skipped"}]
    put(store, pick, kind="pick", parameters={"winner": "a", "compared": compared})
    text = page(api_server, gate).text
    assert "Conditions: closed" in text and "m.auc &gt;= 0.9 (m.auc = 0.95)" in text and "(there is no m.x)" in text
    assert HOSTILE not in text
    text = page(api_server, pick).text
    assert text.index("Candidates") < text.index("0.5") < text.index("won") < text.index("it was skipped")


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"digest": "sha256:" + "0" * 64}, "it was changed since"),
        ({"uri": "s3://elsewhere/m"}, "pages read the files of the same pipeline alone"),
        ({"is_tree": True}, "pages read the files of the same pipeline alone"),
    ],
)
def test_a_page_draws_no_metrics_but_those_that_its_pipeline_committed(
    api_server: ApiServer, fit: Place, store: Store, changes: dict[str, Any], why: str
) -> None:
    place = replace(fit, step=f"not-drawn-{len(why)}-{next(iter(changes))}")
    measure(store, place, {"auc": 0.5, "note": {"type": "text", "text": "smuggled"}}, **changes)
    answer = page(api_server, place)
    assert answer.status_code == 200
    assert why in answer.text and "smuggled" not in answer.text
    assert "<code>0.5</code>" in answer.text


def test_a_page_of_metrics_whose_file_is_gone_says_so(api_server: ApiServer, fit: Place, store: Store) -> None:
    place = replace(fit, step="gone")
    artifact = measure(store, place, {"auc": 0.5})
    store.delete_tree(store.key(artifact.uri))
    answer = page(api_server, place)
    assert answer.status_code == 200
    assert "there is no file://" in answer.text and "<code>0.5</code>" in answer.text


def test_an_input_leads_to_the_page_of_the_step_that_made_it(api_server: ApiServer, fit: Place) -> None:
    text = page(api_server, replace(fit, step="score")).text
    found = re.search(r'<a href="(artifacts\?[^"]*task_id=fit[^"]*)">fit: rows/rows.csv</a>', text)
    assert found is not None, text
    assert "<h1>fit</h1>" in api_server.get("mlops/" + found[1].replace("&amp;", "&")).text


def test_a_page_leads_back_to_airflows_own(api_server: ApiServer, fit: Place) -> None:
    run = quote(fit.run, safe="")
    text = page(api_server, fit).text
    assert f'href="../dags/pages/runs/{run}/tasks/fit"' in text
    mapped = page(api_server, replace(fit, step="each", iteration="1"), map_index=1).text
    assert f'href="../dags/pages/runs/{run}/tasks/each/mapped/1"' in mapped


def test_a_page_needs_no_script_and_nothing_from_elsewhere(api_server: ApiServer, fit: Place) -> None:
    text = page(api_server, fit).text
    assert "<script" not in text
    assert not re.search(r'(src|href)="(https?:)?//', text)


def test_each_generation_has_a_page_of_its_own(api_server: ApiServer, fit: Place, store: Store) -> None:
    places = [replace(fit, step="often", generation=g, incarnation=i) for g, i in ((1, 0), (2, 0), (1, 1))]
    for number, place in enumerate(places):
        put(store, place, parameters={"n": f"result {number}"})
    for number, place in enumerate(places):
        assert re.findall("result [0-9]", page(api_server, place).text) == [f"result {number}"]


# Who may see it


def test_nobody_sees_anything_without_logging_in(api_server: ApiServer, fit: Place) -> None:
    for answer in (page(api_server, fit, None), download(api_server, fit, "rows", None)):
        assert answer.status_code == 401
        assert "not logged in" in answer.text
        assert "rows.csv" not in answer.text


def test_a_user_without_access_to_the_dag_sees_nothing(api_server: ApiServer, fit: Place) -> None:
    for answer in (page(api_server, fit, "nobody"), download(api_server, fit, "rows", "nobody")):
        assert answer.status_code == 403
        assert "rows.csv" not in answer.text


def test_a_user_who_may_read_the_dag_sees_its_page(api_server: ApiServer, fit: Place) -> None:
    assert page(api_server, fit, "viewer").status_code == 200


def test_a_browser_is_known_by_airflows_cookie(api_server: ApiServer, fit: Place) -> None:
    answer = api_server.get(
        f"mlops/artifacts?{query_of(fit, -1)}", None, cookies={"_token": api_server.token("viewer")}
    )
    assert answer.status_code == 200


@pytest.mark.parametrize("path", ["docs", "redoc", "openapi.json", "", "artifacts/x"])
def test_there_is_nothing_but_the_two_pages(api_server: ApiServer, path: str) -> None:
    answer = api_server.get(f"mlops/{path}")
    assert answer.status_code == 404
    assert "default-src 'none'" in answer.headers["content-security-policy"]


def test_every_answer_has_a_strict_policy(api_server: ApiServer, fit: Place) -> None:
    answers = [
        page(api_server, fit),
        page(api_server, fit, None),
        page(api_server, fit, "nobody"),
        page(api_server, replace(fit, generation=9)),
        download(api_server, fit, "rows"),
        api_server.get("mlops/artifacts"),
        httpx.post(f"{api_server.root}/mlops/artifacts"),
    ]
    assert [answer.status_code for answer in answers] == [200, 401, 403, 404, 200, 400, 405]
    for answer in answers:
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'; style-src 'sha256-")
        assert "unsafe" not in policy
        assert answer.headers["x-content-type-options"] == "nosniff"
        assert answer.headers["cache-control"] == "no-store"


# Names that mean harm


@pytest.mark.parametrize(
    "query",
    [
        "dag_id=pages&dag_id=other&run_id=r&task_id=t&generation=1",
        "dag_id=pages&run_id=r&task_id=t&generation=1&generation=2",
        "dag_id=pages&run_id=r&task_id=t&generation=1&path=/etc/passwd",
        "dag_id=&run_id=r&task_id=t&generation=1",
        "dag_id=pages&run_id=r&task_id=t",
        "dag_id=pages&run_id=r&task_id=t&generation=0",
        "dag_id=pages&run_id=r&task_id=t&generation=1/../2",
        "dag_id=pages&run_id=r&task_id=t&generation=%D9%A1",
        "dag_id=pages&run_id=r&task_id=t&generation=1&map_index=-1",
        "dag_id=pages&run_id=r&task_id=t&generation=1&map_index=99999999999",
        f"dag_id=pages&run_id={'r' * 1001}&task_id=t&generation=1",
    ],
)
def test_an_address_that_leaves_a_doubt_is_refused(api_server: ApiServer, pages_run: DagResult, query: str) -> None:
    answer = api_server.get(f"mlops/artifacts?{query}")
    assert answer.status_code == 400
    assert "cannot be used" in answer.text


@pytest.mark.parametrize(
    "name", ["..", "../..", "../../../../etc", "a/b", "a%2Fb", "~", HOSTILE, "\x00", "ü\u202e", "."]
)
def test_no_name_leads_anywhere_else_in_the_store(api_server: ApiServer, fit: Place, name: str) -> None:
    for place in (replace(fit, pipeline=name), replace(fit, run=name), replace(fit, step=name)):
        answer = page(api_server, place)
        assert answer.status_code == 404, answer.text
        assert "<script" not in answer.text
        assert download(api_server, place, "rows").status_code == 404


@pytest.mark.parametrize("name", ["..", "rows/../../..", "manifest.json", "/etc/passwd", "", "nothing", HOSTILE])
def test_an_artifact_is_known_by_its_name_alone(api_server: ApiServer, fit: Place, name: str) -> None:
    answer = download(api_server, fit, name)
    assert answer.status_code in (400, 404)
    assert "<script" not in answer.text


def test_an_address_in_the_path_is_none(api_server: ApiServer, pages_run: DagResult) -> None:
    for path in ("artifacts/..%2F..%2Fetc%2Fpasswd", "..%2Fapi", "%2e%2e/%2e%2e/etc/passwd"):
        assert "root:" not in api_server.get(f"mlops/{path}").text


def test_what_programs_wrote_is_text_and_nothing_else(api_server: ApiServer, fit: Place, store: Store) -> None:
    place = replace(fit, run=HOSTILE, step="a " + HOSTILE)
    put(
        store,
        place,
        {"x": Artifact("x", "dataset", f"s3://b/{HOSTILE}", "none", 1, file="<b>.csv", metadata={HOSTILE: HOSTILE})},
        parameters={HOSTILE: {"deep": [HOSTILE, "javascript:alert(1)"]}},
        metrics={"m": {HOSTILE: 1.5}},
        runtime={HOSTILE: HOSTILE},
        timings={HOSTILE: 1e300, "started": -1e300, "ended": 1e300},
    )
    for answer in (page(api_server, place), page(api_server, fit)):
        assert answer.status_code == 200, answer.text
        assert "<script" not in answer.text
        assert "<img" not in answer.text
        assert "<b>" not in answer.text
        assert 'href="javascript' not in answer.text
    assert "&lt;script&gt;" in page(api_server, place).text


def test_a_page_of_very_much_is_cut(api_server: ApiServer, fit: Place, store: Store) -> None:
    place = replace(fit, step="much")
    put(store, place, metrics={"m": {f"k{n}": n for n in range(5000)}}, parameters={"long": "x" * 200_000})
    answer = page(api_server, place)
    assert answer.status_code == 200
    assert "and 4800 more" in answer.text
    assert len(answer.content) < 100_000


# Files


def test_a_download_is_the_artifact_as_a_file_to_keep(api_server: ApiServer, fit: Place) -> None:
    answer = download(api_server, fit, "rows")
    assert answer.content == b"one,two"
    assert answer.headers["content-type"] == "application/octet-stream"
    assert answer.headers["content-disposition"] == 'attachment; filename="rows.csv"'


def test_a_page_offers_files_and_no_folders(api_server: ApiServer, fit: Place) -> None:
    offered = re.findall(r'href="download\?[^"]*artifact=(\w+)"', page(api_server, fit).text)
    assert offered == ["rows", "scores"]
    assert download(api_server, fit, "model").status_code == 404


def test_a_file_that_lies_elsewhere_is_not_handed_out(api_server: ApiServer, fit: Place, store: Store) -> None:
    place = replace(fit, step="elsewhere")
    (api_server.outside / "secret").write_bytes(b"secret")
    other = replace(fit, pipeline="another")
    key = f"{other.outputs_key('a1')}/x"
    path = store.local_path(key)
    assert path is not None
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"secret")
    digest = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    uris = {"out": (api_server.outside / "secret").as_uri(), "other": store.uri(key), "s3": "s3://b/secret"}
    put(store, place, {name: Artifact(name, "dataset", uri, digest, 6) for name, uri in uris.items()})
    assert "download?" not in page(api_server, place).text
    for name in uris:
        assert download(api_server, place, name).status_code == 404


def test_a_link_in_the_store_is_not_followed(api_server: ApiServer, fit: Place, store: Store) -> None:
    place = replace(fit, step="linked")
    key = f"{place.outputs_key('a1')}/x"
    digest = "sha256:2bb80d537b1da3e38bd30361aa855686bde0eacd7162fef6a25fe97bf527a25b"
    put(store, place, {"x": Artifact("x", "dataset", store.uri(key), digest, 6)})
    (api_server.outside / "secret").write_bytes(b"secret")
    path = api_server.store / key
    path.parent.mkdir(parents=True)
    path.symlink_to(api_server.outside / "secret")
    answer = download(api_server, place, "x")
    assert answer.status_code == 500
    assert answer.content != b"secret"
    assert answer.headers["content-type"].startswith("text/html")


def test_a_file_that_was_changed_is_not_handed_out(api_server: ApiServer, fit: Place, store: Store) -> None:
    place = replace(fit, step="changed")
    key = f"{place.outputs_key('a1')}/x"
    put(store, place, {"x": Artifact("x", "dataset", store.uri(key), "sha256:" + "0" * 64, 6)})
    path = api_server.store / key
    path.parent.mkdir(parents=True)
    path.write_bytes(b"secret")
    answer = download(api_server, place, "x")
    assert answer.status_code == 500
    assert "is not what was committed" in answer.text


# A store that is not as it should be


def test_what_is_not_committed_says_what_was_looked_for(api_server: ApiServer, fit: Place) -> None:
    answer = page(api_server, replace(fit, generation=7))
    assert answer.status_code == 404
    assert "7/manifest.json" in answer.text
    assert "it still runs, or it failed" in answer.text
    assert 'tasks/fit">fit</a>' in answer.text


@pytest.mark.parametrize("data", [b"", b"{", b'{"version": 2}', b"\xff", b'{"version": 1}', b"[" * 100_000])
def test_a_damaged_manifest_is_a_page_and_no_traceback(
    api_server: ApiServer, fit: Place, store: Store, data: bytes
) -> None:
    place = replace(fit, step=f"damaged-{len(data)}-{data[:1].hex()}")
    store.put_if_absent(place.manifest_key, data)
    answer = page(api_server, place)
    assert answer.status_code == 500
    assert "damaged" in answer.text
    assert "Traceback" not in answer.text


def test_the_manifest_of_another_place_is_refused(api_server: ApiServer, fit: Place, store: Store) -> None:
    place = replace(fit, step="stolen")
    store.put_if_absent(place.manifest_key, store.read(fit.manifest_key, Manifest.limit))
    answer = page(api_server, place)
    assert answer.status_code == 500
    assert "rows.csv" not in answer.text


def test_a_seal_that_was_changed_is_refused(api_server: ApiServer, fit: Place, store: Store) -> None:
    place = replace(fit, step="resealed")
    put(store, place)
    path = api_server.store / place.step_json_key("a1")
    seal = json.loads(path.read_bytes())
    seal["step"]["params"] = {"depth": 9}
    path.unlink()
    path.write_text(json.dumps(seal))
    answer = page(api_server, place)
    assert answer.status_code == 500
    assert "is not the one that was committed" in answer.text


def test_a_store_that_is_not_there_is_said(api_server: ApiServer, fit: Place) -> None:
    away = api_server.home / "away"
    shutil.move(api_server.store, away)
    try:
        answer = page(api_server, fit)
    finally:
        shutil.move(away, api_server.store)
    assert answer.status_code == 503
    assert "does not see the store" in answer.text
    assert page(api_server, fit).status_code == 200


def test_a_store_that_hangs_takes_no_thread_of_the_api_server() -> None:
    from airflow_mlops.ui import app

    answers = threading.Event()

    async def ask() -> None:
        with pytest.raises(Problem) as caught:
            await app._read(answers.wait, 0.05)
        assert caught.value.status == 503
        assert "did not answer" in caught.value.what

    try:
        for _ in range(6):
            asyncio.run(ask())
        threads = [thread.name for thread in threading.enumerate() if thread.name.startswith("mlops-pages")]
    finally:
        answers.set()
    assert len(threads) == 4


def test_a_store_that_cannot_be_read_is_said(api_server: ApiServer, fit: Place) -> None:
    path = api_server.store / fit.manifest_key
    kept = path.with_name("kept")
    path.rename(kept)
    path.mkdir()  # even root cannot read a folder as a file
    try:
        answer = page(api_server, fit)
    finally:
        path.rmdir()
        kept.rename(path)
    assert answer.status_code == 503
    assert "cannot read the store" in answer.text
    assert page(api_server, fit).status_code == 200
