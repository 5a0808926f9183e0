"""Jobs on a Ray cluster that runs already (Moritz et al. 2018, arXiv 1712.05889). Same bytes as on one machine.

A job becomes a task with one core. What is sent is the job's question as JSON and the name of a function of this file; what comes back
is its answer as JSON. Results go through the store: a folder that every node sees under the same path, or, where the store is shared at a URL, a
folder of each node's own and that URL. A job is named by its digest and its result is there whole or not at all, so a task that is begun again on
another node, after its first was lost, does no harm.

A node is asked once, before its first job, whether it sees what is shared and has the same code; one that joins later is asked too.
"""

from __future__ import annotations

import functools
import hashlib
import json
import logging
import os
import re
import secrets
import socket
import time
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from mitate.answers import answer_from, answer_to, check_answer, told_error
from mitate.errors import JobError, MissingExtra, MitateError, SettingError, StoreError
from mitate.files import disk_errors
from mitate.meeting import InFolder, Meeting, invitation, meeting_of, store_of
from mitate.runtime import machine
from mitate.settings import plain
from mitate.store import Asked, Store
from mitate.study import Job

RETRIES = 3  # times that a job is begun again after its node or its worker was lost
AHEAD = 2  # jobs handed over for each core: the second waits, so that no core does, and an autoscaler sees what waits
RECOUNT = 5.0  # seconds after which the cores of the cluster are counted again
REACH = 5.0  # seconds in which an address has to answer
ASK = 300.0  # seconds in which every node has to answer before the first job
SETTLE = 60.0  # seconds that a shared folder may take to show here what another node wrote: NFS keeps a folder's list for up to 60
START = "start one with ray start --head, or --engine local"
SAME = "install the same versions on every node (pip install -c constraints.txt), from the same source"

_connected: list[str] = []  # the address that this process is connected to; empty where the caller connected, or nobody did


@dataclass(frozen=True)
class Cluster:
    """A Ray cluster that runs already. address: `ray://HOST:PORT` or `HOST:PORT`; "" is that of RAY_ADDRESS, else the one of this machine."""

    address: str = ""


class OnRay:
    """An executor: jobs as tasks of a cluster. Its nodes are checked when it is made."""

    def __init__(self, store: Store, cluster: Cluster) -> None:
        self._ray = _connect(cluster)
        self._store = store if store.shared is not None else Store(os.path.abspath(store.root))
        self._counted, self._cores = time.monotonic(), count_cores(cluster)
        self._jobs: dict[Any, Job] = {}  # by the reference of its task
        self._facts, self._meeting = "", meeting_of(invitation(self._store))
        try:
            self._facts = _invite(self._meeting)
            _ask_nodes(self._ray, self._facts, self._meeting)
        except BaseException:
            self.stop()
            raise
        self._task = self._ray.remote(num_cpus=1, max_retries=RETRIES)(_perform)

    def room(self) -> int:
        if time.monotonic() - self._counted > RECOUNT:
            self._counted, self._cores = time.monotonic(), _cores(self._ray)
        return AHEAD * max(1, self._cores) - len(self._jobs)  # with no core left for now, a job waits for one

    def start(self, job: Job) -> None:
        gpus = gpus_of(job.settings)
        if gpus and not self._ray.cluster_resources().get("GPU"):
            raise SettingError(f"{job.name} needs a GPU, and the cluster has none.", fix="add a node with one, or leave --device out")
        self._store.share(job.asked.inputs.values())
        task = self._task.options(num_gpus=gpus) if gpus else self._task
        self._jobs[task.remote(self._facts, json.dumps(plain(job.asked)))] = job

    def ended(self) -> list[tuple[Job, Exception | None]]:
        references = list(self._jobs)
        self._ray.wait(references, num_returns=1)
        ready, _ = self._ray.wait(references, num_returns=len(references), timeout=0)
        found = [(reference, self._jobs.pop(reference)) for reference in ready]
        return [(job, self._wrong(reference, job)) for reference, job in found]

    def stop(self) -> None:
        for reference in self._jobs:
            self._ray.cancel(reference)
        if self._jobs:
            self._ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=10)
            self._jobs.clear()
        self._meeting.end()

    def _wrong(self, reference: Any, job: Job) -> Exception | None:
        try:
            answer = json.loads(self._ray.get(reference))
            check_answer(job.name, answer)
            if self._store.shared is not None:
                self._store.told(job.asked, answer["result"])
        except MitateError as wrong:
            return wrong
        except self._ray.exceptions.RayTaskError as wrong:  # not an error of the job, which would be an answer
            return JobError(f"{job.name}: its node cannot run it ({_cause(wrong)}).", fix=SAME)
        except self._ray.exceptions.RayError as wrong:
            told = f"The worker of {job.name} was lost, {RETRIES + 1} times in all ({_first_line(wrong)})."
            return JobError(told, fix="run the same command again; if it is too little memory, with fewer cores a node (ray start --num-cpus)")
        return _settled(self._store, job)


def count_cores(cluster: Cluster) -> int:
    """Cores of the cluster that jobs may have. SettingError where there is no cluster, or it has none."""
    count = _cores(_connect(cluster))
    if count < 1:
        raise SettingError("The Ray cluster has no core for jobs.", fix="add a node with ray start --address HOST:6379")
    return count


def gpus_of(settings: Mapping[str, Any]) -> int:
    """GPUs that a job needs: one where its settings name a CUDA device for its model, else none."""
    named = [part.get("device", "") for part in (settings.get("place"), settings.get("options")) if isinstance(part, Mapping)]
    return int(any(str(name).startswith("cuda") for name in named))


# the connection -------------------------------------------------------------------------------------------------------


def _connect(cluster: Cluster) -> Any:
    """The module `ray`, connected. A connection that the calling program made is taken as it is; ours is kept until the process ends."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import ray
            import ray.exceptions
    except ImportError as wrong:
        raise MissingExtra.of("ray", "ray", "A cluster") from wrong
    address = cluster.address or os.environ.get("RAY_ADDRESS") or "auto"
    if ray.is_initialized():
        if not _connected or _connected == [address]:
            return ray
    _reach(address)
    ray.shutdown()
    _connected.clear()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as wrong:  # whatever Ray raises for a cluster that is not there, or of another version
        raise SettingError(f"There is no Ray cluster at {address} ({_first_line(wrong)}).", fix=START) from wrong
    _connected.append(address)
    return ray


def _reach(address: str) -> None:
    """SettingError where nothing listens at HOST:PORT, which Ray would wait for much longer."""
    if (found := re.fullmatch(r"(?:ray://)?([\w.-]+):(\d{1,5})", address)) is None:
        return
    try:
        socket.create_connection((found[1], int(found[2])), timeout=REACH).close()
    except (OSError, OverflowError) as wrong:
        raise SettingError(f"There is no Ray cluster at {address} ({_first_line(wrong)}).", fix=START) from wrong


def _cores(ray: Any) -> int:
    return int(ray.cluster_resources().get("CPU", 0))


def _first_line(wrong: Exception) -> str:
    return next((line.strip().rstrip(".") for line in str(wrong).splitlines() if line.strip()), type(wrong).__name__)


# does a node see what is shared, and has it the same code? ------------------------------------------------------------


def _invite(meeting: Meeting) -> str:
    """Leave a token; what a node has to know to find it, as JSON."""
    token = secrets.token_hex(16)
    meeting.leave("token", token)
    return json.dumps({**meeting.facts, "token": token, "versions": versions()})


def _ask_nodes(ray: Any, facts: str, meeting: Meeting) -> None:
    """Ask each node that has a core. The error of the first that cannot work here."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    nodes = {node["NodeID"]: node["NodeManagerAddress"] for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}
    ask = ray.remote(num_cpus=0, max_retries=0)(_look)
    asked = {node: ask.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False)).remote(facts, node) for node in nodes}
    ray.wait(list(asked.values()), num_returns=len(asked), timeout=ASK)
    for node, reference in asked.items():
        try:
            check_answer(f"node {nodes[node]}", json.loads(ray.get(reference, timeout=0)))
        except ray.exceptions.GetTimeoutError as wrong:
            raise JobError(
                f"The node {nodes[node]} did not answer in {ASK:.0f} s.", fix="look at it with ray status, and take it out or start it anew"
            ) from wrong
        except ray.exceptions.RayTaskError as wrong:
            raise SettingError(f"The node {nodes[node]} cannot load mitate ({_cause(wrong)}).", fix=SAME) from wrong
        except ray.exceptions.RayError as wrong:
            raise JobError(f"The node {nodes[node]} was lost ({_first_line(wrong)}).", fix="run the same command again") from wrong
        if meeting.left(node) is None:
            raise StoreError(f"What the node {nodes[node]} writes to {meeting.place} does not come here.", fix=meeting.fix)


def _cause(wrong: Exception) -> str:
    """Why a task's function could not be loaded: the last line of the worker's account that names an error."""
    lines = [line.strip() for line in str(wrong).splitlines()]
    return next((line for line in reversed(lines) if re.match(r"\w*(Error|Exception)\b", line)), _first_line(wrong))


def _look(facts: str, node: str) -> str:
    """What a node answers: {} when it may work, and it leaves a word of its name beside the token; else its error."""
    if wrong := _refused(facts):
        return wrong
    try:
        store, meeting = store_of(facts), meeting_of(json.loads(facts))
        with disk_errors(store.root):
            (store.root / "building").mkdir(parents=True, exist_ok=True)
        meeting.leave(node, "here")
    except OSError as found:
        return json.dumps(told_error(StoreError(f"the store cannot be written ({found.strerror}).", fix=meeting.fix)))
    except MitateError as found:
        return json.dumps(told_error(found))
    return "{}"


@functools.cache
def _refused(facts: str) -> str:
    """Why this process may not work for the one that sent `facts`: an error as JSON, or "" where it may."""
    told, ours = json.loads(facts), versions()
    meeting = meeting_of(told)
    wrong: MitateError | None = None
    try:
        if meeting.left("token") != told["token"]:
            wrong = StoreError(f"{socket.gethostname()} does not see {meeting.place}.", fix=meeting.fix)
        elif ours != told["versions"]:
            name = next(key for key in sorted({*ours, *told["versions"]}) if ours.get(key) != told["versions"].get(key))
            there, here = ours.get(name, "none"), told["versions"].get(name, "none")
            wrong = SettingError(f"{socket.gethostname()} has another version of {name}: {there}, here {here}.", fix=SAME)
    except MitateError as found:  # of the way to a URL
        wrong = type(found)(f"{socket.gethostname()}: {found.message}", fix=found.fix)
    return json.dumps(told_error(wrong)) if wrong else ""


def versions() -> dict[str, str]:
    """What has to be the same for the same bytes: versions of mitate and of the packages it computes with, and a digest of mitate's source."""
    return {**machine()["packages"], "mitate": f"{version('mitate')} ({_source()[:12]})"}


@functools.cache
def _source() -> str:
    """SHA-256 over every Python file of mitate and its place."""
    root, found = Path(__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        found.update(f"{path.relative_to(root).as_posix()}\0".encode() + hashlib.sha256(path.read_bytes()).digest())
    return found.hexdigest()


# a job ----------------------------------------------------------------------------------------------------------------


def _perform(facts: str, asked: str) -> str:
    """The task: do the job in the store that `facts` names, and answer."""
    if wrong := _refused(facts):
        return wrong
    store, question = store_of(facts), Asked(**json.loads(asked))
    return json.dumps(answer_to(store, question) if store.shared is None else answer_from(store, question))


def _settled(store: Store, job: Job) -> StoreError | None:
    """Wait until the result can be seen from here."""
    folder, until = store.folder_of(job.digest), time.monotonic() + SETTLE
    while store.get(job.digest) is None:
        if time.monotonic() > until:
            return StoreError(f"The result of {job.name} did not come here in {SETTLE:.0f} s.", fix=InFolder.fix)
        for parent in (folder.parent.parent, folder.parent):
            if parent.is_dir():
                os.listdir(parent)  # a folder that is opened is asked for anew
        time.sleep(0.05)
    return None
