"""The manager of Demand Flexibility Programs. So far it only announces itself."""
