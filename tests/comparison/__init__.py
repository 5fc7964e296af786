"""How Oracle compares with what people use: the README's table, each of its cells found out by running both."""

#: What the watched task logs, and nobody else.
LINE = "a line that only this task has logged"
