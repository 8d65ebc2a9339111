"""Make work/, the learner's copy of the notebooks, and say when the originals have changed since.

    python3 .ci/work.py          # make what is missing; nothing is ever overwritten
    python3 .ci/work.py reset    # put work/ aside under a dated name and make a new one

Notebooks are copied. What they use and link to (tutorial, data, LICENSE, pyproject.toml) is linked, so that every
relative path in a notebook leads from the copy to where it leads from the original. Written for any Python 3.
"""

import datetime
import errno
import hashlib
import json
import os
import shutil
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
HOME, FOLDER = "START_HERE.ipynb", "notebooks"
BESIDE_HOME = ["LICENSE", "README.md", "data", "pyproject.toml"]
# in work/: path of a notebook -> what digest() said of the original when it was copied
COPIED = ".copied.json"


def is_notebook(path):
    return path.endswith(".ipynb")


def entries(root, folder):
    """Yield what `folder` (a path below root) holds: notebooks, and files and folders that go with them."""
    for name in sorted(os.listdir(os.path.join(root, folder))):
        path = os.path.join(folder, name)
        if name.startswith(".") or name == "__pycache__":
            continue
        if any(map(is_notebook, files_below(os.path.join(root, path)))):
            for entry in entries(root, path):
                yield entry
        else:
            yield path


def files_below(folder):
    """Yield the names of all files below a folder that are not hidden; none if it is a file."""
    for _, folders, names in os.walk(folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for name in names:
            yield name


def digest(path):
    """Return a checksum of a notebook's text and code: outputs and metadata, which JupyterLab changes, do not count."""
    with open(path, "rb") as file:
        content = file.read()
    try:
        cells = json.loads(content.decode("utf-8"))["cells"]
        content = json.dumps(
            [[cell["cell_type"], "".join(cell["source"])] for cell in cells]
        ).encode()
    except (ValueError, KeyError, TypeError):  # damaged, or in the middle of a merge
        pass
    return hashlib.sha256(content).hexdigest()


def update(root):
    """Make what is missing in root/work. Return the notebooks copied, and those whose original has changed since.

    Both are lists of paths below root. Raises OSError where the folder cannot be written.
    """
    work = os.path.join(root, "work")
    paths = [HOME] + BESIDE_HOME + list(entries(root, FOLDER))
    missing = [path for path in paths if not os.path.lexists(os.path.join(work, path))]
    notebooks = {path: digest(os.path.join(root, path)) for path in paths if is_notebook(path)}
    record = os.path.join(work, COPIED)
    try:
        with open(record) as file:
            copied = json.load(file)
    except (OSError, ValueError):
        copied = {}
    copied.update({path: notebooks[path] for path in missing if path in notebooks})
    os.makedirs(work, exist_ok=True)
    # first the record, then the files: what an interruption leaves out is copied the next time
    if missing:
        with open(record + ".part", "w") as file:
            json.dump(copied, file, indent=1, sort_keys=True)
        os.replace(record + ".part", record)
    for path in missing:
        place(os.path.join(root, path), os.path.join(work, path))
    changed = [path for path in notebooks if copied.get(path, notebooks[path]) != notebooks[path]]
    return [path for path in missing if path in notebooks], changed


def place(source, target):
    """Copy a notebook to `target`, whole or not at all; link anything else there."""
    os.makedirs(os.path.dirname(target), exist_ok=True)
    if is_notebook(source):
        shutil.copyfile(source, target + ".part")
        os.replace(target + ".part", target)
    else:
        os.symlink(os.path.relpath(source, os.path.dirname(target)), target)


def put_aside(root):
    """Rename root/work to work-DATE, or work-DATE-2 and so on; return the new name, or None if there is no work/."""
    if not os.path.isdir(os.path.join(root, "work")):
        return None
    name = dated = "work-%s" % datetime.date.today().isoformat()
    number = 1
    while os.path.lexists(os.path.join(root, name)):
        number += 1
        name = "%s-%d" % (dated, number)
    os.rename(os.path.join(root, "work"), os.path.join(root, name))
    return name


def remedy(error):
    """Return what to do about an OSError, as words to append to it."""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return ". Free some disk, then try again: nothing is lost."
    if error.errno in (errno.EROFS, errno.EACCES, errno.EPERM):
        return ". Copy the whole folder to where you may write, and run `make lab` there."
    return ""


def tell(root):
    """Update root/work and print a line for what was copied, a line for what has changed since. Exit if it fails."""
    first = not os.path.isdir(os.path.join(root, "work"))
    try:
        copied, changed = update(root)
    except OSError as error:
        sys.exit("work/, your copy of the notebooks, cannot be made: %s%s" % (error, remedy(error)))
    if first:
        print("work/ is your copy of the notebooks. Git does not see it; nothing overwrites it.")
    elif copied:
        print("Copied to work/: %s" % ", ".join(copied))
    if not os.access(os.path.join(root, "work"), os.W_OK):
        print(
            "work/ cannot be written: JupyterLab opens it and cannot save. "
            "Copy the whole folder to where you may write, and run `make lab` there."
        )
    if changed:
        print(
            "Changed since they were copied to work/: %s. Your copy stays as it is; "
            "`make reset` puts it aside and makes a new one." % ", ".join(changed)
        )
    sys.stdout.flush()


def main(arguments):
    if arguments not in ([], ["reset"]):
        sys.exit("usage: python3 .ci/work.py [reset]")
    if arguments:
        try:
            aside = put_aside(ROOT)
        except OSError as error:
            sys.exit("work/ stays where it is: %s%s" % (error, remedy(error)))
        if aside:
            print("Your copy is now in %s/." % aside)
    tell(ROOT)


if __name__ == "__main__":
    main(sys.argv[1:])
