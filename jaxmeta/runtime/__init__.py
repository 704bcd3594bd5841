"""The machine: processes, files, signals, memory."""
