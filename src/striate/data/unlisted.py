"""What the listing of a folder or zip leaves out, and the findings that say why."""

import stat

from striate.data.dataset import Finding

__all__ = ["KINDS", "is_ignored", "is_text", "kind_of", "link_finding", "unreadable", "unreadable_name"]

KINDS = {
    stat.S_IFIFO: "named pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFBLK: "block device",
    stat.S_IFCHR: "character device",
}
"""What messages call a special file, by the type in its mode."""

_FILE_MANAGERS = frozenset({"thumbs.db", "desktop.ini", "__macosx"})


def kind_of(mode: int) -> str:
    """What messages call a file of `mode` that is neither regular nor a folder."""
    return KINDS.get(stat.S_IFMT(mode), "special file")


def is_ignored(name: str) -> bool:
    """Whether a file or folder of this name is left out in silence."""
    return name.startswith(".") or name.lower() in _FILE_MANAGERS


def is_text(name: str) -> bool:
    """Whether `name` can be printed and written to JSON: a name that is not UTF-8 holds lone surrogates."""
    if name.isascii():
        return True
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def unreadable_name(path: str) -> Finding:
    """That the name of `path`, which is not `is_text`, cannot be read; it is spelled so that it can."""
    shown = path.encode(errors="surrogateescape").decode(errors="backslashreplace")
    return Finding(shown, "", "error", "file-name", "its name is not UTF-8", "rename it")


def unreadable(path: str, error: OSError) -> Finding:
    """That the system refused `path`, in its words."""
    message = f"it cannot be read ({error.strerror or error})"
    return Finding(path, "", "error", "unreadable", message, "check its permissions")


def link_finding(path: str, code: str, message: str) -> Finding:
    """That the link `path` is not followed, because of `message`."""
    return Finding(path, "", "error", code, message, "put the files themselves there")
