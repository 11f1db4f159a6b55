"""The imperative shell: gathers the world into arrays, asks the core, records, then acts."""
