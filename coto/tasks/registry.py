"""Every task by name; light, as the workflow checks names against it before any job runs."""

from coto.tasks.images import IMAGE_TASKS
from coto.tasks.language import LANGUAGE_TASKS
from coto.tasks.task import Task
from coto.tasks.text import GLUE_TASKS, OFFLINE_TASKS

TASKS: dict[str, Task] = {
    task.name: task for task in (*OFFLINE_TASKS, *GLUE_TASKS, *LANGUAGE_TASKS, *IMAGE_TASKS)
}
