"""Worker processes that stay up and measure on request, so that two sides can take turns of a few seconds."""

import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any


class Worker:
    """A process of `python -m module --side=...` that answers one JSON line for one JSON line."""

    def __init__(self, module: str, side: str) -> None:
        self.process = subprocess.Popen(
            [sys.executable, "-m", module, f"--side={side}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def ask(self, **question: Any) -> Any:
        print(json.dumps(question), file=self.process.stdin, flush=True)
        line = self.process.stdout.readline()
        if not line:
            raise ValueError(f"the worker ended with code {self.process.wait()} at {question}; its errors stand above.")
        return json.loads(line)

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()
        self.process.stdout.close()


def serve(answer: Callable[..., Any]) -> None:
    """The worker's side: calls `answer` with each question until its standard input ends."""
    replies = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # what libraries print must not stand between the answers
    for line in sys.stdin:
        print(json.dumps(answer(**json.loads(line))), file=replies, flush=True)


CLOCKS = {"wall": time.perf_counter, "processor": time.process_time}


def times(step: Callable[[], object], seconds: float, least: int = 2, clock: str = "wall") -> list[float]:
    """Durations of calls of `step`, at least `least` of them, until `seconds` are over.

    clock: wall, or processor, the time that all threads of this process took together, which other work on the same
    cores hardly lengthens; for one thread.
    """
    durations: list[float] = []
    now = CLOCKS[clock]
    began = now()
    while len(durations) < least or now() - began < seconds:
        start = now()
        step()
        durations.append(now() - start)
    return durations


def in_turns(
    sides: Sequence[tuple[str, Worker, dict[str, Any]]], rounds: int, seconds: float
) -> dict[str, list[float]]:
    """Asks every side (name, worker, question) in every round; the median seconds of each side's rounds.

    The order is turned round in every second round, so that no side always follows the same other one.
    """
    medians: dict[str, list[float]] = {name: [] for name, _, _ in sides}
    for i in range(rounds):
        for name, worker, question in sides if i % 2 == 0 else sides[::-1]:
            medians[name].append(statistics.median(worker.ask(**question, seconds=seconds)))
    return medians


def compare(
    sides: Sequence[tuple[str, Worker, dict[str, Any]]], precision: str, rounds: int, seconds: float
) -> tuple[dict[str, list[float]], float]:
    """`in_turns` of warmed-up sides, and the best matrix-product rate that any worker reached before or after them.

    Ends the workers. A first question builds and compiles; a worker answers verb="peak" with operations a second.
    """
    workers = list({id(worker): worker for _, worker, _ in sides}.values())
    for _, worker, question in sides:
        worker.ask(**question, seconds=0)
    peaks = [worker.ask(verb="peak", precision=precision, seconds=3) for worker in workers]
    medians = in_turns(sides, rounds, seconds)
    peaks += [worker.ask(verb="peak", precision=precision, seconds=3) for worker in workers]
    for worker in workers:
        worker.close()
    return medians, max(peaks)


def machine() -> dict[str, Any]:
    """What a reader must know of the machine: cores, how busy it was before (1 minute), processor's matrix units."""
    flags: set[str] = set()
    if os.path.exists("/proc/cpuinfo"):
        with open("/proc/cpuinfo", encoding="utf-8") as file:
            flags = next((set(line.split()) for line in file if line.startswith("flags")), flags)
    units = [name for name in ("avx512f", "avx512_bf16", "amx_bf16") if name in flags]
    return {"cores": os.cpu_count(), "load": round(os.getloadavg()[0], 2), "units": units}
