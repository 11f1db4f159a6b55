"""The outside, one file or folder each: database, files, sources, notifier. They translate; they do not decide."""
