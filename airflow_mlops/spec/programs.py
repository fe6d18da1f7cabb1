# SPDX-License-Identifier: Apache-2.0
"""Whether the script that a command names is in the pipeline's source: a name that was mistyped is found before a run."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

_INTERPRETER = re.compile(
    r"(?:.*/)?(?:python|pypy)[0-9.]*|(?:.*/)?(?:sh|bash|dash|ksh|zsh|Rscript|julia|node|perl|ruby)"
)
_SCRIPT = re.compile(r"[^-/{][^{]*\.[A-Za-z0-9]{1,8}")


def missing_script(command: Sequence[str], source: Path) -> tuple[int, str] | None:
    """
    The script of a command that is not there.

    Only what can be meant in no other way is looked for: ``./train.sh``, and ``train.py`` after an interpreter. A step with
    source runs in its folder.

    :param source: folder of the step code
    :return: index of the word, and the word
    """
    words = list(command[:2])
    if words and words[0].startswith("./") and "{" not in words[0]:
        index = 0
    elif len(words) == 2 and _INTERPRETER.fullmatch(words[0]) and _SCRIPT.fullmatch(words[1]):  # noqa: PLR2004
        index = 1
    else:
        return None
    try:
        return None if (source / words[index]).is_file() else (index, words[index])
    except (OSError, ValueError):
        return index, words[index]
