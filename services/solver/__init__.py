"""The solver: owns the OpenDSS engine and keeps one feeder's power flow solved."""
