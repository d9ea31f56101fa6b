"""`python -m benchmarks.first_step URL DATA WORKERS [--imported]`: how long until the first step is trained.

The clock starts once torch is imported; with `--imported`, once the workers' forkserver has imported it as well.
"""

import argparse
import json
import multiprocessing
import time


def main() -> None:
    """Train one batch, then check it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("url")
    parser.add_argument("data")
    parser.add_argument("workers", type=int)
    parser.add_argument("--imported", action="store_true")
    told = parser.parse_args()
    import torch  # not above: each worker imports this module too

    torch.set_num_threads(1)
    torch.optim.SGD([torch.zeros(1)])  # imports the rest of torch
    if told.imported:
        start_forkserver()
    begin_s = time.perf_counter()
    from trainer.loader import StreamLoader
    from trainer.model import GarmentClassifier
    from trainer.step import train_step
    from trainer.tasks import Classification

    loader = StreamLoader(told.url, batch_size=64, num_workers=told.workers)
    model, task = GarmentClassifier(), Classification()
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    batches = iter(loader)
    batch = next(batches)
    train_step(model, optimizer, task, task.prepare(batch, torch.device("cpu")))
    loader.mark_trained(batch)
    numbers = {"first_step_s": time.perf_counter() - begin_s}

    from benchmarks.measure import InOrder, stream_order
    from benchmarks.streams import pictures

    columns = pictures(told.data)
    InOrder(columns, 64, stream_order(len(columns["id"])))(batch)
    print(json.dumps(numbers))


def start_forkserver() -> None:
    """Workers fork from a server that imports torch when it is first asked for one."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "trainer.dataset"])
    process = context.Process(target=time.sleep, args=(0,))
    process.start()
    process.join()


if __name__ == "__main__":
    main()
