"""Fit logit_scale and logit_bias on held-out photos, one true prompt among twenty.

    python calibrate.py MODEL_FOLDER    # prints what `export.py --scale S --bias B` takes
"""
import sys

import numpy as np

from compare import Model, ece, held_out_photos, pairs


def fit(c, y):
    """Logistic regression in one variable by damped Newton steps: slope and intercept."""
    a, b = 10.0, -4.0
    for _ in range(300):
        p = 1 / (1 + np.exp(-(a * c + b)))
        q = p * (1 - p) + 1e-9
        x = np.stack([c, np.ones(len(c))], 1)
        step = np.linalg.solve((x * q[:, None]).T @ x, x.T @ (p - y))
        step *= min(1.0, 2.0 / np.abs(step).max())
        a, b = a - step[0], b - step[1]
        if np.abs(step).max() < 1e-8:
            break
    return a, b


if __name__ == "__main__":
    model = Model(sys.argv[1])
    pictures, rows = held_out_photos()
    c, y = pairs(model, model.images(pictures), rows)
    half = np.random.default_rng(0).random(len(c) // 20).repeat(20) < 0.5  # whole photos on one side
    a, b = fit(c[half], y[half])
    print(f"--scale {a:.4f} --bias {b:.4f}", f"expected calibration error on the other half {ece(a, b, c[~half], y[~half]):.4f}")
