"""The names that the annotations of refode share."""

from collections.abc import Callable
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

Array: TypeAlias = NDArray[Any]
"""float64 in every solve; complex128 too wherever a derivative is taken by complex step."""

Scalar: TypeAlias = float | complex | np.generic

Pullback: TypeAlias = Callable[[Array], tuple[Array, Array, Array]]
"""a -> (a·∇§1 f, a·∇§2 f, a·∇§3 f) at the point where a field was linearized."""
