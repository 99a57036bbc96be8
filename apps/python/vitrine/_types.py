"""What arguments may be."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Union

from . import _vitrine

Path = Union[str, "os.PathLike[str]"]
Prompt = Union[str, Sequence[int]]  # a text, or token ids
Prompts = Union[Prompt, Sequence[Prompt]]
Token = Union[str, int]  # the text of one token, with its leading space; or its id
Patterns = Union[str, Sequence[str]]  # 'blocks.*.attn.hook_z,logits'
Edits = Union[_vitrine.Edit, _vitrine.Interventions, Sequence[_vitrine.Edit]]
Records = Union[Path, Iterable[Mapping[str, Any]]]  # a file of JSON lines, or what would stand in one
Texts = Union[Path, Iterable[Union[str, Mapping[str, Any]]]]
