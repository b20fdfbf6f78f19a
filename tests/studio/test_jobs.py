"""The queue of work: its order, its limit, stopping, and errors as one line."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest
from studio_server import PATIENCE, wait_for

from musegen.errors import UserError
from musegen.runtime.steps import Step
from musegen.studio.jobs import Busy, Job, Worker


@pytest.fixture
def worker() -> Iterator[Worker]:
    worker = Worker("test", max_waiting=2)
    yield worker
    worker.close()


def blocked(worker: Worker) -> threading.Event:
    """Let the worker wait until the returned event is set."""
    started, go = threading.Event(), threading.Event()

    def work(job: Job) -> dict[str, int]:
        started.set()
        go.wait(PATIENCE)
        return {}

    worker.submit(work)
    assert started.wait(PATIENCE)
    return go


def test_jobs_run_one_after_another_and_know_their_place(worker: Worker) -> None:
    order: list[int] = []
    go = blocked(worker)

    def work(number: int) -> Job:
        return worker.submit(lambda job: {"place": order.append(number) or len(order)})

    first, second = work(1), work(2)
    assert first.newest()[1:] == ("waiting", {"ahead": 1})
    assert second.newest()[1:] == ("waiting", {"ahead": 2})
    go.set()
    assert second.wait(PATIENCE).data == {"place": 2}
    assert first.wait(PATIENCE).data == {"place": 1}
    assert order == [1, 2]


def test_more_than_the_queue_holds_is_refused(worker: Worker) -> None:
    go = blocked(worker)
    jobs = [worker.submit(lambda job: {}) for _ in range(2)]
    with pytest.raises(Busy, match="2 requests are waiting already"):
        worker.submit(lambda job: {})
    jobs[0].stop()  # a job that nobody waits for makes room
    worker.submit(lambda job: {})
    go.set()


def test_a_stopped_job_ends_at_its_next_step(worker: Worker) -> None:
    steps = 0

    def work(job: Job) -> dict[str, int]:
        nonlocal steps
        watch = job.watcher(lambda step: {"done": step.done})
        while True:
            steps += 1
            watch(Step(steps, 10**9, list))

    job = worker.submit(work)
    wait_for(lambda: steps > 100)
    job.stop()
    assert job.wait(PATIENCE).name == "stopped"
    after = steps
    assert worker.submit(lambda job: {"steps": steps}).wait(PATIENCE).data == {"steps": after}


def test_a_job_that_is_stopped_while_it_waits_does_nothing(worker: Worker) -> None:
    go = blocked(worker)
    job = worker.submit(lambda job: pytest.fail("it ran"))
    job.stop()
    go.set()
    assert job.wait(PATIENCE).name == "stopped"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (UserError("n=9: too\nmany"), "n=9: too many"),
        (ZeroDivisionError("x"), "ZeroDivisionError: x"),
    ],
)
def test_an_error_is_one_line_and_the_worker_goes_on(
    worker: Worker, error: Exception, line: str
) -> None:
    def work(job: Job) -> dict[str, int]:
        raise error

    assert worker.submit(work).wait(PATIENCE)[1:] == ("error", {"message": line})
    assert worker.submit(lambda job: {"fine": 1}).wait(PATIENCE).data == {"fine": 1}


def test_progress_is_not_published_more_often_than_the_page_can_show() -> None:
    job = Job(lambda job: {})
    watch = job.watcher(lambda step: {"done": step.done})
    for i in range(1000):
        watch(Step(i, 1000, list))
    assert job.newest()[0] < 50


def test_closing_ends_what_runs_and_what_waits() -> None:
    worker = Worker("test")

    def work(job: Job) -> dict[str, int]:
        while True:
            job.check()

    running, waiting = worker.submit(work), worker.submit(work)
    worker.close()
    assert running.wait(PATIENCE).name == "stopped"
    assert waiting.wait(PATIENCE).name == "stopped"
    with pytest.raises(Busy):
        worker.submit(work)
