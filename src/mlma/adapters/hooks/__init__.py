"""Where trainings elsewhere are ordered: a command, a webhook, a function. One file each; they only translate."""
