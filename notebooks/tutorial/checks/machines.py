"""The checks of Many machines: what a worker holds, what has a recipe, and a wait that ends."""

import uuid

from tutorial.checks.core import kind, step

from dask.distributed import Event, Future, default_client, futures_of


@step("rows-at-risk", "store in `at_risk` how many of the rows lie on the first worker.")
def check_at_risk(at_risk, rows, worker):
    """What lies on one worker alone is gone when it ends, until Dask makes it again."""
    client = default_client()
    held = set(client.has_what()[worker])
    chunks = [future for future in futures_of(rows) if future.key in held]
    right = sum(client.gather([client.submit(len, chunk, pure=False) for chunk in chunks]))
    if at_risk == right:
        return None
    if at_risk == len(chunks):
        return "These are the chunks on this worker. How many rows has a chunk?"
    if at_risk == len(rows):
        return "These are all rows. How many of their chunks does `client.has_what()` list for `workers[0]`?"
    return f"{at_risk} is not it: count the chunks of this worker alone, and multiply by the rows of a chunk."


@step("with-a-recipe", "store four futures in `parts`.")
def check_recipe(parts, draw):
    """A future that a task makes has a recipe: its function and its arguments."""
    if not (isinstance(parts, list) and all(isinstance(part, Future) for part in parts)):
        return f"`parts` is {kind(parts)}: a list of four futures is asked for."
    if len(parts) != 4:
        return f"There are {len(parts)} futures: four are asked for."
    client = default_client()
    for seed, part in enumerate(parts):
        if error := part.exception():
            return f"The task of future {seed} failed: {type(error).__name__}: {error}"
        if client.submit(float, part, pure=False).result() != draw(seed):
            return f"Future {seed} is not `draw({seed})`."
    keys = [part.key for part in parts]
    if not all(client.run_on_scheduler(_have_recipes, keys=keys)):
        return "These numbers were made here and sent: let the workers call `draw`, by `client.submit` or `client.map`."


def _have_recipes(dask_scheduler, keys):
    """Tell for each key whether the scheduler knows how to make it; it calls this."""
    return [dask_scheduler.tasks[key].run_spec is not None for key in keys]


@step("patience", "write `answer_of`: have it ask the future for its result, for a time.")
def check_patience(answer_of):
    """A wait with a limit gives the notebook back to you."""
    client, never = default_client(), Event(f"never {uuid.uuid4().hex}")
    quick, endless = client.submit(sum, [1, 2], pure=False), client.submit(never.wait, pure=False)
    try:
        answer = answer_of(quick, 30)
        if answer is ...:
            return ...
        if answer != 3:
            return f"A task whose result is 3 gave {answer!r}: return the future's result."
        try:
            answer = answer_of(endless, 0.5)
        except TimeoutError:
            return 'The wait ended with TimeoutError: catch it, and return "no answer".'
        if answer != "no answer":
            return f'A task that never ends gave {answer!r}: return "no answer".'
    finally:
        never.set()
