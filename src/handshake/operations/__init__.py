"""Operations: units of work that load, decide by the kernel, and save state with its evidence."""
