"""Images on disk: reading, writing, planning and restoring whole folders."""
