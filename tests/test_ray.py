"""Jobs on a Ray cluster: the bytes of one machine; a lost node is survived; what cannot work is refused in one line.

The cluster is a real one, two nodes of a core each on this machine (make test-all).
"""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from mitate import cluster as on_cluster
from mitate.cli import app
from mitate.cluster import gpus_of
from mitate.engine import Cluster, Engine, how_many, parse_engine
from mitate.errors import DataError, MissingExtra, MitateError, SettingError, StoreError
from mitate.remote import Remote
from mitate.store import Entry, Store
from mitate.study import Job
from test_engine import FOREVER, bad_job, chain, files, linux, long_job, until

NODE = {"num_cpus": 1, "object_store_memory": 80 * 2**20}  # bytes
SOON = {"health_check_initial_delay_ms": 500, "health_check_period_ms": 500, "health_check_failure_threshold": 2}  # until a dead node is known
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}  # tells nobody; workers that are not behind all other work of the machine
NOBODY = "127.0.0.1:1"  # nothing listens here


def on_ray(test: Callable[..., None]) -> Callable[..., None]:
    absent = pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason='ray is not installed (pip install "mitate[ray]")')
    return pytest.mark.ray(absent(pytest.mark.filterwarnings("ignore")(test)))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes on this machine, ended with the module; its address is `.address`."""
    place = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # the names of sockets in it may not be long
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {"RAY_TMPDIR": place, **QUIET, "MITATE_CHECKPOINT_SECONDS": "0"}.items():
            patch.setenv(name, value)
        patch.delenv("RAY_ADDRESS", raising=False)
        import ray
        from ray.cluster_utils import Cluster as Nodes

        nodes = Nodes(initialize_head=True, head_node_args={**NODE, **own_store(place, "head"), "include_dashboard": False, "_system_config": SOON})
        nodes.place = Path(place)
        try:
            nodes.add_node(**NODE, **own_store(place, "other"))
            yield nodes
        finally:
            ray.shutdown()
            nodes.shutdown()
            shutil.rmtree(place, ignore_errors=True)


def own_store(place: str | Path, name: str) -> dict[str, Any]:
    """What starts a node whose MITATE_HOME is a folder of its own, which only runs with a shared store look at."""
    return {"env_vars": {"MITATE_HOME": str(Path(place) / name)}}


def idle(cluster: Any) -> None:
    """Wait until every core is free."""
    import ray

    until(lambda: ray.available_resources().get("CPU") == ray.cluster_resources()["CPU"], what="the cores to be free")


# what needs no cluster ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"), [("ray", ""), ("ray://head:10001", "ray://head:10001"), ("ray:head:6379", "head:6379"), ("ray:10.0.0.7:6379", "10.0.0.7:6379")]
)
def test_a_cluster_is_read_as_typed(text: str, address: str) -> None:
    assert parse_engine(text) == Cluster(address)


@pytest.mark.parametrize("text", ["ray:", "ray://", "ray:head", "ray://head", "ray:head:port", "ray:head:6379:1", "ray:/head:6379", "Ray", "ray:head:655360"])
def test_an_address_without_host_and_port_is_refused(text: str) -> None:
    with pytest.raises(SettingError, match="There is no engine"):
        parse_engine(text)


@pytest.mark.parametrize(
    ("settings", "gpus"),
    [
        ({"place": {"device": "cuda"}}, 1),
        ({"options": {"device": "cuda:0"}}, 1),
        ({"place": {"device": "cpu"}}, 0),
        ({"options": {}}, 0),
        ({}, 0),
        ({"place": "x"}, 0),
    ],
)
def test_a_job_asks_for_a_gpu_where_its_model_is_on_one(settings: dict[str, Any], gpus: int) -> None:
    assert gpus_of(settings) == gpus


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtra) as wrong:
        how_many(Cluster())
    assert wrong.value.fix == 'pip install "mitate[ray]"'


def test_the_digest_of_the_source_changes_with_the_source(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = on_cluster.versions()["mitate"]
    copy = tmp_path / "mitate"
    copy.mkdir()
    for path in Path(on_cluster.__file__).parent.glob("*.py"):
        shutil.copy(path, copy)
    monkeypatch.setattr(on_cluster, "__file__", str(copy / "cluster.py"))
    on_cluster._source.cache_clear()
    some = on_cluster.versions()["mitate"]
    (copy / "verbs.py").write_text("other = 1\n")
    on_cluster._source.cache_clear()
    assert len({before, some, on_cluster.versions()["mitate"]}) == 3
    on_cluster._source.cache_clear()


def test_a_run_that_finds_everything_asks_no_cluster(tmp_path: Path) -> None:
    store = Store(tmp_path)
    with Engine(store, workers=0) as engine:
        first = files(engine.run(chain(store)))
    with Engine(store, workers=Cluster(NOBODY)) as engine:
        assert files(engine.run(chain(store))) == first


# on two nodes ---------------------------------------------------------------------------------------------------------


@on_ray
def test_two_nodes_give_the_bytes_this_process_gives_and_hand_errors_over_whole(cluster: Any, tmp_path: Path) -> None:
    here, there = Store(tmp_path / "here"), Store(tmp_path / "there")
    with Engine(here, workers=0) as engine:
        expected = files(engine.run(chain(here)))
    told: list[tuple[str, bool]] = []
    with Engine(there, workers=Cluster(cluster.address)) as engine:
        assert engine.workers == 2
        found = engine.run(chain(there), done=lambda job, entry, reused: told.append((job.name, reused)))
        assert files(found) == expected and {job.digest for job in found} == set(there.objects()) & {job.digest for job in chain(here)}
        assert len(told) == 5 and sum(reused for _, reused in told) == 1, "the twin is reused"
        with pytest.raises(DataError, match="^bad: .*none of class 'c'") as wrong:
            engine.run([bad_job(there)])
        assert wrong.value.fix == "add some, or leave this generator out" and "\n" not in str(wrong.value)
        assert len(engine.run(chain(there, seed=1))) == 5, "the cluster goes on after an error"
    assert list((there.root / "building").iterdir()) == []


@on_ray
def test_an_interruption_cancels_what_is_under_way(cluster: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    quick, long = chain(store)[0], long_job(store)
    assert long.settings["options"] is FOREVER

    def interrupt(job: Job, entry: Entry, reused: bool) -> None:
        until(lambda: (tmp_path / "partial" / long.digest / "fit.safetensors").exists(), what="the fit to be under way", seconds=240)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Engine(store, workers=Cluster(cluster.address)) as engine:
        engine.run([long, quick], done=interrupt)
    idle(cluster)
    assert store.get(quick.digest) is not None and store.get(long.digest) is None
    assert list((tmp_path / "building").iterdir()) == []


@on_ray
@pytest.mark.parametrize("shared", [False, True], ids=["one folder", "a store each"])
def test_a_lost_node_is_survived_and_its_job_comes_to_the_same_bytes(cluster: Any, tmp_path: Path, shared: bool) -> None:
    import ray

    here, there = Store(tmp_path / "here"), Store(tmp_path / "there", shared=Remote(f"file://{tmp_path}/shared") if shared else None)
    (job, there_job) = (replace(long_job(store), settings={"kind": "vae", "options": {"steps": 120, "checks": 1}, "seed": 0}) for store in (here, there))
    with Engine(here, workers=0) as engine:
        expected = engine.run([job])[job].result["files"]
    doomed_store = Store(cluster.place / "other") if shared else there
    how_many(Cluster(cluster.address))  # connects
    go_on = tmp_path / "go on"
    (doomed,) = cluster.worker_nodes
    block = block_a_core(ray, cluster.head_node, go_on)
    until(lambda: ray.available_resources().get("CPU") == 1, what="the head to be busy")
    lost: list[bool] = []

    def lose() -> None:
        until(lambda: (doomed_store.root / "partial" / there_job.digest / "fit.safetensors").exists(), what="the fit to be under way", seconds=240)
        cluster.remove_node(doomed, allow_graceful=False)
        lost.append(there.get(there_job.digest) is None)
        go_on.touch()

    loser = threading.Thread(target=lose)
    loser.start()
    with Engine(there, workers=Cluster(cluster.address)) as engine:
        found = engine.run([there_job])[there_job]
    loser.join()
    ray.get(block)
    cluster.add_node(**NODE, **own_store(cluster.place, "other"))  # for the next test
    assert lost == [True], "the node went before the job had ended"
    assert found.result["files"] == expected
    if shared:
        assert Store(cluster.place / "head").get(there_job.digest) is not None and doomed_store.get(there_job.digest) is None
        assert there.get(there_job.digest) == found and list(there.objects()) == list(there_job.asked.inputs.values())[:1], "nothing of it was opened here"
        assert found.path("asked.json").exists() and there.damage(found.digest) is None


def block_a_core(ray: Any, node: Any, until_file: Path) -> Any:
    """A task that holds the core of a node until a file is there."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    @ray.remote(num_cpus=1, scheduling_strategy=NodeAffinitySchedulingStrategy(node.node_id, soft=False))
    def hold(path: str) -> None:
        while not os.path.exists(path):
            time.sleep(0.05)

    return hold.remote(str(until_file))


@on_ray
def test_nodes_with_a_store_each_and_a_url_give_the_bytes_this_process_gives(cluster: Any, tmp_path: Path) -> None:
    shared = Remote(f"file://{tmp_path}/shared")
    here, there, later = Store(tmp_path / "here"), Store(tmp_path / "there", shared=shared), Store(tmp_path / "later", shared=shared)
    with Engine(here, workers=0) as engine:
        expected = engine.run(chain(here, seed=3))
    images = set(here.objects()) - {job.digest for job in expected}
    with Engine(there, workers=Cluster(cluster.address)) as engine:
        found = engine.run(chain(there, seed=3))
        assert files(found) == files(expected) and set(there.objects()) == images, "the head copies nothing that it does not open"
        with pytest.raises(DataError, match="^bad: .*none of class 'c'"):
            engine.run([bad_job(there)])
        assert len(engine.run(chain(there, seed=4))) == 5, "the cluster goes on after an error"
    for job, one in expected.items():
        other = there.there(job.digest)
        assert one.result["files"] and all(other.path(name).read_bytes() == one.path(name).read_bytes() for name in one.result["files"])
        assert there.damage(other.digest) is None
    nodes = [Store(cluster.place / name) for name in ("head", "other")]
    assert all(any(node.get(job.digest) for node in nodes) for job in found), "it was made on the nodes, in their own stores"
    assert list((tmp_path / "shared" / "meetings").iterdir()) == [] and not list((tmp_path / "shared").rglob("*.tmp"))
    with Engine(later, workers=Cluster(NOBODY)) as engine:
        assert files(engine.run(chain(later, seed=3))) == files(expected), "another machine finds it all and asks no cluster"


@on_ray
def test_a_whole_pilot_on_nodes_with_a_store_each_is_that_of_one_process(cluster: Any, tmp_path: Path) -> None:
    script = Path(__file__).parent.parent / "benchmarks" / "kill_and_resume.py"
    spec = importlib.util.spec_from_file_location("kill_and_resume", script)
    assert spec is not None and spec.loader is not None
    pilots = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(pilots)
    settings = {**pilots.SETTINGS, "arms": ["real+augment", "balanced+augment"], "generators": ["vae"]}
    (tmp_path / "plan.toml").write_text("".join(f"{key} = {json.dumps(value)}\n" for key, value in settings.items()))
    study = pilots._study(tmp_path, workers=1, generator_steps=20)
    found = {}
    for name, engine, url in (("one", "here", ""), ("nodes", f"ray:{cluster.address}", f"file://{tmp_path}/shared")):
        (tmp_path / name / "run").mkdir(parents=True)
        (tmp_path / name / "run" / "study.json").write_text(json.dumps(study))
        command = [sys.executable, "-m", "mitate", "pilot", "--plan", str(tmp_path / "plan.toml"), "--out", "run", "--engine", engine]
        environment = {**os.environ, "MITATE_HOME": str(tmp_path / name / "store"), "MITATE_SHARED": url, "OMP_NUM_THREADS": "1"}
        said = subprocess.run(command, cwd=tmp_path / name, env=environment, capture_output=True, text=True, check=False)
        assert said.returncode == 0, said.stderr[-2000:]
        found[name] = pilots.contents(tmp_path / name)
    one, nodes = found["one"], found["nodes"]
    assert {k for k in one if k.startswith("run/")} == {k for k in nodes if k.startswith("run/")} and len(nodes) > 50
    assert nodes.keys() < one.keys() and all(one[name] == nodes[name] for name in nodes), "the head's store holds less, and nothing else"
    there = Store(tmp_path / "later", shared=Remote(f"file://{tmp_path}/shared"))
    jobs = [json.loads(line)["digest"] for line in (tmp_path / "nodes" / "run" / "jobs.jsonl").read_text().splitlines()]
    there.bring(jobs)
    assert set(there.objects()) == set(jobs) and all(there.damage(name) is None for name in jobs)


def refused(store: Store, cluster: Any, job: Job | None = None) -> MitateError:
    """The error of a run that cannot begin, in one line; nothing of it is left."""
    with pytest.raises(MitateError) as wrong, Engine(store, workers=Cluster(cluster.address)) as engine:
        engine.run([job or chain(store)[0]])
    assert "\n" not in str(wrong.value) and "Traceback" not in str(wrong.value)
    assert list((store.root / "building").iterdir()) == []
    return wrong.value


@on_ray
def test_a_url_that_a_node_does_not_see_is_refused(cluster: Any, tmp_path: Path) -> None:
    wrong = refused(Store(tmp_path, shared=Remote("memory://mitate")), cluster)  # the memory of each process
    assert isinstance(wrong, StoreError) and "does not see what is shared at memory://mitate" in wrong.message and "MITATE_SHARED" in wrong.fix


@on_ray
@linux
def test_a_store_that_a_node_does_not_see_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)  # the nodes' processes have another working folder, so to them this path is another folder
    wrong = refused(Store("/proc/self/cwd/store"), cluster)
    assert isinstance(wrong, StoreError) and "does not see the store /proc/self/cwd/store" in wrong.message and "MITATE_HOME" in wrong.fix


@on_ray
def test_a_node_with_other_code_is_refused(cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(on_cluster, "versions", lambda: {**real, "mitate": "0.0.9 (0123456789ab)"})
    real = {**on_cluster.machine()["packages"]}
    wrong = refused(Store(tmp_path), cluster)
    assert isinstance(wrong, SettingError) and "another version of mitate" in wrong.message and "here 0.0.9" in wrong.message


@on_ray
def test_a_job_for_a_gpu_is_refused_where_no_node_has_one(cluster: Any, tmp_path: Path) -> None:
    store = Store(tmp_path)
    wrong = refused(store, cluster, Job("paint", "paint", 1, {"place": {"device": "cuda"}}))
    assert isinstance(wrong, SettingError) and "the cluster has none" in wrong.message


@on_ray
def test_where_no_cluster_is_the_command_says_so_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_ADDRESS", NOBODY)
    for text in ("ray", f"ray:{NOBODY}", f"ray://{NOBODY}"):
        with pytest.raises(SettingError, match="There is no Ray cluster at .*127.0.0.1:1 ") as wrong:
            how_many(parse_engine(text))
        assert wrong.value.fix == "start one with ray start --head, or --engine local"
    said = CliRunner().invoke(app, ["pilot", "digits:20", "--engine", "ray", "--out", str(tmp_path / "run")])
    assert isinstance(said.exception, SettingError) and "\n" not in str(said.exception)
