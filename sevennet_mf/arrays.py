"""Types of NumPy arrays, and the number of elements in their rows."""

from typing import Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

N_SPECIES: Final[int] = 119  # atomic numbers 0 to 118
