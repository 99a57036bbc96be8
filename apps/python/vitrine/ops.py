"""The ops: functions of `Value`s, which emit nodes. Binary ops broadcast as NumPy's do; every one raises `ShapeError` when
shapes do not fit, naming the op, the shapes and the line that called."""

from ._vitrine import ops as _ops

globals().update({name: getattr(_ops, name) for name in dir(_ops) if not name.startswith("_")})
__all__ = [name for name in dir(_ops) if not name.startswith("_")]
