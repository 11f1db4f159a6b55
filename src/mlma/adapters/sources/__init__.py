"""Where observations come from: files, and directories into which files are dropped."""
