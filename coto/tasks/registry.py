"""Every task by name; light, as the workflow checks names against it before any job runs."""

# isort: off
# Lists of tasks are in the order of these imports.
import coto.tasks.text
import coto.tasks.language
import coto.tasks.images  # noqa: F401
from coto.tasks.task import TASKS

__all__ = ["TASKS"]
