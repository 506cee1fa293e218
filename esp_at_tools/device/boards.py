"""Several modules at once: one process each, as esptool's state is one per process."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, cast

from esp_at_tools.device.allotment import Allotment
from esp_at_tools.device.esptool_device import Link
from esp_at_tools.device.flashing import Receipt, Report, Step, flash_board
from esp_at_tools.device.plan import FlashPlan

if TYPE_CHECKING:
    from multiprocessing.connection import Connection
    from multiprocessing.process import BaseProcess

_PRELOAD = ["esptool.cmds", __name__]
"""What the processes share the loading of, where the system can fork a prepared one."""


def flash_boards(
    order: FlashPlan | Allotment, links: Sequence[Link], report: Report, *, verify: bool = False
) -> list[Receipt]:
    """Write to the devices on some ports, side by side; one that fails does not stop the others.

    Args:
        order: what to write where, or a folder with an image for each device.
        links: the ports, each once.
        report: called in this process with what is happening on each.
        verify: compare everything once more at the end.

    Returns:
        The receipts in the order of ``links``.
    """
    if len(links) == 1:
        return [flash_board(order, links[0], report, verify=verify)]
    from multiprocessing.connection import wait

    workers = _start(order, links, verify=verify)
    receipts: dict[str, Receipt] = {}
    try:
        waiting = {pipe: link for (pipe, _), link in zip(workers, links, strict=True)}
        while waiting:
            for pipe in cast("list[Connection]", wait(list(waiting))):
                _take(pipe, waiting, receipts, report)
    finally:
        for _, process in workers:
            process.terminate()
            process.join()
    return [receipts[link.port] for link in links]


def _start(
    order: FlashPlan | Allotment, links: Sequence[Link], *, verify: bool
) -> list[tuple[Connection, BaseProcess]]:
    import multiprocessing

    context: Any = multiprocessing.get_context("spawn")
    if "forkserver" in multiprocessing.get_all_start_methods():
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(_PRELOAD)
    workers = []
    for link in links:
        ours, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_work, args=(theirs, order, link, verify), daemon=True)
        process.start()
        theirs.close()
        workers.append((ours, process))
    return workers


def _take(
    pipe: Connection, waiting: dict[Connection, Link], receipts: dict[str, Receipt], report: Report
) -> None:
    """Take one message of a worker: a step, its receipt, or its end."""
    link = waiting[pipe]
    try:
        message = pipe.recv()
    except (EOFError, OSError):
        del waiting[pipe]
        if link.port not in receipts:
            error = f"{link.port}: the process that flashed it ended unexpectedly"
            receipts[link.port] = Receipt(link.port, error=error, hint="flash it again, alone and with -v")
            report(Step(link.port, "failed", error))
        return
    if isinstance(message, Receipt):
        receipts[link.port] = message
    else:
        report(message)


def _work(pipe: Connection, order: FlashPlan | Allotment, link: Link, verify: bool) -> None:
    """Flash one board, in its own process."""
    import signal

    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent hears it, too, and ends this process
    try:
        receipt = flash_board(order, link, pipe.send, verify=verify)
    except Exception as error:  # noqa: BLE001 - the parent cannot see it otherwise
        what = f"{link.port}: internal error: {type(error).__name__}: {error}"
        pipe.send(Step(link.port, "failed", what))
        receipt = Receipt(
            link.port, error=what, hint="this is a bug; flash this port alone with -v and report it"
        )
    pipe.send(receipt)
    pipe.close()
