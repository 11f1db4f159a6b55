"""The admin CLI: one file for each noun of the engineer. It parses, calls the library, prints."""
