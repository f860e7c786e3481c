"""Two buses; the line is twice as long as listed."""

import numpy as np
from numpy import array
from pypower.idx_brch import BR_R


def doubled():
    ppc = {"version": "2", "baseMVA": 100.0}
    ppc["bus"] = array(
        [
            [1, 3, 0, 0, 0, 0, 1, 1, 0, 110, 1, 1.05, 0.95],
            [2, 1, 8 * 5, 15, 0, 0, 1, 1, 0, 110, 1, 1.05, 0.95],
        ]
    )
    ppc["gen"] = array([[1, 0, 0, 300, -300, 1, 100, 1, 400, 0]])
    ppc["branch"] = np.array([[1, 2, 0.01, 0.03, 0.03, 0, 0, 0, 0, 0, 1, -360, 360]])
    ppc["branch"][:, BR_R:4] *= 2
    ppc["branch"][ppc["branch"][:, 5] == 0, 5] = 90
    return ppc
