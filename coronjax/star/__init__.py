"""Where the star is behind the mask."""

from .locate import locate_stars
from .position import StarPosition

__all__ = ["StarPosition", "locate_stars"]
