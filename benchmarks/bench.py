"""Images per second: this loader, its peers, and plain decode of the same bytes.

    python benchmarks/bench.py [FILE] [--run.workloads=crop1,simclr2] [--peer.ffcv.python=…]
    python benchmarks/bench.py --help

`ffcv-ssl bench` and `make bench` run the same program. `benchmarks/README.md` describes the
comparison.
"""

from ffcv_ssl.cli.commands.bench import main
from ffcv_ssl.cli.status import exit_status

if __name__ == "__main__":
    raise SystemExit(exit_status("bench", main))
