"""Images per second through one epoch: ffcv_ssl, Pillow, and plain decode of the same bytes.

    python benchmarks/epoch_throughput.py [--data=FOLDER|FILE.beton] [--patches-data=IMAGES.npz] [--repeats=5]

Without data the images are drawn. All contestants get the same file, batch size and number of workers, deliver uint8 batches
to this process, run one epoch of warm-up, and then take turns, so that noise of the machine meets all of them. Only ratios
within one run count.
"""

import argparse
import json
import statistics
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

import contestants
import machine
import workloads

RESULTS = Path(__file__).parent / "results"


def main() -> None:
    options = parse_arguments()
    description = machine.describe()
    print(machine.as_text(description), end="\n\n")
    with tempfile.TemporaryDirectory() as folder:
        cases = [
            workloads.simclr_workload(options.data, Path(folder), options.images),
            workloads.emp_ssl_workload(options.patches_data, Path(folder), options.patches_images),
        ]
        results = [measure(case, options.workers, options.repeats) for case in cases]
    for result in results:
        print_table(result)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    options.out.write_text(json.dumps({"machine": description, "repeats": options.repeats, "workloads": results}, indent=2) + "\n")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--data", type=Path, help="folder of JPEGs, or a .beton file with a field 'image' (default: drawn images)")
    parser.add_argument("--patches-data", type=Path, help=".npz with (N, 32, 32, 3) uint8 images for the patches (default: drawn images)")
    parser.add_argument("--images", type=int, default=512, help="JPEGs per epoch, at most (default 512)")
    parser.add_argument("--patches-images", type=int, default=2000, help="32x32 images per epoch, at most (default 2000)")
    parser.add_argument("--workers", type=int, default=machine.allowed_cores(), help="threads or processes (default: allowed cores)")
    parser.add_argument("--repeats", type=int, default=5, help="measured epochs of each contestant (default 5)")
    parser.add_argument("--out", type=Path, default=RESULTS / "local.json", help="JSON with every time (default: %(default)s)")
    options = parser.parse_args()
    if options.repeats < 1 or options.workers < 1:
        parser.error("--repeats and --workers are at least 1.")
    return options


def measure(workload: workloads.Workload, num_workers: int, repeats: int) -> dict:
    """Let every contestant run a warm-up epoch and then, in turn, `repeats` timed ones."""
    print(f"{workload.name}: {workload.images}", flush=True)
    with ExitStack() as resources:
        runners = [
            contestants.pillow(workload, num_workers),
            contestants.plain_decode(workload, num_workers, resources),
            contestants.ours(workload, num_workers, resources),
        ]
        for runner in runners:
            runner.epoch()
        times: dict[str, list[float]] = {runner.name: [] for runner in runners}
        for _ in range(repeats):
            for runner in runners:
                began = time.perf_counter()
                num_images = runner.epoch()
                times[runner.name].append(time.perf_counter() - began)
    rows = [
        {
            "name": runner.name,
            "images": num_images,
            "views": num_images * runner.num_views,
            "seconds": times[runner.name],
            "first_batch_s": runner.first_batch_s,
        }
        for runner in runners
    ]
    return {"name": workload.name, "data": workload.images, "batch_size": workload.batch_size, "rows": rows}


def print_table(result: dict) -> None:
    """Print medians, spread, and the ratio to the first row, paired within each round."""
    repeats = len(result["rows"][0]["seconds"])
    print(f"\n{result['name']} - {result['data']}; batches of {result['batch_size']}; median of {repeats} epochs [slowest - fastest]")
    print(f"{'':<38}{'images/s':>10}{'':^26}{'views/s':>10}{'s/epoch':>9}{'x Pillow':>10}")
    reference = result["rows"][0]["seconds"]
    for row in result["rows"]:
        seconds = statistics.median(row["seconds"])
        slowest, fastest = (row["images"] / extreme(row["seconds"]) for extreme in (max, min))
        ratio = statistics.median(slow / fast for slow, fast in zip(reference, row["seconds"], strict=True))
        views = f"{row['views'] / seconds:,.0f}" if row["views"] else "-"
        spread = f"[{slowest:,.0f} - {fastest:,.0f}]"
        print(f"{row['name']:<38}{row['images'] / seconds:>10,.0f}{spread:^26}{views:>10}{seconds:>9.2f}{ratio:>10.2f}")
        if row["first_batch_s"] is not None:
            print(f"{'':<4}first batch after {row['first_batch_s']:.2f} s: file opened, kernels loaded or compiled, images read")


if __name__ == "__main__":
    main()
