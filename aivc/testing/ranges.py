"""What the numbers that the fakes are given may be; anything else is a ValueError where it is given."""

from __future__ import annotations

from math import inf
from typing import Final

import attrs

SHARE: Final = attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.le(1.0))
SECONDS: Final = attrs.validators.and_(attrs.validators.ge(0.0), attrs.validators.lt(inf))
