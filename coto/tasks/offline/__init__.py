"""Tasks made of the VADER corpora: each module has one ``build`` function, named by its task.

``build(task, read)`` gets the :class:`~coto.tasks.text.TextTask` and a reader of corpora by name
(:func:`coto.tasks.vader.read_corpus` bound to an archive). It returns rows ``text``, ``text_pair``
(pair tasks), ``label`` and two keys: ``unit`` decides the split (rows of one unit stay together),
and a limit takes rows of one ``key`` together.
"""
