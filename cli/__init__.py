"""The command line: every command parses, calls the library once, and prints.

``main`` assembles the program, ``_command`` turns a dataclass of options into a command,
``_options`` holds the options that commands share, ``_settings`` resolves them (flag, environment,
file, default), ``_console`` says where a command speaks, ``_stages`` shows progress, ``_shell``
turns whatever ends a command into a line and an exit code.
"""
