"""Images per second: this loader, its peers, and plain decode of the same bytes.

    python benchmarks/bench.py [FILE] [--run.workloads=crop1,simclr2] [--peer.ffcv.python=…] [--help]

The same program as `ffcv-ssl bench`; `make bench` runs it. README.md beside it says what is compared.
"""

from ffcv_ssl.cli.commands.bench import main
from ffcv_ssl.cli.status import exit_status

if __name__ == "__main__":
    raise SystemExit(exit_status("bench", main))
