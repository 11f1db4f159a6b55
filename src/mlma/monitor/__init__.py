"""The loss tests as a stateful library: `LossMonitor`, which the daemon itself runs on."""
