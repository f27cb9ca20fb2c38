"""The complete path without OpenCV, as on a machine without libGL."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.reference.images import photo_like

RECIPE = Path(__file__).resolve().parents[1] / "recipes" / "emp_ssl_cpu.yaml"
PROGRAM = """
import sys
sys.modules["cv2"] = None  # makes its import fail
from ffcv_ssl.cli.main import main
arrays, out, recipe = sys.argv[1:]
for split in ("train", "test"):
    write = ["write", "--data.source=npz", f"--data.path={arrays}", f"--data.split={split}"]
    write.append(f"--data.out={out}/{split}.beton")
    assert main([*write, "--image.write_mode=jpg", "--write.workers=1"]) == 0
train = ["train", f"--config-file={recipe}", "--view.num_views=2", "--loss.hidden=16"]
train += [f"--data.train={out}/train.beton", f"--data.val={out}/test.beton", f"--log.out={out}/run"]
train += ["--loss.out=8", "--model.width=8", "--train.batch_size=8", "--train.epochs=1"]
assert main([*train, "--eval.linear_epochs=2", "--log.tensorboard=0"]) == 0
assert main(["verify", f"{out}/train.beton"]) == 0
"""


def test_write_read_train__need_no_opencv(tmp_path):
    """Writing, verifying and training work if `import cv2` fails."""
    images = np.stack([photo_like(32, 32, seed) for seed in range(24)])
    labels = np.arange(24) % 2
    np.savez(
        tmp_path / "arrays.npz",
        train_images=images,
        train_labels=labels,
        test_images=images[:8],
        test_labels=labels[:8],
    )
    command = [
        sys.executable,
        "-c",
        PROGRAM,
        str(tmp_path / "arrays.npz"),
        str(tmp_path),
        str(RECIPE),
    ]
    run = subprocess.run(
        command,
        capture_output=True,
        text=True,
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        check=False,
    )
    assert run.returncode == 0, run.stdout + run.stderr
    assert np.isfinite(json.loads((tmp_path / "run" / "result.json").read_text())["scores"]["knn"])
